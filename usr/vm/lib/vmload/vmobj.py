# SPDX-License-Identifier: MPL-2.0
"""Records to the VM object that `vmadm get` prints (docs/vm-object.md). Pure.

Always: the same records give an equal object; a value that does not exist is an absent key, never an undefined one;
        keys stand in the order in which the original first sets them (docs/vm-object.md, "Order of keys");
        the zone has passed check(): whoever reads a zone calls it once, before the rest.
The steps of that page's "From records to an object" follow each other as functions here. Their order matters: later
ones look at what earlier ones set."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Optional

from jsvalues import dates
from jsvalues.numberrule import quotient, rounded_up
from vmload import brands, configfiles, properties
from vmload.datasets import Datasets
from vmload.loaderror import LoadError
from vmload.records import FileRecords, Zone, ZoneInfo
from vmload.sharing import shared
from vmload.units import GIB, MIB
from vmload.zonexml import fresh_copy

# "No limit": the largest 64-bit number, or what is printed of it by a reader that holds it as a double. Newer OpenZFS
# says `none`, which is no number.
_UNLIMITED = (2**64 - 1, 18446744073709552000, None)

_VMADM_SNAPSHOT = "vmsnap-"


def assemble(
    zone: Zone,
    files: FileRecords,
    *,
    zoneinfo: Optional[ZoneInfo] = None,
    sysinfo: Optional[Mapping[str, Any]] = None,
    datasets: Datasets,
) -> dict[str, Any]:
    """The VM object of `zone`. What is None could not be had, and gives nothing."""
    vm = fresh_copy(files.xml or {})
    _set_from_zoneadm(vm, zone)
    _set_from_files(vm, files)
    vm.setdefault("resolvers", [])
    vm.setdefault("firewall_enabled", False)
    for name, key in properties.sysinfo_keys():
        if sysinfo is not None and key in sysinfo:
            vm[name] = sysinfo[key]
    _derive_state(vm)
    if zoneinfo is not None:
        _set_from_kernel(vm, zoneinfo)
    for name, value in (files.config or {}).items():
        vm[name] = value
    if vm["state"] == "receiving" and files.receive_payload is not None:
        _set_from_receive_payload(vm, files.receive_payload)
    _set_from_datasets(vm, datasets)
    return vm


def is_receiving(zone: Zone, xml: Optional[Mapping[str, Any]]) -> bool:
    """Whether the VM's state will come out as `receiving`, so that its receive payload has to be read (quirk 6)."""
    vm: dict[str, Any] = {key: xml[key] for key in ("state", "provisioning", "failed") if key in xml} if xml else {}
    vm["zone_state"] = zone.state
    _derive_state(vm)
    return bool(vm["state"] == "receiving")


def check(zone: Zone) -> None:
    """Raise LoadError if zoneadm's record lacks what no VM can be without (docs/vm-object.md, "Errors")."""
    for name in ("brand", "state", "zonename", "zonepath"):
        if not getattr(zone, name):
            raise LoadError(f"zoneadm gives no {name} for VM {zone.uuid}")
    if not zone.zonepath.startswith("/"):
        raise LoadError(f"the zonepath of VM {zone.uuid} is not absolute")


def _set_from_zoneadm(vm: dict[str, Any], zone: Zone) -> None:
    vm["brand"] = zone.brand
    vm["uuid"] = zone.uuid
    vm["zone_state"] = zone.state
    vm["zonename"] = zone.zonename
    vm["zonepath"] = zone.zonepath
    vm["hvm"] = brands.is_hvm(zone.brand)
    vm["zoneid"] = zone.zoneid
    vm["zonedid"] = zone.zonedid


def _set_from_files(vm: dict[str, Any], files: FileRecords) -> None:
    times = (files.xml_modified, files.others_modified)
    modified = configfiles.last_modified(when for when in times if when is not None)
    if modified is not None:
        vm["last_modified"] = modified
    if files.last_exited is not None and vm["zone_state"] != "running":
        vm["exit_status"] = files.last_exited.exit_status
        vm["exit_timestamp"] = files.last_exited.exit_timestamp


def _derive_state(vm: dict[str, Any]) -> None:
    """Section 4. A well-formed transition has set `state` already."""
    if "state" not in vm:
        vm["state"] = "stopped" if vm["zone_state"] == "installed" else vm["zone_state"]
    if vm["state"] == "stopped" and vm.get("provisioning") is True:
        vm["state"] = "provisioning"
    if vm.get("failed"):  # any text, `false` too
        vm["state"] = "failed"


def _set_from_kernel(vm: dict[str, Any], zoneinfo: ZoneInfo) -> None:
    for name, stat, translate in properties.kernel_statistics():
        text = getattr(zoneinfo, stat)
        if text is not None:
            vm[name] = translate(text)


def _set_from_receive_payload(vm: dict[str, Any], payload: Mapping[str, Any]) -> None:
    if "zfs_filesystem" in payload and "zfs_filesystem" not in vm:
        vm["zfs_filesystem"] = payload["zfs_filesystem"]


# Section 5: what zfs knows.


