# SPDX-License-Identifier: MPL-2.0
"""How many commands of a kind run at once.

Always: not more than `most` that make progress, so that a burst of changes does not start hundreds of processes;
        one about many zones takes all slots, so that those who come meanwhile gather for the next of its like;
        one that has run for long no longer counts: it hangs, or lists a whole node, and either way the others must not
        wait for it.
For threads. Not here: what the commands are, and when one is killed."""

from __future__ import annotations

import threading
import time
from types import TracebackType

PATIENCE = 2.0  # seconds. A command about one zone takes some ten milliseconds, on a busy node a few hundred


class Slots:
    """A context: entering waits for a slot, leaving frees it."""

    def __init__(self, most: int, patience: float = PATIENCE):
        self._most = most
        self._patience = patience
        self._changed = threading.Condition()
        # Thread -> when it got its slot, monotonic seconds, and how many it has.
        self._taken: dict[int, tuple[float, int]] = {}

    def take_all(self) -> None:
        """Who has a slot takes the others, too: nobody else gets one before it leaves, or its patience is over."""
        with self._changed:
            since, _ = self._taken[threading.get_ident()]
            self._taken[threading.get_ident()] = (since, self._most)

    def __enter__(self) -> Slots:
        with self._changed:
            while True:
                now = time.monotonic()
                young = [(since, count) for since, count in self._taken.values() if now - since < self._patience]
                if sum(count for _, count in young) < self._most:
                    self._taken[threading.get_ident()] = (now, 1)
                    return self
                self._changed.wait(min(young)[0] + self._patience - now)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            del self._taken[threading.get_ident()]
            self._changed.notify_all()
