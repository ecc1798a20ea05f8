# SPDX-License-Identifier: MPL-2.0
"""A second look at what a full load says is no more, zone by zone, before anybody believes it.

A tool that is cut short at the end of a line, and yet ends well, gives a list that looks whole. What it lacks must not
be taken for deleted: neither zones, nor datasets and snapshots, nor a running zone's statistics. Asking again costs a
few commands for a zone that has really lost something, and that only where the events about it were lost as well.

Always: zones that were touched since the load began are left out: they are read anew anyway;
        the first command that hangs ends the second look with a LoadError: a load that cannot be trusted is none.
Not here: what becomes of the differences (refresh.py)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from vminfod.freshness.filewatches import FileWatches
from vminfod.freshness.reloads import Reloads
from vminfod.freshness.threads import Threads
from vminfod.freshness.turns import Turns
from vminfod.log import Log
from vminfod.serving.cache import Cache
from vmload import parts as part
from vmload.loader import Loader, NodeRecords
from vmload.loaderror import LoadError, ZoneGone
from vmload.records import ZoneRecords

_LISTED = frozenset({part.ZONEINFO, part.DATASETS})  # what comes from lists of the whole node


class SecondLook:
    """See the head of the module."""

    def __init__(
        self, loader: Loader, cache: Cache, reloads: Reloads, watches: FileWatches, threads: Threads, log: Log
    ):
        self._loader = loader
        self._cache = cache
        self._reloads = reloads
        self._watches = watches
        self._threads = threads
        self._log = log

    def gone(self, node: NodeRecords, started: int) -> list[str]:
        """The zones we serve, the load that began at `started` lacks, and zoneadm, asked for each, does not know."""
        gone = []
        for zonename in self._untouched(self._cache, started):
            if zonename in node.zones or zonename in node.errors:
                continue
            try:
                zone = self._loader.sources.find(zonename, self._threads)
                if zone.zonename != zonename:
                    gone.append(zonename)
            except ZoneGone:
                gone.append(zonename)
            except LoadError as error:
                _not_if_it_hangs(error)
                self._log.warn("cannot tell whether a zone still exists: keeping it", zonename=zonename, err=error)
        return gone

    def put_right(self, node: NodeRecords, started: int) -> NodeRecords:
        """`node`, but the records of zones that lost something as the tools give them when asked for just that zone,
        and an error for those of which they cannot say it.

        So it is with zones that are new to us: the lists were made at different moments, and one that came in between
        is in some of them only, while it was not known whose the events about its datasets were."""
        zones, errors = dict(node.zones), dict(node.errors)
        turns = Turns()
        for zonename in self._untouched(node.zones, started):
            turns.next()
            old, new = self._cache.records(zonename), node.zones[zonename]
            if old is not None and not _has_lost(old, new):
                continue
            try:
                if old is None:
                    self._watches.set(new.zone, {})  # before any of its files is read
                    zones[zonename] = self._loader.read(new.zone, self._threads)
                else:
                    zones[zonename] = self._loader.read(new.zone, self._threads, new, _LISTED)
            except LoadError as error:
                _not_if_it_hangs(error)
                del zones[zonename]
                errors[zonename] = error
        return replace(node, zones=zones, errors=errors)

    def _untouched(self, zonenames: Iterable[str], started: int) -> Iterator[str]:
        return (name for name in list(zonenames) if not self._reloads.touched_since(name, started))


def _has_lost(old: ZoneRecords, new: ZoneRecords) -> bool:
    left_kernel = old.zoneinfo is not None and new.zoneinfo is None and new.zone.zoneid is not None
    return left_kernel or _rows(new) < _rows(old)


def _rows(records: ZoneRecords) -> int:
    """How many datasets and snapshots zfs has listed."""
    return sum(len(listed.datasets) + sum(map(len, listed.snapshots.values())) for listed in records.datasets.values())


def _not_if_it_hangs(error: LoadError) -> None:
    if error.code == "ETIMEDOUT":
        raise LoadError(f"the load cannot be checked: {error}", error.code) from error
