# SPDX-License-Identifier: MPL-2.0
"""What vmadm does to a VM: create, update, delete, its life cycle and its snapshots."""
