# SPDX-License-Identifier: MPL-2.0
"""Loads VMs from the node: one, all of them, or just the parts of one that may have changed (docs/vm-object.md, "From
records to an object" and "Loads of some properties").

Always: a load of all runs a number of commands that does not grow with the number of VMs;
        one zone that cannot be read costs only itself;
        a load of all gives the same objects as loads of each (quirk 23), since both end in the same records: of what
        zfs tells of all pools, each VM gets what a listing of just its own datasets would have told.
Not here: what commands and files look like (reader.py and the parsers), and what becomes of the objects."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Optional

from vmload import datasets as zfs
from vmload import parts as part
from vmload import properties, vmobj
from vmload.datasets import Datasets
from vmload.loaderror import LoadError, ZoneGone
from vmload.notes import Note, silent
from vmload.properties import Selection
from vmload.reader import Reader
from vmload.records import Zone, ZoneFiles, ZoneRecords
from vmload.system import System, TimeLimits

# Runs one blocking step of a load and returns its result. A caller in a gevent loop gives one that uses threads; the
# text ("zoneadm", "kstat", "zfs", "files") says what the step waits for, so that one that hangs can be kept apart.
Call = Callable[..., Any]


_NOTHING_READ = ZoneFiles()

# The parts that come from a zone's files, and the group of properties that needs each (docs/vm-object.md, "From records
# to an object").
_GROUP_OF_FILES = {
    part.ZONEXML: "zonexml",
    part.LAST_EXITED: "lastexited",
    part.LAST_MODIFIED: "last_modified",
    part.JSON: "json",
}


def directly(kind: str, step: Callable[..., Any], *arguments: Any) -> Any:
    """The Call of a caller that may block."""
    return step(*arguments)


@dataclass(frozen=True)
class NodeRecords:
    """What was read of a whole node.

    `zones`: zone name -> records, in zoneadm's order. `errors`: zone name -> why that one is not in `zones`.
    `sysinfo` is None if it could not be had. `warnings`: what else was not as it should be."""

    zones: dict[str, ZoneRecords] = field(default_factory=dict)
    errors: dict[str, LoadError] = field(default_factory=dict)
    sysinfo: Optional[Mapping[str, Any]] = None
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Loaded:
    """The VM objects of a node, by zone name in zoneadm's order; `errors` and `warnings` as in NodeRecords."""

    vms: dict[str, dict[str, Any]] = field(default_factory=dict)
    errors: dict[str, LoadError] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


