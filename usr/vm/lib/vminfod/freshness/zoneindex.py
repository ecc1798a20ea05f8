# SPDX-License-Identifier: MPL-2.0
"""Zones that no zone event has named: the platform's index of zones names them (docs/platform.md, "The index of
zones").

Always: a change of its folder is given some time before it is looked at, as the zone events about it tell more; many
        changes are looked at once;
        a name that is no VM is asked for once, as long as it stays in the index and is none;
        while the index cannot be read that is said (`failed`), and it is tried again."""

from __future__ import annotations

from typing import Optional

import gevent

from vminfod.freshness.reloads import Reloads
from vminfod.freshness.retrying import Retrying
from vminfod.freshness.threads import Threads
from vminfod.log import Log
from vminfod.serving.cache import Cache
from vminfod.serving.cause import Cause
from vmload import parts as part
from vmload.loader import Loader
from vmload.loaderror import LoadError

_HEAD_START = 2.0  # seconds that zone events have; they take milliseconds


class ZoneIndex:
    """See the head of the module."""

    def __init__(self, loader: Loader, cache: Cache, reloads: Reloads, retrying: Retrying, threads: Threads, log: Log):
        self._loader = loader
        self._cache = cache
        self._reloads = reloads
        self._retrying = retrying
        self._threads = threads
        self._log = log
        self._asked: set[str] = set()  # the names of which we knew nothing when it was looked at last
        self._change: Optional[Cause] = None  # the newest that was not looked at yet
        self._looking: Optional[gevent.Greenlet] = None
        self.failed: Optional[str] = None  # why the index could not be read when it was looked at last

    def changed(self, cause: Cause) -> None:
        """The folder of the index changed: look at it soon."""
        self._change = cause
        if self._looking is None or self._looking.ready():
            self._looking = gevent.spawn(self._look_at_all)
            self._looking.name = "index of zones"

    def stop(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.kill(block=False)

    def _look_at_all(self) -> None:
        while self._change is not None:
            gevent.sleep(_HEAD_START)
            cause, self._change = self._change, None
            try:
                self._look(cause)
                self.failed = None
            except LoadError as error:
                self.failed = str(error)
                self._log.warn("cannot read the index of zones", err=error)
                self._change = self._change or cause

    def _look(self, cause: Cause) -> None:
        names = self._loader.sources.index(self._threads)
        unknown = {name for name in names if self._cache.records(name) is None and self._retrying.get(name) is None}
        new, self._asked = unknown - self._asked, unknown
        busy = self._reloads.busy()
        for zonename in new:
            # One that is just being read may have been asked for too early: zoneadm knows it by now.
            self._reloads.mark(zonename, {part.ZONEADM} if zonename in busy else part.ALL, cause=cause)
