# SPDX-License-Identifier: MPL-2.0
"""Threads for what blocks, kept apart by what they wait for.

Always: a step runs in a real thread, so that the gevent loop goes on meanwhile;
        steps that hang (a zfs that waits for a sick pool) use up only the threads of their own kind: who needs zoneadm
        or a file is not held up by those who need zfs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gevent.threadpool import ThreadPool

# Threads of each kind. A command costs the node a process; more at once would only make all of them slower. zfs has
# the most, since it is the one that hangs: as many VMs can lose their freshness before another has to wait.
SIZES = {"zoneadm": 4, "kstat": 4, "files": 4, "zfs": 16, "node": 2}


class Threads:
    """Runs steps as vmload.loader.Call does."""

    def __init__(self) -> None:
        self._pools = {kind: ThreadPool(size) for kind, size in SIZES.items()}

    def __call__(self, kind: str, step: Callable[..., Any], *arguments: Any) -> Any:
        """What step(*arguments) returns or raises; the calling greenlet waits, no other does."""
        return self._pools[kind].apply(step, arguments)
