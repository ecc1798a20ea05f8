# SPDX-License-Identifier: MPL-2.0
"""The machine that is changed: its commands, zone configuration, datasets, files and locks."""
