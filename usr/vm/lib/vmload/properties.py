# SPDX-License-Identifier: MPL-2.0
"""The table of VM properties, vm-properties.json, and what is looked up in it (docs/vm-object.md, "How text becomes a
value").

The table is data: a property is added there, not here. This module reads it once and builds the two views that a
load needs: XML path -> property, and property -> sources."""

from __future__ import annotations

import base64
import binascii
import functools
import json
import os
import re
from collections.abc import Callable
from typing import Any, NamedTuple, Optional

from jsvalues import dates, numberrule
from vmload.sharing import shared
from vmload.units import MIB

_TABLE = os.path.join(os.path.dirname(__file__), "vm-properties.json")

_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/]")


def _base64(text: str) -> str:
    """Lenient: no padding needed, the URL alphabet is fine, other characters are skipped."""
    digits = _NOT_BASE64.sub("", text.partition("=")[0].replace("-", "+").replace("_", "/"))
    if len(digits) % 4 == 1:
        digits = digits[:-1]
    try:
        return base64.b64decode(digits + "=" * (-len(digits) % 4)).decode("utf-8", "replace")
    except binascii.Error:
        return ""


def _boolean(text: str) -> Any:
    return {"true": True, "false": False}.get(text, text)


def _comma_list(text: str) -> list[str]:
    return [shared(part) for part in text.split(",")]


TRANSLATORS: dict[Optional[str], Callable[[str], Any]] = {
    None: shared,
    "base64": _base64,
    "boolean": _boolean,
    "number": numberrule.number,
    "bytes-to-mib": lambda text: numberrule.quotient(numberrule.number(text), MIB),
    "comma-list": _comma_list,
    "comma-number-list": lambda text: [numberrule.number(part) for part in text.split(",")],
    "epoch-seconds-to-iso": lambda text: dates.iso_of_seconds(numberrule.number(text)),
}


class XmlTarget(NamedTuple):
    """Where the text at a path of the zone XML goes. `member` is the part after `.*.` for members of a list."""

    member: str
    translate: Callable[[str], Any]


@functools.cache
def table() -> dict[str, dict[str, Any]]:
    """The table itself: property name -> entry. Do not change what it returns."""
    with open(_TABLE, encoding="utf-8") as file:
        properties: dict[str, dict[str, Any]] = json.load(file)["properties"]
        return properties


@functools.cache
def xml_targets() -> dict[str, Optional[XmlTarget]]:
    """XML path -> where it goes; None: known, and dropped without a word. A path that is not in here is unknown.

    `zone.device.*` paths lead to the members of `disks`, also for what turns out to be a PCI device (docs/vm-object.md,
    "Devices")."""
    targets: dict[str, Optional[XmlTarget]] = {}
    for name, entry in table().items():
        for source in entry["sources"]:
            if source["kind"] != "zonexml" or "shape" in source or name.startswith("pci_devices."):
                continue
            if entry["ignore"] or source.get("ignored"):
                targets.setdefault(source["path"], None)
            else:
                targets[source["path"]] = XmlTarget(name.rpartition(".*.")[2], TRANSLATORS[entry["translator"]])
    return targets


@functools.cache
def sysinfo_keys() -> tuple[tuple[str, str], ...]:
    """Property -> key in the sysinfo object, in the order in which a VM object shows them (docs/vm-object.md, "Order of
    keys")."""
    order = ("server_uuid", "datacenter_name", "platform_buildstamp", "headnode_id")
    return tuple((name, source["key"]) for name, source in sorted(_sources("sysinfo"), key=lambda s: order.index(s[0])))


@functools.cache
def kernel_statistics() -> tuple[tuple[str, str, Callable[[str], Any]], ...]:
    """Property, statistic, translator."""
    return tuple((name, source["stat"], TRANSLATORS[table()[name]["translator"]]) for name, source in _sources("kstat"))


def _sources(kind: str) -> list[tuple[str, dict[str, Any]]]:
    return [(name, source) for name, entry in table().items() for source in entry["sources"] if source["kind"] == kind]
