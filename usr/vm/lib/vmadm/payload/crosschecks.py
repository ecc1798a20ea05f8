# SPDX-License-Identifier: MPL-2.0
"""Checks of single properties that their type alone cannot tell, each with its own text.

Always: pure; a value whose type is wrong has been found before and does not come here.
Not here: NICs (nics.py), what another VM or the node objects to (conflicts.py)."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from vmadm.payload.propertychecks import is_unset
from vminfod.clients.plainjson import compact
from vmload import brands

COMPRESSIONS = ("on", "off", "gzip", *(f"gzip-{level}" for level in range(1, 10)), "lz4", "lzjb", "zle")
COMPRESSION_KEYS = ("zfs_root_compression", "zfs_data_compression")
RECSIZE_KEYS = ("zfs_root_recsize", "zfs_data_recsize")
LEAST_RECSIZE, MOST_RECSIZE = 512, 131072  # bytes
LONGEST_VNC_PASSWORD = 8  # characters: the protocol has no room for more
ROUTE_VIA_NIC = re.compile(r"nics\[[0-9]+\]|macs\[[0-9a-fA-F:]+\]")
LIVE_DISK_UPDATES = frozenset(("compression", "path", "refreservation"))  # what a disk's update may hold while it runs
BOTH_FORMS = (
    ("nics", "add_nics"),
    ("disks", "add_disks"),
    ("filesystems", "add_filesystems"),
    ("pci_devices", "add_pci_devices"),
)
SNAPSHOT_NAME = re.compile(r"[A-Za-z0-9_.:%-]{1,64}")


def both_forms(payload: dict[str, Any]) -> list[str]:
    """A list and its `add_` form in one payload."""
    return [f'Cannot specify both "{own}" and "{add}"' for own, add in BOTH_FORMS if own in payload and add in payload]


def of_values(payload: dict[str, Any]) -> list[str]:
    """Record sizes, compressions, routes, the VNC password."""
    texts = []
    for name in RECSIZE_KEYS:
        if not is_unset(payload.get(name)) and not _is_recsize(int(payload[name])):
            texts.append(
                f"invalid {name} ({payload[name]}), must be {LEAST_RECSIZE}-{MOST_RECSIZE} and a power of 2. "
                "(0 to disable)"
            )
    for name in COMPRESSION_KEYS:
        if not is_unset(payload.get(name)) and payload[name] not in COMPRESSIONS:
            texts.append(f"invalid compression type for {payload[name]}, must be one of: {', '.join(COMPRESSIONS)}")
    for name in ("routes", "set_routes"):
        for destination, gateway in (payload.get(name) or {}).items():
            texts += _check_route(destination, str(gateway))
    if len(payload.get("vnc_password") or "") > LONGEST_VNC_PASSWORD:
        texts.append(f"VNC password is too long: {LONGEST_VNC_PASSWORD} characters at most")
    return texts


def of_new_disks(disks: list[dict[str, Any]], brand: str) -> list[str]:
    """Disks to be added."""
    if not brands.facts(brand)["model_required"]:
        return []
    return [f"missing .model option for disk: {compact(disk)}" for disk in disks if is_unset(disk.get("model"))]


def of_disk_changes(payload: dict[str, Any], vm: dict[str, Any]) -> list[str]:
    """add_disks, remove_disks and update_disks against the VM's state and present disks."""
    updates = [disk for disk in payload.get("update_disks") or [] if isinstance(disk, dict)]
    structural = (
        payload.get("add_disks")
        or payload.get("remove_disks")
        or any(not disk.keys() <= LIVE_DISK_UPDATES for disk in updates)
    )
    if structural and vm.get("state") != "stopped":
        return [
            f'updates to disks are only allowed when state is "stopped", currently: {vm.get("state")} '
            f"({vm.get('zone_state')})"
        ]
    texts = []
    present = {disk.get("path"): disk for disk in vm.get("disks", [])}
    for disk in updates:
        old = present.get(disk.get("path"))
        if old is None:
            texts.append(f"disk not found: {compact(disk)}")
        elif (
            "size" in disk
            and not is_unset(disk["size"])
            and int(disk["size"]) < (old.get("size") or 0)
            and disk.get("dangerous_allow_shrink") not in (True, "true", "1", 1)
        ):
            texts.append(
                f"cannot resize disk: new size must be greater than current size. ({old['size']} > {disk['size']})"
            )
    return texts


def _is_recsize(size: int) -> bool:
    return size == 0 or (LEAST_RECSIZE <= size <= MOST_RECSIZE and size & (size - 1) == 0)


def _check_route(destination: str, gateway: str) -> list[str]:
    texts = []
    try:
        ipaddress.ip_interface(destination)
    except ValueError:
        texts.append(f'Invalid route destination: "{destination}" (must be IP address or CIDR)')
    try:
        ipaddress.IPv4Address(gateway)
    except ValueError:
        if ROUTE_VIA_NIC.fullmatch(gateway) is None:
            texts.append(f'Invalid route gateway: "{gateway}" (must be IPv4 address, nics[N] or macs[M])')
    return texts
