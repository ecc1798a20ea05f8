# SPDX-License-Identifier: MPL-2.0
"""Volumes of hardware VMs: making, changing and destroying them (docs/vmadm.md, "Disks").

A volume below a bhyve VM's root dataset needs room for what zfs keeps beside its data, too: quota and reservation of
the root are raised by that before it is made or grows, and lowered after it shrank.
Always: a disk that has no volume of ours (a CD-ROM, nocreate) is left alone; the Change says which volume one has."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Optional

from vmadm.errors import VmadmError
from vmadm.node.machine import Node, failure
from vmadm.node.zfs import destroy_volume, number, quota_words
from vmadm.payload.change import Disk, DiskChange
from vmadm.payload.unset import UNSET, said
from vmload import Vm
from vmload.units import MIB

SNAPSHOT_IS_MISSING = "dataset does not exist"
DEFAULT_BLOCK = 8192  # bytes
RAIDZ_BLOCK = 32768  # bytes; with less most of a volume on large sectors is parity and padding

Settings = Mapping[str, str]


def create_volumes(node: Node, disks: Iterable[Disk], root: str, uuid: str) -> list[str]:
    """Make the volumes of new disks; their names. `root` is the VM's root dataset. If one fails those that were made
    go again. Raises ToolFailed."""
    made: list[str] = []
    try:
        for disk in disks:
            if disk.volume is not None:
                _create(node, disk, disk.volume, root, uuid)
                made.append(disk.volume)
    except VmadmError:
        for volume in made:
            with contextlib.suppress(VmadmError):
                destroy_volume(node, volume)
        raise
    return made


def destroy_removed(node: Node, paths: Iterable[str], vm: Vm) -> None:
    """The volumes of the VM's disks with these paths. Raises ToolFailed."""
    gone = set(paths)
    for disk in vm.get("disks") or []:
        if disk.get("path") in gone and disk.get("zfs_filesystem") and not disk.get("missing"):
            destroy_volume(node, disk["zfs_filesystem"])


def change_volumes(node: Node, asked: Iterable[DiskChange], vm: Vm) -> None:
    """Sizes, compressions and reservations of update_disks. Raises ToolFailed."""
    present = {disk.get("path"): disk for disk in vm.get("disks") or []}
    for update in asked:
        old = present[update.path]
        volume = old.get("zfs_filesystem")
        if not volume:
            continue
        if update.size is not UNSET and update.size != old.get("size"):
            _resize(node, vm, volume, update.size * MIB)
        if said(update.compression, "") and update.compression != old.get("compression"):
            node.must("zfs", "set", f"compression={update.compression}", volume)
        if update.refreservation is not UNSET and update.refreservation != old.get("refreservation"):
            node.must("zfs", "set", f"refreservation={update.refreservation}M", volume)


def changes_volume(asked: DiskChange) -> bool:
    """Whether an update of a disk is about its volume."""
    return any(value is not UNSET for value in (asked.size, asked.compression, asked.refreservation))


def _create(node: Node, disk: Disk, volume: str, root: str, uuid: str) -> None:
    options = []
    if said(disk.compression, ""):
        options += ["-o", f"compression={disk.compression}"]
    reserved = None if disk.refreservation in (UNSET, None) else disk.refreservation
    if disk.image_uuid is not UNSET:
        size = said(disk.size, 0) or said(disk.image_size, 0)
        if said(disk.size, 0):
            options += ["-o", f"volsize={disk.size}M"]
        options += ["-o", "refreservation=auto" if reserved is None else f"refreservation={reserved}M"]
        snapshot = _image_snapshot(node, volume.partition("/")[0], disk.image_uuid, said(disk.uuid, uuid))
        image = _properties(node, snapshot.partition("@")[0], "volblocksize,copies")
        with _room(node, root, volume, size * MIB, image, needed=reserved is None):
            node.must("zfs", "clone", "-F", *options, snapshot, volume)
        return
    block = said(disk.block_size, 0) or _good_block(node, volume.partition("/")[0])
    options += ["-o", f"volblocksize={block}"]
    if reserved is not None:
        options += ["-o", f"refreservation={reserved}M"]
    size = said(disk.size, 0)
    settings = {"volblocksize": str(block)}
    with _room(node, root, volume, size * MIB, settings, needed=reserved is None):
        node.must("zfs", "create", *options, "-V", f"{size}M", volume)


