# SPDX-License-Identifier: MPL-2.0
"""What the daemon counts of its own work, for /metrics (metrics.py).

Always: counting costs about a microsecond and keeps nothing but numbers; they begin at 0 with the daemon and only
        grow."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from typing import Optional

# Upper bounds, seconds. An event takes milliseconds, a full load up to minutes.
_EVENT_BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
_TASK_BOUNDS = (0.0001, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 60.0)
_REFRESH_BOUNDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class Histogram:
    """How many of the measured times were at most each of the bounds."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)  # the last: those beyond all bounds
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """One more."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds

    def cumulative(self) -> list[tuple[str, int]]:
        """Each bound as text, "+Inf" at the end, with how many were at most that."""
        sums, so_far = [], 0
        for bound, count in zip((*self.bounds, "+Inf"), self.counts, strict=True):
            so_far += count
            sums.append((str(bound), so_far))
        return sums


class Meters:
    """`events`: by type and source of the cause. `requests`: by who answered ("ready" bytes, a "route") and status."""

    def __init__(self) -> None:
        self.events: Counter[tuple[str, str]] = Counter()
        self.event_latency = Histogram(_EVENT_BOUNDS)
        self.task_waits = Histogram(_TASK_BOUNDS)
        self.task_runs = Histogram(_TASK_BOUNDS)
        self.refreshes = Histogram(_REFRESH_BOUNDS)
        self.refreshes_failed = 0
        self.refreshes_found: Counter[str] = Counter()  # by type of event
        self.requests: Counter[tuple[str, bytes]] = Counter()

    def event(self, kind: str, source: str, latency_ms: Optional[float]) -> None:
        """One was emitted, so many milliseconds after the platform's; None if there was none of the platform."""
        self.events[kind, source] += 1
        if latency_ms is not None:
            self.event_latency.add(latency_ms / 1000)

    def task(self, waited: float, ran: float) -> None:
        """A task of the queue has ended. Seconds."""
        self.task_waits.add(waited)
        self.task_runs.add(ran)
