# SPDX-License-Identifier: MPL-2.0
"""What the mock node knows: zones, datasets, events, faults. Plain values in memory; no sockets, no tools."""
