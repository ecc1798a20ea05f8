# SPDX-License-Identifier: MPL-2.0
"""Reads of the files of zones, which have no time limit of their own: on a sick pool one hangs for as long as the pool.

For a load of all; who reads the files of one zone is the runner's affair (runner.py).

Always: each read has a thread of its own, and a deadline: past it whoever waits gets a LoadError, and the thread is
        left alone until the read ends;
        what hangs is not asked for again beside it, so that a zone costs one thread at most, and a pool MOST;
        pools are kept apart: however many zones of one hang, those of the others are read.
For threads. Not here: what is read."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from typing import Any, Generic, TypeVar

from vmload.loaderror import LoadError

T = TypeVar("T")

MOST = 128  # reads of one pool that hang; past it the others of that pool fail at once


class FileRead(Generic[T]):
    """A read under way."""

    def __init__(self, what: str, limit: float):
        self.what = what
        self._limit = limit
        self._lock = threading.Lock()
        self._outcome: Future[T] = Future()
        self.deadline = time.monotonic() + limit

    def ends_within(self, seconds: float) -> bool:
        """Wait so long for its end; whether it came."""
        try:
            self._outcome.exception(seconds)
        except NotYet:
            return False
        return True

    def result(self) -> T:
        """What the read returns or raises; LoadError (code ETIMEDOUT) past its deadline."""
        try:
            return self._outcome.result(max(0.0, self.deadline - time.monotonic()))
        except NotYet as error:
            raise LoadError(f"{self.what} could not be read within {self._limit:g} s", "ETIMEDOUT") from error

    def succeed(self, value: T) -> None:
        """It has ended with this; nothing if it was given up."""
        with self._lock:
            if not self._outcome.done():
                self._outcome.set_result(value)

    def give_up(self, error: Exception) -> None:
        """It has failed, or is no longer waited for."""
        with self._lock:
            if not self._outcome.done():
                self._outcome.set_exception(error)


class FileReads:
    """The reads of one node, each with `limit` seconds."""

    def __init__(self, limit: float):
        self._limit = limit
        self._lock = threading.Lock()
        self._under_way: dict[str, list[FileRead[Any]]] = {}  # pool -> just the reads that have not ended
        self._stopped = False

    def start(self, pool: str, what: str, step: Callable[[], T]) -> FileRead[T]:
        """Begin to read `what`, which lies on `pool`. Raises LoadError (code EBUSY) if too much hangs already."""
        read: FileRead[T] = FileRead(what, self._limit)
        with self._lock:
            others = self._under_way.setdefault(pool, [])
            if self._stopped:
                raise LoadError("the daemon stops", "EINTR")
            if len(others) >= MOST:
                raise LoadError(f"{len(others)} reads of files on {pool} hang: {what} is not read", "EBUSY")
            if any(other.what == what and time.monotonic() > other.deadline for other in others):
                raise LoadError(f"{what} hangs since it was read before", "EBUSY")
            others.append(read)  # beside a young one, too: what that has read may be older than the wish for this
        thread = threading.Thread(target=self._run, args=(pool, read, step), name=f"read {what}", daemon=True)
        thread.start()
        return read

    def run(self, pool: str, what: str, step: Callable[[], T]) -> T:
        """What step() returns or raises. Raises LoadError if that takes too long."""
        return self.start(pool, what, step).result()

    def stop(self) -> None:
        """Whoever waits gets a LoadError at once."""
        with self._lock:
            self._stopped = True
            waiting = [read for reads in self._under_way.values() for read in reads]
        for read in waiting:
            read.give_up(LoadError("the daemon stops", "EINTR"))

    def _run(self, pool: str, read: FileRead[T], step: Callable[[], T]) -> None:
        try:
            read.succeed(step())
        except Exception as error:  # noqa: BLE001 raised again where the result is wanted
            read.give_up(error)
        finally:
            with self._lock:
                self._under_way[pool].remove(read)
