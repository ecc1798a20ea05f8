# SPDX-License-Identifier: MPL-2.0
"""The fields by which VMs can be listed and found: their columns, and which name what (docs/vmadm.md).

A field is a top-level property (`ram`), a member of a map (`tags.role`), or a property of an array's element
(`nics.0.ip`, and in filters `nics.*.ip` for any element)."""

from __future__ import annotations

from vminfod.clients.vmfilter import MISSING, is_index, values
from vmload import brands

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

COLUMNS = {  # field: (header, width in characters)
    "alias": ("ALIAS", 10),
    "autoboot": ("AUTOBOOT", 8),
    "billing_id": ("BILLING_ID", 36),
    "boot_timestamp": ("BOOT_TIMESTAMP", 24),
    "brand": ("BRAND", 14),
    "cpu_cap": ("CPU_CAP", 7),
    "cpu_shares": ("CPU_SHARE", 9),
    "cpu_type": ("CPU_TYPE", 8),
    "create_timestamp": ("CREATE_TIMESTAMP", 24),
    "dns_domain": ("DOMAIN", 32),
    "do_not_inventory": ("DNI", 5),
    "docker": ("DOCKER", 6),
    "exit_status": ("EXIT", 4),
    "exit_timestamp": ("EXIT_TIMESTAMP", 24),
    "firewall_enabled": ("FIREWALL_ENABLED", 16),
    "flexible_disk_size": ("FLEX_DISK_SIZE", 14),
    "free_space": ("FREE_SPACE", 14),
    "hostname": ("HOSTNAME", 32),
    "hvm": ("HVM", 5),
    "image_uuid": ("IMAGE_UUID", 36),
    "indestructible_delegated": ("INDESTR_DATA", 12),
    "indestructible_zoneroot": ("INDESTR_ROOT", 12),
    "max_locked_memory": ("MAX_LOCKED", 10),
    "max_lwps": ("MAX_LWP", 7),
    "max_physical_memory": ("MAX_PHYS", 8),
    "max_swap": ("MAX_SWAP", 8),
    "owner_uuid": ("OWNER_UUID", 36),
    "package_name": ("PACKAGE_NAME", 32),
    "package_version": ("PACKAGE_VER", 11),
    "pid": ("PID", 6),
    "qemu_extra_opts": ("QEMU_EXTRA_OPTS", 15),
    "quota": ("QUOTA", 5),
    "ram": ("RAM", 7),
    "state": ("STATE", 16),
    "tmpfs": ("TMPFS", 5),
    "type": ("TYPE", 4),
    "uuid": ("UUID", 36),
    "vcpus": ("VCPUS", 5),
    "zfs_io_priority": ("IO_PRIORITY", 11),
    "zone_state": ("ZONE_STATE", 10),
    "zoneid": ("ZONEID", 6),
    "zonename": ("ZONENAME", 12),
    "zonepath": ("ZONEPATH", 40),
    "zpool": ("ZPOOL", 12),
}
DOTTED_WIDTH = 20

# Dotted columns: any property of these arrays' elements, any key of these maps.
COLUMN_ARRAYS = ("disks", "nics", "pci_devices")
COLUMN_MAPS = ("customer_metadata", "internal_metadata", "routes", "tags")
# `A.*.f` of these is known, but only as a filter.
STARRED_ARRAYS = ("disks", "filesystems", "nics")

FILTER_MAPS = ("customer_metadata", "internal_metadata", "tags")
FILTER_ARRAYS = {
    "disks": frozenset(("boot", "image_name", "image_size", "image_uuid", "media", "model", "size", "zpool")),
    "nics": frozenset(("dhcp_server", "gateway", "interface", "ip", "mac", "model", "netmask", "nic_tag", "vlan_id")),
}

# What listing and matching compute (with_derived), and from which properties.
DERIVED = {"type": ("brand",), "ram": ("ram", "brand", "max_physical_memory")}


def is_filter_key(key: str) -> bool:
    """May `key` stand in `key=value`?"""
    top, *rest = key.split(".")
    if not rest:
        return top in COLUMNS
    if top in FILTER_MAPS:
        return rest[0] != ""
    return (
        len(rest) == 2
        and top in FILTER_ARRAYS
        and (rest[0] == "*" or is_index(rest[0]))
        and rest[1] in FILTER_ARRAYS[top]
    )


def is_column(field: str) -> bool:
    """May `field` be printed and sorted by?"""
    top, *rest = field.split(".")
    if not rest:
        return top in COLUMNS
    if top in COLUMN_MAPS:
        return field != f"{top}."
    return len(rest) == 2 and top in COLUMN_ARRAYS and is_index(rest[0]) and rest[1] != ""


def is_starred(field: str) -> bool:
    """Is it an `A.*.f`, which names many values and therefore no column?"""
    parts = field.split(".")
    return len(parts) == 3 and parts[0] in STARRED_ARRAYS and parts[1] == "*"


def with_derived(vm: dict[str, Any]) -> dict[str, Any]:
    """A copy of `vm` with `type`, and with the `ram` that an operator means: listing and matching see these."""
    brand = str(vm.get("brand"))
    derived = {**vm, "type": brands.list_type(brand)}
    if not brands.is_hvm(brand) and vm.get("max_physical_memory") is not None:
        derived["ram"] = vm["max_physical_memory"]
    return derived


def value(vm: dict[str, Any], field: str) -> Any:
    """The one value of a field without `*`, or MISSING. A map's key may have dots: `tags.a.b` is the tag `a.b`."""
    top, dot, key = field.partition(".")
    if dot and top in COLUMN_MAPS:
        members = vm.get(top)
        return members.get(key) if isinstance(members, dict) else MISSING
    found = values(vm, field)
    return found[0] if found else MISSING
