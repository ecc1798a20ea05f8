# SPDX-License-Identifier: MPL-2.0
"""PCI devices of a payload: what new ones lack, and which of their values are bad. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vmadm.payload import pcislots
from vmload import properties

LISTS = ("pci_devices", "add_pci_devices")
DEVICES = "/devices"  # where the paths of all devices begin
PASSTHRU = "passthru"


def look_into(payload: Mapping[str, Any], brand: str, bad_values: list[str], missing: list[str]) -> None:
    """Add what is wrong with new devices of a VM that can have some. `update_pci_devices` is not looked at."""
    for name in LISTS:
        facts = properties.table()[name]["payload"]
        if name not in payload or brand not in facts["allowed"] or not facts["allowed"][brand]:
            continue
        for index, device in _elements(payload[name]):
            where, members = f"{name}.{index}", device if isinstance(device, dict) else {}
            if "path" not in members:
                missing.append(f"{where}.path")
            elif not isinstance(members["path"], str) or not members["path"].startswith(DEVICES):
                bad_values.append(f"{where}.path")
            if "pci_slot" not in members:
                missing.append(f"{where}.pci_slot")
            elif pcislots.parsed(members["pci_slot"]) is None:
                bad_values.append(f"{where}.pci_slot")
            if members.get("model", PASSTHRU) != PASSTHRU:
                bad_values.append(f"{where}.model")


def _elements(value: Any) -> Iterator[tuple[object, Any]]:
    """What is taken for the list's elements even if it is no list, so that the findings name each of them."""
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, (list, str)):
        yield from enumerate(value)
