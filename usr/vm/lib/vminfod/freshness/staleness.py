# SPDX-License-Identifier: MPL-2.0
"""What an event makes stale: the tables of docs/platform.md, "Files of a VM" and "ZFS history events", as rules. Only
here meet events and VMs.

Always: a rule only marks; reading and writing follow elsewhere. Rules run as tasks on the queue, so that they see the
        VMs as every event before has left them;
        an event that can matter to no VM costs no command (P7), one about one VM costs work for that VM.
Not here: what the platform's words mean (zonewatcher.py, zpoolwatcher.py), and how parts are read (vmload)."""

from __future__ import annotations

from typing import Optional

from vminfod.freshness.datasetevents import DatasetEvents
from vminfod.freshness.filewatches import FileWatches
from vminfod.freshness.refreshrequests import RefreshRequests
from vminfod.freshness.reloads import Reloads
from vminfod.freshness.replacedfiles import ReplacedFiles
from vminfod.freshness.sysinforeads import SysinfoReads
from vminfod.freshness.zoneindex import ZoneIndex
from vminfod.log import Log
from vminfod.serving.cache import Cache
from vminfod.serving.cause import Cause
from vminfod.watchers.zonewatcher import ZoneEvent
from vminfod.watchers.zpoolwatcher import Effect, PoolEvent, ZfsEvent
from vmload import parts as part
from vmload.reader import SYSINFO, ZONES_FOLDER
from vmload.records import ZoneRecords
from vmload.used import root_of, used_by

# lastexited too: before a zone's first exit there is no file that could be watched.
_OF_ZONE_EVENT = frozenset({part.LAST_EXITED, part.ZONEADM, part.ZONEXML, part.ZONEINFO})
# All whose watches it sets anew: the XML is not rolled back, but may change before it is watched again.
_OF_ROLLBACK = frozenset({part.JSON, part.LAST_EXITED, part.ZONEXML})

# After these something else may be mounted where a dataset's files were: other files are there, or none, and nothing
# happened to the old ones. Reading them finds that out (filewatches.py).
_MOUNTING = frozenset({"create", "clone", "finish receiving", "rename", "destroy"})
_MOUNTING_PROPERTIES = frozenset({"mountpoint", "canmount"})

# What is done to a dataset above those of VMs with these effects, they inherit, or move with it.
_REACHES_DOWN = frozenset({Effect.CHANGED, Effect.RENAMED})


