# SPDX-License-Identifier: MPL-2.0
"""PCI slots of a bhyve guest: `bus:device:function`, `device:function` or `device`, all decimal; and how disks get
theirs. Only bus 0 is looked at; devices that are passed through are not."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Optional

_SLOT = re.compile(r"[0-9]+(:[0-9]+){0,2}")
MOST_BUS, MOST_DEVICE, MOST_FUNCTION = 255, 31, 7


class Slot(NamedTuple):
    """A place on the guest's PCI buses."""

    bus: int
    device: int
    function: int


def parsed(text: Any) -> Optional[Slot]:
    """The slot that `text` names; None if it names none."""
    if not isinstance(text, str) or len(text) > 32 or _SLOT.fullmatch(text) is None:
        return None
    numbers = [int(part) for part in text.split(":")]
    slot = {1: lambda: Slot(0, numbers[0], 0), 2: lambda: Slot(0, *numbers), 3: lambda: Slot(*numbers)}[len(numbers)]()
    if slot.bus > MOST_BUS or slot.device > MOST_DEVICE or slot.function > MOST_FUNCTION:
        return None
    return slot


# How bhyve's disks get their slots (docs/vmadm.md, "Disks").

RESERVED = frozenset((0, 6, 30, 31))  # devices of bus 0 that the hypervisor keeps for itself
DISK_DEVICE, OTHER_DISK_DEVICE, CDROM_DEVICE = 4, 5, 3
DISK, CDROM = "disk", "cdrom"  # media; the first is meant where none is named
DiskMap = Mapping[str, Any]  # a disk's `pci_slot`, `media`, `boot` and `path`, those that it has


class Taken:
    """The places on bus 0 that disks have; errors() has what stands in the way of another."""

    def __init__(self) -> None:
        self._holders: dict[tuple[int, int], str] = {}
        self.errors: list[str] = []

    def take(self, disk: DiskMap) -> None:
        """The slot that a disk names, if it names one."""
        text = disk.get("pci_slot")
        if not text:
            return
        slot = parsed(text)
        if slot is None:
            self.errors.append(f'pci_slot "{text}" is not valid')
        elif slot.bus == 0:
            path, holder = _shown(disk), self._holders.get(slot[1:])
            if slot.device in RESERVED:
                self.errors.append(f'pci_slot "{text}" invalid: PCI device {slot.device} is reserved')
            elif holder is not None:
                self.errors.append(f'VM has multiple disks in pci_slot "{text}": {holder} and {path}')
            else:
                self._holders[slot[1:]] = path

    def give(self, disk: DiskMap, *, legacy: bool) -> Optional[str]:
        """A free slot for a disk that names none. `legacy`: where disks of older VMs are."""
        media = disk.get("media") or DISK
        if media == CDROM:
            device = CDROM_DEVICE
        elif media == DISK:
            device = OTHER_DISK_DEVICE if legacy and not disk.get("boot") else DISK_DEVICE
        else:
            self.errors.append(
                f"VM has no PCI bus or slot assigned for {media} devices; automatic pci_slot assignment not possible"
            )
            return None
        for function in range(MOST_FUNCTION + 1):
            if (device, function) not in self._holders:
                self._holders[device, function] = _shown(disk)
                return f"0:{device}:{function}"
        self.errors.append(f"VM has more than 8 {media} devices on PCI device {device}")
        return None


def _shown(disk: DiskMap) -> str:
    path = disk.get("path")
    return "a new disk" if path is None else f'"{path}"'


def assign(disks: Sequence[DiskMap], taken: Taken, *, legacy: bool = False) -> list[Optional[str]]:
    """The slot of each disk, the one that it names or a free one. What is wrong is in taken.errors."""
    for disk in disks:
        taken.take(disk)
    slots: list[Optional[str]] = [disk.get("pci_slot") or None for disk in disks]
    for index in sorted(range(len(disks)), key=lambda index: not disks[index].get("boot")):
        if slots[index] is None:
            slots[index] = taken.give(disks[index], legacy=legacy)
    return slots
