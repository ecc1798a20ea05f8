# SPDX-License-Identifier: MPL-2.0
"""Reads of what has no time limit of its own, as the files of zones: on a sick pool one hangs for as long as the pool.

Always: each read has a deadline, from when it is asked for: past it whoever waits gets a LoadError, and the thread in
        which it runs is left alone until it ends;
        what hangs is not asked for again beside it, whoever asks, so that a zone costs one thread at most, and a pool
        MOST;
        pools are kept apart: however many zones of one hang, those of the others are read.
A caller that may block waits here. One in a gevent loop brings its own way of having a step run and of waiting for its
end: a `begin`. Not here: what is read."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from typing import Any, Generic, Optional, Protocol, TypeVar

from vmload.loaderror import LoadError

T = TypeVar("T")
Result = TypeVar("Result", covariant=True)

MOST = 128  # reads of one pool that have a thread; past it those that come fail at once, since so many hang


class Running(Protocol[Result]):
    """A step that runs, or has ended."""

    def ends_within(self, seconds: float) -> bool:
        """Wait so long for its end; whether it came."""
        ...

    def result(self) -> Result:
        """What it returned or raised, once it has ended."""
        ...

    def give_up(self, error: Exception) -> None:
        """If it has not ended: for who waits it has, and raised this."""
        ...


# Has a step that concerns the files of this pool run.
Begin = Callable[[str, Callable[[], Any]], Running[Any]]


class Outcome(Generic[T]):
    """A Running: what becomes of `step`, which a thread is to run(); to be waited for by blocking."""

    def __init__(self, step: Callable[[], T]):
        self._step: Optional[Callable[[], T]] = step  # until it runs
        self._lock = threading.Lock()
        self._outcome: Future[T] = Future()

    def run(self) -> None:
        """In the thread, once."""
        step, self._step = self._step, None  # it knows its FileRead, which knows this: a ring that nothing would free
        assert step is not None
        try:
            value = step()
        except Exception as error:  # noqa: BLE001 raised again where the result is wanted
            self.give_up(error)
            return
        with self._lock:
            if not self._outcome.done():
                self._outcome.set_result(value)

    def ends_within(self, seconds: float) -> bool:
        try:
            self._outcome.exception(seconds)
        except NotYet:
            return False
        return True

    def result(self) -> T:
        return self._outcome.result()

    def give_up(self, error: Exception) -> None:
        with self._lock:
            if not self._outcome.done():
                self._outcome.set_exception(error)


def in_a_thread(pool: str, step: Callable[[], T]) -> Outcome[T]:
    """A Begin: in a thread of its own."""
    outcome = Outcome(step)
    threading.Thread(target=outcome.run, name=f"read on {pool}", daemon=True).start()
    return outcome


class FileRead(Generic[T]):
    """A read under way, or ended."""

    def __init__(self, what: str, limit: float):
        self.what = what
        self.began = time.monotonic()  # seconds
        self._limit = limit
        self._deadline = self.began + limit
        self.running: Optional[Running[T]] = None  # None: nobody has it run yet
        self.has_thread = False  # from then on until it ends; before, it may wait for its turn

    @property
    def hangs(self) -> bool:
        """Whether it is past its deadline, unless it has ended."""
        return time.monotonic() > self._deadline

    def ends_within(self, seconds: float) -> bool:
        """Wait so long for its end; whether it came."""
        return self.running is not None and self.running.ends_within(seconds)

    def result(self) -> T:
        """What the read returns or raises; LoadError (code ETIMEDOUT) past its deadline."""
        if self.running is None or not self.running.ends_within(max(0.0, self._deadline - time.monotonic())):
            raise LoadError(f"{self.what} could not be read within {self._limit:g} s", "ETIMEDOUT")
        return self.running.result()


class FileReads:
    """The reads of one node, each with `limit` seconds. Safe to use from several threads at once."""

    def __init__(self, limit: float):
        self._limit = limit
        self._lock = threading.Lock()
        self._under_way: dict[str, list[FileRead[Any]]] = {}  # pool -> just the reads that have not ended
        self._stopped = False

    def start(self, pool: str, what: str, step: Callable[[], T], begin: Begin = in_a_thread) -> FileRead[T]:
        """Begin to read `what`, which lies on `pool`. Raises LoadError (code EBUSY) if too much hangs already."""
        read: FileRead[T] = FileRead(what, self._limit)
        with self._lock:
            others = self._under_way.setdefault(pool, [])
            if self._stopped:
                raise _stops()
            with_thread = sum(other.has_thread for other in others)
            if with_thread >= MOST:
                raise LoadError(f"{with_thread} reads on {pool} hang: {what} is not read", "EBUSY")
            if any(other.what == what and other.hangs for other in others):
                raise LoadError(f"{what} hangs since it was read before", "EBUSY")
            others.append(read)  # beside a young one, too: what that has read may be older than the wish for this
        try:
            read.running = begin(pool, lambda: self._run(pool, read, step))  # unlocked: it may wait
        except BaseException:
            self._ended(pool, read)
            raise
        if self._stopped:
            read.running.give_up(_stops())
        return read

    def run(self, pool: str, what: str, step: Callable[[], T], begin: Begin = in_a_thread) -> T:
        """What step() returns or raises. Raises LoadError if that takes too long."""
        return self.start(pool, what, step, begin).result()

    def under_way(self) -> list[tuple[str, float]]:
        """What is being read, and for how many seconds, the oldest first. Also what is not waited for any more."""
        now = time.monotonic()
        with self._lock:
            reads = [(read.what, now - read.began) for reads in self._under_way.values() for read in reads]
        return sorted(reads, key=lambda one: -one[1])

    def stop(self) -> None:
        """Whoever waits gets a LoadError at once."""
        with self._lock:
            self._stopped = True
            waiting = [read for reads in self._under_way.values() for read in reads]
        for read in waiting:
            if read.running is not None:
                read.running.give_up(_stops())

    def _run(self, pool: str, read: FileRead[T], step: Callable[[], T]) -> T:
        read.has_thread = True
        try:
            return step()
        finally:
            self._ended(pool, read)

    def _ended(self, pool: str, read: FileRead[Any]) -> None:
        with self._lock:
            self._under_way[pool].remove(read)


def _stops() -> LoadError:
    return LoadError("the daemon stops", "EINTR")
