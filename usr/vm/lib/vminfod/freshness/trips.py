# SPDX-License-Identifier: MPL-2.0
"""Reads that take moments, some of them in one trip of a thread.

      begin() -> waiting -> on a trip -> begun, one after the other -> ended
                    ^           |              '- takes longer than TURN: the trip is left to it
                    '-----------'  the trip has taken TURN, or is left

A thread's turn costs about as much as a read, nearly all of which is Python: where several ran at once they, and the
loop, took the interpreter from each other at each call of the system, which doubled the processor time of all.

Always: one trip at a time begins reads; the pool of which none was begun for the longest time has the first;
        so a read waits for a few TURNs for each of the other pools, and behind the reads of its own, whatever hangs;
        a read to which a trip was left keeps that thread until it ends; while MOST of a pool do (filereads.py), no
        other of that pool is begun;
        who waits for a read hears of its end within TURN.
Not here: what is read, and how long that may take at most (filereads.py)."""

from __future__ import annotations

import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from typing import Any, Generic, Optional, TypeVar

import gevent
from gevent.event import AsyncResult

from vmload import filereads
from vmload.worker import Worker

T = TypeVar("T")
Ended = tuple[Any, Optional[Exception]]  # what a step returned, or what it raised

TURN = 0.005  # seconds. A read whose files are in memory needs a tenth of a millisecond or two
_MOST = 8  # reads of a trip, and one more for each pool: those that have come together, as of one zone


class Read(Generic[T]):
    """A vmload.filereads.Running: a step that concerns the files of a `pool`. Greenlets wait for it."""

    def __init__(self, pool: str, step: Callable[[], T]):
        self.pool = pool
        self._step: Optional[Callable[[], T]] = step  # until it runs
        self._outcome = AsyncResult()

    def run(self) -> Ended:
        """In a thread, once."""
        step, self._step = self._step, None  # it knows its FileRead, which knows this: a ring that nothing would free
        assert step is not None
        return outcome(step)

    def end(self, value: Optional[T], error: Optional[Exception]) -> None:
        """For who waits; in the loop."""
        if not self._outcome.ready():
            self._outcome.set((value, error))

    def ends_within(self, seconds: float) -> bool:
        self._outcome.wait(seconds)
        return bool(self._outcome.ready())

    def result(self) -> T:
        value: T = result_of(self._outcome.get())
        return value

    def give_up(self, error: Exception) -> None:
        self.end(None, error)


class _Trip:
    """The way of `worker` through some reads."""

    def __init__(self, reads: list[Read[Any]], worker: Worker):
        self.worker = worker
        self.ended: deque[tuple[Read[Any], Ended]] = deque()  # just those whose waiters have not heard of it
        self._reads = reads
        self._to_begin = deque(reads)  # both ends of a deque may be used by several threads
        self._began_last: Optional[float] = None  # the read that it is at, monotonic seconds

    @property
    def is_held_up(self) -> bool:
        """Whether it is at a read that takes long."""
        return self._began_last is not None and time.monotonic() - self._began_last > TURN

    def run(self) -> None:
        """In the thread."""
        until = time.monotonic() + TURN
        while self._began_last is None or time.monotonic() < until:
            try:
                read = self._to_begin.popleft()
            except IndexError:
                return
            self._began_last = time.monotonic()
            self.ended.append((read, read.run()))

    def leave(self) -> tuple[list[Read[Any]], list[Read[Any]]]:
        """It begins no more: the reads that it has begun, and those that it has not."""
        not_begun: deque[Read[Any]] = deque()
        while True:
            try:
                not_begun.appendleft(self._to_begin.pop())
            except IndexError:
                return self._reads[: len(self._reads) - len(not_begun)], list(not_begun)


class Trips:
    """See the head of the module. For the greenlets of one loop."""

    def __init__(self) -> None:
        self._loop = gevent.get_hub().loop
        # By pool, the one first of which none was begun for the longest time.
        self._waiting: defaultdict[str, deque[Read[Any]]] = defaultdict(deque)
        self._trip: Optional[_Trip] = None  # the one that begins reads
        self._left: dict[_Trip, Read[Any]] = {}  # those that were left, each to its read
        self._left_of: Counter[str] = Counter()  # how many of them, by pool
        self._idle: list[Worker] = []  # one at most
        self._is_called = False  # whether the next trip is about to begin
        self._ticks = self._loop.timer(TURN, TURN)  # run just while there is a trip, or no thread for one

    def begin(self, pool: str, step: Callable[[], T]) -> Read[T]:
        """A vmload.filereads.Begin."""
        read = Read(pool, step)
        self._waiting[pool].append(read)
        self._call()
        return read

    def _call(self) -> None:
        """The next trip begins when those have run that run now: they may have reads for it, too."""
        if self._trip is None and not self._is_called:
            self._is_called = True
            self._loop.run_callback(self._begin_trip)

    # In the loop's own callbacks, where nothing may wait.

    def _begin_trip(self) -> None:
        self._is_called = False
        if self._trip is not None:
            return
        if not self._can_begin():
            self._ticks.stop()
            return
        self._ticks.again(self._tick)  # start() would go on where it was stopped
        try:
            worker = self._idle.pop() if self._idle else Worker("reads of files")
        except RuntimeError:
            return  # the system has no thread for it: with the next tick
        trip = self._trip = _Trip(self._take(), worker)
        worker.run(lambda: self._in_thread(trip))

    def _in_thread(self, trip: _Trip) -> None:
        trip.run()
        self._loop.run_callback_threadsafe(self._has_ended, trip)

    def _can_begin(self) -> list[deque[Read[Any]]]:
        """What waits of the pools that have threads left."""
        return [reads for pool, reads in self._waiting.items() if reads and self._left_of[pool] < filereads.MOST]

    def _take(self) -> list[Read[Any]]:
        """The reads of the next trip: of one pool after the other, as long as there are any."""
        found: list[Read[Any]] = []
        while len(found) < _MOST and (some := self._can_begin()):
            found += [reads.popleft() for reads in some]
        return found

    def _tick(self) -> None:
        trip = self._trip
        if trip is None:
            self._begin_trip()
            return
        self._tell(trip)
        if trip.is_held_up:
            self._trip = None
            at = self._left[trip] = self._put_back(trip)[-1]
            self._left_of[at.pool] += 1
            self._begin_trip()

    def _has_ended(self, trip: _Trip) -> None:
        self._tell(trip)
        if trip is self._trip:
            self._trip = None
            self._put_back(trip)
        else:
            self._left_of[self._left.pop(trip).pool] -= 1
        self._idle = [trip.worker]
        self._call()

    def _put_back(self, trip: _Trip) -> list[Read[Any]]:
        """What it has not begun waits on. Those that it has."""
        begun, not_begun = trip.leave()
        for read in reversed(not_begun):
            self._waiting[read.pool].appendleft(read)
        for read in begun:
            self._waiting[read.pool] = self._waiting.pop(read.pool)
        return begun

    def _tell(self, trip: _Trip) -> None:
        while trip.ended:
            read, (value, error) = trip.ended.popleft()
            read.end(value, error)


def outcome(step: Callable[[], Any]) -> Ended:
    """In a thread, whose pool would report an error as one that is not handled."""
    try:
        return step(), None
    except Exception as error:  # noqa: BLE001 raised again in the greenlet that asked
        return None, error


def result_of(ended: Ended) -> Any:
    """What the step returned; raises what it raised."""
    value, error = ended
    if error is not None:
        raise error
    return value
