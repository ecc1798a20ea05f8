# SPDX-License-Identifier: MPL-2.0
"""Reading sysinfo anew, and applying it to all VMs: four of their properties come from it."""

from __future__ import annotations

import time
from contextlib import suppress

from vminfod.freshness import onqueue
from vminfod.freshness.reloads import Reloads
from vminfod.freshness.sysinfo import Sysinfo
from vminfod.freshness.threads import Threads
from vminfod.freshness.turns import Turns
from vminfod.queue import Queue
from vminfod.serving.cache import Cache
from vminfod.serving.cause import Cause
from vmload.loader import Loader


class SysinfoReads:
    """See the head of the module."""

    def __init__(
        self, loader: Loader, cache: Cache, sysinfo: Sysinfo, reloads: Reloads, queue: Queue, threads: Threads
    ):
        self._loader = loader
        self._cache = cache
        self._sysinfo = sysinfo
        self._reloads = reloads
        self._queue = queue
        self._threads = threads

    def reread(self, cause: Cause) -> None:
        """The file may have changed. In a task on the queue."""
        if self._is_news(time.monotonic_ns()):
            self._apply(cause)

    def read_fresh(self, cause: Cause) -> None:
        """Read the file now; returns when all VMs show what it says, or the daemon stops."""
        if self._is_news(time.monotonic_ns()):
            with suppress(onqueue.NotRun):
                onqueue.run(self._queue, "refresh all - [sysinfo]", lambda: self._apply(cause))

    def _is_news(self, began: int) -> bool:
        return self._sysinfo.take(self._loader.read_sysinfo(self._threads), began)

    def _apply(self, cause: Cause) -> None:
        """Serve all VMs with the sysinfo that is known now. In a task on the queue."""
        began = time.monotonic_ns()
        turns = Turns()
        for zonename in list(self._cache):
            turns.next()
            records = self._cache.records(zonename)
            if records is not None:
                self._reloads.take(zonename, records, cause, began)
