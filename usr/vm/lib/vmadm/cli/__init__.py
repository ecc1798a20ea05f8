# SPDX-License-Identifier: MPL-2.0
"""The `vmadm` command: words in, text and exit codes out."""