class Loader:
    """Loads from the node whose root folder is `root`. Safe to use from several threads at once."""

    def __init__(self, root: str = "/", note: Note = silent, limits: Optional[TimeLimits] = None):
        self.reader = Reader(System(root, limits), note)

    def load_all(self, fields: Optional[Iterable[str]] = None) -> Loaded:
        """Every VM of the node, whole or limited to `fields`. Raises LoadError as read_all() does."""
        wanted = properties.wanted(fields)
        node = self.read_all(wanted)
        loaded = Loaded({}, dict(node.errors), node.warnings)
        for zonename, records in node.zones.items():
            try:
                loaded.vms[zonename] = assemble(records, node.sysinfo, wanted)
            except LoadError as error:
                loaded.errors[zonename] = error
        return loaded

    def load(self, key: str, fields: Optional[Iterable[str]] = None) -> dict[str, Any]:
        """The VM whose uuid is `key` (or whose zone has no other name), whole or limited to `fields`.

        Raises ZoneGone if there is none, else LoadError (docs/vm-object.md, "Errors")."""
        wanted = properties.wanted(fields)
        zone = self.reader.zone(key)
        if zone is None or zone.uuid != key:
            raise ZoneGone(f"VM {key} not found in zoneadm")
        sysinfo = self.read_sysinfo([]) if _wants(wanted, "sysinfo") else None
        if wanted is None:
            return assemble(self._read_parts(zone, None, part.ALL, (), directly), sysinfo)
        files = self._files(zone, _parts_of(wanted))
        zoneinfo = self.reader.zoneinfo(zone) if _wants(wanted, "kstat") else None
        listed = {}
        if _wants(wanted, "zfs") and wanted.zfs_fields:
            for parent in parents_of(zone, files):
                listed[parent] = self.reader.datasets(parent, zfs.DEPTH_OF_ONE, wanted.zfs_fields, wanted.zfs_types)
        return assemble(ZoneRecords(zone, files, zoneinfo, listed), sysinfo, wanted)

    def read_all(self, wanted: Optional[Selection] = None) -> NodeRecords:
        """The records of every VM, the independent parts side by side.

        Raises LoadError if zoneadm, kstat or zfs fail as a whole. A sysinfo that cannot be read only makes a warning:
        a node's VMs are worth more than the four properties that come from it."""
        warnings: list[str] = []
        with ThreadPoolExecutor(max_workers=3, thread_name_prefix="load") as side:
            listing = side.submit(self.reader.zones)
            statistics = side.submit(self.reader.zoneinfos) if _wants(wanted, "kstat") else None
            pools = side.submit(self._all_datasets, wanted) if _wants(wanted, "zfs") else None
            sysinfo = self.read_sysinfo(warnings) if _wants(wanted, "sysinfo") else None
            zones = listing.result()
            files, errors = self._all_files(zones.values(), wanted)
            zoneinfos = statistics.result() if statistics else {}
            datasets = pools.result() if pools else Datasets()
        children = zfs.children_of(datasets)
        node = NodeRecords({}, errors, sysinfo, warnings)
        for zone in zones.values():
            if zone.zonename in files:
                read = files[zone.zonename]
                try:
                    with _alone():
                        share = self._share_of(zone, read, datasets, children, wanted)
                except LoadError as error:
                    node.errors[zone.zonename] = error
                    continue
                node.zones[zone.zonename] = ZoneRecords(zone, read, zoneinfos.get(zone.uuid), share)
        return node

    def read_zone(
        self,
        zonename: str,
        old: Optional[ZoneRecords] = None,
        parts: Collection[str] = part.ALL,
        changed_datasets: Collection[str] = (),
        call: Call = directly,
        watch: Callable[[Zone], None] = lambda zone: None,
    ) -> Optional[ZoneRecords]:
        """The records of one zone: of `old` those that still hold, anew `parts` and what zfs tells of
        `changed_datasets` (names that the zone uses, or that lie above or below one).

        `watch` is called with the zone once it is known where its files are, before any of them is read.

        None for a zone that is no VM. Raises ZoneGone if it does not exist, else LoadError; then nothing of `old` is
        lost. Without `old` everything is read."""
        if old is None or part.ZONEADM in parts:
            zone = call("zoneadm", self.reader.zone, zonename)
            if zone is None:
                return None
        else:
            zone = old.zone
        watch(zone)
        return self._read_parts(zone, old, parts if old is not None else part.ALL, changed_datasets, call)

    def _read_parts(
        self,
        zone: Zone,
        old: Optional[ZoneRecords],
        parts: Collection[str],
        changed_datasets: Collection[str],
        call: Call,
    ) -> ZoneRecords:
        if old is not None and old.zone.zonepath != zone.zonepath:
            parts = part.ALL  # the zone was moved: nothing that was read under the old path holds
        vmobj.check(zone)
        zoneinfo = old.zoneinfo if old is not None else None
        if part.ZONEINFO in parts:
            zoneinfo = call("kstat", self.reader.zoneinfo, zone)
        files = call("files", self._files, zone, parts, old.files if old is not None else _NOTHING_READ)
        known = old.datasets if old is not None and part.DATASETS not in parts else {}
        datasets = {}
        for parent, depth in parents_of(zone, files, _root_of(zone, old)).items():
            if parent in known and not any(zfs.covers(d, parent) or zfs.covers(parent, d) for d in changed_datasets):
                datasets[parent] = known[parent]
            else:
                datasets[parent] = call("zfs", self.reader.datasets, parent, depth)
        return ZoneRecords(zone, files, zoneinfo, datasets)

    def read_sysinfo(self, warnings: list[str]) -> Optional[dict[str, Any]]:
        """The sysinfo object; None, and a line more in `warnings`, if it cannot be read."""
        try:
            return self.reader.sysinfo()
        except LoadError as error:
            warnings.append(str(error))
            return None

    def _all_datasets(self, wanted: Optional[Selection]) -> Datasets:
        if wanted is None:
            return self.reader.datasets(None, zfs.DEPTH_OF_ALL)
        if not wanted.zfs_fields:
            return Datasets()
        return self.reader.datasets(None, zfs.DEPTH_OF_ALL, wanted.zfs_fields, wanted.zfs_types)

    def _share_of(
        self, zone: Zone, files: ZoneFiles, datasets: Datasets, children: zfs.Children, wanted: Optional[Selection]
    ) -> dict[str, Datasets]:
        """Of all `datasets`, what listings for this zone alone would have told. The rare dataset that lies too deep for
        the listing of all is listed apart. Raises LoadError."""
        share = {}
        for parent, depth in parents_of(zone, files, _mounted_at_zonepath(zone, datasets)).items():
            if parent.count("/") + depth <= zfs.DEPTH_OF_ALL or wanted is not None:
                share[parent] = datasets.cut(children, parent, depth)
            else:
                share[parent] = self.reader.datasets(parent, depth)
        return share

    def _all_files(
        self, zones: Iterable[Zone], wanted: Optional[Selection]
    ) -> tuple[dict[str, ZoneFiles], dict[str, LoadError]]:
        files: dict[str, ZoneFiles] = {}
        errors: dict[str, LoadError] = {}
        parts = _parts_of(wanted)
        for zone in zones:
            try:
                with _alone():
                    files[zone.zonename] = self._files(zone, parts)
            except LoadError as error:
                errors[zone.zonename] = error
        return files, errors

    def _files(self, zone: Zone, parts: Collection[str], old: ZoneFiles = _NOTHING_READ) -> ZoneFiles:
        """What the files of `zone` say: `parts` read anew, the others as they are in `old`. Raises LoadError."""
        vmobj.check(zone)
        xml = self.reader.zone_xml(zone.zonename) if part.ZONEXML in parts else old.xml
        return ZoneFiles(
            xml,
            self.reader.last_exited(zone) if part.LAST_EXITED in parts else old.last_exited,
            self.reader.last_modified(zone) if part.LAST_MODIFIED in parts else old.last_modified,
            self.reader.config(zone) if part.JSON in parts else old.config,
            self.reader.receive_payload(zone) if vmobj.is_receiving(zone, xml) else None,
        )


