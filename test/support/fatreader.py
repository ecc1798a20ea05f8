# SPDX-License-Identifier: MPL-2.0
"""A reader of FAT16 volumes, written after the format's description: what a guest would find on one."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple


class Volume(NamedTuple):
    label: str
    size: int  # bytes, by the boot sector
    clusters: int
    files: dict[str, bytes]


def read_volume(image: bytes) -> Volume:
    """Of an image, or of its beginning. Raises AssertionError for what is no such volume."""
    assert image[510:512] == b"\x55\xaa"
    (sector, per_cluster, reserved, fats, entries, sectors, _, fat_sectors) = struct.unpack_from("<HBHBHHBH", image, 11)
    fat_at = reserved * sector
    fat = struct.unpack_from(f"<{fat_sectors * sector // 2}H", image, fat_at)
    copies = [image[fat_at + n * fat_sectors * sector :][: fat_sectors * sector] for n in range(fats)]
    assert all(copy == copies[0] for copy in copies)
    root_at = fat_at + fats * fat_sectors * sector
    data_at = root_at + entries * 32
    size = per_cluster * sector
    clusters = (sectors * sector - data_at) // size
    assert 4085 <= clusters < 65525, "not FAT16"

    def content(first: int, length: int) -> bytes:
        found, cluster = bytearray(), first
        while length and cluster < 0xFFF8:
            assert 2 <= cluster < clusters + 2
            at = data_at + (cluster - 2) * size
            found += image[at : at + size]
            cluster = fat[cluster]
        assert length <= len(found) < length + size
        return bytes(found[:length])

    label, files, long = "", {}, ""
    for at in range(root_at, data_at, 32):
        entry = image[at : at + 32]
        if entry[0] == 0:
            break
        if entry[11] == 0x0F:
            long = _part(entry) + long
        elif entry[11] & 0x08:
            label = entry[:11].decode().rstrip()
        else:
            assert long, "a file without its long name"
            first, length = struct.unpack_from("<HI", entry, 26)
            files[long], long = content(first, length), ""
    return Volume(label, sectors * sector, clusters, files)


def _part(entry: Any) -> str:
    text: str = (entry[1:11] + entry[14:26] + entry[28:32]).decode("utf-16-le")
    return text.partition("\0")[0]
