# SPDX-License-Identifier: MPL-2.0
"""Sizes, each with its name: what a number counts stands in its type (`quota: Gib`), no module says 1 << 20 anew."""

from __future__ import annotations

MIB = 1 << 20  # bytes
GIB = 1 << 30  # bytes

# An int that counts these. Only names: a number of the wrong unit is found by the reader, not by a tool.
Bytes = int
Mib = int
Gib = int
Percent = int
Seconds = int
