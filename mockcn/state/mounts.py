# SPDX-License-Identifier: MPL-2.0
"""The folders and files of mounted filesystems under the node's root.

    arrive: mounted, its folder is at its mountpoint        leave: its folder waits aside until it is mounted again

A snapshot keeps a copy of all files of its filesystem (trees.py). A rollback puts them back the way zfs does: **who
watches the old files hears nothing.** The restored folder is built aside and takes the old one's name in one step; the
old one, which the watches hang on, is kept until the node ends, since its removal would be an event.
Always: a filesystem that is not mounted keeps its files.
Not here: which dataset is to be mounted where (datasets.py), what the mount command mounts (overlays.py)."""

import ctypes
import os
import shutil
from typing import Optional

from mockcn.state.datasets import Dataset
from mockcn.state.overlays import Overlays
from mockcn.state.trees import Files, Reader, fill

EXCHANGE = 2  # RENAME_EXCHANGE of renameat2(2)


class Mounts:
    def __init__(self, root: str, aside: str, overlays: Overlays) -> None:
        self._root = root
        self._aside = aside  # folder inside the same file system, for what is on its way in or out
        self._overlays = overlays
        self._number = 0
        self._points: dict[str, Dataset] = {}  # real path -> the filesystem mounted there
        self._reader = Reader()

    def real(self, path: str) -> str:
        return self._root + path

    def make(self, dataset: Dataset, files: Optional[Files] = None) -> None:
        """The folder of a new filesystem, with `files` in it."""
        where = dataset.mounted_at()
        if where is None:
            self._keep_aside(dataset, files or {})
        elif where != "/":
            os.makedirs(self.real(where), exist_ok=True)
            self._points[self.real(where)] = dataset
            fill(self.real(where), files or {})

    def destroyed(self, dataset: Dataset, where: Optional[str]) -> None:
        """A filesystem that was mounted at `where` (None: nowhere) goes, with everything in it."""
        if dataset.aside is not None:
            shutil.rmtree(dataset.aside, ignore_errors=True)
        if where is not None:
            self.remove(where)

    def remove(self, where: str) -> None:
        """The folder at node path `where` goes, with everything in it."""
        if where != "/":
            self._overlays.drop_below(where)
            self._points.pop(self.real(where), None)
            shutil.rmtree(self.real(where), ignore_errors=True)

    def leave(self, dataset: Dataset, where: str, *, empty_folder: bool = False) -> None:
        """The filesystem is unmounted from `where`; with `empty_folder` the mountpoint itself stays."""
        real = self.real(where)
        self._points.pop(real, None)
        if where == "/" or not os.path.isdir(real):
            return
        dataset.aside = self._new_aside("unmounted")
        os.rename(real, dataset.aside)
        if empty_folder:
            os.mkdir(real)

    def arrive(self, dataset: Dataset, where: str) -> bool:
        """The filesystem is mounted at `where`, with the files it has; False, and it is not, if something is there."""
        real = self.real(where)
        if where == "/":
            return True
        if dataset.aside is not None:
            os.makedirs(os.path.dirname(real), exist_ok=True)
            if os.path.isdir(real):
                try:
                    os.rmdir(real)
                except OSError:
                    return False
            os.rename(dataset.aside, real)
            dataset.aside = None
        os.makedirs(real, exist_ok=True)
        self._points[real] = dataset
        return True

    def points_below(self, where: str) -> dict[str, Dataset]:
        """Node paths below `where` at which filesystems are mounted."""
        prefix = self.real(where.rstrip("/")) + "/"
        return {point[len(self._root) :]: at for point, at in self._points.items() if point.startswith(prefix)}

    def at(self, where: str) -> Optional[Dataset]:
        """The filesystem that is mounted at node path `where`."""
        return self._points.get(self.real(where))

    def covered_below(self, where: str) -> bool:
        """Whether the mount command has mounted something below."""
        return bool(self._overlays.below(where))

    def capture(self, dataset: Dataset) -> Files:
        """The files as they are now."""
        where = dataset.mounted_at()
        if where == "/":
            return {}
        top = dataset.aside if where is None else self.real(where)
        if top is None:
            return {}
        return self._reader.capture(top, lambda path: path in self._points or self._overlays.is_at(path))

    def restore(self, dataset: Dataset, files: Files) -> None:
        """Make the files those of a snapshot, in one step and without events on the old ones."""
        where = dataset.mounted_at()
        if where is None:
            if dataset.aside is not None:
                shutil.rmtree(dataset.aside, ignore_errors=True)
            self._keep_aside(dataset, files)
            return
        if where == "/" or not os.path.isdir(self.real(where)):
            return
        self._overlays.drop_below(where)
        old, new = self.real(where), self._new_aside("rollback")
        os.makedirs(new)
        fill(new, files)
        shutil.copystat(old, new)
        exchange(old, new)  # from here on `new` is the old folder
        for point in self.points_below(where):
            inside = point[len(where) + 1 :]
            if os.path.isdir(os.path.join(new, inside)) and not os.path.isdir(os.path.join(old, inside)):
                os.makedirs(os.path.dirname(os.path.join(old, inside)), exist_ok=True)
                os.rename(os.path.join(new, inside), os.path.join(old, inside))

    def _keep_aside(self, dataset: Dataset, files: Files) -> None:
        dataset.aside = None
        if files:
            dataset.aside = self._new_aside("unmounted")
            os.makedirs(dataset.aside)
            fill(dataset.aside, files)

    def _new_aside(self, what: str) -> str:
        self._number += 1
        return os.path.join(self._aside, f"{what}-{self._number}")


def write_atomically(path: str, content: bytes, mode: int = 0o644) -> None:
    """Put a file in place the way the platform does: a temporary one beside it, renamed over it."""
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.new")
    with open(temporary, "wb") as file:
        file.write(content)
        os.fchmod(file.fileno(), mode)
    os.rename(temporary, path)


def exchange(one: str, other: str) -> None:
    """Swap the names of two files or folders of this machine; in one step where the system can."""
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "renameat2"):
        at_cwd = -100
        if libc.renameat2(at_cwd, os.fsencode(one), at_cwd, os.fsencode(other), EXCHANGE) == 0:
            return
    between = other + ".between"
    os.rename(one, between)
    os.rename(other, one)
    os.rename(between, other)
