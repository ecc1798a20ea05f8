# SPDX-License-Identifier: MPL-2.0
"""Reading sysinfo anew, and applying it to all VMs: four of their properties come from it."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Optional

import gevent

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
        is_news, _ = self._read()
        if is_news:
            self._apply(cause)

    def begin_fresh(self, cause: Cause) -> gevent.Greenlet[..., Optional[str]]:
        """Read the file now, beside what the caller does. The greenlet ends when all VMs show what it says, or the
        daemon stops; its value is why the file cannot be read, or None."""
        greenlet = gevent.spawn(self._read_fresh, cause)
        greenlet.name = "fresh sysinfo"
        return greenlet

    def _read_fresh(self, cause: Cause) -> Optional[str]:
        """The greenlet."""
        is_news, why_not = self._read()
        if is_news:
            with suppress(onqueue.NotRun):
                onqueue.run(self._queue, "refresh all - [sysinfo]", lambda: self._apply(cause))
        return why_not

    def _read(self) -> tuple[bool, Optional[str]]:
        """Whether it says something else than was known, and why it cannot be read."""
        began = time.monotonic_ns()
        reading = self._loader.read_sysinfo(self._threads)
        return self._sysinfo.take(reading, began), reading.warning

    def _apply(self, cause: Cause) -> None:
        """Serve all VMs with the sysinfo that is known now. In a task on the queue."""
        began = time.monotonic_ns()
        turns = Turns()
        for zonename in list(self._cache):
            turns.next()
            records = self._cache.records(zonename)
            if records is not None:
                self._reloads.take(zonename, records, cause, began)
