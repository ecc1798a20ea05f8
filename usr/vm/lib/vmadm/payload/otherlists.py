# SPDX-License-Identifier: MPL-2.0
"""A payload's filesystems and PCI devices made into whole ones (docs/vmadm.md, "Filesystems and PCI devices").

What an update names and the VM has not is left alone, as ever: an update of it changes nothing, a removal finds it
gone already.
Always: pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vmadm.payload import Payload, pcislots
from vmadm.payload.asked import is_allowed, keys_of, member_facts
from vmadm.payload.change import (
    Elements,
    Filesystem,
    FilesystemChange,
    PciChange,
    PciDevice,
    named,
)
from vmadm.payload.unset import UNSET
from vmadm.payload.valuerules import is_unset
from vmload import Vm

NEEDED = ("source", "target", "type")  # of a new filesystem


def missing_members(payload: Payload, brand: str, action: str) -> Iterator[str]:
    """What new filesystems lack."""
    for key in keys_of("add", "filesystems"):
        value = payload.get(key)
        if not is_allowed(key, brand, action) or not isinstance(value, list):
            continue
        for index, element in enumerate(value):
            for member in NEEDED if isinstance(element, dict) else ():
                if member_facts(key, member, brand) is not None and is_unset(element.get(member)):
                    yield f"{key}.{index}.{member}"


def filesystems(
    asked: Elements[FilesystemChange], old: Sequence[Mapping[str, Any]], texts: list[str]
) -> Elements[Filesystem]:
    """`old` are the VM's."""
    present, removed = _present_and_removed(asked, old, "target", "filesystems", texts)
    added = tuple(Filesystem(**named(each)) for each in asked.add)
    updated: dict[str, Filesystem] = {}
    for each in asked.update:
        if each.target in removed:
            texts.append(f"Cannot both remove and update the filesystem {each.target}")
        elif each.target in present:
            before = named(updated[each.target]) if each.target in updated else _as_members(present[each.target])
            updated[each.target] = Filesystem(**{**before, **named(each)})
    return Elements(add=added, update=tuple(updated.values()), remove=removed)


def pci_devices(asked: Elements[PciChange], old: Sequence[Mapping[str, Any]], texts: list[str]) -> Elements[PciDevice]:
    """`old` are the VM's."""
    present, removed = _present_and_removed(asked, old, "path", "PCI devices", texts)
    added = tuple(PciDevice(**named(each)) for each in asked.add)
    updated: dict[str, PciDevice] = {}
    for each in asked.update:
        if each.pci_slot is not UNSET and pcislots.parsed(each.pci_slot) is None:
            texts.append(f'pci_slot "{each.pci_slot}" is not valid')
        if each.path in removed:
            texts.append(f"Cannot both remove and update the PCI device {each.path}")
        elif each.path in present and each.pci_slot is not UNSET:
            updated[each.path] = PciDevice(path=each.path, pci_slot=each.pci_slot)
    return Elements(add=added, update=tuple(updated.values()), remove=removed)


def _present_and_removed(
    asked: Elements[Any], old: Sequence[Mapping[str, Any]], key: str, what: str, texts: list[str]
) -> tuple[dict[str, Mapping[str, Any]], tuple[str, ...]]:
    """What the VM has, by the member `key` that names each, and the names of those that go. A name that is added twice,
    or is there and stays, is reported."""
    present = {str(each.get(key)): each for each in old}
    removed = tuple(name for name in dict.fromkeys(asked.remove) if name in present)
    taken = set(present) - set(removed)
    for each in asked.add:
        name = getattr(each, key)
        if name in taken:
            texts.append(f"Cannot add multiple {what} with the same {key}: {name}")
        taken.add(name)
    return present, removed


def check_pci_state(asked: Elements[PciChange], vm: Vm) -> list[str]:
    """Devices are passed through when a VM boots."""
    if not asked or vm.get("state") == "stopped":
        return []
    return [
        f'updates to pci_devices are only allowed when state is "stopped", currently: {vm.get("state")} '
        f"({vm.get('zone_state')})"
    ]


def _as_members(filesystem: Mapping[str, Any]) -> dict[str, Any]:
    """A VM object's filesystem with the types that a change's have."""
    members = {name: str(filesystem.get(name, "")) for name in NEEDED}
    raw = {"raw": str(filesystem["raw"])} if filesystem.get("raw") else {}
    return {**members, **raw, "options": tuple(str(option) for option in filesystem.get("options") or ())}
