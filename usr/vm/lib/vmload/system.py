# SPDX-License-Identifier: MPL-2.0
"""The node: runs its commands and reads its files under a root folder.

Paths are the node's own (`/etc/zones/U.xml`); the root is put in front here and nowhere else, so that nothing above
knows whether it looks at a real node (`/`) or at a mock one. Files below a zonepath are read through below() alone: a
tenant can have a hand in what lies there. Everything blocks: a caller in a gevent loop uses threads.
Commands are started by the standard library's subprocess, which uses vfork: a fork of a large daemon stops it for
tens of milliseconds."""

from __future__ import annotations

import errno
import os
import selectors
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Optional

from vmload.loaderror import LoadError
from vmload.zonefiles import ZoneFiles, content_of, mtime_of

ZONEADM = "/usr/sbin/zoneadm"
ZFS = "/usr/sbin/zfs"
KSTAT = "/usr/bin/kstat"

# Seconds. A list of all datasets takes minutes on a busy node with many snapshots; past this the pool hangs.
ALL_LIMIT = 300.0
# Seconds; a command about one zone.
ONE_LIMIT = 45.0
# Seconds that a killed command has to end. One that hangs in the kernel, as zfs does on a sick pool, never does.
KILL_GRACE = 3.0

# Bytes that a command may print. A list of 100,000 snapshots is some 15 MB; this keeps a tool gone wild from filling
# the memory in the time that it has.
LARGEST_OUTPUT = 256 << 20


# Device and inode, of a link those of what it leads to and its own: another file in the same place has another.
Identity = tuple[int, ...]


@dataclass(frozen=True)
class TimeLimits:
    """Seconds that a command about `one` zone has, and one about `all`."""

    one: float = ONE_LIMIT
    all: float = ALL_LIMIT


@dataclass(frozen=True)
class Output:
    """What a command printed and how it ended. `status` is None for one that a signal ended."""

    status: Optional[int]
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True)
class RunningCommand:
    """A command that has been running for `seconds`: its words, the program first by its name alone. `about`: the zone
    that it asks about, where the words name it by a number."""

    words: tuple[str, ...]
    seconds: float
    about: Optional[str] = None

    def names(self, names: Collection[str]) -> bool:
        """Whether it asks about one of these zones or datasets."""
        return self.about in names or not set(self.words).isdisjoint(names)

    @property
    def for_all(self) -> bool:
        """Whether it asks about all VMs."""
        return self._subject is None

    @property
    def what(self) -> str:
        """For people: "zfs list of U"."""
        verb = " list" if "list" in self.words[1:] else ""
        subjects = sum("/" in word for word in self.words)
        of_what = f"{subjects} datasets" if subjects > 1 else self._subject or "all VMs"
        return f"{self.words[0]}{verb} of {of_what}"

    @property
    def _subject(self) -> Optional[str]:
        """The zone or dataset that it asks about; None for all."""
        if self.about is not None:
            return self.about
        if "-z" in self.words:
            return self.words[self.words.index("-z") + 1]
        dataset = next((word for word in self.words if "/" in word), None)
        return None if dataset is None else dataset.partition("/")[2]


