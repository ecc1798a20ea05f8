# SPDX-License-Identifier: MPL-2.0
"""`zoneadm list -p`: its text to Zone records (docs/platform.md, "zoneadm list"). Pure; every quirk of the format ends
here."""

from __future__ import annotations

from typing import Optional

from jsvalues.numberrule import WHITE_SPACE, number
from vmload.loaderror import CommandFailed, GarbledOutput, LoadError, ZoneGone
from vmload.notes import Note, silent
from vmload.records import Zone
from vmload.sharing import shared
from vmload.uuids import is_uuid

_FIELDS = 8  # zoneid:zonename:state:zonepath:uuid:brand:ip-type:zonedid
_UUID_LENGTH = 36


def list_arguments(key: str) -> list[str]:
    """The arguments that list just the zone whose uuid or name is `key`, in whatever state it is (docs/platform.md,
    "zoneadm list")."""
    if is_uuid(key):
        return ["-z", key, "-u", key, "list", "-p"]
    return ["-z", key, "list", "-p"]


LIST_ALL = ["list", "-p", "-c"]


def parse(data: bytes, note: Note = silent) -> dict[str, Zone]:
    """The VMs in `data`, by uuid, in the order of the lines (docs/platform.md, "Lines of zoneadm").

    The global zone is left out, a zone that has no UUID at all too, with a note; so is a line that is no record."""
    zones: dict[str, Zone] = {}
    for line in _lines(data):
        fields = line.split(":")
        if len(fields) != _FIELDS:
            note("debug", f"skipped a line of zoneadm with {len(fields)} fields instead of {_FIELDS}")
            continue
        zone = _zone(fields, note)
        if zone is not None:
            zones[zone.uuid] = zone
    return zones


def check(data: bytes, *, all_zones: bool) -> None:
    """Raise GarbledOutput if `data` cannot be the whole of what zoneadm prints.

    A zone that exists has a line, so it is never nothing. A list of all zones always has the global one in it. A
    zonepath with a `:` is printed with a backslash and makes an honest line of more than 8 fields; any other such line
    is garbage, and then zones may be lacking."""
    if not data.endswith(b"\n"):
        raise GarbledOutput("zoneadm: the output ends in the middle of a line" if data else "zoneadm: no output")
    seen_global = False
    for line in _lines(data):
        fields = line.split(":")
        if len(fields) != _FIELDS and "\\:" not in line:
            raise GarbledOutput(f"zoneadm: the output has a line with {len(fields)} fields instead of {_FIELDS}")
        seen_global = seen_global or (len(fields) == _FIELDS and fields[1] == "global")
    if all_zones and not seen_global:
        raise GarbledOutput("zoneadm: the list of all zones lacks the global zone")


def parse_index(data: bytes) -> dict[str, Optional[str]]:
    """The zones in /etc/zones/index (docs/platform.md, "The index of zones"), the global one aside: name -> the VM's
    uuid, by the rule for lines of zoneadm; None for one that is no VM."""
    zones = {}
    for line in _lines(data):
        name, _, rest = line.partition(":")
        if name not in ("global", "") and not name.startswith("#"):
            zones[name] = _uuid_of(name, rest.rpartition(":")[2])
    return zones


def failure(stderr: bytes) -> LoadError:
    """What an exit status other than 0 means (docs/platform.md, "Failures of zoneadm"): ZoneGone if zoneadm says that
    it knows no such zone."""
    message = stderr.decode("utf-8", "replace").rstrip(WHITE_SPACE)
    if message.endswith("No such zone configured"):
        return ZoneGone(message)
    return CommandFailed(message or "zoneadm failed and did not say why")


def _lines(data: bytes) -> list[str]:
    """The complete, non-blank lines, right-trimmed: what follows the last newline does not count (docs/platform.md,
    "Lines of zoneadm")."""
    complete = data.decode("utf-8", "replace").split("\n")[:-1]
    return [line for line in (line.rstrip(WHITE_SPACE) for line in complete) if line]


def _zone(fields: list[str], note: Note) -> Optional[Zone]:
    zoneid, zonename, state, zonepath, uuid, brand, _ip_type, zonedid = map(shared, fields)
    of_vm = _uuid_of(zonename, uuid)
    if of_vm is None:
        if zonename != "global":
            note("debug", f"zone {zonename} has no uuid: it is not a VM")
        return None
    return Zone(number(zoneid), zonename, state, zonepath, of_vm, brand, number(zonedid))


def _uuid_of(zonename: str, uuid: str) -> Optional[str]:
    """The VM's uuid, where the platform says it is `uuid`; None for a zone that is no VM."""
    if uuid == zonename or len(uuid) != _UUID_LENGTH:
        return zonename if is_uuid(zonename) else None  # held once
    return uuid
