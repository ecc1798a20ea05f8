# SPDX-License-Identifier: MPL-2.0
"""Threads for what blocks, kept apart by what they wait for.

Always: a step runs in a real thread, so that the gevent loop goes on meanwhile;
        steps that hang (a zfs that waits for a sick pool) use up only the threads of their own kind: who needs zoneadm
        or a file is not held up by those who need zfs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

from gevent.threadpool import ThreadPool

# Threads of each kind. How many commands make progress at once is vmload's to bound (slots.py); each that hangs keeps a
# thread until its time limit, so this is how many VMs can lose their freshness before another has to wait.
SIZES = {"zoneadm": 128, "kstat": 128, "files": 16, "zfs": 128, "node": 2}


class Threads:
    """Runs steps as vmload.loader.Call does."""

    def __init__(self) -> None:
        self._pools = {kind: ThreadPool(size) for kind, size in SIZES.items()}

    def __call__(self, kind: str, step: Callable[..., Any], *arguments: Any) -> Any:
        """What step(*arguments) returns or raises; the calling greenlet waits, no other does."""
        value, error = self._pools[kind].apply(_outcome, (step, arguments))
        if error is not None:
            raise error
        return value


def _outcome(step: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, Optional[Exception]]:
    """In the thread. The pool would report an error there as one that nobody handles."""
    try:
        return step(*arguments), None
    except Exception as error:  # noqa: BLE001 raised again in the greenlet that asked
        return None, error
