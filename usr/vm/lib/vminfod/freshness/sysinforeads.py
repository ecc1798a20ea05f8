# SPDX-License-Identifier: MPL-2.0
"""Reading sysinfo anew, and applying it to all VMs: four of their properties come from it."""

from __future__ import annotations

import time

from vminfod.freshness.reloads import Reloads
from vminfod.freshness.sysinfo import Sysinfo
from vminfod.freshness.threads import Threads
from vminfod.freshness.turns import Turns
from vminfod.serving.cache import Cache
from vminfod.serving.cause import Cause
from vmload.loader import Loader, SysinfoReading


class SysinfoReads:
    """See the head of the module."""

    def __init__(self, loader: Loader, cache: Cache, sysinfo: Sysinfo, reloads: Reloads, threads: Threads):
        self._loader = loader
        self._cache = cache
        self._sysinfo = sysinfo
        self._reloads = reloads
        self._threads = threads

    def reread(self, cause: Cause) -> None:
        """The file may have changed. In a task on the queue."""
        began = time.monotonic_ns()
        self.take(self._threads.files(self._loader.read_sysinfo), began, cause)

    def take(self, reading: SysinfoReading, began: int, cause: Cause) -> None:
        """Serve all VMs with what a reading that began at `began` (monotonic ns) gave. In a task on the queue."""
        if not self._sysinfo.take(reading, began):
            return
        turns = Turns()
        for zonename in list(self._cache):
            turns.next()
            records = self._cache.records(zonename)
            if records is not None:
                self._reloads.take(zonename, records, cause, began)
