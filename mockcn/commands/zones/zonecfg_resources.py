# SPDX-License-Identifier: MPL-2.0
"""The resources of a zone's configuration: what can be set in each, and the XML that it gives (docs/platform.md,
"zonecfg").

A `Draft` is a resource between `add` or `select` and `end`. Its `finish()` puts it into the configuration: a selected
one leaves its old place and goes to the end, as the platform's library does it.

Always: a draft that raises BadStatement is as it was before the statement.
Not here: statements outside of a resource (zonecfg_session.py)."""

import re
from dataclasses import dataclass
from typing import Optional
from xml.etree.ElementTree import Element, SubElement

from mockcn.commands.zones.zonecfg_words import BadStatement, Operand, Value
from mockcn.state import zonexml

NO_SUCH_ID = "No such resource with that id"
NO_SUCH_PROPERTY = "No such property with that id"
NO_SUCH_TYPE = "No such property type"
SIZE_SHIFTS = {"": 0, "b": 0, "k": 10, "m": 20, "g": 30, "t": 40}
MEMORY_CAPS = {"physical": "zone.max-physical-memory", "swap": "zone.max-swap", "locked": "zone.max-locked-memory"}
CPU_CAP = "zone.cpu-cap"


@dataclass(frozen=True)
class Kind:
    """A resource that is one element: `attributes` maps what `set` says to the XML's attribute, in the XML's order."""

    tag: str
    attributes: dict[str, str]
    required: tuple[str, ...]
    key: str  # what no two may share, and `select` finds it by
    list_name: str = ""  # what `add` within it adds: property or options
    list_tag: str = ""


KINDS = {
    "attr": Kind("attr", {"name": "name", "type": "type", "value": "value"}, ("name", "type", "value"), "name"),
    "net": Kind(
        "network",
        {
            "address": "address",
            "allowed-address": "allowed-address",
            "physical": "physical",
            "defrouter": "defrouter",
            "mac-addr": "mac-addr",
            "vlan-id": "vlan-id",
            "global-nic": "global-nic",
        },
        ("physical",),
        "mac-addr",
        "property",
        "net-attr",
    ),
    "device": Kind("device", {"match": "match"}, ("match",), "match", "property", "net-attr"),
    "fs": Kind(
        "filesystem",
        {"special": "special", "raw": "raw", "dir": "directory", "type": "type"},
        ("dir", "special", "type"),
        "dir",
        "options",
        "fsoption",
    ),
    "dataset": Kind("dataset", {"name": "name"}, ("name",), "name"),
}
CAPS = {"capped-memory": MEMORY_CAPS, "capped-cpu": {"ncpus": CPU_CAP}}
RESOURCES = (*KINDS, *CAPS)


def mac(text: str) -> str:
    """A MAC address with two lower-case digits an octet, however many were given."""
    return ":".join(octet.lower().rjust(2, "0") for octet in text.split(":"))


def plain(value: Value, what: str) -> str:
    """The value of a property that takes one text. Raises BadStatement for a list or a complex value."""
    if not isinstance(value, str):
        raise BadStatement(f"A simple value was expected for {what} here.")
    return value


def count(text: str, what: str) -> int:
    if not re.fullmatch(r"[0-9]+", text):
        raise BadStatement(f"{what}: a non-negative integer is required, not '{text}'")
    return int(text)