def _good_block(node: Node, pool: str) -> int:
    """The block size of a new volume on that pool, in bytes. Raises ToolFailed."""
    asked = node.run("zdb", "-C", pool)
    if asked.status != 0:
        if node.run("zfs", "list", "-H", "-o", "name", pool).status == 0:
            raise failure("zdb", asked)
        return DEFAULT_BLOCK  # zfs is the one to say that there is no such pool
    config = asked.stdout
    is_raidz = "ashift: 12" in config and "type: 'raidz'" in config and "ashift: 9" not in config
    return RAIDZ_BLOCK if is_raidz else DEFAULT_BLOCK


def _image_snapshot(node: Node, pool: str, image: str, disk_uuid: str) -> str:
    """The snapshot of an image that a disk is cloned from; one is made where the image has none."""
    final = f"{pool}/{image}@final"
    found = node.run("zfs", "get", "-Ho", "value", "name", final)
    if found.status == 0 or SNAPSHOT_IS_MISSING not in found.stderr:
        return final
    own = f"{pool}/{image}@{disk_uuid}"
    node.must("zfs", "snapshot", own)
    return own


@contextlib.contextmanager
def _room(node: Node, root: str, volume: str, size: int, settings: Settings, *, needed: bool) -> Iterator[None]:
    """Room below `root` for what zfs keeps beside the `size` bytes of a new volume while it is made, and after."""
    if not needed or not volume.startswith(root + "/") or not number(node, "quota", root):
        yield
        return
    more = _reservation_for(node, volume, size, settings) - size
    _shift_quota(node, root, more)
    try:
        yield
    except VmadmError:
        with contextlib.suppress(VmadmError):
            _shift_quota(node, root, -more)
        raise


def _resize(node: Node, vm: Vm, volume: str, size: int) -> None:
    """`size` in bytes. A reservation that is more than the volume's size follows it."""
    if vm["brand"] != "bhyve":
        node.must("zfs", "set", f"volsize={size}", volume)
        return
    now = _properties(node, volume, "volsize,volblocksize,copies,refreservation")
    old_size, reserved = (
        int(now[name]) if now.get(name, "").isdigit() else 0 for name in ("volsize", "refreservation")
    )
    more = (_reservation_for(node, volume, size, now) - size) - (reserved - old_size)
    root = vm["zfs_filesystem"]
    if more > 0:
        _shift_quota(node, root, more)
    try:
        node.must("zfs", "set", f"volsize={size}", volume)
    except VmadmError:
        if more > 0:
            with contextlib.suppress(VmadmError):
                _shift_quota(node, root, -more)
        raise
    if more < 0:
        _shift_quota(node, root, more)


def _reservation_for(node: Node, volume: str, size: int, settings: Settings) -> int:
    """Bytes that zfs would reserve for a volume of `size` bytes; it is asked, and makes nothing."""
    options = ["-o", f"copies={settings.get('copies', '1')}"]
    options += ["-o", f"volblocksize={settings.get('volblocksize', str(DEFAULT_BLOCK))}"]
    dry = node.must("zfs", "create", "-nPV", str(size), *options, volume).stdout
    found: Optional[int] = None
    for line in dry.splitlines():
        words = line.split()
        if "refreservation" in words and words[-1].isdigit():
            found = int(words[-1])
    if found is None:
        raise VmadmError("failed to obtain new refreservation")
    return found


def _properties(node: Node, dataset: str, names: str) -> Settings:
    text = node.must("zfs", "get", "-Hpo", "property,value", names, dataset).stdout
    return dict(line.split("\t", 1) for line in text.splitlines() if "\t" in line)


def _shift_quota(node: Node, dataset: str, by: int) -> None:
    """Raise or lower the quota, in bytes, and the reservation with it. Without a quota there is nothing to shift."""
    quota = number(node, "quota", dataset)
    if quota and by:
        node.must("zfs", "set", *quota_words(str(quota + by), lowered=by < 0), dataset)
