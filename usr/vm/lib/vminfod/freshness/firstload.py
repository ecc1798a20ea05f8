# SPDX-License-Identifier: MPL-2.0
"""The load of the whole node at the start of the daemon.

Always: the files of a zone are watched before any of them is read, so that what changes meanwhile leaves an event
        behind. While the file watcher is at the next zones, those before are read;
        a zone that cannot be read costs only itself: it is tried again while the others are served;
        what the load lacks is not believed before it was asked for by itself (doubts.py)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

from vminfod.freshness.activity import Activity
from vminfod.freshness.doubts import Doubts
from vminfod.freshness.filewatches import FileWatches, watched_for
from vminfod.freshness.reloads import Reloads
from vminfod.freshness.sysinfo import Sysinfo
from vminfod.freshness.threads import Threads
from vminfod.log import Log
from vminfod.serving.cause import REFRESH
from vmload import parts as part
from vmload.loader import Loader
from vmload.loaderror import LoadError
from vmload.records import Zone

_WATCHES_SET = 60.0  # seconds for all watches to stand
_AT_ONCE = 100  # zones whose files the watcher is asked for at once


class _Watched:
    """Which zones' files are watched by now, for threads that wait for it."""

    def __init__(self) -> None:
        self._zonenames: set[str] = set()
        self._is_all = False  # no more will come
        self._changed = threading.Condition()

    def add(self, zones: Iterable[Zone]) -> None:
        with self._changed:
            self._zonenames.update(zone.zonename for zone in zones)
            self._changed.notify_all()

    def is_all(self) -> None:
        with self._changed:
            self._is_all = True
            self._changed.notify_all()

    def wait_for(self, zone: Zone) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_all or zone.zonename in self._zonenames)


class FirstLoad:
    """See the head of the module."""

    def __init__(
        self,
        loader: Loader,
        watches: FileWatches,
        sysinfo: Sysinfo,
        reloads: Reloads,
        threads: Threads,
        activity: Activity,
        log: Log,
    ):
        self._loader = loader
        self._watches = watches
        self._sysinfo = sysinfo
        self._reloads = reloads
        self._threads = threads
        self._activity = activity
        self._log = log
        self._doubts = Doubts(loader, watches, threads, log)

    def run(self) -> None:
        """Watch, load and serve the node, before there are clients. Raises LoadError if that is not possible."""
        self._activity.doing("starting vm watchers")
        began, watched = time.monotonic_ns(), _Watched()
        load = self._threads.beside(lambda: self._threads.node(self._loader.read_all, watched.wait_for))
        try:
            listed = self._watch_all(watched)
        except LoadError:
            self._loader.stop()
            raise
        finally:
            watched.is_all()
        self._activity.doing("setting initial cache data")
        try:
            node = self._doubts.put_right(load(), listed)
        except LoadError as error:
            raise LoadError(f"cannot load the node: {error}", error.code) from error
        self._activity.doing("setting initial vmobjs data")
        self._sysinfo.take(node.sysinfo, began)
        if node.sysinfo.warning is not None:
            self._log.error("the load was not complete", warning=node.sysinfo.warning)
        for zonename, records in node.zones.items():
            self._reloads.take(zonename, records, None, began)
            if not self._watches.covers(records.zone):
                # It appeared since the watches were set (S10), and may have changed since it was read. The reading sets
                # them before it looks at the files.
                self._reloads.mark(zonename, part.OF_FILES, cause=REFRESH)
        for zonename, reason in node.errors.items():
            self._reloads.take(zonename, reason, None, began)

    def _watch_all(self, watched: _Watched) -> list[str]:
        """The names of the zones whose files are watched from now on."""
        try:
            zones = self._threads.zoneadm(self._loader.zones)
        except LoadError as error:
            raise LoadError(f"cannot list the zones: {error}", error.code) from error
        seen, hang = self._threads.node(self._loader.all_identities, zones, watched_for)
        until, stand = time.monotonic() + _WATCHES_SET, True
        for start in range(0, len(zones), _AT_ONCE):
            some = zones[start : start + _AT_ONCE]
            for zone in some:
                if zone.zonename not in hang:  # the file watcher would hang of it, too; watched when it can be read
                    self._watches.want(zone, seen)
            if stand:
                stand = self._watches.wait_set(max(0.0, until - time.monotonic()))
            watched.add(some)
        if not stand:
            self._log.error("the file watcher does not answer: changes of files will be seen late")
        return [zone.zonename for zone in zones]