def size(text: str, what: str) -> int:
    """Bytes of a size such as `256m`. Raises BadStatement."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([bkmgt]?)", text.lower())
    if match is None:
        raise BadStatement(f"{what}: a non-negative number with a required scale suffix (K, M, G or T) was expected.")
    shift = SIZE_SHIFTS[match[2]]
    return int(float(match[1]) * (1 << shift)) if "." in match[1] else int(match[1]) << shift


def find(zone: Element, resource: str, given: list[Operand]) -> list[Element]:
    """The elements of a resource for which all the given NAME=VALUE hold. Raises BadStatement for a wrong name."""
    kind = KINDS[resource]
    wanted: dict[str, str] = {}
    for operand in given:
        if operand.name not in kind.attributes:
            raise BadStatement(f"{operand.name or plain(operand.value, resource)}: {NO_SUCH_TYPE}")
        wanted[operand.name] = _normal(resource, operand.name, plain(operand.value, operand.name))
    return [
        element
        for element in zone.findall(kind.tag)
        if all(
            _normal(resource, name, element.get(kind.attributes[name], "")) == value for name, value in wanted.items()
        )
    ]


def _normal(resource: str, name: str, value: str) -> str:
    return mac(value) if (resource, name) == ("net", "mac-addr") and value else value


class Draft:
    """A resource that is one element."""

    def __init__(self, zone: Element, resource: str, selected: Optional[Element] = None) -> None:
        self.resource = resource
        self._zone = zone
        self._kind = KINDS[resource]
        self._selected = selected
        self._values: dict[str, str] = {}
        self._list: dict[str, str] = {}  # net-attrs by name, or options
        if selected is not None:
            self._values = {
                name: selected.get(attribute, "")
                for name, attribute in self._kind.attributes.items()
                if selected.get(attribute) is not None
            }
            self._list = {child.get("name", ""): child.get("value", "") for child in selected}

    def set(self, name: str, value: Value) -> None:
        if name not in self._kind.attributes:
            raise BadStatement(f"{name}: {NO_SUCH_TYPE}")
        text = plain(value, name)
        if (self.resource, name) == ("net", "vlan-id") and not (text.isdigit() and int(text) <= 4095):
            raise BadStatement(f"vlan-id {text} is invalid: not a number between 0 and 4095")
        if (self.resource, name) == ("attr", "type") and text not in ("uint", "int", "boolean", "string"):
            raise BadStatement(f"The type {text} is not supported: uint, int, boolean and string are.")
        self._values[name] = _normal(self.resource, name, text)

    def add(self, name: str, values: list[Value]) -> None:
        if not name or name != self._kind.list_name:
            raise BadStatement(f"{name or 'add'}: {NO_SUCH_TYPE}")
        if not values:
            raise BadStatement(f"add {name}: a value is missing")
        if name == "property":
            pair = values[0]
            if not isinstance(pair, dict) or set(pair) != {"name", "value"}:
                raise BadStatement("A complex value of name and value was expected for property here.")
            self._list[pair["name"]] = pair["value"]
            return
        for value in values:
            for option in [value] if isinstance(value, str) else value:
                self._list[option] = ""

    def remove(self, name: str, values: list[Value], *, force: bool) -> None:
        if not name or name != self._kind.list_name:
            raise BadStatement(f"{name or 'remove'}: {NO_SUCH_TYPE}")
        value = values[0] if values else ""
        found = self._list.get(value.get("name", "")) if isinstance(value, dict) else self._list.get(str(value))
        if isinstance(value, dict) and found is not None and found == value.get("value", found):
            del self._list[value["name"]]
        elif isinstance(value, str) and found is not None:
            del self._list[value]
        elif not force:
            raise BadStatement(f"remove {name}: {NO_SUCH_PROPERTY}")

    def clear(self, name: str) -> None:
        if name not in self._kind.attributes or name in self._kind.required:
            raise BadStatement(f"clear {name}: {NO_SUCH_TYPE}")
        self._values.pop(name, None)

    def finish(self) -> None:
        """`end`: into the configuration. Raises BadStatement; the resource then is still open."""
        for name in self._kind.required:
            if not self._values.get(name) and not (name == "value" and name in self._values):
                raise BadStatement(f"{name} not specified")
        key = self._kind.key if self._values.get(self._kind.key) else self._kind.required[0]
        same = find(self._zone, self.resource, [Operand(key, self._values[key])])
        if any(element is not self._selected for element in same):
            article = "An" if self.resource[0] in "aeiou" else "A"
            raise BadStatement(
                f"{article} {self.resource} resource with the {key} '{self._values[key]}' already exists."
            )
        if self._selected is not None:
            self._zone.remove(self._selected)
        element = SubElement(
            self._zone,
            self._kind.tag,
            {
                attribute: self._values[name]
                for name, attribute in self._kind.attributes.items()
                if name in self._values
            },
        )
        for name, value in self._list.items():
            words = {"name": name, "value": value} if self._kind.list_name == "property" else {"name": name}
            SubElement(element, self._kind.list_tag, words)


class CapDraft:
    """capped-memory or capped-cpu: no element of its own, but resource controls."""

    def __init__(self, zone: Element, resource: str) -> None:
        self.resource = resource
        self._zone = zone
        self._controls = CAPS[resource]
        self._limits: dict[str, int] = {}

    def set(self, name: str, value: Value) -> None:
        if name not in self._controls:
            raise BadStatement(f"{name}: {NO_SUCH_TYPE}")
        text = plain(value, name)
        if self.resource == "capped-memory":
            self._limits[name] = size(text, name)
        elif not re.fullmatch(r"[0-9]*\.?[0-9]+(?:[eE]-?[0-9]+)?|[0-9]+\.", text) or float(text) < 0.01:
            raise BadStatement("ncpus value is out of range.")
        else:
            self._limits[name] = round(float(text) * 100)

    def clear(self, name: str) -> None:
        if name not in self._controls:
            raise BadStatement(f"clear {name}: {NO_SUCH_TYPE}")
        if limit(self._zone, self._controls[name]) is None:
            raise BadStatement(f"clear {name}: {NO_SUCH_PROPERTY}")
        zonexml.set_rctl(self._zone, self._controls[name], None)

    def add(self, name: str, values: list[Value]) -> None:
        raise BadStatement(f"{name or 'add'}: {NO_SUCH_TYPE}")

    def remove(self, name: str, values: list[Value], *, force: bool) -> None:
        raise BadStatement(f"{name or 'remove'}: {NO_SUCH_TYPE}")

    def finish(self) -> None:
        shown = {name: self._limits.get(name, limit(self._zone, control)) for name, control in self._controls.items()}
        if all(value is None for value in shown.values()):
            raise BadStatement(f"No property was specified. One of {', '.join(self._controls)} is required.")
        locked, physical = shown.get("locked"), shown.get("physical")
        if locked is not None and physical is not None and locked > physical:
            raise BadStatement("The locked cap must be less than or equal to the physical cap.")
        for name, value in self._limits.items():
            zonexml.set_rctl(self._zone, self._controls[name], value)


def capped(zone: Element, resource: str) -> bool:
    """Whether the zone has this capped-... resource."""
    return any(limit(zone, control) is not None for control in CAPS[resource].values())


def limit(zone: Element, control: str) -> Optional[int]:
    """The limit of a resource control, None if it has none."""
    for rctl in zone.findall("rctl"):
        if rctl.get("name") == control:
            for value in rctl.findall("rctl-value"):
                return int(value.get("limit", "0"))
    return None
