# SPDX-License-Identifier: MPL-2.0
"""The files by which writers of one VM wait for each other (docs/vmadm.md, "Locks").

    /var/run/vm.<uuid>.config.lockfile      a whole command that changes the VM's configuration
    /var/run/.vm.<uuid>.zonecfg.lockfile    one call of zonecfg
    /var/fw/.lockfile                       fwadm's own, for the files of packet filters (flocked())

Always: the lock is the kernel's (fcntl), so that it ends with its holder, however that dies; the file's text says who
        holds it and since when, and counts only while the lock is held.
        Within one process, where fcntl does not tell threads apart, a mutex for each file does.
Order: the config lock, a transaction of vminfod's (actions/atonce.py), the zonecfg lock, never the other way round: who
        waits for a transaction's turn waits for somebody who waits for no config lock."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Iterator

from vmadm.errors import NotWritten

PATIENCE = 1.0  # seconds that a lock is waited for before the wait is reported
LOOK_EVERY = 0.02  # seconds, meanwhile

_mutexes: dict[str, threading.Lock] = {}
_mutexes_guard = threading.Lock()


def config_lock(uuid: str) -> str:
    """The node's path of the lock for changing the VM's configuration."""
    return f"/var/run/vm.{uuid}.config.lockfile"


def zonecfg_lock(uuid: str) -> str:
    """The node's path of the lock for a call of zonecfg."""
    return f"/var/run/.vm.{uuid}.zonecfg.lockfile"


@contextlib.contextmanager
def held(path: str, command: str, tell: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock file at the real `path`; waits for as long as it takes. `command` is who we are, for others to
    read; `tell` gets a line when the wait lasts. Raises NotWritten if the file cannot be had."""
    mutex = _mutex(path)
    if not mutex.acquire(timeout=PATIENCE):
        tell(f"waiting for {path}: {holder(path)}")
        mutex.acquire()
    try:
        descriptor = _locked(path, tell)
        try:
            _write(descriptor, json.dumps({"command": command, "pid": os.getpid(), "since": _now()}))
            yield
        finally:
            _write(descriptor, "")
            os.close(descriptor)
    finally:
        mutex.release()


@contextlib.contextmanager
def flocked(path: str) -> Iterator[None]:
    """Hold a lock file of another program's kind, flock(2), at the real `path`, as fwadm does with its own. Raises
    NotWritten if the file cannot be had."""
    try:
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise NotWritten(f"cannot open {path}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def holder(path: str) -> str:
    """Who holds the lock file at the real `path`, in words."""
    try:
        with open(path, encoding="utf-8") as file:
            said = json.load(file)
        return f"held by `{said['command']}`, pid {said['pid']}, since {said['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "held by a process that has not written its name yet"


def _mutex(path: str) -> threading.Lock:
    with _mutexes_guard:
        return _mutexes.setdefault(path, threading.Lock())


def _locked(path: str, tell: Callable[[str], None]) -> int:
    """A descriptor of the file, locked."""
    reported = False
    until = time.monotonic() + PATIENCE
    while True:
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            raise NotWritten(f"cannot open {path}: {error.strerror}") from error
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX if reported else fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_same(descriptor, path):
                return descriptor
            os.close(descriptor)  # the VM was deleted, and its lock file with it: try the new one
        except (BlockingIOError, PermissionError):
            os.close(descriptor)
            if time.monotonic() < until:
                time.sleep(LOOK_EVERY)
            else:
                tell(f"waiting for {path}: {holder(path)}")
                reported = True
        except BaseException:
            os.close(descriptor)
            raise


def forget(path: str) -> None:
    """Remove a lock file whose VM is gone; only its holder may."""
    with contextlib.suppress(OSError):
        os.unlink(path)


def _is_same(descriptor: int, path: str) -> bool:
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return False
    ours = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


def _write(descriptor: int, text: str) -> None:
    with contextlib.suppress(OSError):  # a full /var/run must not stop the work: only the name is missing then
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
