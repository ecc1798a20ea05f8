# SPDX-License-Identifier: MPL-2.0
"""A payload for create or update becomes a Change, in one pass (docs/vmadm.md, "What a payload may say").

    needed = facts_needed(payload)              nodefacts.py; what to ask the node
    change = parse_create(payload, node, uuid)
    change = parse_update(payload, vm, node)    `vm` as a fresh read shows it

The way: memory properties are settled, then validation looks at the payload (findings.py), what is good of it is typed
(asked.py; both in underway.py), and each part is completed and checked by its own rules.
Always: pure but for new uuids and MAC addresses; the payload is not changed; BadPayload has all that is wrong."""

from __future__ import annotations

import uuid as uuids
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Optional

from vmadm.errors import BadPayload
from vmadm.payload import (
    Payload,
    diskrules,
    dockerhost,
    follow,
    memoryrules,
    nicchanges,
    otherlists,
    routerules,
    scalarrules,
)
from vmadm.payload.change import Change, Disk, Elements, MapChange, Request
from vmadm.payload.findings import CREATE, UPDATE, bad_brand
from vmadm.payload.nicchanges import NicChanges
from vmadm.payload.nodefacts import DEFAULT_POOL, NodeFacts
from vmadm.payload.underway import Underway
from vmadm.payload.unset import UNSET, Maybe, said
from vmadm.payload.valuerules import is_unset
from vmload import Vm
from vmload.uuids import is_uuid

DEFAULT_BRAND = "joyent"


def brand_of(payload: Payload) -> str:
    """The brand of a VM to be made. Raises BadPayload."""
    brand = payload.get("brand")
    if is_unset(brand):
        return DEFAULT_BRAND
    if bad_brand(brand) is not None:
        raise BadPayload([f'Invalid brand while validating payload: "{brand}"'])
    return str(brand)


def uuid_of(payload: Payload) -> str:
    """The uuid of a VM to be made: the payload's, or a new one. One that is no uuid parse_create() refuses."""
    given = payload.get("uuid")
    return str(given if is_uuid(given) else uuids.uuid4())


def parse_create(payload: Payload, node: NodeFacts, uuid: str, *, arrives: bool = False) -> Change:
    """`uuid` is what uuid_of() gives. What follows from an image or from docker is not added to a VM that `arrives`: it
    has it. Raises BadPayload."""
    brand = brand_of(payload)
    work = Underway(brand, CREATE, node, follow.renamed({**payload, "brand": brand}, brand))
    request = work.request(follow.with_default_ram(work.payload, brand), {})
    properties, maps = follow.created(request.properties, work.memory, brand, uuid), request.maps
    if properties.docker is True and not arrives:
        properties, maps = follow.docker(properties, maps, {}, uuid, brand)
    zpool, zonename = said(properties.zpool, DEFAULT_POOL), said(properties.zonename, uuid)
    nics = nicchanges.created(work, request, said(properties.nic_driver, ""))
    place = diskrules.Place(brand, f"{zpool}/{zonename}", zpool, [])
    disks = _new_disks(work, request, place, driver=said(properties.disk_driver, ""), old=[], media=diskrules.DISK)
    if not arrives:
        properties, maps = follow.images(properties, maps, work.payload, node, brand)
        properties, maps, disks = follow.nocloud(properties, maps, disks, place, brand)
    if not work.has_bad_nics():
        work.texts += routerules.check(maps.routes.set, {}, nics.after)
    filesystems = otherlists.filesystems(request.filesystems, [], work.texts)
    if properties.docker is True and not arrives:
        root = f"{zpool}/{zonename}"
        mounted, maps = dockerhost.host_volumes(filesystems.add, maps, root, work.texts)
        filesystems = replace(filesystems, add=mounted)
    devices = otherlists.pci_devices(request.pci_devices, [], work.texts)
    _finish(work, request, nics)
    return Change(
        brand=brand,
        uuid=uuid,
        zonename=zonename,
        zpool=zpool,
        request=request,
        properties=properties,
        maps=maps,
        nics=nics.elements,
        disks=Elements(add=disks),
        filesystems=filesystems,
        pci_devices=devices,
        is_new=True,
    )


