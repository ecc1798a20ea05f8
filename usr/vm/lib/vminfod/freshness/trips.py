# SPDX-License-Identifier: MPL-2.0
"""Reads that take moments, some of them in one trip of a thread.

      run by greenlets -> waiting -> begun by a trip, one after the other -> ended
                             ^                     |
                             '-- not begun yet ----' one of them takes longer than TURN: the trip is left to it

A thread's turn costs about as much as a read, nearly all of which is Python: where several ran at once they, and the
loop, took the interpreter from each other at each call of the system, which doubled the processor time of all.

Always: one trip at a time begins reads; those of all pools take turns in it;
        a read waits for another for TURN at most, as long as its pool has threads: one that takes longer has the thread
        of its trip to itself until it ends;
        such reads of one pool use up only the threads of that pool;
        who waits for a read hears of its end within TURN.
Not here: what is read, and how long that may take at most (filereads.py)."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any, Generic, Optional, TypeVar

import gevent
from gevent.event import AsyncResult
from gevent.threadpool import ThreadPool

from vmload import filereads

T = TypeVar("T")
Ended = tuple[Any, Optional[Exception]]  # what a step returned, or what it raised

TURN = 0.005  # seconds. A read whose files are in memory needs a tenth of a millisecond or two
_MOST = 8  # reads of a trip: those that have come together, as of one zone


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
    """One thread's way through some reads."""

    def __init__(self, reads: list[Read[Any]]):
        self._reads = reads
        self._to_begin = deque(reads)  # both ends of a deque may be used by several threads
        self.ended: deque[tuple[Read[Any], Ended]] = deque()  # just those whose waiters have not heard of it
        self.left_to: Optional[Read[Any]] = None

    def run(self) -> None:
        """In the thread."""
        while True:
            try:
                read = self._to_begin.popleft()
            except IndexError:
                return
            self.ended.append((read, read.run()))

    @property
    def has_begun(self) -> bool:
        return len(self._to_begin) < len(self._reads)

    def leave(self) -> list[Read[Any]]:
        """It begins no more: the reads that it would have begun, in their order. The last one that it has begun has it
        to itself."""
        not_begun: deque[Read[Any]] = deque()
        while True:
            try:
                not_begun.appendleft(self._to_begin.pop())
            except IndexError:
                break
        begun = self._reads[: len(self._reads) - len(not_begun)]
        self.left_to = begun[-1] if begun else None
        return list(not_begun)


class Trips:
    """See the head of the module. For the greenlets of one loop."""

    def __init__(self) -> None:
        self._loop = gevent.get_hub().loop
        self._threads = ThreadPool(1)  # one for the trip, and as many as each pool may have for reads that take long
        self._free: dict[str, int] = {}  # pool -> how many more of its reads may have a trip to themselves
        self._waiting: defaultdict[str, deque[Read[Any]]] = defaultdict(deque)  # by pool
        self._trip: Optional[_Trip] = None  # the one that begins reads
        self._is_called = False  # whether the next is about to begin
        self._impatience = self._loop.timer(TURN, TURN)

    def begin(self, pool: str, step: Callable[[], T]) -> Read[T]:
        """A vmload.filereads.Begin."""
        if pool not in self._free:
            self._free[pool] = filereads.MOST
            self._threads.maxsize += filereads.MOST
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
        if self._trip is not None or not (reads := self._take()):
            return
        trip = _Trip(reads)
        try:
            self._threads.spawn(trip.run).rawlink(lambda _: self._has_ended(trip))
        except RuntimeError:  # the system has no thread for it
            self._put_back(trip.leave())
            self._impatience.again(self._try_again)
            return
        self._trip = trip
        self._impatience.again(self._lose_patience)  # start() would go on where it was stopped

    def _try_again(self) -> None:
        self._impatience.stop()
        self._call()

    def _take(self) -> list[Read[Any]]:
        """The reads of the next trip, of each pool an equal share."""
        pools = [(reads, self._free[pool]) for pool, reads in self._waiting.items()]
        some = [reads for reads, free in pools if reads and free]
        share = max(1, _MOST // max(1, len(some)))
        return [reads.popleft() for reads in some for _ in range(min(share, len(reads)))]

    def _has_ended(self, trip: _Trip) -> None:
        if trip is self._trip:
            self._trip = None
            self._impatience.stop()
        elif trip.left_to is not None:
            self._free[trip.left_to.pool] += 1
        self._tell(trip)
        self._call()

    def _lose_patience(self) -> None:
        trip = self._trip
        if trip is not None and trip.has_begun:
            self._trip = None
            self._impatience.stop()
            self._put_back(trip.leave())
            assert trip.left_to is not None
            self._free[trip.left_to.pool] -= 1
            self._tell(trip)
            self._call()

    def _put_back(self, reads: list[Read[Any]]) -> None:
        for read in reversed(reads):
            self._waiting[read.pool].appendleft(read)

    def _tell(self, trip: _Trip) -> None:
        while trip.ended:
            read, (value, error) = trip.ended.popleft()
            read.end(value, error)


def outcome(step: Callable[[], Any]) -> Ended:
    """In a thread. Its pool would report an error there as one that is not handled."""
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
