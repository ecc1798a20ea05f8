# SPDX-License-Identifier: MPL-2.0
"""The load of the whole node at the start of the daemon.

Always: the files of all zones are watched before any is read, so that what changes meanwhile leaves an event behind;
        a zone that cannot be read costs only itself: it is tried again while the others are served."""

from __future__ import annotations

import threading
import time

from vminfod.freshness.activity import Activity
from vminfod.freshness.filewatches import FileWatches, watched_for
from vminfod.freshness.reloads import Reloads
from vminfod.freshness.sysinfo import Sysinfo
from vminfod.freshness.threads import Threads
from vminfod.log import Log
from vminfod.serving.cause import REFRESH
from vmload.loader import Loader
from vmload.loaderror import LoadError

_WATCHES_SET = 60.0  # seconds for all watches to stand


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

    def run(self) -> None:
        """Watch, load and serve the node, before there are clients. Raises LoadError if that is not possible."""
        self._activity.doing("starting vm watchers")
        began, are_watched = time.monotonic_ns(), threading.Event()
        # Its commands need no file watched, and take as long as the watches do.
        load = self._threads.beside(lambda: self._threads.node(self._loader.read_all, are_watched.wait))
        try:
            listed = self._watch_all()
        except LoadError:
            self._loader.stop()
            raise
        finally:
            are_watched.set()
        self._activity.doing("setting initial cache data")
        try:
            node = load()
        except LoadError as error:
            raise LoadError(f"cannot load the node: {error}", error.code) from error
        self._activity.doing("setting initial vmobjs data")
        self._sysinfo.take(node.sysinfo, began)
        if node.sysinfo.warning is not None:
            self._log.error("the load was not complete", warning=node.sysinfo.warning)
        for zonename, records in node.zones.items():
            self._watches.want(records.zone, {})  # one that appeared since the watches were set (S10)
            self._reloads.take(zonename, records, None, began)
        for zonename, reason in node.errors.items():
            self._reloads.take(zonename, reason, None, began)
        for zonename in listed:
            if zonename not in node.zones and zonename not in node.errors:
                self._reloads.mark(zonename, cause=REFRESH)  # gone since it was watched, or the load's list was short

    def _watch_all(self) -> list[str]:
        """The names of the zones whose files are watched from now on."""
        try:
            zones = self._threads.zoneadm(self._loader.zones)
        except LoadError as error:
            raise LoadError(f"cannot list the zones: {error}", error.code) from error
        seen, hang = self._threads.node(self._loader.all_identities, zones, watched_for)
        for zone in zones:
            if zone.zonename not in hang:  # the file watcher would hang of it, too; it is watched when it can be read
                self._watches.want(zone, seen)
        if not self._watches.wait_set(_WATCHES_SET):
            self._log.error("the file watcher does not answer: changes of files will be seen late")
        return [zone.zonename for zone in zones]
