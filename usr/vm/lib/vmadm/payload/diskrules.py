# SPDX-License-Identifier: MPL-2.0
"""A payload's disks made into whole ones, and what is wrong with them (docs/vmadm.md, "Disks").

bhyve keeps a VM's volumes below its root dataset, `<fs>/disk<N>`; kvm beside it, `<pool>/<uuid>-disk<N>`. A disk that
is given with its path (a CD-ROM, or nocreate=true) is attached as it is.
Always: pure but for new uuids; of what is removed in the same payload nothing is used again: neither number nor slot
        nor uuid, since the disk goes only when all has been checked."""

from __future__ import annotations

import re
import uuid as uuids
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Optional

from vmadm.payload import Payload, pcislots
from vmadm.payload.change import Disk, DiskChange, Elements, named
from vmadm.payload.diskfindings import image_of_disk
from vmadm.payload.nodefacts import NodeFacts
from vmadm.payload.unset import UNSET, Maybe, said
from vminfod.clients.plainjson import compact
from vmload import Vm, brands

COMPRESSIONS = ("on", "off", "gzip", *(f"gzip-{level}" for level in range(1, 10)), "lz4", "lzjb", "zle")
LEAST_BLOCK, MOST_BLOCK = 512, 131072  # bytes
LIVE_UPDATES = frozenset(("compression", "path", "refreservation"))  # what update_disks may hold while the VM runs
DEVICES = "/dev/zvol/rdsk/"
DISK, CDROM = pcislots.DISK, pcislots.CDROM
NUMBER = re.compile(r"[-/]disk([0-9]{1,9})$")
NOT_KEPT = frozenset(("nocreate", "dangerous_allow_shrink", "zpool"))  # say how, not what

Shown = Sequence[Payload]


class Place:
    """Where a VM's disks are made. `root` is its root dataset, `taken` the paths that are in use."""

    def __init__(self, brand: str, root: str, pool: str, taken: Iterable[str]) -> None:
        self._brand, self._root, self._pool = brand, root, pool
        self._numbers = {int(found[1]) for path in taken if (found := NUMBER.search(path))}

    def next_volume(self, pool: Optional[str]) -> str:
        """The volume of the next disk: the lowest free number, on that pool if one is said."""
        number = next(number for number in range(len(self._numbers) + 1) if number not in self._numbers)
        self._numbers.add(number)
        if self._brand == "bhyve":
            own, _, rest = self._root.partition("/")
            return f"{pool or own}/{rest}/disk{number}"
        return f"{pool or self._pool}/{self._root.rpartition('/')[2]}-disk{number}"


def new_disks(
    asked: Sequence[DiskChange],
    shown: Shown,
    *,
    brand: str,
    driver: Optional[str],
    place: Place,
    old: Sequence[Mapping[str, Any]],
    node: NodeFacts,
    texts: list[str],
    media: Maybe[str] = UNSET,
) -> tuple[Disk, ...]:
    """Disks to be added to a VM that has the `old` ones; `driver` is the model and `media` the medium of those that
    name none."""
    disks = [_with_image_size(disk if disk.media is not UNSET else replace(disk, media=media), node) for disk in asked]
    texts_of = [{**each, **_said(disk)} for each, disk in zip(shown, disks)]
    if brand == "bhyve":
        disks, texts_of = _with_slots(disks, texts_of, old, texts)
        disks, texts_of = _with_uuids(disks, texts_of, old, texts)
    paths = {str(disk.get("path")) for disk in old}
    whole = []
    for disk, text in zip(disks, texts_of):
        complete = _complete(disk, text, brand, driver, place, texts)
        if complete.path in paths:
            texts.append(f"Cannot add multiple disks with the same path: {complete.path}")
        paths.add(complete.path)
        whole.append(complete)
    return tuple(whole)