def _set_from_datasets(vm: dict[str, Any], datasets: Datasets) -> None:
    root = datasets.mountpoints.get(vm["zonepath"])
    if root is not None:
        _set_root_dataset(vm, root, datasets)
    _set_delegated_dataset(vm, datasets)
    for disk in vm.get("disks") or ():
        if "path" in disk:
            _set_disk(disk, datasets)
    vm["snapshots"] = _snapshots(root, datasets)
    if "flexible_disk_size" in vm and vm["brand"] == "bhyve":
        _set_free_space(vm, datasets)
    if vm["state"] == "receiving":
        vm["missing"] = _missing(vm, datasets)


def _set_root_dataset(vm: dict[str, Any], root: str, datasets: Datasets) -> None:
    row = datasets.datasets[root]
    if datasets.holds_indestructible(root):
        vm["indestructible_zoneroot"] = True
    quota = "refquota" if vm["brand"] == "bhyve" else "quota"
    if quota in row:
        vm["quota"] = quotient(row[quota], GIB)
    if "creation" in row and "create_timestamp" not in vm:
        vm["create_timestamp"] = dates.iso_of_seconds(row["creation"])
    if row.get("compression", "off") != "off":
        vm["zfs_root_compression"] = row["compression"]
    if "recsize" in row:
        vm["zfs_root_recsize"] = row["recsize"]
    for name, column in (("zfs_filesystem_limit", "filesystem_limit"), ("zfs_snapshot_limit", "snapshot_limit")):
        if column in row and row[column] not in _UNLIMITED:
            vm[name] = row[column]
    vm["zfs_filesystem"] = root
    vm["zpool"] = _pool(root)


def _set_delegated_dataset(vm: dict[str, Any], datasets: Datasets) -> None:
    """Looked up by name, never by mountpoint, and whether or not the XML's datasets list it (docs/vm-object.md,
    "Delegated dataset")."""
    if "zfs_filesystem" not in vm:
        return
    name = f"{vm['zfs_filesystem']}/data"
    row = datasets.datasets.get(name)
    if row is None:
        return
    if datasets.holds_indestructible(name):
        vm["indestructible_delegated"] = True
    if row.get("compression", "off") != "off":
        vm["zfs_data_compression"] = row["compression"]
    if "recsize" in row:
        vm["zfs_data_recsize"] = row["recsize"]


def _set_disk(disk: dict[str, Any], datasets: Datasets) -> None:
    name = datasets.mountpoints.get(disk["path"])
    if name is None:
        disk["missing"] = True
        return
    row = datasets.datasets[name]
    disk["zfs_filesystem"] = name
    disk["zpool"] = _pool(name)
    if "volsize" in row:
        disk["size"] = quotient(row["volsize"], MIB)
    if "compression" in row:
        disk["compression"] = row["compression"]
    if "refreservation" in row:
        disk["refreservation"] = rounded_up(row["refreservation"], MIB)  # a fraction made VM objects flap (OS-8057)
    if "volblocksize" in row:
        disk["block_size"] = row["volblocksize"]


def _snapshots(root: Optional[str], datasets: Datasets) -> list[dict[str, Any]]:
    """Those that vmadm made, newest first; equal times keep the order of the listing (docs/vm-object.md,
    "Snapshots")."""
    listed: list[tuple[str, dict[str, Any]]] = []
    for snapname, created, written, _holds in datasets.snapshots.get(root, ()) if root is not None else ():
        if not snapname.startswith(_VMADM_SNAPSHOT) or len(snapname) == len(_VMADM_SNAPSHOT):
            continue
        created_at = dates.iso_of_seconds(created)
        entry = {
            "name": shared(snapname[len(_VMADM_SNAPSHOT) :]),
            "size": quotient(written, MIB),
            "created_at": created_at,
        }
        listed.append((created_at or "", entry))
    listed.sort(key=lambda pair: pair[0], reverse=True)
    return [entry for _created_at, entry in listed]


def _set_free_space(vm: dict[str, Any], datasets: Datasets) -> None:
    """What is left of flexible_disk_size, MiB (docs/vm-object.md, "Free space"). Absent as soon as one disk's dataset
    is unknown."""
    sizes, snapshots = 0, 0  # bytes
    for disk in vm.get("disks") or ():
        row = datasets.datasets.get(datasets.mountpoints.get(disk.get("path", ""), ""))
        if row is None:
            return
        try:
            sizes += row["volsize"]
            snapshots += row["usedbysnapshots"]
        except TypeError:  # a `-` or null: arithmetic with it gives no number
            vm["free_space"] = None
            return
    if vm["flexible_disk_size"] is None:
        vm["free_space"] = None
    else:
        vm["free_space"] = math.floor(vm["flexible_disk_size"] - sizes / MIB - snapshots / MIB)


def _missing(vm: dict[str, Any], datasets: Datasets) -> dict[str, list[Any]]:
    """What a receiving VM does not have yet (docs/vm-object.md, "What is missing"). The filesystems are listed
    unchecked, as in the original."""
    absent = []
    if "zfs_filesystem" not in vm:
        absent.append(vm["zonepath"][1:])
    elif vm["zfs_filesystem"] not in datasets.datasets:
        absent.append(vm["zfs_filesystem"])
    absent += [name for name in vm.get("datasets", ()) if name not in datasets.datasets]
    return {
        "datasets": absent,
        "disks": [disk["path"] for disk in vm.get("disks") or () if disk.get("missing")],
        "filesystems": [fs["source"] for fs in vm.get("filesystems") or () if "source" in fs],
    }


def _pool(dataset: str) -> str:
    return dataset.partition("/")[0]
