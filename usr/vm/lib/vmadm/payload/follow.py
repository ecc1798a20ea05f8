# SPDX-License-Identifier: MPL-2.0
"""What follows from what is asked: a new VM's defaults, memory, docker's properties, what images require
(docs/vmadm.md, "What a payload may say").

Always: pure but for the uuid in a docker id; a property that is said, be it null, is not overridden by a default."""

from __future__ import annotations

import uuid as uuids
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from vmadm.payload import Payload, memoryrules
from vmadm.payload.asked import is_allowed
from vmadm.payload.change import Disk, MapChange, Maps, Properties, named
from vmadm.payload.diskfindings import image_of_disk, is_other_medium
from vmadm.payload.diskrules import DEVICES, DISK, Place
from vmadm.payload.findings import CREATE
from vmadm.payload.nodefacts import DEFAULT_POOL, Image, NodeFacts
from vmadm.payload.unset import UNSET, said
from vmadm.payload.vmfacts import has_data
from vmload import Vm, brands

NOBODY = "00000000-0000-0000-0000-000000000000"
DEFAULT_RAM = 256  # MiB
DEFAULT_QUOTA = {"bhyve": 1}  # GiB
OTHER_QUOTA = 10
NO_QUOTA = {"bhyve": 1}  # GiB; what a VM has that is to have none
MOST_CPU_SHARES = 65535
RECSIZE = 131072  # bytes; zfs's own default
COM_DEFAULTS: Mapping[str, Any] = {"com1": "/dev/zconsole", "com2": "socket,/tmp/vm.ttyb"}
IMAGE_ALIASES = ("dataset_uuid", "zone_dataset_uuid")  # deprecated names of image_uuid
SPICE = ("spice_opts", "spice_password", "spice_port")

DATASOURCE, NOCLOUD, NOCLOUD_PATH = "cloudinit_datasource", "nocloud", "cloudinit_nocloud_path"
NOCLOUD_SIZE, NOCLOUD_BLOCK = 16, 512  # MiB, bytes

PAIRS = (("zfs_root_compression", "zfs_data_compression"), ("zfs_root_recsize", "zfs_data_recsize"))


def renamed(payload: Payload, brand: str) -> Payload:
    """A create's `payload` with the properties' present names."""
    plain = dict(payload)
    for name in IMAGE_ALIASES:
        if name in plain and is_allowed(name, brand, CREATE):
            plain.setdefault("image_uuid", plain.pop(name))
    return plain


def with_default_ram(payload: Payload, brand: str) -> dict[str, Any]:
    """The memory that a new VM is asked to have. An OS VM's `ram` is only another word for its physical memory."""
    given = memoryrules.integers(payload)
    if "ram" in payload or ("max_physical_memory" in payload and not brands.is_hvm(brand)):
        return given
    return {"ram": DEFAULT_RAM, **given}


def created(asked: Properties, memory: Mapping[str, Any], brand: str, uuid: str) -> Properties:
    """All properties of a new VM."""
    facts = brands.facts(brand)
    defaults: dict[str, Any] = {
        "owner_uuid": NOBODY,
        "billing_id": NOBODY,
        "autoboot": True,
        "cpu_shares": 100,
        "zfs_io_priority": 100,
        "max_lwps": 2000,
        "limit_priv": tuple(facts["default_limit_priv"]),
        "quota": DEFAULT_QUOTA.get(brand, OTHER_QUOTA),
    }
    if facts["hvm"]:
        defaults["vcpus"] = 1
    else:
        defaults["dns_domain"] = "local"
    given = named(asked)
    if brand == "bhyve" and not COM_DEFAULTS.keys() & given.keys():
        defaults.update(COM_DEFAULTS)
    made = {**defaults, **given, **memory}
    made["zpool"] = made.get("zpool") or DEFAULT_POOL
    made["zonename"] = made.get("zonename") or uuid
    made["quota"] = made["quota"] or NO_QUOTA.get(brand, 0)
    made["uuid"] = uuid
    if made["cpu_shares"] is not None:
        made["cpu_shares"] = min(made["cpu_shares"], MOST_CPU_SHARES)
    if brand == "kvm" and "image_uuid" not in made:
        made = {name: value for name, value in made.items() if name not in SPICE}
    _settle_datasets(made, {"zfs_data_compression": "off", "zfs_data_recsize": RECSIZE})
    return Properties(**made)