def updated_disks(asked: Sequence[DiskChange], shown: Shown, vm: Vm, brand: str, texts: list[str]) -> tuple[Disk, ...]:
    """Disks of the VM with what is asked put over them."""
    texts += ["Disk object needs a .path property to update" for each in shown if not each.get("path")]
    present = {disk.get("path"): disk for disk in vm.get("disks") or []}
    whole = []
    for disk in asked:
        old = present.pop(disk.path, None)
        if old is None:
            is_second = any(disk.path == other.get("path") for other in vm.get("disks") or [])
            texts.append(
                f"Cannot update the disk {disk.path} more than once"
                if is_second
                else f"There is no existing disk with path {disk.path}"
            )
            continue
        _check_members(disk, brand, "type", texts)
        _check_size(disk, old, texts)
        members = {name: value for name, value in old.items() if name in _KEPT and value is not None}
        members = {**members, **{name: value for name, value in named(disk).items() if name not in NOT_KEPT}}
        if "image_uuid" not in members:
            members.pop("image_size", None)
        whole.append(Disk(**members, volume=old.get("zfs_filesystem")))
    return tuple(whole)


def check_moved(update: Sequence[Disk], removed: Iterable[str], asked: Elements[DiskChange], vm: Vm) -> list[str]:
    """What is wrong with slots and uuids that update_disks changes."""
    changes = [disk for disk in asked.update if disk.pci_slot is not UNSET or disk.uuid is not UNSET]
    if not changes:
        return []
    whole = {disk.path: named(disk) for disk in update}
    disks = [whole.get(disk.get("path"), disk) for disk in vm.get("disks") or [] if disk.get("path") not in removed]
    taken = pcislots.Taken()
    if any(disk.pci_slot is not UNSET for disk in changes):
        pcislots.assign(disks, taken, legacy=True)
    seen: set[str] = set()
    for disk in disks:
        if disk.get("uuid") in seen:
            taken.errors.append(f"duplicate disk uuid {disk['uuid']}")
        seen |= {disk["uuid"]} if disk.get("uuid") else set()
    return taken.errors


def check_state(payload: Payload, asked: Elements[DiskChange], vm: Vm) -> list[str]:
    """Whether the VM is in a state in which its disks can change so."""
    if vm.get("state") == "stopped" or (vm.get("state") == "provisioning" and vm.get("zone_state") == "installed"):
        return []
    states = f"currently: {vm.get('state')} ({vm.get('zone_state')})"
    if asked.add or asked.remove:
        return [f'updates to disks are only allowed when state is "stopped", {states}']
    if any(named(disk).keys() - LIVE_UPDATES for disk in asked.update):
        return [f'at least one specified update to disks is only allowed when state is "stopped", {states}']
    return []


def check_removed(paths: Iterable[str], vm: Vm) -> list[str]:
    """Disks to be removed are there."""
    present = {disk.get("path") for disk in vm.get("disks") or []}
    return [f"There is no existing disk with path {path}" for path in paths if path not in present]


def check_boot(
    added: Sequence[Disk], updated: Sequence[Disk], removed: Iterable[str], asked: Elements[DiskChange], vm: Vm
) -> list[str]:
    """A bhyve VM that an update would leave with a second boot disk could not start. What it has already is left alone
    where the update does not speak of it."""
    if vm["brand"] != "bhyve" or not any(disk.boot is True for disk in (*asked.add, *asked.update)):
        return []
    whole = {disk.path: named(disk) for disk in (*updated, *added)}
    kept = [disk for disk in vm.get("disks") or [] if disk.get("path") not in {*whole, *removed}]
    boot = [disk for disk in (*kept, *whole.values()) if disk.get("boot") is True]
    is_told = sum(disk.boot is True for disk in asked.add) > 1  # by _check_boot()
    return [multiple_boot(boot)] if len(boot) > 1 and not is_told else []


def multiple_boot(disks: Iterable[Payload]) -> str:
    """What is said of disks of one VM, each of which is to be booted from."""
    return "multiple boot disks: " + " and ".join([f'"{compact(each)}"' for each in disks])


def _check_boot(disks: Sequence[DiskChange], shown: Shown, texts: list[str]) -> None:
    """A VM boots from one disk."""
    boot = [each for each, disk in zip(shown, disks) if disk.boot is True]
    if len(boot) > 1:
        texts.append(multiple_boot(boot))


