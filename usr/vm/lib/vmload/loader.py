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
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple, Optional, TypeVar

from vmload import datasets as zfs
from vmload import parts as part
from vmload import vmobj
from vmload.datasets import Datasets
from vmload.filereads import FileRead, FileReads
from vmload.loaderror import LoadError, NoVm
from vmload.notes import Note, silent
from vmload.reader import Reader
from vmload.records import FileRecords, Zone, ZoneInfo, ZoneRecords
from vmload.runner import DIRECTLY, Runner
from vmload.system import Identity, RunningCommand, System, TimeLimits
from vmload.used import mounted_at_zonepath, root_of, used, used_by

T = TypeVar("T")

Identities = dict[str, Optional[Identity]]  # path -> what is there

_NOTHING_READ = FileRecords()

# Seconds that a load of all waits for the files of one zone before it goes on with the next of that pool beside it; and
# once one of them hangs.
_PATIENCE = 2.0
_LITTLE_PATIENCE = 0.1


class SysinfoReading(NamedTuple):
    """`value`: the sysinfo object; None, and the reason in `warning`, if it could not be read."""

    value: Optional[Mapping[str, Any]] = None
    warning: Optional[str] = None


class _Listing(NamedTuple):
    """A list of `parent` that is wanted; see Loader._list(). `before`: what it gave the last time. Without `asks_held`
    the snapshots of the delegated dataset are those of `before`. `named`: datasets that the XML delegates."""

    parent: str
    is_root: bool
    before: Optional[Datasets] = None
    asks_held: bool = True
    named: tuple[str, ...] = ()


