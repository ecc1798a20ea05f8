# SPDX-License-Identifier: MPL-2.0
"""The folders and files of mounted filesystems under the node's root.

A snapshot keeps a copy of the small files that a VM object is made of: those right in the mounted folder, and those in
its `config`. A rollback puts them back the way zfs does: **whoever watches the old files hears nothing.** The restored
folder is built aside and takes the old one's name in one step; the old one, which the watches hang on, is kept until
the node ends, since its removal would be an event.
Not here: which dataset is mounted where (datasets.py)."""

import ctypes
import os
import shutil
import stat
from typing import Optional

from mockcn.state.datasets import Dataset

KEPT_SIZE = 1 << 20  # bytes: larger files are not copied into snapshots. Nothing that is read of a VM comes near
KEPT_FOLDERS = ("", "config")
EXCHANGE = 2  # RENAME_EXCHANGE of renameat2(2)

Files = dict[str, tuple[bytes, int, int]]  # path below the mountpoint -> content, mtime in ns, mode


class Mounts:
    def __init__(self, root: str, aside: str) -> None:
        self._root = root
        self._aside = aside  # folder inside the same file system, for what is on its way in or out
        self._number = 0

    def real(self, path: str) -> str:
        return self._root + path

    def make(self, dataset: Dataset, files: Optional[Files] = None) -> None:
        """The folder of a new filesystem, with `files` in it."""
        where = dataset.mounted_at()
        if where is not None and where != "/":
            os.makedirs(self.real(where), exist_ok=True)
            _fill(self.real(where), files or {})

    def remove(self, where: Optional[str]) -> None:
        """What was mounted at node path `where` goes, with everything in it."""
        if where is not None and where != "/":
            shutil.rmtree(self.real(where), ignore_errors=True)

    def move(self, old: Optional[str], new: Optional[str]) -> None:
        """A filesystem is mounted elsewhere now: its folder moves along. None: not mounted."""
        if old == new:
            return
        if new is None:
            self.remove(old)
        elif old is None or not os.path.isdir(self.real(old)):
            os.makedirs(self.real(new), exist_ok=True)
        elif not os.path.exists(self.real(new)):
            os.makedirs(os.path.dirname(self.real(new)), exist_ok=True)
            os.rename(self.real(old), self.real(new))

    def capture(self, dataset: Dataset) -> Files:
        """The small files as they are now."""
        where = dataset.mounted_at()
        if where is None or where == "/":
            return {}
        files: Files = {}
        for folder in KEPT_FOLDERS:
            base = os.path.join(self.real(where), folder)
            try:
                names = sorted(os.listdir(base))
            except OSError:
                continue  # no such folder: nothing to keep
            for name in names:
                path = os.path.join(base, name)
                try:
                    status = os.lstat(path)
                    if not stat.S_ISREG(status.st_mode) or status.st_size > KEPT_SIZE:
                        continue
                    with open(path, "rb") as file:
                        files[os.path.join(folder, name)] = (file.read(), status.st_mtime_ns, status.st_mode & 0o7777)
                except OSError:
                    continue  # went away or is unreadable while we looked: not in the snapshot
        return files

    def restore(self, dataset: Dataset, files: Files) -> None:
        """Make the small files those of a snapshot, in one step and without events on the old ones."""
        where = dataset.mounted_at()
        if where is None or where == "/" or not os.path.isdir(self.real(where)):
            return
        self._number += 1
        old, new = self.real(where), os.path.join(self._aside, f"rollback-{self._number}")
        os.makedirs(new)
        shutil.copystat(old, new)
        _fill(new, files)
        if os.path.isdir(os.path.join(old, "config")):
            os.makedirs(os.path.join(new, "config"), exist_ok=True)
        _exchange(old, new)  # from here on `new` is the old folder
        for entry in os.scandir(new):
            if entry.name not in KEPT_FOLDERS and entry.is_dir(follow_symlinks=False):
                os.rename(entry.path, os.path.join(old, entry.name))


def write_atomically(path: str, content: bytes, mode: int = 0o644) -> None:
    """Put a file in place the way the platform does: a temporary one beside it, renamed over it."""
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.new")
    with open(temporary, "wb") as file:
        file.write(content)
        os.fchmod(file.fileno(), mode)
    os.rename(temporary, path)


def _fill(folder: str, files: Files) -> None:
    for name, (content, mtime, mode) in files.items():
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
        os.utime(path, ns=(mtime, mtime))


def _exchange(one: str, other: str) -> None:
    """Swap two folders' names; in one step where the system can."""
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "renameat2"):
        at_cwd = -100
        if libc.renameat2(at_cwd, os.fsencode(one), at_cwd, os.fsencode(other), EXCHANGE) == 0:
            return
    between = other + ".between"
    os.rename(one, between)
    os.rename(other, one)
    os.rename(between, other)
