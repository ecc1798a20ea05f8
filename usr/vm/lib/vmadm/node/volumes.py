# SPDX-License-Identifier: MPL-2.0
"""Volumes of hardware VMs: where they are, and making, changing and destroying them.

bhyve keeps a VM's volumes below its root dataset, `<fs>/disk<N>`; kvm beside it, `<pool>/<uuid>-disk<N>`.
A disk in here has the members of a payload's disk, and `path` and `zfs_filesystem` once it has its place."""

from __future__ import annotations

import re
import uuid as uuids
from typing import Any

from vmadm.errors import VmadmError
from vmadm.node.machine import Node
from vmadm.node.zfs import destroy_volume
from vmload import Vm
from vmload.units import MIB

DEVICES = "/dev/zvol/rdsk/"
INDEX = re.compile(r"[-/]disk([0-9]+)$")
VOLUME_MEMBERS = frozenset(("size", "compression", "refreservation"))  # of update_disks: kept by zfs, not by the zone
DEFAULT_MEDIA = "disk"
PCI_DISKS = 4  # the device number under which a bhyve guest finds its disks, each with a function of its own
Disk = dict[str, Any]


def place(disks: list[Disk], *, brand: str, root: str, taken: list[str], pool: str) -> None:
    """Give each disk the lowest free number, and with it its volume and path. `root` is the VM's root dataset, `taken`
    the paths that are in use."""
    used = {int(found.group(1)) for path in taken if (found := INDEX.search(path))}
    for disk in disks:
        disk.setdefault("media", DEFAULT_MEDIA)
        if "path" in disk:
            continue
        number = next(number for number in range(len(used) + 1) if number not in used)
        used.add(number)
        if brand == "bhyve":
            disk["zfs_filesystem"] = f"{root}/disk{number}"
            disk.setdefault("pci_slot", f"0:{PCI_DISKS}:{number}")
            disk.setdefault("uuid", str(uuids.uuid4()))
        else:
            disk["zfs_filesystem"] = f"{disk.get('zpool') or pool}/{root.rpartition('/')[2]}-disk{number}"
        disk["path"] = DEVICES + disk["zfs_filesystem"]


def place_new(change: Vm, vm: Vm) -> None:
    """As place(), for the add_disks of an update."""
    if change.get("add_disks"):
        gone = set(change.get("remove_disks") or [])
        taken = [disk["path"] for disk in vm.get("disks") or [] if disk.get("path") and disk["path"] not in gone]
        place(change["add_disks"], brand=vm["brand"], root=vm["zfs_filesystem"], taken=taken, pool=vm["zpool"])


def create_volumes(node: Node, disks: list[Disk]) -> list[str]:
    """Make the volumes of new disks; their names. Raises ToolFailed, and VmadmError for a disk without a size."""
    made = []
    for disk in disks:
        if "zfs_filesystem" not in disk or disk.get("nocreate") or disk["media"] != DEFAULT_MEDIA:
            continue
        made.append(disk["zfs_filesystem"])
        _create_volume(node, disk)
    return made


def _create_volume(node: Node, disk: Disk) -> None:
    volume = disk["zfs_filesystem"]
    options = []
    if disk.get("compression"):
        options += ["-o", f"compression={disk['compression']}"]
    if disk.get("refreservation") is not None:
        options += ["-o", f"refreservation={disk['refreservation']}M"]
    if disk.get("image_uuid"):
        pool = disk.get("zpool") or volume.partition("/")[0]
        node.must("zfs", "clone", "-F", *options, f"{pool}/{disk['image_uuid']}@final", volume)
        if disk.get("size"):
            node.must("zfs", "set", f"volsize={disk['size'] * MIB}", volume)
        return
    if not disk.get("size"):
        raise VmadmError(f"a disk without an image needs a size: {volume}")
    if disk.get("block_size"):
        options += ["-o", f"volblocksize={disk['block_size']}"]
    node.must("zfs", "create", *options, "-V", f"{disk['size']}M", volume)


def destroy_removed(node: Node, change: Vm, vm: Vm) -> None:
    """The volumes of remove_disks. Raises ToolFailed."""
    gone = set(change["remove_disks"])
    for disk in vm.get("disks") or []:
        if disk.get("path") in gone and disk.get("zfs_filesystem"):
            destroy_volume(node, disk["zfs_filesystem"])


def change_volumes(node: Node, change: Vm, vm: Vm) -> None:
    """Sizes, compressions and reservations of update_disks. Raises ToolFailed."""
    present = {disk.get("path"): disk for disk in vm.get("disks") or []}
    for update in change["update_disks"]:
        old = present[update["path"]]
        volume = old.get("zfs_filesystem")
        if not volume:
            continue
        if update.get("size") not in (None, old.get("size")):
            _resize(node, vm, volume, old["size"], update["size"])
        if update.get("compression") not in (None, old.get("compression")):
            node.must("zfs", "set", f"compression={update['compression']}", volume)
        if update.get("refreservation") not in (None, old.get("refreservation")):
            node.must("zfs", "set", f"refreservation={update['refreservation']}M", volume)


def _resize(node: Node, vm: Vm, volume: str, old_size: int, size: int) -> None:
    """`old_size` and `size` in MiB. bhyve's quota makes room before a volume grows, and closes up after it shrank."""
    if vm["brand"] != "bhyve":
        node.must("zfs", "set", f"volsize={size * MIB}", volume)
        return
    text = node.must(
        "zfs", "get", "-Hpo", "property,value", "volsize,volblocksize,copies,refreservation", volume
    ).stdout
    now = dict(line.split("\t", 1) for line in text.splitlines() if "\t" in line)
    dry = node.must(
        "zfs",
        "create",
        "-nPV",
        str(size * MIB),
        "-o",
        f"copies={now.get('copies', '1')}",
        "-o",
        f"volblocksize={now.get('volblocksize', '8192')}",
        volume,
    )
    wanted = next(
        (
            int(line.split()[-1])
            for line in dry.stdout.splitlines()
            if "refreservation" in line and line.split()[-1].isdigit()
        ),
        size * MIB,
    )
    reserved = int(now["refreservation"]) if now.get("refreservation", "").isdigit() else old_size * MIB
    if size > old_size:
        _shift_quota(node, vm["zfs_filesystem"], wanted - reserved)
    node.must("zfs", "set", f"volsize={size * MIB}", volume)
    if size < old_size:
        _shift_quota(node, vm["zfs_filesystem"], wanted - reserved)


def _shift_quota(node: Node, dataset: str, by: int) -> None:
    """Raise or lower quota and reservation, both in bytes, where there are any."""
    from vmadm.node.zfs import number

    settings = [
        f"{prop}={max(0, value + by)}" for prop in ("quota", "reservation") if (value := number(node, prop, dataset))
    ]
    if settings:
        node.must("zfs", "set", *settings, dataset)
