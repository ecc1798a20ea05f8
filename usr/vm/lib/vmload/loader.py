# SPDX-License-Identifier: MPL-2.0
"""What has to be read for one VM, for all of them, or for just the parts of one that may have changed
(docs/vm-object.md, "From records to an object").

Always: a load of all runs a number of commands that does not grow with the number of VMs;
        one zone that cannot be read costs only itself;
        a load of all gives the same records as loads of each (quirk 23): of what zfs tells of all pools, each VM gets
        what a listing of just its own datasets would have told;
        zoneadm's record of a zone is checked once, when the rest of that zone is about to be read.
Not here: what commands and files look like (reader.py and the parsers), where the steps run (runner.py), and what
becomes of the objects."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Optional

from vmload import datasets as zfs
from vmload import parts as part
from vmload import vmobj
from vmload.datasets import Datasets
from vmload.loaderror import LoadError, ZoneGone
from vmload.notes import Note, silent
from vmload.reader import Reader
from vmload.records import Zone, ZoneFiles, ZoneRecords
from vmload.runner import DIRECTLY, Runner
from vmload.system import RunningCommand, System, TimeLimits

_NOTHING_READ = ZoneFiles()


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

    def stop(self) -> None:
        """Kill the commands that run, and start no more: whoever waits for one gets a LoadError at once."""
        self._system.stop()

    def running(self) -> list[RunningCommand]:
        """The commands that run now, the oldest first."""
        return self._system.running()

    def zones(self) -> list[Zone]:
        """All VMs that zoneadm knows, in its order. Raises LoadError."""
        return list(self._reader.zones().values())

    def find(self, key: str, runner: Runner = DIRECTLY) -> Zone:
        """The VM whose uuid, or else whose zone name, is `key`. Raises ZoneGone if there is none, else LoadError."""
        zone = runner.zoneadm(self._reader.zone, key)
        if zone is None:
            raise ZoneGone(f"zone {key} is no VM")
        return zone

    def read(
        self,
        zone: Zone,
        runner: Runner = DIRECTLY,
        old: Optional[ZoneRecords] = None,
        parts: Collection[str] = part.ALL,
        changed_datasets: Collection[str] = (),
    ) -> ZoneRecords:
        """The records of `zone`: of `old` those that still hold, anew `parts` and what zfs tells of `changed_datasets`
        (names that the zone uses, or that lie above or below one). Without `old` everything is read.

        Raises LoadError; then nothing of `old` is lost."""
        if old is None or old.zone.zonepath != zone.zonepath:
            parts = part.ALL  # a zone that was moved: nothing that was read under the old path holds
        vmobj.check(zone)
        zoneinfo = old.zoneinfo if old is not None else None
        if part.ZONEINFO in parts:
            zoneinfo = runner.kstat(self._reader.zoneinfo, zone)
        files = old.files if old is not None else _NOTHING_READ
        if not part.OF_FILES.isdisjoint(parts) or vmobj.is_receiving(zone, files.xml):
            files = runner.files(self._files, zone, parts, files)
        known = old.datasets if old is not None and part.DATASETS not in parts else {}
        datasets = {}
        for parent, depth in parents_of(zone, files, _root_of(zone, old)).items():
            if parent in known and not any(zfs.covers(d, parent) or zfs.covers(parent, d) for d in changed_datasets):
                datasets[parent] = known[parent]
            else:
                datasets[parent] = runner.zfs(self._reader.datasets, parent, depth)
        return ZoneRecords(zone, files, zoneinfo, datasets)

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
            files, errors = self._all_files(zones.values())
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
            return SysinfoReading(self._reader.sysinfo())
        except LoadError as error:
            return SysinfoReading(warning=str(error))

    def _share_of(
        self, zone: Zone, files: ZoneFiles, datasets: Datasets, children: zfs.Children
    ) -> dict[str, Datasets]:
        """Of all `datasets`, what listings for this zone alone would have told. The rare dataset that lies too deep for
        the listing of all is listed apart. Raises LoadError."""
        share = {}
        for parent, depth in parents_of(zone, files, _mounted_at_zonepath(zone, datasets)).items():
            if parent.count("/") + depth <= zfs.DEPTH_OF_ALL:
                share[parent] = datasets.cut(children, parent, depth)
            else:
                share[parent] = self._reader.datasets(parent, depth)
        return share

    def _all_files(self, zones: Iterable[Zone]) -> tuple[dict[str, ZoneFiles], dict[str, LoadError]]:
        files: dict[str, ZoneFiles] = {}
        errors: dict[str, LoadError] = {}
        for zone in zones:
            try:
                with _alone():
                    vmobj.check(zone)
                    files[zone.zonename] = self._files(zone, part.ALL, _NOTHING_READ)
            except LoadError as error:
                errors[zone.zonename] = error
        return files, errors

    def _files(self, zone: Zone, parts: Collection[str], old: ZoneFiles) -> ZoneFiles:
        """What the files of `zone` say: `parts` read anew, the others as they are in `old`. Raises LoadError."""
        xml = self._reader.zone_xml(zone.zonename) if part.ZONEXML in parts else old.xml
        return ZoneFiles(
            xml,
            self._reader.last_exited(zone) if part.LAST_EXITED in parts else old.last_exited,
            self._reader.last_modified(zone) if part.LAST_MODIFIED in parts else old.last_modified,
            self._reader.config(zone) if part.JSON in parts else old.config,
            self._reader.receive_payload(zone) if vmobj.is_receiving(zone, xml) else None,
        )


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
