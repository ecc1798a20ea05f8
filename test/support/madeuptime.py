# SPDX-License-Identifier: MPL-2.0
"""Time that passes when a test says so, for the modules that read one zone: how long a source is waited for, and when
it is asked again. Nothing that uses it waits for a real clock."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any, Optional

import mock
from gevent.event import Event

from vminfod.freshness import datasetevents, fivesources, reloads, retrying, sourcereading, zonereading


class Clock:
    """It stands in for the module `time`, and its flag() for an Event whose wait() ends by that time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._timers: dict[int, tuple[float, Callable[[], None]]] = {}
        self._numbers = itertools.count()

    def monotonic(self) -> float:
        return self.now

    def monotonic_ns(self) -> int:
        return int(self.now * 1e9) + next(self._numbers)

    def flag(self) -> Event:
        clock = self

        class Flag(Event):
            def wait(self, timeout: Optional[float] = None) -> Any:
                if timeout is None:
                    return super().wait()
                number = next(clock._numbers)
                clock._timers[number] = clock.now + timeout, self.set
                try:
                    return super().wait()
                finally:
                    clock._timers.pop(number, None)

        return Flag()

    def advance(self, seconds: float) -> int:
        """How many waits that ended."""
        self.now += seconds
        due = [number for number, (at, _) in self._timers.items() if at <= self.now]
        for number in due:
            self._timers.pop(number)[1]()
        return len(due)

    def due_within(self, seconds: float) -> bool:
        return any(at <= self.now + seconds for at, _ in self._timers.values())


@contextlib.contextmanager
def made_up_time() -> Iterator[Clock]:
    """For the modules that read one zone."""
    clock = Clock()
    with contextlib.ExitStack() as patches:
        for module in (zonereading, fivesources, sourcereading, retrying, reloads, datasetevents):
            patches.enter_context(mock.patch.object(module, "time", clock))
        patches.enter_context(mock.patch.object(zonereading, "Flag", clock.flag))
        yield clock
