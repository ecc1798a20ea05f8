# SPDX-License-Identifier: MPL-2.0
"""The contents of volumes: a sparse file each under dev/zvol/rdsk, which dev/zvol/dsk has under the same name too.

A test reads back from there what was written to a disk, and a snapshot, clone or stream carries it along.
Always: the file of a volume is as long as its volsize."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mockcn.state.datasets import Dataset

RAW, BLOCK = "/dev/zvol/rdsk", "/dev/zvol/dsk"

Extents = list[tuple[int, bytes]]  # what a volume holds, save its zeros: place in bytes, content


class Volumes:
    def __init__(self, root: str) -> None:
        self._root = root

    def path(self, name: str) -> str:
        """Where the volume's file really lies."""
        return f"{self._root}{RAW}/{name}"

    def make(self, volume: "Dataset", content: Extents) -> None:
        for folder in (RAW, BLOCK):
            os.makedirs(os.path.dirname(f"{self._root}{folder}/{volume.name}"), exist_ok=True)
        path = self.path(volume.name)
        _fill(path, int(volume.props["volsize"]), content)
        os.link(path, f"{self._root}{BLOCK}/{volume.name}")

    def resize(self, volume: "Dataset") -> None:
        with open(self.path(volume.name), "r+b") as file:
            file.truncate(int(volume.props["volsize"]))

    def restore(self, volume: "Dataset", content: Extents) -> None:
        _fill(self.path(volume.name), int(volume.props["volsize"]), content)

    def remove(self, name: str) -> None:
        for folder in (RAW, BLOCK):
            path = f"{self._root}{folder}/{name}"
            if os.path.exists(path):
                os.unlink(path)
            self._drop_empty(os.path.dirname(path), self._root + folder)

    def rename(self, old: str, new: str) -> None:
        for folder in (RAW, BLOCK):
            os.makedirs(os.path.dirname(f"{self._root}{folder}/{new}"), exist_ok=True)
            os.rename(f"{self._root}{folder}/{old}", f"{self._root}{folder}/{new}")
            self._drop_empty(os.path.dirname(f"{self._root}{folder}/{old}"), self._root + folder)

    def capture(self, volume: "Dataset") -> Extents:
        """What was written to the volume."""
        found: Extents = []
        with open(self.path(volume.name), "rb") as file:
            place, size = 0, os.fstat(file.fileno()).st_size
            while place < size:
                try:
                    start = os.lseek(file.fileno(), place, os.SEEK_DATA)
                except OSError:
                    break  # nothing but a hole from here on
                place = os.lseek(file.fileno(), start, os.SEEK_HOLE)
                file.seek(start)
                found.append((start, file.read(place - start)))
        return found

    def _drop_empty(self, folder: str, top: str) -> None:
        while folder != top:
            try:
                os.rmdir(folder)
            except OSError:
                return  # others are in it
            folder = os.path.dirname(folder)


def _fill(path: str, size: int, content: Extents) -> None:
    with open(path, "wb") as file:
        for place, piece in content:
            file.seek(place)
            file.write(piece)
        file.truncate(size)
