# SPDX-License-Identifier: MPL-2.0
"""What has to be read for one VM, for all of them, or for just the parts of one that may have changed
(docs/vm-object.md, "From records to an object").

Always: a load of all runs a number of commands that does not grow with the number of VMs;
        one zone that cannot be read costs only itself;
        a load of all gives the same records as loads of each (quirk 23): of what zfs says of all pools, each VM gets
        what a listing of just its own datasets would have given;
        zoneadm's record of a zone is checked once, when the rest of that zone is about to be read.
Not here: what commands and files look like (reader.py and the parsers), where the steps run (runner.py), and what
becomes of the objects."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, Optional, TypeVar

from vmload import datasets as zfs
from vmload import parts as part
from vmload import vmobj
from vmload.commands import Commands
from vmload.datasets import Datasets
from vmload.filereads import FileReads
from vmload.listings import Listing, Listings
from vmload.loaderror import LoadError
from vmload.notes import Note, silent
from vmload.reader import Reader
from vmload.readsinarow import ReadsInARow
from vmload.records import FileRecords, Zone, ZoneRecords
from vmload.runner import DIRECTLY, Runner
from vmload.system import RunningCommand, System, TimeLimits
from vmload.used import mounted_at_zonepath, used
from vmload.zonesources import Asked, Identities, Source, ZoneSources, needs, nothing_of, on_pool

T = TypeVar("T")


class SysinfoReading(NamedTuple):
    """`value`: the sysinfo object; None, and the reason in `warning`, if it could not be read."""

    value: Optional[Mapping[str, Any]] = None
    warning: Optional[str] = None


@dataclass(frozen=True)
class NodeRecords:
    """What was read of a whole node. `zones`: zone name -> records, in zoneadm's order. `errors`: zone name -> why that
    one is not in `zones`."""

    zones: Mapping[str, ZoneRecords] = field(default_factory=dict)
    errors: Mapping[str, LoadError] = field(default_factory=dict)
    sysinfo: SysinfoReading = SysinfoReading()


class Loader:
    """Loads from the node whose root folder is `root`. Safe to use from several threads at once."""

    def __init__(self, root: str = "/", note: Note = silent, limits: Optional[TimeLimits] = None):
        self._system = System(root, limits)
        self._reader = Reader(self._system, note)
        self._commands = Commands(self._system, note)
        self._listings = Listings(self._commands)
        self.sources = ZoneSources(self._system, self._reader, self._commands, self._listings)
        self.file_reads = FileReads(self._system.limits.one)

    def stop(self) -> None:
        """Kill the commands that run, and start no more: whoever waits for one gets a LoadError at once."""
        self._system.stop()
        self.file_reads.stop()

    def running(self) -> list[RunningCommand]:
        """The commands that run now, the oldest first."""
        return self._system.running()

    def zones(self) -> list[Zone]:
        """All VMs that zoneadm knows, in its order. Raises LoadError."""
        return list(self._commands.zones().values())

    def all_identities(
        self, zones: Iterable[Zone], paths_of: Callable[[Zone], Iterable[str]]
    ) -> tuple[Identities, dict[str, LoadError]]:
        """The same of many zones; and why not of those, by name, on which the look hangs."""
        looked, errors = self._of_each(zones, lambda zone: self.sources.identities(paths_of(zone)))
        return {path: identity for found in looked.values() for path, identity in found.items()}, errors

    def read(
        self,
        zone: Zone,
        runner: Runner = DIRECTLY,
        old: Optional[ZoneRecords] = None,
        parts: Collection[str] = part.ALL,
    ) -> ZoneRecords:
        """The records of `zone`: of `old` those that still hold, `parts` anew. Without `old` everything is read. One
        source after the other. Raises LoadError; then nothing of `old` is lost."""
        records = nothing_of(zone) if old is None else old._replace(zone=zone)
        asked = part.ALL if old is None else parts
        for source in Source:
            if source is Source.ZONEADM:
                continue
            holds = old is not None and needs(source, old) == needs(source, records)
            if not holds or not source.value.isdisjoint(asked):
                wanted = asked if holds else source.value
                records = self.sources.ask(source, Asked(records, old, wanted), runner)(records)
        return records

    def read_all(self, before_files: Callable[[Zone], object] = lambda zone: None) -> NodeRecords:
        """The records of every VM, the independent parts side by side. No file of a zone is read until
        `before_files(zone)` has returned. It is called in zoneadm's order, in a thread for each pool, raises nothing,
        and takes no time that the reading has.

        Raises LoadError if zoneadm, kstat or zfs fail as a whole. A sysinfo that cannot be read only makes a warning:
        a node's VMs are worth more than the four properties that come from it."""
        with ThreadPoolExecutor(max_workers=3, thread_name_prefix="load") as side:
            listing = side.submit(self._commands.zones)
            statistics = side.submit(self._commands.zoneinfos)
            pools = side.submit(self._commands.all_datasets)
            sysinfo = self.read_sysinfo()
            zones = listing.result()
            files, errors = self._of_each(zones.values(), self.sources.all_files, before_files)
            zoneinfos = statistics.result()
            datasets = pools.result()
        children = zfs.children_of(datasets)
        found: dict[str, ZoneRecords] = {}
        for zone in zones.values():
            if zone.zonename in files:
                read = files[zone.zonename]
                try:
                    with _alone():
                        share = self._share_of(zone, read, datasets, children)
                except LoadError as error:
                    errors[zone.zonename] = error
                    continue
                found[zone.zonename] = ZoneRecords(zone, read, zoneinfos.get(zone.uuid), share)
        return NodeRecords(found, errors, sysinfo)

    def read_sysinfo(self, runner: Optional[Runner] = None) -> SysinfoReading:
        """The sysinfo object, or why it cannot be read. Without a `runner` it is waited for by blocking."""
        files = self.file_reads.run if runner is None else runner.files
        try:
            return SysinfoReading(files("tmp", "the file of sysinfo", self._reader.sysinfo))
        except LoadError as error:
            return SysinfoReading(warning=str(error))

    def _share_of(
        self, zone: Zone, files: FileRecords, datasets: Datasets, children: zfs.Children
    ) -> dict[str, Datasets]:
        """Of all `datasets`, what listings for this zone alone would have given. The rare dataset that lies too deep
        for the listing of all is listed apart. Raises LoadError."""
        share = {}
        for parent, is_root in used(zone, files, mounted_at_zonepath(zone, [datasets])).parents().items():
            if parent.count("/") + (2 if is_root else 0) <= zfs.DEPTH_OF_ALL:
                share[parent] = datasets.cut(children, parent, is_root=is_root)
            else:
                share[parent] = self._listings.list(Listing(parent, is_root), DIRECTLY)
        return share

    def _of_each(
        self, zones: Iterable[Zone], step: Callable[[Zone], T], before: Callable[[Zone], object] = lambda zone: None
    ) -> tuple[dict[str, T], dict[str, LoadError]]:
        """What step() reads of the files of each zone, by name, and why it cannot for some; each after `before`. The
        pools side by side."""
        pools: dict[str, list[Zone]] = {}
        for zone in zones:
            pools.setdefault(on_pool(Source.FILES, zone)[0], []).append(zone)
        values: dict[str, T] = {}
        errors: dict[str, LoadError] = {}
        with ThreadPoolExecutor(max_workers=max(1, len(pools)), thread_name_prefix="files") as side:
            for found, failed in side.map(lambda pool: self._of_each_on_a_pool(pool, pools[pool], step, before), pools):
                values.update(found)
                errors.update(failed)
        return values, errors

    def _of_each_on_a_pool(
        self, pool: str, zones: list[Zone], step: Callable[[Zone], T], before: Callable[[Zone], object]
    ) -> tuple[dict[str, T], dict[str, LoadError]]:
        """The same of zones on one pool, one after the other. One that hangs is waited for beside the others."""
        errors: dict[str, LoadError] = {}
        wanted: dict[str, Zone] = {}  # what is read of a zone -> the zone
        for zone in zones:
            try:
                with _alone():
                    vmobj.check(zone)
                wanted[on_pool(Source.FILES, zone)[1]] = zone
            except LoadError as error:
                errors[zone.zonename] = error

        def steps() -> Iterator[tuple[str, Callable[[], T]]]:
            for what, zone in wanted.items():
                before(zone)
                yield what, partial(step, zone)

        try:
            with _alone():
                values, failed = ReadsInARow(self.file_reads, pool, steps()).run()
        except LoadError as no_thread:
            return {}, {**errors, **{zone.zonename: no_thread for zone in wanted.values()}}
        for what, reason in failed.items():
            errors[wanted[what].zonename] = reason if isinstance(reason, LoadError) else _internal(reason)
        return {wanted[what].zonename: value for what, value in values.items()}, errors


def assemble(records: ZoneRecords, sysinfo: Optional[Mapping[str, Any]]) -> dict[str, Any]:
    """The VM object that `records` give. Pure. Raises LoadError."""
    with _alone():
        return vmobj.assemble(
            records.zone,
            records.files,
            zoneinfo=records.zoneinfo,
            sysinfo=sysinfo,
            datasets=zfs.union(records.datasets.values()),
        )


@contextmanager
def _alone() -> Iterator[None]:
    """The work for one zone: whatever goes wrong in it, a fault of ours too, is a LoadError of that zone."""
    try:
        yield
    except LoadError:
        raise
    except Exception as error:  # noqa: BLE001 boundary: one zone
        raise _internal(error) from error


def _internal(error: Exception) -> LoadError:
    return LoadError(f"{type(error).__name__}: {error}", "INTERNAL")
