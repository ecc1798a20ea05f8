# SPDX-License-Identifier: MPL-2.0
"""The vmadm command: reads are thin wrappers over vminfod's HTTP API.

This file stays empty of imports: each `vmadm get` would pay for them."""
