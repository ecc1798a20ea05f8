# SPDX-License-Identifier: MPL-2.0
"""Threads for what blocks, kept apart by what they wait for.

Always: a step runs in a real thread, so that the gevent loop goes on meanwhile;
        reads that take moments share the trips of one thread (trips.py);
        steps that hang (a zfs that waits for a sick pool) use up only the threads of their own kind: who needs zoneadm
        or a file is not held up by those who need zfs."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

import gevent
from gevent.event import Event
from gevent.threadpool import ThreadPool

from vminfod.freshness.trips import Trips, outcome, result_of
from vmload.filereads import FileReads
from vmload.runner import P, T

# Threads of each kind. How many commands make progress at once is vmload's to bound (slots.py); each that hangs keeps a
# thread until its time limit, so this is how many VMs can lose their freshness before another has to wait. Reads of
# files that hang have a limit, too (filereads.py), and threads of each pool of the node.
MOST = 128
MOST_NODE = 2  # loads of the whole node, each of which has threads of its own


class Threads:
    """A vmload.runner.Runner: the calling greenlet waits, no other does. `reads`: those of files, whoever waits."""

    def __init__(self, reads: FileReads) -> None:
        self._reads = reads
        self._zoneadm, self._kstat, self._zfs = ThreadPool(MOST), ThreadPool(MOST), ThreadPool(MOST)
        self._node = ThreadPool(MOST_NODE)
        self._trips = Trips()
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
        return self._reads.run(pool, what, step, self._trips.begin)

    def result(self, future: Future[T]) -> T:
        """What another thread sets."""
        if not future.done():
            loop, is_set = gevent.get_hub().loop, Event()
            future.add_done_callback(lambda _: loop.run_callback_threadsafe(is_set.set))
            is_set.wait()
        return future.result()

    def beside(self, step: Callable[[], T]) -> Callable[[], T]:
        """In a greenlet of its own, which runs to its end whether anybody waits for it or not."""
        greenlet = gevent.spawn(outcome, step)
        greenlet.name = "beside a reading"

        def result() -> T:
            found: T = result_of(greenlet.get())
            return found

        return result

    def node(self, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """A load of the whole node."""
        return _in(self._node, partial(step, *args, **kwargs))

    def computing(self, work: Callable[[], T]) -> T:
        """What needs only the processor, but too long of it for the loop."""
        return _in(self._computing, work)


def _in(pool: ThreadPool, step: Callable[[], T]) -> T:
    result: T = result_of(pool.apply(outcome, (step,)))
    return result
