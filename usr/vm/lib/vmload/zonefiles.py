# SPDX-License-Identifier: MPL-2.0
"""The gate to what lies below a zonepath: whoever reads, writes or removes anything there does it through a ZoneFiles.

What lies below a zone's root belongs to its tenant, who may be hostile and has root in there: a `checkpoints` that is a
link to the global zone's /etc, a FIFO in place of a config file, a folder that becomes a link between two calls. So
Always: each component below the zonepath is opened relative to the one above it (openat) and never through a symbolic
        link; what has been opened stays open while it is used, so that a swap in mid-way changes nothing.
Always: only regular files are read, a device is not even opened; no open and no read blocks; a read has a limit.
Always: a file appears whole or not at all: written beside its place, as NAME.new, and renamed into it.
The zonepath itself is the platform's (zoneadm names it, it is a dataset's mountpoint) and is trusted.

Paths are relative to it and plain: `root/etc/nodename`. Not here: mounts, which have no openat; see folder()."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import NoReturn, Optional

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

# Bytes of any file of the node. A metadata.json is some kilobytes. A guest can write any; what is parsed in one go must
# not stop the loop, and an event about it carries it three times.
LARGEST_FILE = 4 << 20
DEEPEST = 100  # levels of folders that are removed: honest ones have few, and each level is an open file

CONNECT_LIMIT = 10.0  # seconds
_PIECE = 1 << 14  # bytes read at once

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_KINDS = {
    stat.S_IFLNK: ("a symbolic link", errno.ELOOP),
    stat.S_IFIFO: ("a FIFO", errno.EINVAL),
    stat.S_IFSOCK: ("a socket", errno.EINVAL),
    stat.S_IFCHR: ("a device", errno.EINVAL),
    stat.S_IFBLK: ("a device", errno.EINVAL),
    stat.S_IFDIR: ("a folder", errno.EISDIR),
    stat.S_IFREG: ("a file", errno.ENOTDIR),
}


def content_of(descriptor: int, name: str, most: int = LARGEST_FILE) -> bytes:
    """The content of an open regular file, at most `most` bytes. Raises OSError: EFBIG and others, naming `name`."""
    content = os.read(descriptor, _PIECE)
    pieces, size = [content], len(content)
    while content and size <= most:  # counted as it comes: it may grow meanwhile
        content = os.read(descriptor, _PIECE)
        pieces.append(content)
        size += len(content)
    if size > most:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), name)
    return b"".join(pieces)


def mtime_of(status: os.stat_result) -> Optional[int]:
    """When a regular file was changed last, in whole seconds since the epoch; None for anything else."""
    return status.st_mtime_ns // 10**9 if stat.S_ISREG(status.st_mode) else None


class NotPlain(OSError):
    """Something else stands where a regular file or a folder should be: a link, a FIFO, a device. Nothing was done."""

    def __init__(self, inside: str, mode: int) -> None:
        kind, number = _KINDS.get(stat.S_IFMT(mode), ("no file", errno.EINVAL))
        super().__init__(number, f"{inside} is {kind}", inside)


class ZoneFiles:
    """What lies below the zonepath at the real path `zonepath`. Safe to share between threads: nothing stays open."""

    def __init__(self, zonepath: str) -> None:
        self.zonepath = zonepath

    # Reading.

    def read(self, inside: str, most: int = LARGEST_FILE) -> bytes:
        """The content of a regular file, at most `most` bytes. Raises OSError: FileNotFoundError, NotPlain, EFBIG."""
        with self._parent(inside) as (folder, name):
            return _content(folder, name, inside, most)

    def read_if_there(self, inside: str, most: int = LARGEST_FILE) -> Optional[bytes]:
        """As read(), but None if there is no such file."""
        try:
            return self.read(inside, most)
        except FileNotFoundError:
            return None

    def mtime(self, inside: str) -> Optional[int]:
        """When a regular file was changed last, in whole seconds since the epoch; None for anything else, and for
        what lies behind a link. Raises OSError."""
        return _mtime(self._status(inside))

    def visit(self) -> Visit:
        """For a look at several files in a row."""
        return Visit(self.zonepath)

    def names(self, inside: str) -> list[str]:
        """What is in a folder, in order; nothing if it is not there. Raises OSError."""
        try:
            with self.folder(inside) as folder:
                return sorted(os.listdir(folder))
        except FileNotFoundError:
            return []

    def is_file(self, inside: str) -> bool:
        """Whether a regular file is there, and no link on the way to it. Raises OSError."""
        status = self._status(inside)
        return status is not None and stat.S_ISREG(status.st_mode)

    def exists(self, inside: str) -> bool:
        """Whether anything is there, a dangling link included, and no link on the way to it. Raises OSError."""
        return self._status(inside) is not None

    @contextlib.contextmanager
    def folder(self, inside: str) -> Iterator[int]:
        """A descriptor of the folder while the block runs. Raises FileNotFoundError, NotPlain."""
        descriptor = self._open_folder(_components(inside))
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def connection(self, inside: str) -> socket.socket:
        """A connection to the unix socket that is there, for whom CONNECT_LIMIT is time enough. Raises OSError.

        connect() goes through a link that somebody puts in its place after the look; in a zone of a hardware VM nobody
        lives but its hypervisor."""
        import socket

        with self._parent(inside) as (folder, name):
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if not stat.S_ISSOCK(status.st_mode):
                raise NotPlain(inside, status.st_mode)
            line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                line.settimeout(CONNECT_LIMIT)
                line.connect(f"/proc/self/fd/{folder}/{name}")  # a socket's path has to be short, and a zone's is not
                line.settimeout(None)
            except BaseException:
                line.close()
                raise
        return line

    # Changing.

    def write(self, inside: str, content: bytes, mode: int = 0o644) -> None:
        """Replace the file in one step; its folder has to be there. A link in its place is replaced, not followed.

        Raises OSError, and then what was there is as it was."""
        with self._parent(inside) as (folder, name):
            status = _lstat(folder, name)
            if status is not None and not (stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)):
                raise NotPlain(inside, status.st_mode)
            # One fixed name: what a killed writer left goes with the next write. Writers of one file hold a lock.
            new = f"{name}.new"
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new, dir_fd=folder)
            descriptor = os.open(new, _CREATE, mode, dir_fd=folder)
            try:
                with open(descriptor, "wb") as file:
                    os.fchmod(descriptor, mode)
                    file.write(content)
                os.rename(new, name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(new, dir_fd=folder)
                raise

    def make_folder(self, inside: str, mode: int = 0o755) -> None:
        """A folder, with those above it below the zonepath; one that is there stays as it is. Raises OSError."""
        os.close(self._open_folder(_components(inside), make=mode))

    def remove(self, inside: str) -> None:
        """Remove a file, or the link, FIFO or device itself that is in its place; nothing there is fine.

        Raises OSError, for a folder, too."""
        try:
            with self._parent(inside) as (folder, name):
                os.unlink(name, dir_fd=folder)
        except FileNotFoundError:
            return

    def rename(self, inside: str, name: str) -> bool:
        """Give what is there another name in its folder, in place of what has that; whether anything was there. Raises
        OSError."""
        try:
            with self._parent(inside) as (folder, old):
                os.rename(old, name, src_dir_fd=folder, dst_dir_fd=folder)
        except FileNotFoundError:
            return False
        return True

    def remove_empty(self, inside: str) -> bool:
        """Remove a folder if it is empty, and say whether it was: whatever else is there is left. Raises NotPlain for a
        link on the way."""
        try:
            with self._parent(inside) as (folder, name):
                os.rmdir(name, dir_fd=folder)
        except NotPlain:
            raise
        except OSError:
            return False
        return True

    def remove_folder(self, inside: str) -> None:
        """Remove a folder with all in it, links themselves and not what they lead to; nothing there is fine.

        Raises OSError, for anything but a folder, too."""
        try:
            with self._parent(inside) as (parent, name):
                folder = _opened_folder(parent, name, inside)
                try:
                    _empty(folder, inside, DEEPEST)
                finally:
                    os.close(folder)
                os.rmdir(name, dir_fd=parent)
        except FileNotFoundError:
            return

    # The way down.

    @contextlib.contextmanager
    def _parent(self, inside: str) -> Iterator[tuple[int, str]]:
        """(descriptor of the folder it lies in, its name there)."""
        *above, name = _components(inside)
        folder = self._open_folder(above)
        try:
            yield folder, name
        finally:
            os.close(folder)

    def _status(self, inside: str) -> Optional[os.stat_result]:
        try:
            with self._parent(inside) as (folder, name):
                return _lstat(folder, name)
        except (FileNotFoundError, NotPlain):
            return None

    def _open_folder(self, names: list[str], make: Optional[int] = None) -> int:
        """A descriptor of that folder; with `make` those that are missing are made with that mode."""
        folder = _opened_zonepath(self.zonepath)
        for depth, name in enumerate(names, start=1):
            try:
                if make is not None:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(name, make, dir_fd=folder)
                below = _opened_folder(folder, name, "/".join(names[:depth]))
            finally:
                os.close(folder)
            folder = below
        return folder


class Visit:
    """Looks at files below a zonepath, in a `with` block: each folder is opened once, and of a file that was read it is
    known when it was changed."""

    def __init__(self, zonepath: str) -> None:
        self._zonepath = zonepath
        self._folders: dict[tuple[str, ...], Optional[int]] = {}  # names on the way down -> descriptor; None: not there
        self._changed: dict[str, Optional[int]] = {}  # those whose content was asked for -> what mtime() gives

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *_: object) -> None:
        for folder in self._folders.values():
            if folder is not None:
                os.close(folder)

    def read_if_there(self, inside: str) -> Optional[bytes]:
        """As ZoneFiles.read_if_there()."""
        *above, name = _components(inside)
        folder = self._folder(tuple(above))
        self._changed[inside] = None
        if folder is None:
            return None
        try:
            descriptor, status = _opened_file(folder, name, inside)
        except FileNotFoundError:
            return None
        try:
            self._changed[inside] = mtime_of(status)
            return content_of(descriptor, inside)
        finally:
            os.close(descriptor)

    def mtime(self, inside: str) -> Optional[int]:
        """As ZoneFiles.mtime(); of what read_if_there() was asked for, as it was then."""
        if inside in self._changed:
            return self._changed[inside]
        *above, name = _components(inside)
        try:
            folder = self._folder(tuple(above))
        except NotPlain:
            return None
        return None if folder is None else _mtime(_lstat(folder, name))

    def _folder(self, names: tuple[str, ...]) -> Optional[int]:
        if names not in self._folders:
            try:
                self._folders[names] = self._opened(names)
            except FileNotFoundError:
                self._folders[names] = None
        return self._folders[names]

    def _opened(self, names: tuple[str, ...]) -> Optional[int]:
        if not names:
            return _opened_zonepath(self._zonepath)
        above = self._folder(names[:-1])
        return None if above is None else _opened_folder(above, names[-1], "/".join(names))


def _components(inside: str) -> list[str]:
    """The names in a path. A path that could lead out of the zonepath is our own mistake: ValueError."""
    names = inside.split("/") if inside else []
    if any(name in ("", ".", "..") or "\0" in name for name in names):
        raise ValueError(f"not a plain path below a zonepath: {inside!r}")
    return names


def _lstat(folder: int, name: str) -> Optional[os.stat_result]:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _mtime(status: Optional[os.stat_result]) -> Optional[int]:
    return None if status is None else mtime_of(status)


def _content(folder: int, name: str, inside: str, most: int) -> bytes:
    """A regular file of an open folder, at most `most` bytes."""
    descriptor, _ = _opened_file(folder, name, inside)
    try:
        return content_of(descriptor, inside, most)
    finally:
        os.close(descriptor)


def _opened_zonepath(zonepath: str) -> int:
    return os.open(zonepath, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _opened_folder(parent: int, name: str, inside: str) -> int:
    try:
        return os.open(name, _FOLDER, dir_fd=parent)
    except FileNotFoundError:
        raise
    except OSError as error:
        _refuse(parent, name, inside, error, stat.S_ISDIR)


def _opened_file(folder: int, name: str, inside: str) -> tuple[int, os.stat_result]:
    """Its descriptor, and what it is."""
    # A look first: opening a device can do something, opening a tape winds it. Then the same look at what was opened.
    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if not stat.S_ISREG(status.st_mode):
        raise NotPlain(inside, status.st_mode)
    try:
        descriptor = os.open(name, _READ, dir_fd=folder)
    except FileNotFoundError:
        raise
    except OSError as error:
        _refuse(folder, name, inside, error, stat.S_ISREG)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise NotPlain(inside, status.st_mode)
    return descriptor, status


def _refuse(folder: int, name: str, inside: str, error: OSError, is_right: Callable[[int], bool]) -> NoReturn:
    """Systems differ in how they say that O_NOFOLLOW met a link (ELOOP, EMLINK, ENOTDIR): say what is there."""
    status = _lstat(folder, name)
    if status is not None and not is_right(status.st_mode):
        raise NotPlain(inside, status.st_mode) from error
    raise error


def _empty(folder: int, inside: str, levels: int) -> None:
    """Remove all that is in an open folder."""
    if levels == 0:
        raise OSError(errno.ENAMETOOLONG, "folders are nested too deeply", inside)
    for name in os.listdir(folder):
        status = _lstat(folder, name)
        if status is None:
            continue  # somebody else was quicker
        if not stat.S_ISDIR(status.st_mode):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder)
            continue
        below = _opened_folder(folder, name, f"{inside}/{name}")
        try:
            _empty(below, f"{inside}/{name}", levels - 1)
        finally:
            os.close(below)
        os.rmdir(name, dir_fd=folder)