class System:
    """A node's commands and files. Safe to share between threads."""

    def __init__(self, root: str = "/", limits: Optional[TimeLimits] = None):
        self.root = os.path.abspath(root).rstrip("/")
        self.limits = limits or TimeLimits()
        self._lock = threading.Lock()
        # Just the commands between their start and their end: when they were started (monotonic s), their words, and
        # what they are about.
        self._running: dict[subprocess.Popen[bytes], tuple[float, tuple[str, ...], Optional[str]]] = {}
        # Those that were killed and did not end, by what they were asked: the same is not started beside them.
        self._stuck: dict[tuple[str, ...], subprocess.Popen[bytes]] = {}
        self._stopped = False

    def stop(self) -> None:
        """Kill the commands that run, and start no more: those who wait for one get a LoadError at once."""
        with self._lock:
            self._stopped = True
            for child in self._running:
                _kill_group(child)

    def running(self) -> list[RunningCommand]:
        """The commands that run now, the oldest first."""
        now = time.monotonic()
        with self._lock:
            started = sorted(self._running.values(), key=lambda command: command[0])
        return [RunningCommand(words, now - at, about) for at, words, about in started]

    def path(self, node_path: str) -> str:
        """Where the node's absolute `node_path` lies on this machine."""
        return self.root + node_path

    def run(
        self, program: str, arguments: list[str], limit: float, *, c_locale: bool = False, about: Optional[str] = None
    ) -> Output:
        """Run the node's `program` to its end, with nothing on its standard input. `about`: see RunningCommand.

        `limit` is in seconds; past it the whole process group is killed. `c_locale` is for programs whose messages
        are matched. Raises LoadError if it cannot be started, does not end in time (code ETIMEDOUT), prints far too
        much (EFBIG), or still hangs in the kernel since it was asked the same before (EBUSY)."""
        environment = None
        if c_locale:
            environment = {k: v for k, v in os.environ.items() if k != "LANG" and not k.startswith("LC_")}
            environment.update(LANG="C", LC_ALL="C")
        name = os.path.basename(program)
        self._check_not_stuck(name, (program, *arguments))
        try:
            child = subprocess.Popen(
                [self.path(program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            code = errno.errorcode.get(error.errno or 0)
            raise LoadError(f"cannot run {name}: {error.strerror}: {program}", code) from error
        with self._lock:
            self._running[child] = (time.monotonic(), (name, *arguments), about)
            if self._stopped:
                _kill_group(child)
        try:
            stdout, stderr = _output_of(child, time.monotonic() + limit)
        except subprocess.TimeoutExpired as error:
            raise LoadError(f"{name} did not end within {limit:g} s and was killed", "ETIMEDOUT") from error
        except _TooMuch as error:
            raise LoadError(f"{name} printed more than {LARGEST_OUTPUT >> 20} MiB and was killed", "EFBIG") from error
        finally:
            self._end(child, (program, *arguments))
        return Output(child.returncode if child.returncode >= 0 else None, stdout, stderr)

    def _end(self, child: subprocess.Popen[bytes], asked: tuple[str, ...]) -> None:
        """See to it that `child` is gone. One that does not even end when it is killed is left alone: waiting for it
        would cost a thread, and in the end all of them."""
        if child.returncode is None:
            _kill_group(child)
        for pipe in (child.stdout, child.stderr):
            if pipe is not None:
                pipe.close()
        try:
            child.wait(KILL_GRACE)
        except subprocess.TimeoutExpired:
            with self._lock:
                self._stuck[asked] = child
        with self._lock:
            self._running.pop(child, None)

    def _check_not_stuck(self, name: str, asked: tuple[str, ...]) -> None:
        with self._lock:
            child = self._stuck.get(asked)
            if child is None:
                return
            if child.poll() is None:
                raise LoadError(f"{name} hangs since it was asked the same before, and cannot be killed", "EBUSY")
            del self._stuck[asked]

    def read(self, node_path: str) -> bytes:
        """The content of a regular file, links followed. Raises OSError."""
        # Not blocking: opening a FIFO that somebody put in place of a config file must not hang the load.
        fd = os.open(self.path(node_path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(fd)
            if stat.S_ISDIR(status.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), node_path)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), node_path)
            return content_of(fd, node_path)
        finally:
            os.close(fd)

    def below(self, zonepath: str) -> ZoneFiles:
        """The gate to what lies below the node's `zonepath`."""
        return ZoneFiles(self.path(zonepath))

    def read_if_there(self, node_path: str) -> Optional[bytes]:
        """As read(), but None if there is no such file."""
        try:
            return self.read(node_path)
        except FileNotFoundError:
            return None

    def mtime(self, node_path: str) -> Optional[int]:
        """As mtime_of(), None also if nothing is there. Raises OSError."""
        try:
            status = os.stat(self.path(node_path))
        except FileNotFoundError:
            return None
        return mtime_of(status)

    def identity(self, node_path: str) -> Optional[Identity]:
        """Which file or folder is there now; None if none can be seen."""
        path = self.path(node_path)
        try:
            status = os.lstat(path)
            own = (status.st_dev, status.st_ino)
            if not stat.S_ISLNK(status.st_mode):
                return own
            status = os.stat(path)
        except OSError:
            return None
        return (status.st_dev, status.st_ino, *own)


class _TooMuch(Exception):
    """A command prints without end."""


def _output_of(child: subprocess.Popen[bytes], deadline: float) -> tuple[bytes, bytes]:
    """What `child` prints until it ends. Raises TimeoutExpired past `deadline` (monotonic seconds), or _TooMuch."""
    pieces: dict[Any, list[bytes]] = {child.stdout: [], child.stderr: []}
    size = 0
    with selectors.DefaultSelector() as selector:
        for pipe in pieces:
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                raise subprocess.TimeoutExpired(child.args, left)
            for key, _ in selector.select(left):
                piece = os.read(key.fd, 1 << 16)
                size += len(piece)
                if size > LARGEST_OUTPUT:
                    raise _TooMuch
                pieces[key.fileobj].append(piece)
                if not piece:
                    selector.unregister(key.fileobj)
    _await_end(child, deadline)
    return b"".join(pieces[child.stdout]), b"".join(pieces[child.stderr])


def _await_end(child: subprocess.Popen[bytes], deadline: float) -> None:
    """Its output has ended, and so will `child` in microseconds: Popen's own wait would look once, and then sleep for
    a millisecond. Raises TimeoutExpired past `deadline` (monotonic seconds)."""
    pause = 0.00005  # seconds
    while child.poll() is None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise subprocess.TimeoutExpired(child.args, left)
        time.sleep(min(pause, left))
        pause = min(4 * pause, 0.05)


def _kill_group(child: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # it ended by itself in this moment