def _complete(
    disk: DiskChange, shown: Payload, brand: str, driver: Optional[str], place: Place, texts: list[str]
) -> Disk:
    media = said(disk.media, DISK)
    attached = media != DISK or disk.nocreate is True
    if disk.path is not UNSET and not attached:
        texts.append("you cannot specify a path for a disk unless you set nocreate=true")
    elif disk.path is UNSET and attached:
        texts.append(f"a disk of media {media}, or with nocreate=true, needs a path: {compact(shown)}")
    if disk.model is UNSET and driver:
        disk = replace(disk, model=driver)
    elif disk.model is UNSET:
        texts.append(f"missing .model option for disk: {compact(shown)}")
    _check_members(disk, brand, "setting", texts)
    volume = None if attached else place.next_volume(said(disk.zpool, "") or None)
    if volume is not None and not said(disk.size, 0) and disk.image_uuid is UNSET:
        texts.append(f"createVolume({compact(shown)}): has no size or image_size")
    path = disk.path if disk.path is not UNSET else DEVICES + str(volume)
    members = {name: value for name, value in named(disk).items() if name not in NOT_KEPT and name != "path"}
    return Disk(path=path, volume=volume, **members)


def _check_members(disk: DiskChange, brand: str, word: str, texts: list[str]) -> None:
    block = disk.block_size
    if block is not UNSET and not (LEAST_BLOCK <= block <= MOST_BLOCK and block & (block - 1) == 0):
        texts.append(f"invalid .block_size({block}), must be {LEAST_BLOCK}-{MOST_BLOCK} and a power of 2.")
    if block is not UNSET and disk.image_uuid is not UNSET:
        texts.append("setting both .block_size and .image_uuid on a volume is invalid")
    if disk.compression is not UNSET and disk.compression not in COMPRESSIONS:
        texts.append(f"invalid compression {word} for disk, must be one of: {', '.join(COMPRESSIONS)}")
    models = brands.facts(brand)["disk_models"]
    if disk.model is not UNSET and disk.model not in models:
        texts.append(f'"{disk.model}" is not a valid disk model for {brand} brand. Valid are: {",".join(models)}')


def _check_size(disk: DiskChange, old: Mapping[str, Any], texts: list[str]) -> None:
    if disk.size is UNSET:
        return
    if not old.get("zfs_filesystem"):
        texts.append("failed to identify device to resize")
    elif disk.size < (old.get("size") or 0) and disk.dangerous_allow_shrink is not True:
        texts.append(f"cannot resize disk: new size must be greater than current size. ({old['size']} > {disk.size})")


def _with_image_size(disk: DiskChange, node: NodeFacts) -> DiskChange:
    if disk.image_uuid is UNSET or disk.image_size is not UNSET:
        return disk
    image = image_of_disk(named(disk), node)
    return disk if image is None or image.image_size is None else replace(disk, image_size=image.image_size)


def _said(disk: DiskChange) -> Payload:
    """What has been put behind a disk's own members, for error texts."""
    return {name: value for name, value in disk.items() if name in ("media", "image_size")}


def _with_slots(
    disks: list[DiskChange], shown: list[Payload], old: Sequence[Mapping[str, Any]], texts: list[str]
) -> tuple[list[DiskChange], list[Payload]]:
    taken = pcislots.Taken()
    if old:
        pcislots.assign(old, taken, legacy=True)  # those that have none yet get one when the VM starts
        taken.errors.clear()
    _check_boot(disks, shown, texts)
    slots = pcislots.assign([named(disk) for disk in disks], taken)
    texts += taken.errors
    disks = [disk if slot is None else replace(disk, pci_slot=slot) for disk, slot in zip(disks, slots)]
    return disks, [{**each, "pci_slot": slot} for each, slot in zip(shown, slots)]


def _with_uuids(
    disks: list[DiskChange], shown: list[Payload], old: Sequence[Mapping[str, Any]], texts: list[str]
) -> tuple[list[DiskChange], list[Payload]]:
    seen = {disk.get("uuid") for disk in old}
    given = []
    for disk in disks:
        uuid = said(disk.uuid, "") or str(uuids.uuid4())
        if uuid in seen:
            texts.append(f"duplicate disk uuid {uuid}")
        seen.add(uuid)
        given.append(replace(disk, uuid=uuid))
    return given, [{**each, "uuid": disk.uuid} for each, disk in zip(shown, given)]


_KEPT = frozenset(name for name in Disk.__dataclass_fields__ if name not in ("volume", *NOT_KEPT))
