# SPDX-License-Identifier: MPL-2.0
"""A thread for steps that take moments: to start one for each costs more than the step.

Always: one step runs at a time, in the order in which they came;
        the thread ends when nobody knows the worker any more and what it was given has been run, and keeps no process
        from ending.
Not here: what becomes of a step that hangs. A step must not raise: that ends the thread."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue
from typing import Optional

Steps = SimpleQueue[Optional[Callable[[], object]]]  # None: there are no more


class Worker:
    """See the head of the module. Raises RuntimeError if the system has no thread for it."""

    def __init__(self, name: str):
        self._steps: Steps = SimpleQueue()
        self._thread = threading.Thread(target=_run_each, args=(self._steps,), name=name, daemon=True)
        self._thread.start()
        weakref.finalize(self, self._steps.put, None)

    @property
    def is_alive(self) -> bool:
        """Whether its thread runs what it is given."""
        return self._thread.is_alive()

    def run(self, step: Callable[[], object]) -> None:
        """Have it run, when all before it have ended. Returns at once."""
        self._steps.put(step)


def _run_each(steps: Steps) -> None:
    """The thread. It does not know the worker, and what a step knows only while it runs."""
    while (step := steps.get()) is not None:
        step()
        del step
