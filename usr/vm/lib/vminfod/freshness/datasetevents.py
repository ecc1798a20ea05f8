# SPDX-License-Identifier: MPL-2.0
"""The memory of events about datasets: as long as zones are being read whose datasets are not known yet.

An event about a dataset that no known VM uses concerns no VM, unless a VM that uses it is just being read: what zfs
was asked before may be older than the event.

Always: remembered is what came since the oldest reading under way began; nothing while there is none."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from vminfod.serving.cause import REFRESH, Cause
from vmload.datasets import covers

_MOST = 5000  # events, some hundred bytes each


class DatasetEvents:
    """See the head of the module."""

    def __init__(self) -> None:
        self._events: deque[tuple[int, str, Cause]] = deque(maxlen=_MOST)  # monotonic ns, dataset, cause
        self._readings: dict[int, None] = {}  # monotonic ns of the start of each that is under way, the oldest first

    def begin(self) -> int:
        """A reading is under way; gives the moment of its start, monotonic ns, with which to end() it."""
        started = time.monotonic_ns()
        while started in self._readings:
            started += 1
        self._readings[started] = None
        return started

    def end(self, started: int) -> None:
        """The reading that began then has ended."""
        del self._readings[started]
        oldest = next(iter(self._readings), None)
        while self._events and (oldest is None or self._events[0][0] < oldest):
            self._events.popleft()

    @contextmanager
    def reading(self) -> Iterator[int]:
        """A reading is under way in this block; gives the moment of its start, monotonic ns."""
        started = self.begin()
        try:
            yield started
        finally:
            self.end(started)

    @property
    def are_wanted(self) -> bool:
        """Whether a reading is under way, so that events are remembered."""
        return bool(self._readings)

    def add(self, dataset: str, cause: Cause) -> None:
        """Something happened to `dataset`, whoever uses it."""
        if self._readings:
            self._events.append((time.monotonic_ns(), dataset, cause))

    def since(self, moment: int, parents: Collection[str]) -> list[tuple[str, Cause]]:
        """The events since `moment` about datasets that are one of `parents`, or lie above or below one.

        If the oldest may be forgotten, all of `parents` count."""
        if not parents:
            return []
        found = [
            (dataset, cause)
            for at, dataset, cause in self._events
            if at >= moment and any(covers(dataset, parent) or covers(parent, dataset) for parent in parents)
        ]
        if len(self._events) == _MOST:
            found += [(parent, REFRESH) for parent in parents]
        return found
