# SPDX-License-Identifier: MPL-2.0
"""What a payload asks, typed: the payload as a Request, key by key (docs/vm-object.md, "Payloads").

Validation (findings.py) has looked at the payload before. It lets pass what the original's validation lets pass; of
that, not_storable() finds what zonecfg, XML or a JSON file could not hold, and null where it means nothing.
Always: pure; what brand and action do not allow is left out; so is a value, or an element of a list, that was found to
        be bad, so that the checks behind this one can go on and all that is wrong is reported in one go."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from vmadm.payload import Payload
from vmadm.payload.change import (
    DiskChange,
    Elements,
    FilesystemChange,
    MapChange,
    Maps,
    NicChange,
    PciChange,
    Properties,
    Request,
)
from vmadm.payload.findings import CREATE, Findings, member_action, payload_facts
from vmadm.payload.macs import full_mac
from vmadm.payload.nodefacts import POOL
from vmadm.payload.valuerules import ZONENAME, as_boolean, as_integer, as_list, is_unset
from vmload import properties

LISTS = ("nics", "disks", "filesystems", "pci_devices")
MAPS = ("customer_metadata", "internal_metadata", "routes", "tags")
KEYS = {NicChange: "mac", DiskChange: "path", FilesystemChange: "target", PciChange: "path"}

# What would end a quoted value in a zonecfg script or a line of it, or has no place in XML.
UNSTORABLE = re.compile('["\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]')
SURROGATE = re.compile("[\ud800-\udfff]")  # half a character: no encoding has it
INTERFACE = re.compile(r"[a-z][a-z0-9_]{0,27}[0-9]{1,3}")
MOST_PORT = 65535

# Members that say something by being null or blank; what, their own rules know (nicrules.py).
MAY_BE_NULL = frozenset(("ip", "netmask", "gateway", "raw", "nics.*.model"))
KEPT_NULL = frozenset(("ip", "netmask", "gateway", "raw"))


def request_of(payload: Payload, brand: str, action: str, found: Findings) -> Request:
    """`payload` without what `found` found to be bad."""
    good = {name: payload[name] for name in payload if is_allowed(name, brand, action)}
    for name in found.bad_values:
        good.pop(name, None)
    return Request(
        properties=_properties(good),
        nics=_elements(NicChange, "nics", good, brand, action, found),
        disks=_elements(DiskChange, "disks", good, brand, action, found),
        filesystems=_elements(FilesystemChange, "filesystems", good, brand, action, found),
        pci_devices=_elements(PciChange, "pci_devices", good, brand, action, found),
        maps=Maps(**{name: _map_change(good, name, action) for name in MAPS}),
    )


def good_objects(payload: Payload, verb: str, name: str, brand: str, action: str, found: Findings) -> list[Payload]:
    """The objects of a list as they were given, without members that are not allowed, and without those of which
    something is bad or missing. `verb` is add or update."""
    good: list[Payload] = []
    for key in keys_of(verb, name):
        value = payload.get(key)
        if is_allowed(key, brand, action) and isinstance(value, list) and key not in found.bad_values:
            good += [
                {member: element[member] for member in element if member_facts(key, member, brand) is not None}
                for index, element in enumerate(value)
                if not _is_spoilt(element, key, index, found)
            ]
    return good


def keys_of(verb: str, name: str) -> tuple[str, ...]:
    """The payload's keys for one use of a list: those to be added stand under two names."""
    return (name, f"add_{name}") if verb == "add" else (f"{verb}_{name}",)


def is_allowed(name: str, brand: str, action: str) -> bool:
    """Whether a create or update of a VM of `brand` looks at the property."""
    facts = payload_facts(name)
    return facts is not None and action in facts["allowed"].get(brand, ())


def both_forms(payload: Payload) -> list[str]:
    """Texts about a list and its `add_` form in one payload."""
    return [
        f'Cannot specify both "{name}" and "add_{name}"'
        for name in LISTS
        if name in payload and f"add_{name}" in payload
    ]


def not_storable(payload: Payload, brand: str, action: str) -> Iterator[str]:
    """Names of bad values beyond those that validation finds."""
    for name, value in payload.items():
        if not is_allowed(name, brand, action):
            continue
        facts = payload_facts(name)
        assert facts is not None
        kind = facts["type"]
        if kind == "flat-object":
            if isinstance(value, dict) and not all(_is_storable_entry(*entry) for entry in value.items()):
                yield name
        elif kind == "object-array":
            for element in value if isinstance(value, list) else ():
                if isinstance(element, dict):
                    yield from _bad_members(name, element, brand)
        elif _holds(_unfit(name), value) or not _has_shape(name, value):
            yield name


