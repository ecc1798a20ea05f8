# SPDX-License-Identifier: MPL-2.0
"""Checks of single properties beyond their types (docs/vmadm.md, "What a payload may say"). Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vmadm.payload.change import Properties
from vmadm.payload.diskrules import COMPRESSIONS
from vmadm.payload.unset import UNSET

COMPRESSION_NAMES = ("zfs_root_compression", "zfs_data_compression")
RECSIZE_NAMES = ("zfs_root_recsize", "zfs_data_recsize")
LEAST_RECSIZE, MOST_RECSIZE = 512, 131072  # bytes
LONGEST_VNC_PASSWORD = 8  # characters: the protocol has no room for more
VGA_TYPES = ("cirrus", "std", "vmware", "qxl", "xenfb")


def check(asked: Properties, brand: str) -> Iterator[str]:
    """Texts about the properties that are asked."""
    if asked.vga is not UNSET and brand == "kvm" and asked.vga not in VGA_TYPES:
        yield f'Invalid VGA type: "{_shown(asked.vga)}", supported types are: {",".join(VGA_TYPES)}'
    if isinstance(asked.vnc_password, str) and len(asked.vnc_password) > LONGEST_VNC_PASSWORD:
        yield f"VNC password is too long, maximum length is {LONGEST_VNC_PASSWORD} characters."
    for name in RECSIZE_NAMES:
        size = asked.get(name)
        if size is not UNSET and size is not None and not _is_recsize(size):
            yield f"invalid {name} ({size}), must be {LEAST_RECSIZE}-{MOST_RECSIZE} and a power of 2. (0 to disable)"
    for name in COMPRESSION_NAMES:
        kind = asked.get(name)
        if kind is not UNSET and kind not in COMPRESSIONS:
            yield f"invalid compression type for {_shown(kind)}, must be one of: {', '.join(COMPRESSIONS)}"


def _is_recsize(size: int) -> bool:
    return size == 0 or (LEAST_RECSIZE <= size <= MOST_RECSIZE and size & (size - 1) == 0)


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)