_Begun = dict[str, tuple[_Listing, Callable[[], Datasets]]]  # parent -> the list that was begun, and who waits for it


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
        self._file_reads = FileReads(self._system.limits.one)

    def stop(self) -> None:
        """Kill the commands that run, and start no more: whoever waits for one gets a LoadError at once."""
        self._system.stop()
        self._file_reads.stop()

    def running(self) -> list[RunningCommand]:
        """The commands that run now, the oldest first."""
        return self._system.running()

    def zones(self) -> list[Zone]:
        """All VMs that zoneadm knows, in its order. Raises LoadError."""
        return list(self._reader.zones().values())

    def zones_of_index(self) -> frozenset[str]:
        """The names in the platform's index of zones, the global one aside: it is there before zoneadm is asked, and
        changes with each zone that comes, goes, or is installed. Raises LoadError."""
        return self._reader.zones_of_index()

    def identities(self, zone: Zone, paths: Iterable[str], runner: Runner = DIRECTLY) -> Identities:
        """Which file or folder is at each of the `paths` of the zone now; None for none. Raises LoadError."""
        return runner.files(*_on_pool(zone), lambda: self._identities(paths))

    def all_identities(self, zones: Iterable[Zone], paths_of: Callable[[Zone], Iterable[str]]) -> Identities:
        """The same of many zones; those on which the look hangs are left out."""
        looked, _ = self._of_each(zones, lambda zone: self._identities(paths_of(zone)))
        return {path: identity for found in looked.values() for path, identity in found.items()}

    def _identities(self, paths: Iterable[str]) -> Identities:
        return {path: self._system.identity(path) for path in paths}

    def find(self, key: str, runner: Runner = DIRECTLY) -> Zone:
        """The VM whose uuid, or else whose zone name, is `key`. Raises ZoneGone if there is none (NoVm if
        the zone is there), else LoadError."""
        zone = runner.zoneadm(self._reader.zone, key)
        if zone is None:
            raise NoVm(f"VM {key} not found in zoneadm")
        return zone

    def read(
        self,
        zone: Zone,
        runner: Runner = DIRECTLY,
        old: Optional[ZoneRecords] = None,
        parts: Collection[str] = part.ALL,
        changed_datasets: Collection[str] = (),
    ) -> ZoneRecords:
        """The records of `zone`: of `old` those that still hold, anew `parts` and what zfs says of `changed_datasets`
        (names that the zone uses, or that lie above or below one). Without `old` everything is read. Files, statistics
        and datasets are read side by side, the datasets as far as `old` says which they are.

        Raises LoadError; then nothing of `old` is lost."""
        if old is None or old.zone.zonepath != zone.zonepath:
            parts = part.ALL  # a zone that was moved: nothing that was read under the old path holds
        vmobj.check(zone)
        files = old.files if old is not None else _NOTHING_READ
        known = old if part.DATASETS not in parts else None
        reads_files = not part.OF_FILES.isdisjoint(parts) or vmobj.is_receiving(zone, files.xml)
        begun: _Begun = {}
        statistics: Optional[Callable[[], Optional[ZoneInfo]]] = None
        if part.ZONEINFO in parts:
            statistics = partial(runner.kstat, self._reader.zoneinfo, zone)
        if reads_files:
            if statistics is not None and zone.zoneid is not None:
                statistics = runner.beside(statistics)
            if old is not None and old.zone.zonepath == zone.zonepath:
                begun = self._begin(_to_list(zone, files, old, known, changed_datasets), runner)
            files = runner.files(*_on_pool(zone), partial(self._steady_files, zone, parts, files))
        zoneinfo = statistics() if statistics is not None else old.zoneinfo if old is not None else None
        asked = _to_list(zone, files, old, known, changed_datasets)
        return ZoneRecords(zone, files, zoneinfo, self._datasets(zone, asked, begun, known, runner))

    def _begin(self, asked: Mapping[str, Optional[_Listing]], runner: Runner) -> _Begun:
        return {
            parent: (listing, runner.beside(partial(runner.zfs, self._list, listing)))
            for parent, listing in asked.items()
            if listing is not None
        }

    def _datasets(
        self,
        zone: Zone,
        asked: Mapping[str, Optional[_Listing]],
        begun: _Begun,
        known: Optional[ZoneRecords],
        runner: Runner,
    ) -> dict[str, Datasets]:
        """What zfs says of the datasets that are `asked` for: by the listings that have `begun` already, if they are
        just those that are wanted, else by others; side by side where they are several."""
        missing = {
            parent: listing
            for parent, listing in asked.items()
            if listing is not None and (parent not in begun or begun[parent][0] != listing)
        }
        if len(missing) > 1:
            begun, missing = {**begun, **self._begin(missing, runner)}, {}
        listed: dict[str, Datasets] = {}
        for parent, listing in asked.items():
            if listing is None:
                listed[parent] = known.datasets[parent] if known is not None else Datasets()
            elif parent in missing:
                listed[parent] = runner.zfs(self._list, listing)
            else:
                listed[parent] = begun[parent][1]()
        is_new = any(listing is not None for listing in asked.values())
        if is_new and mounted_at_zonepath(zone, zfs.union(listed.values())) is None:
            # A dataset of another name can be mounted there: a listing of all would have shown it.
            other = mounted_at_zonepath(zone, runner.zfs(self._reader.mountpoints))
            if other is not None:
                listed[other] = runner.zfs(self._list, _Listing(other, True))
        return listed

    def _list(self, wanted: _Listing) -> Datasets:
        """What can show in a VM object of the dataset `wanted`, and of what lies below it if it is a root.

        One listing, where the XML names the delegated dataset, or it was there before. What was there before, or is not
        known yet, is asked for twice before it is believed to be not there."""
        parent, is_root, before, asks_held, named = wanted
        delegated = f"{parent}/{zfs.DELEGATED}"
        was_there = before is not None and delegated in before.datasets
        keeps_held = was_there and not asks_held
        is_expected = is_root and not keeps_held and (was_there or delegated in named)
        held = zfs.held_snapshot(delegated) if is_expected else None
        depth = zfs.DEPTH_OF_ROOT if is_root else zfs.DEPTH_OF_ONE
        found = self._reader.datasets(parent, depth, held)
        if _is_doubtful(found, before, delegated if is_expected else None):
            found = self._reader.datasets(parent, depth, held)
        if not is_root or delegated not in found.datasets:
            return found
        if before is not None and keeps_held:
            kept = {name: snapshots for name, snapshots in before.snapshots.items() if name == delegated}
            return replace(found, snapshots={**found.snapshots, **kept})
        if not is_expected:
            return zfs.union([found, self._reader.datasets(zfs.held_snapshot(delegated), zfs.DEPTH_OF_ONE)])
        return found

    def read_all(self) -> NodeRecords:
        """The records of every VM, the independent parts side by side.

        Raises LoadError if zoneadm, kstat or zfs fail as a whole. A sysinfo that cannot be read only makes a warning:
        a node's VMs are worth more than the four properties that come from it."""
        with ThreadPoolExecutor(max_workers=3, thread_name_prefix="load") as side:
            listing = side.submit(self._reader.zones)
            statistics = side.submit(self._reader.zoneinfos)
            pools = side.submit(self._reader.datasets, None, zfs.DEPTH_OF_ALL)
            sysinfo = self.read_sysinfo()
            zones = listing.result()
            files, errors = self._of_each(zones.values(), lambda zone: self._files(zone, part.ALL, _NOTHING_READ))
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

    def read_sysinfo(self) -> SysinfoReading:
        """The sysinfo object, or why it cannot be read."""
        try:
            return SysinfoReading(self._file_reads.run("tmp", "the file of sysinfo", self._reader.sysinfo))
        except LoadError as error:
            return SysinfoReading(warning=str(error))

    def _share_of(
        self, zone: Zone, files: FileRecords, datasets: Datasets, children: zfs.Children
    ) -> dict[str, Datasets]:
        """Of all `datasets`, what listings for this zone alone would have given. The rare dataset that lies too deep
        for the listing of all is listed apart. Raises LoadError."""
        share = {}
        for parent, is_root in used(zone, files, mounted_at_zonepath(zone, datasets)).parents().items():
            if parent.count("/") + (2 if is_root else 0) <= zfs.DEPTH_OF_ALL:
                share[parent] = datasets.cut(children, parent, is_root=is_root)
            else:
                share[parent] = self._list(_Listing(parent, is_root))
        return share

    def _of_each(self, zones: Iterable[Zone], step: Callable[[Zone], T]) -> tuple[dict[str, T], dict[str, LoadError]]:
        """What step() reads of the files of each zone, by name, and why it cannot for some. The pools side by side."""
        pools: dict[str, list[Zone]] = {}
        for zone in zones:
            pools.setdefault(_on_pool(zone)[0], []).append(zone)
        values: dict[str, T] = {}
        errors: dict[str, LoadError] = {}
        with ThreadPoolExecutor(max_workers=max(1, len(pools)), thread_name_prefix="files") as side:
            for found, failed in side.map(lambda of_pool: self._of_each_on_a_pool(of_pool, step), pools.values()):
                values.update(found)
                errors.update(failed)
        return values, errors

    def _of_each_on_a_pool(
        self, zones: list[Zone], step: Callable[[Zone], T]
    ) -> tuple[dict[str, T], dict[str, LoadError]]:
        """The same of zones on one pool, one after the other. One that hangs is waited for beside the others."""
        reads: dict[str, FileRead[T]] = {}
        values: dict[str, T] = {}
        errors: dict[str, LoadError] = {}
        patience = _PATIENCE
        for zone in zones:
            try:
                with _alone():
                    vmobj.check(zone)
                    read = reads[zone.zonename] = self._file_reads.start(*_on_pool(zone), partial(step, zone))
            except LoadError as error:
                errors[zone.zonename] = error
                continue
            if not read.ends_within(patience):
                patience = _LITTLE_PATIENCE
        for zonename, read in reads.items():
            try:
                with _alone():
                    values[zonename] = read.result()
            except LoadError as error:
                errors[zonename] = error
        return values, errors

    def _steady_files(self, zone: Zone, parts: Collection[str], old: FileRecords) -> FileRecords:
        """As _files(); once more if a file was changed meanwhile: what is in it now would be shown beside an older
        time, and its own time would follow as a change by itself."""
        files = self._files(zone, parts, old)
        if part.LAST_MODIFIED in parts and self._reader.last_modified(zone) != files.last_modified:
            files = self._files(zone, parts, old)
        return files

    def _files(self, zone: Zone, parts: Collection[str], old: FileRecords) -> FileRecords:
        """What the files of `zone` say: `parts` read anew, the others as they are in `old`. Raises LoadError."""
        xml = self._reader.zone_xml(zone.zonename) if part.ZONEXML in parts else old.xml
        return FileRecords(
            xml,
            self._reader.last_exited(zone) if part.LAST_EXITED in parts else old.last_exited,
            self._reader.last_modified(zone) if part.LAST_MODIFIED in parts else old.last_modified,
            self._reader.config(zone) if part.JSON in parts else old.config,
            self._reader.receive_payload(zone) if vmobj.is_receiving(zone, xml) else None,
        )


