# SPDX-License-Identifier: MPL-2.0
"""A step that has to be a task on the queue, called like a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import gevent
from gevent.event import AsyncResult

from vminfod.queue import Extras, Queue, Task

T = TypeVar("T")

_LIMIT = 60.0  # seconds
_AGAIN = 0.1  # seconds until a task for which there was no place is offered again


class NotRun(Exception):
    """The queue ended the task: its limit passed, or the daemon stops."""


def run(queue: Queue, description: str, step: Callable[[], T]) -> T:
    """What step() returns or raises, run as a task. Raises NotRun if it was ended from outside.

    Its twin may wait, or the paused queue may be full: what was read is not lost, it only waits for a place."""
    outcome: AsyncResult = AsyncResult()

    def task(_extras: Extras) -> None:
        try:
            outcome.set(step())
        except Exception as error:  # noqa: BLE001 raised again in the greenlet that asked; here the queue logs it
            outcome.set_exception(error)
            raise

    def ended() -> None:
        if not outcome.ready():
            outcome.set_exception(NotRun(f"{description}: ended before it was done"))

    while not queue.enqueue(Task(description, task, timeout=_LIMIT), ended):
        gevent.sleep(_AGAIN)
    result: T = outcome.get()
    return result