class Staleness:
    """See the head of the module."""

    def __init__(
        self,
        cache: Cache,
        reloads: Reloads,
        dataset_events: DatasetEvents,
        watches: FileWatches,
        refreshes: RefreshRequests,
        sysinfo_reads: SysinfoReads,
        zone_index: ZoneIndex,
        replaced_files: ReplacedFiles,
        log: Log,
    ):
        self._cache = cache
        self._reloads = reloads
        self._dataset_events = dataset_events
        self._watches = watches
        self._refreshes = refreshes
        self._sysinfo_reads = sysinfo_reads
        self._zone_index = zone_index
        self._replaced_files = replaced_files
        self._log = log

    def zone_event(self, event: ZoneEvent, cause: Cause) -> None:
        """The zone changed its state or its configuration. An unknown one may be a new VM: read all of it."""
        if self._cache.records(event.zonename) is None:
            self._reloads.mark(event.zonename, cause=cause)
        else:
            self._reloads.mark(event.zonename, _OF_ZONE_EVENT, cause=cause)

    def is_foreign(self, dataset: str) -> bool:
        """Whether what happens to just this dataset, or a snapshot of it, is nobody's concern: its name says so, and no
        reading is under way that could make known a VM of it. Whoever comes to use it later is read after the event."""
        return not self._dataset_events.are_wanted and not self._cache.is_used(dataset)

    def passes_over(self, event: ZfsEvent, cause: Cause) -> bool:
        """Whether dataset_event() would mark nothing, now and later, so that it need not be called for this event.

        While a reading is under way the names decide, and the event is remembered for that: what a VM shows of the
        datasets that it is known to use may be about to change."""
        if event.effect is Effect.PROMOTED or event.detail[0] == "mountpoint":
            return False
        used = [(dataset, snapshot) for dataset, snapshot in event.touched if self._cache.is_used(dataset)]
        if not self._dataset_events.are_wanted:
            return not any(self._reaches(event, dataset, snapshot) for dataset, snapshot in used)
        if used:
            return False
        for dataset, _ in event.touched:
            self._dataset_events.add(dataset, cause)
        return True

    def dataset_event(self, event: ZfsEvent, cause: Cause) -> None:
        """Something happened to a dataset or a snapshot."""
        if event.effect is Effect.PROMOTED:
            # Snapshots moved here from an origin that the event does not name.
            self._refreshes.request(cause)
            return
        for dataset, snapshot in event.touched:
            self._dataset_events.add(dataset, cause)
            if self._is_above_vms(event, dataset, snapshot):
                self._log.debug("a dataset above those of VMs changed", dataset=dataset, action=event.action)
                self._refreshes.request(cause)
                return
            for zonename in self._users_of(dataset, snapshot, is_gone=event.effect is Effect.GONE):
                parts = _OF_ROLLBACK if snapshot is None and _can_mount(event) else ()
                self._reloads.mark(zonename, parts, {dataset}, cause=cause)
                if event.effect is Effect.ROLLED_BACK:
                    self._rolled_back(zonename, cause)
        self._mounted_at(event, cause)

    def file_event(self, path: str, *, is_gone: bool, is_replaced: bool, cause: Cause) -> None:
        """The watched file changed, appeared, or `is_gone`, or `is_replaced` by another of its name."""
        if is_gone or is_replaced:
            self._watches.ended(path)
        if path == SYSINFO:
            self._sysinfo_reads.reread(cause)
            return
        if path == ZONES_FOLDER:
            self._zone_index.changed(cause)
            self._replaced_files.folder_changed(cause)
            return
        meaning = self._watches.meaning(path)
        if meaning is None:
            self._log.debug("a file event of no zone that is known", pathname=path)
        elif meaning.is_xml and is_gone:
            # Replaced across file systems it looks gone too (OS-7368): reading the zone anew shows which it is.
            self._reloads.mark(meaning.zonename, cause=cause)
        else:
            # Also a zone that is not served yet: it is being read, and this file may have been read already.
            self._reloads.mark(meaning.zonename, meaning.parts, cause=cause)

    def pool_event(self, event: PoolEvent, cause: Cause) -> None:
        """A pool came or went: no dataset is named, so all may be stale (S12)."""
        self._refreshes.request(cause)

    def _reaches(self, event: ZfsEvent, dataset: str, snapshot: Optional[str]) -> bool:
        """Whether what was done to this one of the event's datasets can change a VM object."""
        is_gone = event.effect is Effect.GONE
        return self._is_above_vms(event, dataset, snapshot) or bool(self._users_of(dataset, snapshot, is_gone=is_gone))

    def _is_above_vms(self, event: ZfsEvent, dataset: str, snapshot: Optional[str]) -> bool:
        """Whether what was done to this one of the event's datasets reaches datasets of VMs below it."""
        reaches_down = event.effect in _REACHES_DOWN and snapshot is None
        return reaches_down and bool(self._cache.zones_using_below(dataset))

    def _users_of(self, dataset: str, snapshot: Optional[str], *, is_gone: bool) -> set[str]:
        """The zones whose VM objects a change of the dataset, or of just that snapshot of it, can change. One that no
        XML names yet is listed when one does."""
        users = ((zonename, self._cache.records(zonename)) for zonename in self._cache.zones_using(dataset))
        return {
            name
            for name, records in users
            if records is not None and used_by(records).shown(dataset, snapshot, is_gone=is_gone)
        }

    def _mounted_at(self, event: ZfsEvent, cause: Cause) -> None:
        """A dataset that no VM was known to use may have become the root of the zone at whose zonepath it now is, or
        one below it that inherits its mountpoint, of a zone that had no root of its own name."""
        name, mountpoint = event.detail
        if name == "mountpoint" and mountpoint.startswith("/"):
            folder = mountpoint.strip()
            for zonename in list(self._cache):
                records = self._cache.records(zonename)
                if records is not None and _may_be_mounted_at(records, folder):
                    self._reloads.mark(zonename, cause=cause)

    def _rolled_back(self, zonename: str, cause: Cause) -> None:
        """A rollback replaces files without a file event, and watches may hang on the old ones (OS-7289). The reading
        sets new watches before it looks at the files."""
        self._watches.drop(zonename)
        self._reloads.mark(zonename, _OF_ROLLBACK, cause=cause)


def _may_be_mounted_at(records: ZoneRecords, folder: str) -> bool:
    """Whether what is mounted at `folder` from now on, and what inherits that below it, can be the zone's root."""
    path = records.zone.zonepath
    return path == folder or (path.startswith(folder.rstrip("/") + "/") and root_of(records) != path[1:])


def _can_mount(event: ZfsEvent) -> bool:
    """Whether something else may be mounted at the dataset's mountpoint now, or the dataset elsewhere."""
    return event.action in _MOUNTING or event.detail[0] in _MOUNTING_PROPERTIES