def assemble(
    records: ZoneRecords, sysinfo: Optional[Mapping[str, Any]], wanted: Optional[Selection] = None
) -> dict[str, Any]:
    """The VM object that `records` give, whole or limited to `wanted`. Pure. Raises LoadError."""
    with _alone():
        datasets = zfs.union(records.datasets.values()) if _wants(wanted, "zfs") else None
        return vmobj.assemble(
            records.zone,
            records.files,
            zoneinfo=records.zoneinfo,
            sysinfo=sysinfo,
            datasets=datasets,
            wanted=wanted,
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


def parents_of(zone: Zone, files: ZoneFiles, root: Optional[str] = None) -> dict[str, int]:
    """The datasets to list for one VM, in the order of docs/platform.md, "Which datasets are listed", each with the
    depth for a whole object.

    They are its zoneroot, `root` if that is known to be mounted there instead, the dataset that is being received, its
    delegated datasets and its disks' zvols; what is seen below the zoneroot anyway is not listed twice. A disk that is
    no zvol (a CD image) needs nothing: it counts as missing either way (docs/platform.md, "Which datasets are
    listed")."""
    zoneroot = zone.zonepath[1:]
    roots = [zoneroot, root or zoneroot, (files.receive_payload or {}).get("zfs_filesystem") or zoneroot]
    used = list((files.xml or {}).get("datasets", ()))
    for disk in (files.xml or {}).get("disks", ()):
        zvol = zfs.zvol_of(disk.get("path", ""))
        if zvol is not None:
            used.append(zvol)
    parents = {name: zfs.DEPTH_OF_ZONEROOT for name in roots if isinstance(name, str) and name}
    for name in used:
        if name and name.rpartition("/")[0] != zoneroot:
            parents.setdefault(name, zfs.DEPTH_OF_ONE)
    return parents


def _root_of(zone: Zone, old: Optional[ZoneRecords]) -> Optional[str]:
    """The root dataset as it was seen before, if it was seen: it need not have the zonepath's name."""
    return _mounted_at_zonepath(zone, zfs.union(old.datasets.values())) if old is not None else None


def _mounted_at_zonepath(zone: Zone, datasets: Datasets) -> Optional[str]:
    """The dataset mounted at the zonepath; of several the one of that name, since a copy of the zone in a backup pool
    claims the same mountpoint."""
    namesake = datasets.datasets.get(zone.zonepath[1:])
    if namesake is not None and namesake["mountpoint"] == zone.zonepath:
        return zone.zonepath[1:]
    return datasets.mountpoints.get(zone.zonepath)


def _parts_of(wanted: Optional[Selection]) -> Collection[str]:
    """The parts that come from files, as far as `wanted` asks for them."""
    return [name for name, group in _GROUP_OF_FILES.items() if _wants(wanted, group)]


def _wants(wanted: Optional[Selection], group: str) -> bool:
    return wanted is None or group in wanted.groups
