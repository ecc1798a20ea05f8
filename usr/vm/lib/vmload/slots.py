# SPDX-License-Identifier: MPL-2.0
"""How many commands of a kind run at once.

Always: not more than `most` that make progress, so that a burst of changes does not start hundreds of processes;
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
        self._since: dict[int, float] = {}  # thread -> when it got its slot, monotonic seconds

    def __enter__(self) -> Slots:
        with self._changed:
            while True:
                now = time.monotonic()
                young = [since for since in self._since.values() if now - since < self._patience]
                if len(young) < self._most:
                    self._since[threading.get_ident()] = now
                    return self
                self._changed.wait(min(young) + self._patience - now)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            del self._since[threading.get_ident()]
            self._changed.notify_all()