def parse_update(payload: Payload, vm: Vm, node: NodeFacts) -> Change:
    """An update of the VM `vm`, whose brand is a supported one. Raises BadPayload."""
    brand, uuid = str(vm["brand"]), str(vm["uuid"])
    work = Underway(brand, UPDATE, node, payload)
    request = work.request(memoryrules.integers(payload), vm)
    properties, maps = follow.updated(request.properties, work.memory, vm, brand), request.maps
    if properties.docker is True:
        properties, maps = follow.docker(properties, maps, vm, uuid, brand)
    properties, maps = follow.images(properties, maps, work.payload, node, brand)
    nics = nicchanges.updated(work, request, vm)
    disks = _updated_disks(work, request, vm)
    if not work.has_bad_nics():
        kept = MapChange(remove=(*maps.routes.remove, *maps.routes.set)).applied(vm.get("routes") or {})
        work.texts += routerules.check(maps.routes.set, kept if request.nics else {}, nics.after)
    filesystems = otherlists.filesystems(request.filesystems, vm.get("filesystems") or [], work.texts)
    work.texts += otherlists.check_pci_state(request.pci_devices, vm)
    devices = otherlists.pci_devices(request.pci_devices, vm.get("pci_devices") or [], work.texts)
    _finish(work, request, nics)
    return Change(
        brand=brand,
        uuid=uuid,
        zonename=str(vm.get("zonename") or uuid),
        zpool=str(vm.get("zpool") or DEFAULT_POOL),
        request=request,
        properties=properties,
        maps=maps,
        nics=nics.elements,
        disks=disks,
        filesystems=filesystems,
        pci_devices=devices,
        new_primary=nics.new_primary,
    )


def _finish(work: Underway, request: Request, nics: NicChanges) -> None:
    """The checks of single values, and of the node. Raises BadPayload if anything was wrong."""
    work.texts += scalarrules.check(request.properties, work.brand)
    nicchanges.check_node(work, nics, said(request.properties.vnc_port, 0))
    if work.texts:
        raise BadPayload(list(dict.fromkeys(work.texts)))


def _new_disks(
    work: Underway,
    request: Request,
    place: diskrules.Place,
    *,
    driver: Optional[str],
    old: Sequence[Mapping[str, Any]],
    media: Maybe[str] = UNSET,
) -> tuple[Disk, ...]:
    return diskrules.new_disks(
        request.disks.add,
        work.objects("add", "disks"),
        brand=work.brand,
        driver=driver,
        place=place,
        old=old,
        node=work.node,
        texts=work.texts,
        media=media,
    )


def _updated_disks(work: Underway, request: Request, vm: Vm) -> Elements[Disk]:
    asked_disks, texts, brand = request.disks, work.texts, work.brand
    if not asked_disks and not work.objects("update", "disks"):
        return Elements()
    texts += diskrules.check_state(work.payload, asked_disks, vm)
    texts += diskrules.check_removed(asked_disks.remove, vm)
    old = vm.get("disks") or []
    driver = said(request.properties.disk_driver, "") or vm.get("disk_driver")
    root = str(vm.get("zfs_filesystem") or f"{vm.get('zpool')}/{vm.get('zonename')}")
    driver = driver or next((disk["model"] for disk in old if disk.get("model")), None)
    place = diskrules.Place(brand, root, str(vm.get("zpool")), [str(disk.get("path")) for disk in old])
    added = _new_disks(work, request, place, driver=driver, old=old)
    updated = diskrules.updated_disks(asked_disks.update, work.objects("update", "disks"), vm, brand, texts)
    for disk in updated:
        if disk.path in asked_disks.remove:
            texts.append(f"Cannot both remove and update the disk {disk.path}")
    texts += diskrules.check_moved(updated, asked_disks.remove, asked_disks, vm)
    texts += diskrules.check_boot(added, updated, asked_disks.remove, asked_disks, vm)
    return Elements(add=added, update=updated, remove=asked_disks.remove)
