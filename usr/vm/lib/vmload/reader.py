# SPDX-License-Identifier: MPL-2.0
"""Which file gives which record: the platform's interfaces, one method each (docs/platform.md).

Each method does just what it is asked; loader.py says what is needed. The commands are in commands.py."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from typing import Any, Optional

from vmload import configfiles, zoneadm, zonexml
from vmload.loaderror import LoadError, XmlGone, from_os_error
from vmload.notes import Note, silent
from vmload.records import Config, FileRecords, LastExited, Zone
from vmload.system import System
from vmload.zonefiles import Visit

SYSINFO = "/tmp/.sysinfo.json"
ZONES_FOLDER = "/etc/zones"
INDEX = f"{ZONES_FOLDER}/index"


def zone_xml_path(zonename: str) -> str:
    """Where the zone's XML is, as the node names it."""
    return f"/etc/zones/{zonename}.xml"


_NOTHING = FileRecords()

LASTEXITED = "lastexited"  # below the zonepath
CONFIG = "config"  # the folder there with what a guest and its owner keep
CONFIG_FILES = {name: f"{name}.json" for name in ("metadata", "routes", "tags")}
_CONFIG_INSIDE = tuple(f"{CONFIG}/{file}" for file in CONFIG_FILES.values())


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

    def sysinfo(self) -> dict[str, Any]:
        """What the sysinfo tool keeps (docs/platform.md, "sysinfo"). Raises LoadError if that is no JSON object."""
        return configfiles.sysinfo(self._load(self.system.read, SYSINFO))

    def zone_xml(self, zonename: str, before: FileRecords = _NOTHING) -> tuple[dict[str, Any], int]:
        """The VM object part that the zone's XML gives, and the hash of its bytes; what was parsed `before` from the
        same bytes is not parsed again. Raises XmlGone if there is no such file, else LoadError: also where the index of
        zones is not there either, which is never so but while the folder of both is away."""
        path = zone_xml_path(zonename)
        data = self._load(self.system.read_if_there, path)
        if data is None:
            problem = f"ENOENT: no such file or directory, open '{path}'"
            if self.system.identity(INDEX) is None:
                raise LoadError(f"{problem}: nor is there {INDEX}", "ENOENT")
            raise XmlGone(problem, "ENOENT")
        made_of = hash(data)
        if before.xml is not None and before.xml_hash == made_of:
            return before.xml, made_of
        return zonexml.parse(data, self._noting(path)), made_of

    def index(self) -> dict[str, Optional[str]]:
        """The zones in /etc/zones/index, as zoneadm.parse_index() gives them. Raises LoadError."""
        return zoneadm.parse_index(self._load(self.system.read, INDEX))

    def visit(self, zone: Zone) -> Visit:
        """For what lies below its zonepath."""
        return self.system.below(zone.zonepath).visit()

    def config(self, zone: Zone, below: Visit) -> Config:
        """customer_metadata, internal_metadata, routes and tags; none of them for an incomplete zone whose files
        cannot be read (docs/platform.md, "JSON files"). Raises LoadError."""
        try:
            metadata, routes, tags = self._config_files(zone, below)
            notes = [self._noting(f"{zone.zonepath}/{inside}") for inside in _CONFIG_INSIDE]
            found = configfiles.metadata(metadata, notes[0])
            found["routes"] = configfiles.json_or_empty(routes, notes[1])
            found["tags"] = configfiles.json_or_empty(tags, notes[2])
        except LoadError:
            if zone.state == "incomplete":
                return {}
            raise
        return found

    def last_exited(self, zone: Zone, below: Visit) -> Optional[LastExited]:
        """How the zone's init ended last; None if that cannot be known, for whatever reason (docs/platform.md,
        "lastexited")."""
        try:
            return configfiles.last_exited(below.read_if_there(LASTEXITED))
        except OSError as error:
            self._note("warn", f"cannot read {lastexited_path(zone.zonepath)}: {error.strerror}")
            return None

    def xml_modified(self, zonename: str) -> Optional[int]:
        """When the zone's XML was changed, seconds since the epoch; None if it cannot be looked at (docs/platform.md,
        "Modification times")."""
        return self._looked_at("", zone_xml_path(zonename), self.system.mtime)

    def others_modified(self, zone: Zone, below: Visit) -> Optional[int]:
        """When the newest of the zone's four other files was changed, likewise; one that cannot be looked at does not
        count."""
        mtimes = [self._looked_at(f"{zone.zonepath}/", inside, below.mtime) for inside in (LASTEXITED, *_CONFIG_INSIDE)]
        return max((mtime for mtime in mtimes if mtime is not None), default=None)

    def _looked_at(self, above: str, path: str, look: Callable[[str], Optional[int]]) -> Optional[int]:
        try:
            return look(path)
        except OSError as error:
            self._note("warn", f"cannot look at {above}{path}: {error.strerror}")
            return None

    def receive_payload(self, zone: Zone) -> Optional[dict[str, Any]]:
        """The payload of the receive under way, None if it cannot be read. Raises LoadError if it is no JSON."""
        path = f"/etc/zones/{zone.uuid}-receiving.json"
        try:
            return configfiles.receive_payload(self.system.read(path))
        except OSError as error:
            if error.errno != errno.ENOENT:
                self._note("warn", f"cannot read {path}: {error.strerror}")
            return None

    def _config_files(self, zone: Zone, below: Visit) -> Iterator[Optional[bytes]]:
        """The contents of CONFIG_FILES, None for one that is not there. Raises LoadError."""
        for inside in _CONFIG_INSIDE:
            try:
                yield below.read_if_there(inside)
            except OSError as error:
                raise from_os_error(error, f"{zone.zonepath}/{inside}") from error

    def _load(self, read: Callable[[str], Any], path: str) -> Any:
        try:
            return read(path)
        except OSError as error:
            raise from_os_error(error, path) from error

    def _noting(self, path: str) -> Note:
        return lambda level, text: self._note(level, f"{path}: {text}")
