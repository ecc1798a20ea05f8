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
from typing import Any, NamedTuple, Optional, TypeVar, Union

from vmload import datasets as zfs
from vmload import parts as part
from vmload import vmobj
from vmload.commands import Commands
from vmload.datasets import Datasets
from vmload.filereads import FileReads
from vmload.listings import Begun, Listing, Listings, to_list
from vmload.loaderror import LoadError, NoVm
from vmload.notes import Note, silent
from vmload.reader import Reader
from vmload.readsinarow import ReadsInARow
from vmload.records import FileRecords, Zone, ZoneInfo, ZoneRecords
from vmload.runner import DIRECTLY, Runner
from vmload.system import Identity, RunningCommand, System, TimeLimits
from vmload.used import mounted_at_zonepath, used

T = TypeVar("T")

Identities = dict[str, Optional[Identity]]  # path -> what is there

_NOTHING_READ = FileRecords()
_LOOKS = 5  # at the files of a zone, until one is good


class Look(NamedTuple):
    """A look at which file or folder is at each of the `paths`, right before a zone's files are read. `is_good`:
    whether what was read then may stay; else all of them are read again, after another look."""

    paths: Collection[str]
    is_good: Callable[[Identities], bool]


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

    def zones_of_index(self) -> frozenset[str]:
        """The names in the platform's index of zones, the global one aside: it is there before zoneadm is asked, and
        changes with each zone that comes, goes, or is installed. Raises LoadError."""
        return self._reader.zones_of_index()

    def identities(self, zone: Zone, paths: Iterable[str], runner: Runner = DIRECTLY) -> Identities:
        """Which file or folder is at each of the `paths` of the zone now; None for none. Raises LoadError."""
        return runner.files(*_on_pool(zone), lambda: self._identities(paths))

    def all_identities(
        self, zones: Iterable[Zone], paths_of: Callable[[Zone], Iterable[str]]
    ) -> tuple[Identities, dict[str, LoadError]]:
        """The same of many zones; and why not of those, by name, on which the look hangs."""
        looked, errors = self._of_each(zones, lambda zone: self._identities(paths_of(zone)))
        return {path: identity for found in looked.values() for path, identity in found.items()}, errors

    def _identities(self, paths: Iterable[str]) -> Identities:
        return {path: self._system.identity(path) for path in paths}

    def find(self, key: str, runner: Runner = DIRECTLY) -> Zone:
        """The VM whose uuid, or else whose zone name, is `key`. Raises ZoneGone if there is none (NoVm if
        the zone is there), else LoadError."""
        zone = self._commands.zone(key, runner)
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
        look: Optional[Look] = None,
    ) -> ZoneRecords:
        """The records of `zone`: of `old` those that still hold, anew `parts` and what zfs says of `changed_datasets`
        (names that the zone uses, or that lie above or below one). Without `old` everything is read. Files, statistics
        and datasets are read side by side, the datasets as far as `old` says which they are.

        With a `look` the files are read until it holds what was seen right before for good. Raises LoadError; then
        nothing of `old` is lost."""
        if old is None or old.zone.zonepath != zone.zonepath:
            parts = part.ALL  # a zone that was moved: nothing that was read under the old path holds
        vmobj.check(zone)
        files = old.files if old is not None else _NOTHING_READ
        known = old if part.DATASETS not in parts else None
        reads_files = not part.OF_FILES.isdisjoint(parts) or vmobj.is_receiving(zone, files.xml)
        begun: Begun = {}
        statistics: Optional[Callable[[], Optional[ZoneInfo]]] = None
        if part.ZONEINFO in parts:
            statistics = partial(self._commands.zoneinfo, zone, runner)
        if reads_files:
            if statistics is not None and zone.zoneid is not None:
                statistics = runner.beside(statistics)
            if old is not None and old.zone.zonepath == zone.zonepath:
                begun = self._listings.begin(to_list(zone, files, old, known, changed_datasets), runner)
            files = self._read_files(zone, parts, files, look, runner)
        zoneinfo = statistics() if statistics is not None else old.zoneinfo if old is not None else None
        asked = to_list(zone, files, old, known, changed_datasets)
        return ZoneRecords(zone, files, zoneinfo, self._listings.datasets(zone, asked, begun, known, runner))

    def _read_files(
        self, zone: Zone, parts: Collection[str], old: FileRecords, look: Optional[Look], runner: Runner
    ) -> FileRecords:
        paths = look.paths if look is not None else ()
        for _ in range(_LOOKS):
            seen, found = runner.files(*_on_pool(zone), partial(self._look_and_read, paths, zone, parts, old))
            if look is None or look.is_good(seen):
                break
            parts = {*parts, *part.OF_FILES}
        if isinstance(found, LoadError):
            raise found
        return found

    def _look_and_read(
        self, paths: Iterable[str], zone: Zone, parts: Collection[str], old: FileRecords
    ) -> tuple[Identities, Union[FileRecords, LoadError]]:
        """In one step: a thread's turn costs more than either."""
        seen = self._identities(paths)
        try:
            return seen, self._steady_files(zone, parts, old)
        except LoadError as error:
            return seen, error

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
            files, errors = self._of_each(
                zones.values(), lambda zone: self._files(zone, part.ALL, _NOTHING_READ), before_files
            )
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
            pools.setdefault(_on_pool(zone)[0], []).append(zone)
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
                wanted[_on_pool(zone)[1]] = zone
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

    def _steady_files(self, zone: Zone, parts: Collection[str], old: FileRecords) -> FileRecords:
        """As _files(); once more if a file was changed meanwhile: what is in it now would be shown beside an older
        time, and its own time would follow as a change by itself."""
        files = self._files(zone, parts, old)
        if part.LAST_MODIFIED in parts:
            with self._reader.visit(zone) as below:
                is_steady = self._reader.last_modified(zone, below) == files.last_modified
            if not is_steady:
                files = self._files(zone, parts, old)
        return files

    def _files(self, zone: Zone, parts: Collection[str], old: FileRecords) -> FileRecords:
        """What the files of `zone` say: `parts` read anew, the others as they are in `old`. Raises LoadError."""
        reader = self._reader
        xml = reader.zone_xml(zone.zonename) if part.ZONEXML in parts else old.xml
        with reader.visit(zone) as below:
            last_exited = reader.last_exited(zone, below) if part.LAST_EXITED in parts else old.last_exited
            config = reader.config(zone, below) if part.JSON in parts else old.config
            # Last, as what was read is not looked at again; what is changed meanwhile comes as an event.
            last_modified = reader.last_modified(zone, below) if part.LAST_MODIFIED in parts else old.last_modified
        payload = reader.receive_payload(zone) if vmobj.is_receiving(zone, xml) else None
        return FileRecords(xml, last_exited, last_modified, config, payload)


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


def _on_pool(zone: Zone) -> tuple[str, str]:
    """The pool that the files of `zone` are on, and how they are called in an error."""
    return zone.zonepath[1:].partition("/")[0], f"the files of zone {zone.zonename}"