def _to_list(
    zone: Zone,
    files: FileRecords,
    old: Optional[ZoneRecords],
    known: Optional[ZoneRecords],
    changed: Collection[str],
) -> dict[str, Optional[_Listing]]:
    """The datasets that the zone uses, and how each is to be listed; None: what is `known` of it still holds. Listed
    anew are those that `changed`, and those that the zone did not use before: they were not followed, and may have been
    listed as something beside others."""
    uses = used(zone, files, root_of(old) if old is not None else None)
    stale = {*changed, *(set(uses.named) - set(used_by(known).named) if known is not None else ())}
    asked: dict[str, Optional[_Listing]] = {}
    for parent, is_root in uses.parents().items():
        if known is not None and parent in known.datasets and not _concerns(stale, parent):
            asked[parent] = None
        else:
            before = old.datasets.get(parent) if old is not None else None
            asks_held = known is None or any(zfs.covers(f"{parent}/{zfs.DELEGATED}", name) for name in stale)
            asked[parent] = _Listing(parent, is_root, before, asks_held, uses.delegated)
    return asked


def _is_doubtful(found: Datasets, before: Optional[Datasets], delegated: Optional[str]) -> bool:
    """Whether a listing lacks what was there `before`, or may have been, so that it is not believed yet. `delegated`:
    the dataset whose held snapshot it was asked for."""
    if before is None:
        return not found.datasets
    has_lost_held = delegated in before.snapshots and delegated not in found.snapshots
    return bool(before.datasets) and (not found.datasets or has_lost_held)


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
        raise LoadError(f"{type(error).__name__}: {error}", "INTERNAL") from error


def _concerns(stale: Collection[str], parent: str) -> bool:
    return any(zfs.covers(name, parent) or zfs.covers(parent, name) for name in stale)


def _on_pool(zone: Zone) -> tuple[str, str]:
    """The pool that the files of `zone` are on, and how they are called in an error."""
    return zone.zonepath[1:].partition("/")[0], f"the files of zone {zone.zonename}"