def _properties(good: Payload) -> Properties:
    names = {each.name for each in dataclasses.fields(Properties)}
    return Properties(**{name: _typed(name, value) for name, value in good.items() if name in names})


def _typed(name: str, value: Any) -> Any:
    """A good value; None for one that is unset."""
    facts = payload_facts(name)
    assert facts is not None
    kind = facts["type"]
    if kind == "list":
        return as_list(value)
    if kind == "boolean":
        return as_boolean(value)
    if is_unset(value):
        return None
    return as_integer(value) if kind == "integer" else value


def _elements(kind: Any, name: str, good: Payload, brand: str, action: str, found: Findings) -> Elements[Any]:
    removed = as_list(good.get(f"remove_{name}") or ())
    return Elements(
        add=tuple(
            element(kind, name, each)
            for each in good_objects(good, "add", name, brand, action, found)
            if kind in (NicChange, DiskChange) or not is_unset(each.get(KEYS[kind]))
        ),
        update=tuple(
            element(kind, name, each)
            for each in good_objects(good, "update", name, brand, action, found)
            if kind is NicChange or not is_unset(each.get(KEYS[kind]))
        ),
        remove=tuple(full_mac(mac) for mac in removed) if name == "nics" else removed,
    )


def element(kind: Any, name: str, given: Payload) -> Any:
    """An object of a list, typed."""
    members: dict[str, Any] = {}
    for member, value in given.items():
        typed = _typed(f"{name}.*.{member}", value)
        if typed is None and member not in KEPT_NULL:
            continue
        if member == "mac":
            typed = full_mac(typed)
        elif member == "blocked_outgoing_ports":
            typed = tuple(int(port) for port in typed)
        members[member] = typed
    return kind(**members)


def _map_change(good: Payload, name: str, action: str) -> MapChange:
    """Of a create the whole map."""
    if action == CREATE:
        return MapChange(set=dict(good.get(name) or {}))
    return MapChange(set=dict(good.get(f"set_{name}") or {}), remove=as_list(good.get(f"remove_{name}") or ()))


def member_facts(key: str, member: str, brand: str) -> Any:
    """The facts of a member of a list's objects, if it is allowed there."""
    owner = payload_facts(key)
    facts = payload_facts(f"{(owner or {}).get('check_as') or key}.*.{member}")
    return facts if facts is not None and member_action(key) in facts["allowed"].get(brand, ()) else None


def _is_spoilt(given: Any, key: str, index: int, found: Findings) -> bool:
    if not isinstance(given, dict):
        return True
    owner = (payload_facts(key) or {}).get("check_as") or key
    wrong = {*found.bad_values, *found.missing_properties}
    return any(f"{owner}.*.{member}" in wrong for member in given) or any(
        name.startswith(f"{key}.{index}.") for name in wrong
    )


def _bad_members(key: str, given: Mapping[str, Any], brand: str) -> Iterator[str]:
    owner = (payload_facts(key) or {}).get("check_as") or key
    for member, value in given.items():
        facts, name = member_facts(key, member, brand), f"{owner}.*.{member}"
        if facts is None:
            continue
        may_be_null = member in MAY_BE_NULL or name in MAY_BE_NULL
        blank_is_null = facts["type"] == "integer" or owner == "disks"  # no member of a disk says anything by that
        is_null = value is None or (blank_is_null and is_unset(value))
        if (is_null and not may_be_null) or _holds(_unfit(name), value) or not _has_shape(member, value):
            yield name


def _has_shape(member: str, value: Any) -> bool:
    """What goes into scripts, names and paths as it is, and ports."""
    if member == "zonename" and isinstance(value, str):
        return is_unset(value) or ZONENAME.fullmatch(value) is not None
    if member == "interface" and isinstance(value, str):
        return INTERFACE.fullmatch(value) is not None
    if member == "zpool" and isinstance(value, str):
        return is_unset(value) or POOL.fullmatch(value) is not None
    if member == "blocked_outgoing_ports" and isinstance(value, (list, str)):
        return all(
            port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) <= MOST_PORT
            for port in as_list(value)
        )
    return True


def _unfit(name: str) -> re.Pattern[str]:
    """What text of a property cannot hold. Text that is kept in base64 can hold all characters."""
    return SURROGATE if properties.table()[name]["translator"] == "base64" else UNSTORABLE


def _holds(pattern: re.Pattern[str], value: Any) -> bool:
    if isinstance(value, str):
        return pattern.search(value) is not None
    return isinstance(value, list) and any(isinstance(each, str) and pattern.search(each) for each in value)


def _is_storable_entry(key: str, value: Any) -> bool:
    """An entry of a map: JSON text holds all but halves of characters and numbers that are none."""
    if isinstance(value, float) and not math.isfinite(value):
        return False
    return not _holds(SURROGATE, key) and not _holds(SURROGATE, value)
