# SPDX-License-Identifier: MPL-2.0
"""A small FAT16 file system as bytes: a guest's cloud-init reads files from one (docs/vmadm.md, "cloud-init").

    boot sector | FAT | the same again | root folder | clusters

Made here, and not by mkfs and mount: nothing is attached or mounted that a killed vmadm would leave behind.
Always: pure; the same files give the same bytes. Names are long ones, in the letters that were asked for."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping

SECTOR = 512  # bytes
SECTORS = 32768  # 16 MiB
PER_CLUSTER = 4  # sectors; a number of clusters that makes it FAT16, not FAT12 or FAT32
FATS = 2
FAT_SECTORS = 32
ROOT_ENTRIES = 512
ENTRY = 32  # bytes of an entry of a folder
CLUSTER = PER_CLUSTER * SECTOR
HEAD_SECTORS = 1 + FATS * FAT_SECTORS + ROOT_ENTRIES * ENTRY // SECTOR  # before the first cluster
CLUSTERS = (SECTORS - HEAD_SECTORS) // PER_CLUSTER
FIRST = 2  # the number of the first cluster

FIXED_DISK = 0xF8
LAST = 0xFFFF  # in the FAT: no cluster follows
LABEL, LONG_NAME, ARCHIVE = 0x08, 0x0F, 0x20  # kinds of entries
LAST_PART = 0x40  # of a long name: the one with its end, which stands first
DAY = 0x0021  # 1980-01-01: the time of making would make each image another one
LONG_PART = 13  # characters of a long name in an entry


class DoesNotFit(ValueError):
    """The files take more than there is room for."""


def image(label: str, serial: int, files: Mapping[str, bytes]) -> bytes:
    """The beginning of a volume of 16 MiB, whole clusters; what lies behind it is free, whatever it holds. `serial` has
    32 bits. Raises DoesNotFit."""
    fat = [0xFF00 | FIXED_DISK, LAST]
    entries, clusters = [_entry(_padded(label), LABEL, 0, 0)], []
    for number, (name, content) in enumerate(files.items(), 1):
        taken = math.ceil(len(content) / CLUSTER)
        first = len(fat) if taken else 0
        fat += [first + place + 1 for place in range(taken - 1)] + [LAST] * bool(taken)
        clusters.append(content.ljust(taken * CLUSTER, b"\0"))
        short = _short(name, number)
        entries += [*_long(name, short), _entry(short, ARCHIVE, first, len(content))]
    if len(fat) > CLUSTERS + FIRST or len(entries) > ROOT_ENTRIES:
        raise DoesNotFit(f"the files take more than the {CLUSTERS * CLUSTER} bytes that there are")
    table = struct.pack(f"<{len(fat)}H", *fat).ljust(FAT_SECTORS * SECTOR, b"\0")
    root = b"".join(entries).ljust(ROOT_ENTRIES * ENTRY, b"\0")
    return b"".join([_boot_sector(label, serial), table * FATS, root, *clusters])


def _boot_sector(label: str, serial: int) -> bytes:
    """What describes the rest. Heads and tracks are those of a hard disk, which nobody looks at any more."""
    tracks, heads = 32, 64
    sizes = struct.pack("<HBHBHHBH", SECTOR, PER_CLUSTER, 1, FATS, ROOT_ENTRIES, SECTORS, FIXED_DISK, FAT_SECTORS)
    geometry = struct.pack("<HHII", tracks, heads, 0, 0)
    drive = struct.pack("<BBBI", 0x80, 0, 0x29, serial)
    head = b"\xeb\x3c\x90" + b"MSDOS5.0" + sizes + geometry + drive + _padded(label) + b"FAT16   "
    return head.ljust(SECTOR - 2, b"\0") + b"\x55\xaa"


def _entry(short: bytes, kind: int, first: int, size: int) -> bytes:
    return struct.pack("<11sBBBHHHHHHHI", short, kind, 0, 0, 0, DAY, DAY, 0, 0, DAY, first, size)


def _padded(text: str) -> bytes:
    return text.encode("ascii").ljust(11)


def _short(name: str, number: int) -> bytes:
    """A short name that no other file of the folder has."""
    kept = "".join(character for character in name.upper() if character.isascii() and character.isalnum())
    tail = f"~{number}"
    return _padded(kept[: 8 - len(tail)] + tail)


def _long(name: str, short: bytes) -> Iterator[bytes]:
    """The entries of a long name, its end first. A name that fills its entry has no end mark."""
    checksum = 0
    for byte in short:
        checksum = ((checksum >> 1 | checksum << 7) & 0xFF) + byte & 0xFF
    parts = [name[start : start + LONG_PART] for start in range(0, len(name), LONG_PART)]
    for number in range(len(parts), 0, -1):
        part = parts[number - 1]
        text = (part + "\0" * (len(part) < LONG_PART)).encode("utf-16-le").ljust(2 * LONG_PART, b"\xff")
        order = number | (LAST_PART if number == len(parts) else 0)
        yield struct.pack("<B10sBBB12sH4s", order, text[:10], LONG_NAME, 0, checksum, text[10:22], 0, text[22:])
