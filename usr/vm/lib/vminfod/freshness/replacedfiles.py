# SPDX-License-Identifier: MPL-2.0
"""Watches that hang on what is at their path no more. When a folder is moved away and another takes its place, nothing
happens to the files in the old one, so that the file watcher has nothing to report of them (docs/platform.md, "File
watcher").

Always: what is at a watched path is compared with what its watch was set on: at all paths after each full refresh, as
        the event of a replacement may be lost; at those of the zones' XML when their folder was replaced. The files
        below a zonepath are looked at whenever one of them, or a folder of theirs, reports something (filewatches.py);
        what is another, or is not known, is watched anew, and read once that watch stands;
        a file that is missing is not read, as its folder may be on the way: it is reported when it appears;
        looking is done in threads; what hangs there is left for the next look.
Not here: what is remembered of each path (filewatches.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Optional

import gevent

from vminfod.freshness.filewatches import FileWatches, watched_for
from vminfod.freshness.reloads import Reloads
from vminfod.freshness.sysinforeads import SysinfoReads
from vminfod.freshness.threads import Threads
from vminfod.freshness.zoneindex import ZoneIndex
from vminfod.log import Log
from vminfod.serving.cache import Cache
from vminfod.serving.cause import Cause
from vmload.loader import Loader
from vmload.loaderror import LoadError
from vmload.reader import SYSINFO, ZONES_FOLDER
from vmload.records import Zone
from vmload.zonesources import Identities, Source

_AT_ONCE = 200  # paths of XML that are looked at in one step: a millisecond. Others wait for that thread, too
_SHOWN = 5  # paths in a log record


class ReplacedFiles:
    """See the head of the module."""

    def __init__(
        self,
        loader: Loader,
        cache: Cache,
        watches: FileWatches,
        reloads: Reloads,
        sysinfo_reads: SysinfoReads,
        zone_index: ZoneIndex,
        threads: Threads,
        log: Log,
    ):
        self._loader = loader
        self._cache = cache
        self._watches = watches
        self._reloads = reloads
        self._sysinfo_reads = sysinfo_reads
        self._zone_index = zone_index
        self._threads = threads
        self._log = log
        self._change: Optional[Cause] = None  # the newest of the folder of XML that was not looked at yet
        self._looking: Optional[gevent.Greenlet] = None

    def look_everywhere(self, cause: Cause) -> None:
        """At all watched paths; those of zones that cannot be read are looked at with each try. Waits."""
        zones = self._zones()
        seen = self._looked_at("tmp", "which file is that of sysinfo", [SYSINFO])
        seen |= self._looked_at("etc", "which folder is that of the XML of zones", [ZONES_FOLDER])
        seen |= self._xml(zones)
        below, hang = self._threads.node(self._loader.all_identities, zones, _below_zonepath)
        if hang:
            self._log.warn("cannot see whether files were replaced", zones=sorted(hang)[:_SHOWN], count=len(hang))
        self._mend(seen | below, cause)

    def folder_changed(self, cause: Cause) -> None:
        """The folder of the XML of zones reported something: look at once whether it was replaced."""
        self._change = cause
        if self._looking is None or self._looking.ready():
            self._looking = gevent.spawn(self._look_at_folder)
            self._looking.name = "replaced files"

    def stop(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.kill(block=False)

    def _look_at_folder(self) -> None:
        """The greenlet."""
        while self._change is not None:
            cause, self._change = self._change, None
            folder = self._looked_at("etc", "which folder is that of the XML of zones", [ZONES_FOLDER])
            if self._watches.others(folder):
                self._mend(folder | self._xml(self._zones()), cause)

    def _mend(self, seen: Identities, cause: Cause) -> None:
        """Watch anew what is another than was watched so far, then have it read."""
        others = {path: seen[path] for path in self._watches.others(seen)}
        if not others:
            return
        self._log.info("watching anew what was replaced", paths=list(others)[:_SHOWN], count=len(others))
        self._watches.watch_anew(others)
        for path, now in others.items():
            meaning = self._watches.meaning(path)
            if path == SYSINFO:
                self._sysinfo_reads.begin_fresh(cause)
            elif path == ZONES_FOLDER:
                self._zone_index.changed(cause)
                self.folder_changed(cause)  # once more: with the old watch its last event may be lost
            elif meaning is not None and now is not None:
                self._reloads.mark(meaning.zonename, meaning.parts, cause=cause)

    def _zones(self) -> list[Zone]:
        records = (self._cache.records(zonename) for zonename in list(self._cache))
        return [one.zone for one in records if one is not None]

    def _xml(self, zones: list[Zone]) -> Identities:
        seen: Identities = {}
        for start in range(0, len(zones), _AT_ONCE):
            paths = [path for zone in zones[start : start + _AT_ONCE] for path in watched_for(zone, {Source.XML})]
            seen |= self._looked_at("etc", "which files are the XML of zones", paths)
        return seen

    def _looked_at(self, pool: str, what: str, paths: Iterable[str]) -> Identities:
        look: Callable[[], Identities] = partial(self._loader.sources.identities, paths)
        try:
            return self._threads.files(pool, what, look)
        except LoadError as error:
            self._log.warn("cannot see whether files were replaced", err=error)
            return {}


def _below_zonepath(zone: Zone) -> list[str]:
    return watched_for(zone, {Source.FILES})
