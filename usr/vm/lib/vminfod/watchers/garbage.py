# SPDX-License-Identifier: MPL-2.0
"""Lines of a child that are of no use: how many came, and what a further one calls for.

An odd one, in good order but lacking something, is only counted. Garbage may stand for an event that is missed, and a
child that prints too much of it is broken.

Always: however much comes, a few lines of it are logged, and the owner hears of it once in a while."""

from collections.abc import Callable
from dataclasses import dataclass

from vminfod.watchers.window import Window

WINDOW = 60.0  # seconds
MOST = 100  # lines of garbage in a window; past it the child is taken for broken and started anew
MISSED_WINDOW = 10.0  # seconds with at most one report that events may be missed: each can cost a full refresh
LOGGED_MOST = 5  # lines that are logged in a window; the rest is only counted


@dataclass(frozen=True)
class Consequences:
    """`is_logged`: write it into the log. `is_missed`: report that events may be missed. `is_too_much`: give the child
    up."""

    is_logged: bool
    is_missed: bool = False
    is_too_much: bool = False


class Garbage:
    """`count`: how many lines were of no use."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self.count = 0
        self._odd = Window(WINDOW, clock)
        self._garbage = Window(WINDOW, clock)
        self._missed = Window(MISSED_WINDOW, clock)

    def add(self, *, is_odd: bool) -> Consequences:
        """One more."""
        self.count += 1
        if is_odd:
            return Consequences(self._odd.count() <= LOGGED_MOST)
        number = self._garbage.count()
        return Consequences(number <= LOGGED_MOST, self._missed.count() == 1, number > MOST)
