# SPDX-License-Identifier: MPL-2.0
"""A mock compute node: what SmartOS shows of its zones and datasets, without SmartOS.

One process holds the node's state and lays out, under a root folder, the node's files and executables with the
platform's interfaces. See docs/mockcn.md. Nothing of the product is imported: the mock is an independent witness."""
