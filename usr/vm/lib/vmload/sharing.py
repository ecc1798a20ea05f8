# SPDX-License-Identifier: MPL-2.0
"""Texts that a node's zones have in common (`lz4`, `true`, a resolver, the name of a scheduler's snapshots), held once.
Pure."""

from __future__ import annotations

from sys import intern

_LONGEST = 32  # characters. What is longer is mostly one zone's alone: a uuid, a path, a key


def shared(text: str) -> str:
    """`text`, or the same from before."""
    return intern(text) if len(text) <= _LONGEST else text
