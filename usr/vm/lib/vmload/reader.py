# SPDX-License-Identifier: MPL-2.0
"""Which command or file gives which record: the platform's interfaces, one method each (docs/platform.md).

Always: what is returned is whole. Output that is cut short or garbled raises GarbledOutput, whatever the exit status:
        a list that lacks zones must never look like a node that lost them.
Each method does just what it is asked; loader.py says what is needed."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, Optional

from jsvalues.numberrule import Number
from vmload import configfiles, kstatlib, zoneadm, zoneinfo, zonexml
from vmload import datasets as zfs
from vmload.datasets import Datasets
from vmload.kstatlib import CannotTell, KstatLibrary
from vmload.loaderror import CommandFailed, LoadError, XmlGone, from_os_error
from vmload.notes import Note, silent
from vmload.records import Config, LastExited, Zone, ZoneInfo
from vmload.slots import Slots
from vmload.system import KSTAT, ZFS, ZONEADM, Output, System

SYSINFO = "/tmp/.sysinfo.json"
ZONES_FOLDER = "/etc/zones"
INDEX = f"{ZONES_FOLDER}/index"

# Commands of a kind at once. zfs takes locks per pool: more lists would only wait for each other there. One alone, as
# in the original, would let a list that hangs hold up all zones; slots.py sees to it that no number of them does.
_AT_ONCE = 4


def zone_xml_path(zonename: str) -> str:
    """Where the zone's XML is, as the node names it."""
    return f"/etc/zones/{zonename}.xml"


LASTEXITED = "lastexited"  # below the zonepath
CONFIG = "config"  # the folder there with what a guest and its owner keep
CONFIG_FILES = {name: f"{name}.json" for name in ("metadata", "routes", "tags")}


def lastexited_path(zonepath: str) -> str:
    return f"{zonepath}/{LASTEXITED}"


def config_paths(zonepath: str) -> dict[str, str]:
    """metadata, routes, tags -> the path of that file."""
    return {name: f"{zonepath}/{CONFIG}/{file}" for name, file in CONFIG_FILES.items()}


