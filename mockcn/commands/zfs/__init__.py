# SPDX-License-Identifier: MPL-2.0
"""zfs, with its subcommands by their sort."""
