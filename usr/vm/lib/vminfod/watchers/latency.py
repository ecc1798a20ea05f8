# SPDX-License-Identifier: MPL-2.0
"""How long messages were on their way: cheap for each message, summed up only when it is asked for (bug P9)."""

from collections import deque

KEPT = 1000  # newest messages
SLOW_MS = 10.0  # milliseconds; slower ones are counted


class Latency:
    """`slow` counts messages over SLOW_MS since the start."""

    def __init__(self) -> None:
        self._newest: deque[float] = deque(maxlen=KEPT)  # milliseconds, the newest last
        self.slow = 0

    def add(self, milliseconds: float) -> bool:
        """One more message; whether it was slow."""
        self._newest.append(milliseconds)
        is_slow = milliseconds > SLOW_MS
        self.slow += is_slow
        return is_slow

    def means(self) -> dict[str, float]:
        """{"1": ..., "10": ...}: the mean of the newest 1, 10, 100, 1000, in ms, as far as there are that many."""
        newest = list(self._newest)
        return {
            str(count): round(sum(newest[-count:]) / count, 3) for count in (1, 10, 100, 1000) if count <= len(newest)
        }