class Reader:
    """Reads one node. Safe to use from several threads at once."""

    def __init__(self, system: System, note: Note = silent):
        self.system = system
        self._note = note
        self._slots = {program: Slots(_AT_ONCE) for program in (ZONEADM, KSTAT, ZFS)}
        has_library = system.identity(kstatlib.PATH) is not None
        self._statistics = KstatLibrary(system.path(kstatlib.PATH) if has_library else None, note)
        self._zfs_lock = threading.Lock()
        # Listings that wait for a slot. One that has begun is not in here: what it read may be older than the request.
        self._zfs_waiting: dict[object, Future[Datasets]] = {}

    def zones(self) -> dict[str, Zone]:
        """All VMs that zoneadm knows, by uuid."""
        output = self._zoneadm(zoneadm.LIST_ALL, self.system.limits.all)
        zoneadm.check(output.stdout, all_zones=True)
        return zoneadm.parse(output.stdout, self._note)

    def zone(self, key: str) -> Optional[Zone]:
        """The VM whose uuid, or else whose zone name, is `key`; None for a zone that is no VM. Raises ZoneGone."""
        output = self._zoneadm(zoneadm.list_arguments(key), self.system.limits.one)
        zoneadm.check(output.stdout, all_zones=False)
        found = list(zoneadm.parse(output.stdout, self._note).values())
        return found[0] if len(found) == 1 else None

    def _zoneadm(self, arguments: list[str], limit: float) -> Output:
        with self._slots[ZONEADM]:
            output = self.system.run(ZONEADM, arguments, limit)
        if output.status != 0:
            raise zoneadm.failure(output.stderr)
        return output

    def zoneinfos(self) -> dict[str, ZoneInfo]:
        """The statistics of all zones in the kernel, by zone name: from libkstat where there is one, else from the
        command."""
        try:
            return self._statistics.zones()
        except CannotTell:
            return self._printed_zoneinfos()

    def _printed_zoneinfos(self) -> dict[str, ZoneInfo]:
        output = self._kstat(zoneinfo.ARGUMENTS_FOR_ALL)
        if output.status != 0:
            raise CommandFailed(f"kstat exited prematurely with code: {_shown(output.status)}")
        zoneinfo.check(output.stdout)
        return zoneinfo.parse(output.stdout)

    def zoneinfo(self, zone: Zone) -> Optional[ZoneInfo]:
        """The statistics of one zone, likewise. None, without a look, for a zone that is not in the kernel, and for one
        whose name is not its uuid: statistics are matched by the uuid, so it has none (docs/platform.md, "Kernel
        statistics")."""
        if zone.zoneid is None or zone.zonename != zone.uuid:
            return None
        try:
            return self._statistics.zone(zone.zoneid, zone.zonename)
        except CannotTell:
            return self._printed_zoneinfo(zone, zone.zoneid)

    def _printed_zoneinfo(self, zone: Zone, zoneid: Number) -> Optional[ZoneInfo]:
        output = self._kstat(zoneinfo.arguments_for(zoneid))
        if not output.stdout and not output.stderr and output.status == 1:
            return None  # kstat's way of saying that nothing matches: the zone has just left the kernel
        if output.status != 0:
            raise CommandFailed(f"kstat exited prematurely with code: {_shown(output.status)}")
        zoneinfo.check(output.stdout)
        return zoneinfo.parse(output.stdout).get(zone.uuid)

    def _kstat(self, arguments: list[str]) -> Output:
        with self._slots[KSTAT]:
            return self.system.run(KSTAT, arguments, self.system.limits.one)

    def datasets(self, parent: Optional[str], depth: int, snapshot: Optional[str] = None) -> Datasets:
        """What zfs lists at most `depth` below `parent`, and of `snapshot`, by the same command: nothing for one that
        is not there. None: all pools."""
        names = tuple(name for name in (parent, snapshot) if name is not None)
        return self._shared((names, depth), lambda: self._list_datasets(names, depth))

    def mountpoints(self) -> Datasets:
        """All filesystems that a VM's root dataset can be, with nothing but where they are mounted."""
        depth = zfs.DEPTH_OF_ALL
        return self._shared("mountpoints", lambda: self._list_datasets((), depth, zfs.MOUNT_FIELDS, zfs.MOUNT_TYPES))

    def _shared(self, key: object, listing: Callable[[], Datasets]) -> Datasets:
        """One listing, shared with whoever asks for just the same before it has got a slot (docs/platform.md, "Failures
        of zfs")."""
        with self._zfs_lock:
            shared = self._zfs_waiting.get(key)
            mine: Future[Datasets] = Future()
            if shared is None:
                self._zfs_waiting[key] = mine
        if shared is not None:
            return shared.result()
        with self._slots[ZFS]:
            with self._zfs_lock:
                del self._zfs_waiting[key]
            try:
                mine.set_result(listing())
            except BaseException as error:  # noqa: BLE001 whoever shares this listing must get its end too
                mine.set_exception(error)
        return mine.result()

    def _list_datasets(
        self,
        names: Sequence[str],
        depth: int,
        fields: Sequence[str] = zfs.FIELDS,
        types: Sequence[str] = zfs.TYPES,
    ) -> Datasets:
        limits = self.system.limits
        limit = limits.one if names else limits.all
        output = self.system.run(ZFS, zfs.list_arguments(names, depth, fields, types), limit, c_locale=True)
        complaints = output.stderr.decode("utf-8", "replace").split("\n")[:-1]  # complete lines only
        absent = zfs.said_to_be_absent(complaints, names) if output.status == 1 else frozenset()
        if output.status != 0 and not absent:
            raise CommandFailed(f"zfs exited prematurely with code: {_shown(output.status)}")
        for line in complaints if not absent else ():
            self._note("warn", f"zfs: {line}")
        there = [name for name in names if name not in absent]
        found = zfs.parse(output.stdout, fields, never_empty=bool(there) or not names)
        zfs.check_snapshots(found, there)
        return found

    def sysinfo(self) -> dict[str, Any]:
        """What the sysinfo tool keeps (docs/platform.md, "sysinfo"). Raises LoadError if that is no JSON object."""
        return configfiles.sysinfo(self._load(self.system.read, SYSINFO))

    def zone_xml(self, zonename: str) -> dict[str, Any]:
        """The VM object part that the zone's XML gives. Raises XmlGone if there is no such file, else LoadError."""
        path = zone_xml_path(zonename)
        data = self._load(self.system.read_if_there, path)
        if data is None:
            raise XmlGone(f"ENOENT: no such file or directory, open '{path}'", "ENOENT")
        return zonexml.parse(data, self._noting(path))

    def zones_of_index(self) -> frozenset[str]:
        """The names in /etc/zones/index. Raises LoadError."""
        return zoneadm.names_in_index(self._load(self.system.read, INDEX))

    def config(self, zone: Zone) -> Config:
        """customer_metadata, internal_metadata, routes and tags; none of them for an incomplete zone whose files
        cannot be read (docs/platform.md, "JSON files"). Raises LoadError."""
        try:
            metadata, routes, tags = self._config_files(zone)
            found = configfiles.metadata(metadata)
            found["routes"] = configfiles.json_or_empty(routes)
            found["tags"] = configfiles.json_or_empty(tags)
        except LoadError:
            if zone.state == "incomplete":
                return {}
            raise
        return found

    def last_exited(self, zone: Zone) -> Optional[LastExited]:
        """How the zone's init ended last; None if that cannot be known, for whatever reason (docs/platform.md,
        "lastexited")."""
        try:
            return configfiles.last_exited(self.system.below(zone.zonepath).read_if_there(LASTEXITED))
        except OSError as error:
            self._note("warn", f"cannot read {lastexited_path(zone.zonepath)}: {error.strerror}")
            return None

    def last_modified(self, zone: Zone) -> Optional[str]:
        """When the newest of the zone's five files was changed; one that cannot be looked at does not count
        (docs/platform.md, "Modification times")."""
        below, xml = self.system.below(zone.zonepath), zone_xml_path(zone.zonename)
        mtimes = [
            *self._looked_at(xml, lambda: [self.system.mtime(xml)]),
            *self._looked_at(lastexited_path(zone.zonepath), lambda: [below.mtime(LASTEXITED)]),
            *self._looked_at(f"{zone.zonepath}/{CONFIG}", lambda: below.mtimes_together(CONFIG, CONFIG_FILES.values())),
        ]
        return configfiles.last_modified([mtime for mtime in mtimes if mtime is not None])

    def _looked_at(self, path: str, look: Callable[[], list[Optional[int]]]) -> list[Optional[int]]:
        try:
            return look()
        except OSError as error:
            self._note("warn", f"cannot look at {path}: {error.strerror}")
            return []

    def receive_payload(self, zone: Zone) -> Optional[dict[str, Any]]:
        """The payload of the receive under way, None if it cannot be read. Raises LoadError if it is no JSON."""
        path = f"/etc/zones/{zone.uuid}-receiving.json"
        try:
            return configfiles.receive_payload(self.system.read(path))
        except OSError as error:
            if error.errno != errno.ENOENT:
                self._note("warn", f"cannot read {path}: {error.strerror}")
            return None

    def _config_files(self, zone: Zone) -> Iterator[Optional[bytes]]:
        """The contents of CONFIG_FILES, None for one that is not there. Raises LoadError."""
        contents = self.system.below(zone.zonepath).read_together(CONFIG, CONFIG_FILES.values())
        for path in config_paths(zone.zonepath).values():
            try:
                yield next(contents)
            except OSError as error:
                raise from_os_error(error, path) from error

    def _load(self, read: Callable[[str], Any], path: str) -> Any:
        try:
            return read(path)
        except OSError as error:
            raise from_os_error(error, path) from error

    def _noting(self, path: str) -> Note:
        return lambda level, text: self._note(level, f"{path}: {text}")


def _shown(status: Optional[int]) -> str:
    return "null" if status is None else str(status)
