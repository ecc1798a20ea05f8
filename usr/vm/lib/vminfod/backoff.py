# SPDX-License-Identifier: MPL-2.0
"""How long to wait before the next try: longer each time, up to a limit, and not the same for everybody.

Not here: the waiting."""

import random
from collections.abc import Callable

JITTER = 0.2  # share. Several children that died of one cause do not come back in the same moment


class Backoff:
    """Seconds: `first`, then double each time, never more than `most`, each less by up to JITTER of itself."""

    def __init__(self, first: float, most: float, chance: Callable[[], float] = random.random) -> None:
        self._first = first
        self.most = most
        self._chance = chance
        self._next = first

    def next(self) -> float:
        """The wait before the next try."""
        wait, self._next = self._next, min(self._next * 2, self.most)
        return wait * (1 - JITTER * self._chance())

    def reset(self) -> None:
        """It worked: the next wait is the first one again."""
        self._next = self._first
