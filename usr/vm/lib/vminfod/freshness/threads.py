# SPDX-License-Identifier: MPL-2.0
"""Threads for what blocks, kept apart by what they wait for.

Always: a step runs in a real thread, so that the gevent loop goes on meanwhile;
        reads of files of one pool begin one after the other, but none waits for one that takes long;
        steps that hang (a zfs that waits for a sick pool) use up only the threads of their own kind: who needs zoneadm
        or a file is not held up by those who need zfs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, Generic, Optional

import gevent
from gevent.event import AsyncResult, Event
from gevent.threadpool import ThreadPool

from vmload import filereads
from vmload.filereads import FileReads
from vmload.runner import P, T

# Threads of each kind. How many commands make progress at once is vmload's to bound (slots.py); each that hangs keeps a
# thread until its time limit, so this is how many VMs can lose their freshness before another has to wait. Reads of
# files that hang have a limit, too (filereads.py), and threads of each pool of the node.
MOST = 128
MOST_NODE = 2  # loads of the whole node, each of which has threads of its own

# Seconds for which a read of files keeps the next of its pool waiting. One whose files are in memory needs less, and
# nearly all of it is Python: where several run at once they, and the loop, take the interpreter from each other at each
# call of the system, which doubles the processor time of all.
_TURN = 0.005


class Threads:
    """A vmload.runner.Runner: the calling greenlet waits, no other does. `reads`: those of files, whoever waits."""

    def __init__(self, reads: FileReads) -> None:
        self._reads = reads
        self._zoneadm, self._kstat, self._zfs = ThreadPool(MOST), ThreadPool(MOST), ThreadPool(MOST)
        self._node = ThreadPool(MOST_NODE)
        self._files: dict[str, _InTurn] = {}  # pool of the node -> reads of what lies on it
        self._computing = ThreadPool(1)  # of its own: it waits for nothing, and must not wait for what hangs

    def zoneadm(self, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return _in(self._zoneadm, partial(step, *args, **kwargs))

    def kstat(self, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return _in(self._kstat, partial(step, *args, **kwargs))

    def zfs(self, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return _in(self._zfs, partial(step, *args, **kwargs))

    def files(self, pool: str, what: str, step: Callable[[], T]) -> T:
        """What step() returns or raises. LoadError if that takes too long (code ETIMEDOUT), or still does since it was
        read before (EBUSY)."""
        return self._reads.run(pool, what, step, self._begin)

    def _begin(self, pool: str, step: Callable[[], T]) -> _InAThread[T]:
        if pool not in self._files:
            self._files[pool] = _InTurn(ThreadPool(filereads.MOST))
        read = _InAThread(step)
        self._files[pool].add(read)
        return read

    def result(self, future: Future[T]) -> T:
        """What another thread sets."""
        if not future.done():
            loop, is_set = gevent.get_hub().loop, Event()
            future.add_done_callback(lambda _: loop.run_callback_threadsafe(is_set.set))
            is_set.wait()
        return future.result()

    def beside(self, step: Callable[[], T]) -> Callable[[], T]:
        """In a greenlet of its own, which runs to its end whether anybody waits for it or not."""
        greenlet = gevent.spawn(_outcome, step)
        greenlet.name = "beside a reading"

        def result() -> T:
            found: T = _result(*greenlet.get())
            return found

        return result

    def node(self, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """A load of the whole node."""
        return _in(self._node, partial(step, *args, **kwargs))

    def computing(self, work: Callable[[], T]) -> T:
        """What needs only the processor, but too long of it for the loop."""
        return _in(self._computing, work)


class _InTurn:
    """Begins the reads of one pool one after the other: the next when one has ended, or has taken _TURN, as long as
    there are threads."""

    def __init__(self, threads: ThreadPool):
        self._threads = threads
        self._free = threads.maxsize
        self._waiting: deque[_InAThread[Any]] = deque()
        self._turn: Optional[_InAThread[Any]] = None  # the one that the next waits for
        self._impatient: Optional[gevent.Greenlet] = None

    def add(self, read: _InAThread[Any]) -> None:
        self._waiting.append(read)
        if self._turn is None:
            self._begin_next()
        self._be_impatient()

    def _begin_next(self) -> None:
        self._turn = self._waiting.popleft() if self._waiting and self._free else None
        if self._turn is not None:
            self._free -= 1
            self._turn.begin(self._threads, self._has_ended)

    def _has_ended(self, read: _InAThread[Any]) -> None:
        self._free += 1
        if self._turn is None or self._turn is read:
            self._begin_next()
            self._be_impatient()

    def _be_impatient(self) -> None:
        if self._waiting and self._turn is not None and not self._impatient:
            self._impatient = gevent.spawn(self._go_on)
            self._impatient.name = "reads in turn"

    def _go_on(self) -> None:
        """The greenlet that is there while reads wait for another."""
        while self._waiting and self._turn is not None:
            turn = self._turn
            gevent.sleep(_TURN)
            if self._turn is turn:
                self._begin_next()


class _InAThread(Generic[T]):
    """A vmload.filereads.Running: greenlets wait for it."""

    def __init__(self, step: Callable[[], T]):
        self._step: Optional[Callable[[], T]] = step  # until it begins
        self._outcome = AsyncResult()

    def begin(self, threads: ThreadPool, has_ended: Callable[[_InAThread[T]], None]) -> None:
        step, self._step = self._step, None  # it knows its FileRead, which knows this: a ring that nothing would free

        def end(ended: AsyncResult) -> None:
            self._end(*ended.get())
            has_ended(self)

        threads.spawn(_outcome, step).rawlink(end)

    def _end(self, value: Optional[T], error: Optional[Exception]) -> None:
        if not self._outcome.ready():
            self._outcome.set((value, error))

    def ends_within(self, seconds: float) -> bool:
        self._outcome.wait(seconds)
        return bool(self._outcome.ready())

    def result(self) -> T:
        value: T = _result(*self._outcome.get())
        return value

    def give_up(self, error: Exception) -> None:
        self._end(None, error)


def _in(pool: ThreadPool, step: Callable[[], T]) -> T:
    result: T = _result(*pool.apply(_outcome, (step,)))
    return result


def _result(value: Any, error: Optional[Exception]) -> Any:
    if error is not None:
        raise error
    return value


def _outcome(step: Callable[[], Any]) -> tuple[Any, Optional[Exception]]:
    """In the thread. The pool would report an error there as one that is not handled."""
    try:
        return step(), None
    except Exception as error:  # noqa: BLE001 raised again in the greenlet that asked
        return None, error
