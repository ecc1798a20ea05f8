# SPDX-License-Identifier: MPL-2.0
"""How often something happens within a stretch of time: so that a log line, or a request, can be made for the first few
only.

Not here: what is done about it."""

from collections.abc import Callable


class Window:
    """Stretches of `seconds`, the next one starting with the first thing that happens after the last one's end."""

    def __init__(self, seconds: float, clock: Callable[[], int]) -> None:
        self._length = int(seconds * 1e9)
        self._clock = clock
        self._end = 0
        self._count = 0

    def count(self) -> int:
        """One more: the how many-th of its stretch, from 1."""
        now = self._clock()
        if now >= self._end:
            self._end, self._count = now + self._length, 0
        self._count += 1
        return self._count
