# SPDX-License-Identifier: MPL-2.0
"""A folder with all below it as a value: what a snapshot keeps, a clone begins with and a stream carries.

`Files` maps a path below the folder to (content, modification time in ns, mode). A mode without a file type is a plain
file's; a folder has no content, a link has its target as content.
Always: devices, FIFOs and sockets are left out, and so is a file above KEPT_SIZE or one that cannot be read.
Not here: which folder belongs to which dataset (mounts.py)."""

import os
import stat
import time
from typing import Callable, Optional

KEPT_SIZE = 64 << 20  # bytes: larger files are not copied. Nothing that a test puts into a zone comes near
SETTLED = 50_000_000  # ns. A file that changed later than that before a look can change again within one clock tick

Files = dict[str, tuple[bytes, int, int]]
Stamp = tuple[int, int, int, int]  # device, inode, size, change time


class Reader:
    """Captures folders; the content of a file that has not changed since the last look is not read again."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Stamp, bytes]] = {}

    def capture(self, top: str, leave_out: Callable[[str], bool]) -> Files:
        """All files below `top`; `leave_out(path)` says whether a folder belongs to another file system."""
        files: Files = {}
        self._walk(top, "", leave_out, files)
        return files

    def _walk(self, top: str, below: str, leave_out: Callable[[str], bool], files: Files) -> None:
        try:
            entries = sorted(os.scandir(os.path.join(top, below)), key=lambda entry: entry.name)
        except OSError:
            return  # went away or is unreadable while we looked: not in the snapshot
        for entry in entries:
            path = os.path.join(below, entry.name)
            try:
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    if not leave_out(entry.path):
                        files[path] = (b"", status.st_mtime_ns, status.st_mode)
                        self._walk(top, path, leave_out, files)
                elif stat.S_ISLNK(status.st_mode):
                    files[path] = (os.fsencode(os.readlink(entry.path)), status.st_mtime_ns, status.st_mode)
                elif stat.S_ISREG(status.st_mode) and status.st_size <= KEPT_SIZE:
                    files[path] = (self._content(entry.path, status), status.st_mtime_ns, status.st_mode)
            except OSError:
                continue  # as above

    def _content(self, path: str, status: os.stat_result) -> bytes:
        stamp = (status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns)
        known = self._known.get(path)
        if known is not None and known[0] == stamp:
            return known[1]
        with open(path, "rb") as file:
            content = file.read(KEPT_SIZE)
        if time.time_ns() - status.st_ctime_ns > SETTLED:
            self._known[path] = (stamp, content)
        return content


def fill(folder: str, files: Files) -> None:
    """Put `files` below `folder`, which is there."""
    folders: list[tuple[str, int, int]] = []
    for name, (content, mtime, mode) in files.items():
        path = os.path.join(folder, name)
        if stat.S_ISDIR(mode):
            os.makedirs(path, exist_ok=True)
            folders.append((path, mtime, mode))
            continue
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if stat.S_ISLNK(mode):
            if os.path.lexists(path):
                os.unlink(path)
            os.symlink(os.fsdecode(content), path)
            continue
        with open(path, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), stat.S_IMODE(mode))
        os.utime(path, ns=(mtime, mtime))
    for path, mtime, mode in reversed(folders):  # last and from below: filling a folder moves its times
        os.chmod(path, stat.S_IMODE(mode))
        os.utime(path, ns=(mtime, mtime))


def below(files: Files, folder: str) -> Optional[Files]:
    """The part of `files` below `folder` (empty: all of it); None if there is no such folder."""
    if not folder:
        return files
    prefix = folder + "/"
    part = {name[len(prefix) :]: entry for name, entry in files.items() if name.startswith(prefix)}
    return part if part or (folder in files and stat.S_ISDIR(files[folder][2])) else None
