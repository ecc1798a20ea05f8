# SPDX-License-Identifier: MPL-2.0
"""Threads for what blocks, kept apart by what they wait for.

Always: a step runs in a real thread, so that the gevent loop goes on meanwhile;
        steps that hang (a zfs that waits for a sick pool) use up only the threads of their own kind: who needs zoneadm
        or a file is not held up by those who need zfs."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, Optional

import gevent
from gevent.event import AsyncResult, Event
from gevent.threadpool import ThreadPool

from vmload.loaderror import LoadError
from vmload.runner import P, T
from vmload.system import ONE_LIMIT

# Threads of each kind. How many commands make progress at once is vmload's to bound (slots.py); each that hangs keeps a
# thread until its time limit, so this is how many VMs can lose their freshness before another has to wait. Reads of
# files that hang have a limit, too, and threads of each pool of the node.
MOST = 128
MOST_NODE = 2  # loads of the whole node, each of which has threads of its own


class Threads:
    """A vmload.runner.Runner: the calling greenlet waits, no other does. `limit`: seconds that a read of files has."""

    def __init__(self, limit: float = ONE_LIMIT) -> None:
        self._limit = limit
        self._zoneadm, self._kstat, self._zfs = ThreadPool(MOST), ThreadPool(MOST), ThreadPool(MOST)
        self._node = ThreadPool(MOST_NODE)
        self._files: dict[str, ThreadPool] = {}  # pool of the node -> threads for reads of what lies on it
        self._stuck: dict[str, AsyncResult] = {}  # what was read past its limit -> the end of that read
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
        if what in self._stuck:
            if not self._stuck[what].ready():
                raise LoadError(f"{what} hangs since it was read before", "EBUSY")
            del self._stuck[what]
        if pool not in self._files:
            self._files[pool] = ThreadPool(MOST)
        outcome = self._files[pool].spawn(_outcome, step)
        outcome.wait(self._limit)
        if not outcome.ready():
            self._stuck[what] = outcome
            raise LoadError(f"{what} could not be read within {self._limit:g} s", "ETIMEDOUT")
        result: T = _result(*outcome.get())
        return result

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