def updated(asked: Properties, memory: Mapping[str, Any], vm: Vm, brand: str) -> Properties:
    """What is asked of the VM, and what follows from it."""
    made = {**named(asked), **memory}
    if "quota" in made:
        made["quota"] = made["quota"] or NO_QUOTA.get(brand, 0)
    if brand == "bhyve" and not COM_DEFAULTS.keys() & {*made, *vm}:
        made.update(COM_DEFAULTS)
    present = {"zfs_data_compression": vm.get("zfs_data_compression", "off")}
    present["zfs_data_recsize"] = vm.get("zfs_data_recsize", RECSIZE)
    _settle_datasets(made, present if has_data(vm) else {})
    return Properties(**made)


def docker(properties: Properties, maps: Maps, vm: Vm, uuid: str, brand: str) -> tuple[Properties, Maps]:
    """What `docker: true` brings along; `vm` is empty for a new one."""
    facts = brands.facts(brand)
    namespaces = properties.internal_metadata_namespaces
    if namespaces is UNSET:
        namespaces = tuple(vm.get("internal_metadata_namespaces") or ())
    if "docker" not in namespaces:
        properties = replace(properties, internal_metadata_namespaces=(*namespaces, "docker"))
    if vm.get("restart_init") is not False or properties.restart_init is True:
        properties = replace(properties, restart_init=False)
    if not said(properties.init_name, "") and not vm.get("init_name"):
        properties = replace(properties, init_name=facts["docker_init_name"])
    metadata = maps.internal_metadata
    if "docker:id" not in metadata.set and "docker:id" not in (vm.get("internal_metadata") or {}):
        maps = _with_metadata(maps, "docker:id", f"{uuid}{uuids.uuid4()}".replace("-", ""))
    return properties, maps


def images(
    properties: Properties, maps: Maps, payload: Payload, node: NodeFacts, brand: str
) -> tuple[Properties, Maps]:
    """The boot ROM that an image requires, the last one's if there are several, and where cloud-init finds its data."""
    for image in _images_of(payload, node):
        if image.bootrom and brand == "bhyve" and "bootrom" not in payload:
            properties = replace(properties, bootrom=image.bootrom)
        if image.cloudinit_datasource and brands.is_hvm(brand):
            maps = _with_metadata(maps, DATASOURCE, image.cloudinit_datasource)
    return properties, maps


def nocloud(
    properties: Properties, maps: Maps, disks: tuple[Disk, ...], place: Place, brand: str
) -> tuple[Properties, Maps, tuple[Disk, ...]]:
    """The small disk on which a new bhyve VM's cloud-init finds its data."""
    metadata = maps.internal_metadata.set
    if brand != "bhyve" or metadata.get(DATASOURCE) != NOCLOUD or NOCLOUD_PATH in metadata:
        return properties, maps, disks
    volume = place.next_volume(None)
    disk = Disk(
        path=DEVICES + volume,
        volume=volume,
        size=NOCLOUD_SIZE,
        model="virtio",
        boot=False,
        media=DISK,
        block_size=NOCLOUD_BLOCK,
    )
    flexible = said(properties.flexible_disk_size, 0)
    if flexible:
        properties = replace(properties, flexible_disk_size=flexible + NOCLOUD_SIZE)
    return properties, _with_metadata(maps, NOCLOUD_PATH, disk.path), (*disks, disk)


def _images_of(payload: Payload, node: NodeFacts) -> Iterator[Image]:
    """The images of the VM and its disks that are there, in the order in which they count."""
    own = node.image(payload.get("zpool") or DEFAULT_POOL, payload.get("image_uuid"))
    if own is not None:
        yield own
    for name in ("disks", "add_disks"):
        disks = payload.get(name)
        for disk in disks if isinstance(disks, list) else ():
            if isinstance(disk, dict) and not is_other_medium(disk):
                image = image_of_disk(disk, node)
                if image is not None:
                    yield image


def _with_metadata(maps: Maps, key: str, value: str) -> Maps:
    before = maps.internal_metadata
    return replace(maps, internal_metadata=MapChange(set={**before.set, key: value}, remove=before.remove))


def _settle_datasets(made: dict[str, Any], data: Mapping[str, Any]) -> None:
    """A delegated dataset would inherit what its parent gets: it keeps its own value, in `data`, unless the payload
    says otherwise. A record size of 0, or none, is zfs's own."""
    for root, own in PAIRS:
        if root in made and own not in made and own in data:
            made[own] = data[own]
    for name in ("zfs_root_recsize", "zfs_data_recsize"):
        if name in made:
            made[name] = made[name] or RECSIZE
