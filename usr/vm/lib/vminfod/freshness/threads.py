# SPDX-License-Identifier: MPL-2.0
"""Threads for what blocks, kept apart by what they wait for.

Always: a step runs in a real thread, so that the gevent loop goes on meanwhile;
        steps that hang (a zfs that waits for a sick pool) use up only the threads of their own kind: who needs zoneadm
        or a file is not held up by those who need zfs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Optional

from gevent.threadpool import ThreadPool

from vmload.runner import P, T

# Threads of each kind. How many commands make progress at once is vmload's to bound (slots.py); each that hangs keeps a
# thread until its time limit, so this is how many VMs can lose their freshness before another has to wait. Reads of
# files that hang have a limit, too, and are kept apart by pool (filereads.py).
MOST = 128
MOST_NODE = 2  # loads of the whole node, each of which has threads of its own


class Threads:
    """A vmload.runner.Runner: the calling greenlet waits, no other does."""

    def __init__(self) -> None:
        self._zoneadm, self._kstat, self._zfs = ThreadPool(MOST), ThreadPool(MOST), ThreadPool(MOST)
        self._files, self._node = ThreadPool(MOST), ThreadPool(MOST_NODE)
        self._computing = ThreadPool(1)  # of its own: it waits for nothing, and must not wait for what hangs

    def zoneadm(self, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return _in(self._zoneadm, partial(step, *args, **kwargs))

    def kstat(self, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return _in(self._kstat, partial(step, *args, **kwargs))

    def zfs(self, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return _in(self._zfs, partial(step, *args, **kwargs))

    def files(self, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return _in(self._files, partial(step, *args, **kwargs))

    def node(self, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """A load of the whole node."""
        return _in(self._node, partial(step, *args, **kwargs))

    def computing(self, work: Callable[[], T]) -> T:
        """What needs only the processor, but too long of it for the loop."""
        return _in(self._computing, work)


def _in(pool: ThreadPool, step: Callable[[], T]) -> T:
    value, error = pool.apply(_outcome, (step,))
    if error is not None:
        raise error
    result: T = value
    return result


def _outcome(step: Callable[[], Any]) -> tuple[Any, Optional[Exception]]:
    """In the thread. The pool would report an error there as one that nobody handles."""
    try:
        return step(), None
    except Exception as error:  # noqa: BLE001 raised again in the greenlet that asked
        return None, error
