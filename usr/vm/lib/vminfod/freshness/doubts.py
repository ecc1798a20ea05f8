# SPDX-License-Identifier: MPL-2.0
"""What the first load lacks, though something else says that it is there: each such zone is read by itself before it is
served.

A tool that is cut short at the end of a line, and yet ends well, gives a list that looks whole. There is nothing served
yet to compare it with, as secondlook.py does; but the index names the zones, and a zone needs its datasets and its
statistics (lacking.py).

Always: a node that lacks nothing pays for a look at the index, and no command;
        what lacks in a reading of just that zone, too, is believed;
        a zone that cannot be read so is an error, and not a VM without what it lacks; so is one that takes too long."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Union

import gevent

from vminfod.freshness.filewatches import FileWatches
from vminfod.freshness.threads import Threads
from vminfod.log import Log
from vmload import parts as part
from vmload.lacking import lacking
from vmload.loader import Loader, NodeRecords
from vmload.loaderror import LoadError, ZoneGone
from vmload.records import ZoneRecords

_WITHIN = 10.0  # seconds that the daemon's start waits for all of them

Read = Union[ZoneRecords, LoadError]


class Doubts:
    """See the head of the module."""

    def __init__(self, loader: Loader, watches: FileWatches, threads: Threads, log: Log):
        self._loader = loader
        self._watches = watches
        self._threads = threads
        self._log = log

    def put_right(self, node: NodeRecords, listed: Iterable[str]) -> NodeRecords:
        """`node`, but as they are when read alone those zones that lack something, or are not in it, though they were
        `listed` before or are VMs of the index. One that is gone has a ZoneGone among the errors."""
        until = time.monotonic() + _WITHIN
        unlisted = [
            zonename
            for zonename in dict.fromkeys([*listed, *self._vms_of_index()])
            if zonename not in node.zones and zonename not in node.errors
        ]
        lack = {zonename: parts for zonename, records in node.zones.items() if (parts := lacking(records))}
        if not unlisted and not lack:
            return node
        self._log.warn("the load lacks what should be there: asking again", zones=[*unlisted, *lack])
        read = self._side_by_side(
            {zonename: partial(self._read_new, zonename) for zonename in unlisted}
            | {zonename: self._again(node, zonename, parts) for zonename, parts in lack.items()},
            until,
        )
        if any(_is_more(node.zones[zonename], read[zonename]) for zonename in lack):
            # The list of datasets was cut short: of any zone it may lack some, or snapshots.
            others = {name: self._again(node, name, {part.DATASETS}) for name in node.zones if name not in lack}
            read |= self._side_by_side(others, until)
        return _with(node, read)

    def _vms_of_index(self) -> list[str]:
        try:
            index = self._loader.sources.index(self._threads)
        except LoadError as error:
            self._log.warn("cannot read the index of zones", err=error)
            return []
        return [zonename for zonename, uuid in index.items() if uuid is not None]

    def _read_new(self, zonename: str) -> ZoneRecords:
        zone = self._loader.sources.find(zonename, self._threads)
        if zone.zonename != zonename:
            raise ZoneGone(f"zone {zonename} is no more: {zone.zonename} has its uuid")
        self._watches.set(zone, {})  # before any of its files is read
        return self._loader.read(zone, self._threads)

    def _again(self, node: NodeRecords, zonename: str, parts: Collection[str]) -> Callable[[], ZoneRecords]:
        old = node.zones[zonename]
        return lambda: self._loader.read(old.zone, self._threads, old, parts)

    def _side_by_side(self, steps: Mapping[str, Callable[[], ZoneRecords]], until: float) -> dict[str, Read]:
        """What each step gives, by zone; an error for those that have not ended `until` then (monotonic seconds). As
        all ask together, few commands are run (together.py)."""
        readings = {zonename: gevent.spawn(self._outcome, zonename, step) for zonename, step in steps.items()}
        gevent.joinall(list(readings.values()), timeout=max(0.0, until - time.monotonic()))
        found: dict[str, Read] = {}
        for zonename, reading in readings.items():
            if reading.ready():
                found[zonename] = reading.get()
            else:
                reading.kill(block=False)
                found[zonename] = LoadError(f"zone {zonename} was not read within {_WITHIN:g} s", "ETIMEDOUT")
        return found

    def _outcome(self, zonename: str, step: Callable[[], ZoneRecords]) -> Read:
        try:
            return step()
        except LoadError as error:
            return error
        except Exception as error:  # noqa: BLE001 boundary: a fault of ours in one zone's reading must not stop the start
            self._log.error("reading a zone failed unexpectedly", zonename=zonename, err=error)
            return LoadError(f"{type(error).__name__}: {error}", "INTERNAL")


def _is_more(old: ZoneRecords, new: Read) -> bool:
    """Whether the listings of just the zone have given what that of all lacked."""
    return isinstance(new, ZoneRecords) and new.datasets != old.datasets


def _with(node: NodeRecords, read: Mapping[str, Read]) -> NodeRecords:
    zones, errors = dict(node.zones), dict(node.errors)
    for zonename, found in read.items():
        if isinstance(found, ZoneRecords):
            zones[zonename] = found
        else:
            zones.pop(zonename, None)
            errors[zonename] = found
    return replace(node, zones=zones, errors=errors)
