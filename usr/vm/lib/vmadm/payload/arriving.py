# SPDX-License-Identifier: MPL-2.0
"""The VM object at the head of a VM bundle, made into what `vmadm receive` makes of it (docs/vmadm.md, "Moving a VM").

Who wrote the bundle is not known. So besides what a create's payload must keep to, all that it names must be the VM's
own: its root is POOL/ZONENAME, its delegated datasets lie below that, its disks are POOL/ZONENAME/... or
POOL/ZONENAME-diskN. Metadata and tags are not looked at: they travel in the root dataset's files.
Always: pure; BadPayload has all that is wrong; nothing is kept of the object that a create would not take."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vmadm.errors import BadPayload
from vmadm.payload import Payload
from vmadm.payload.asked import is_allowed
from vmadm.payload.change import Change
from vmadm.payload.diskrules import DEVICES, DISK
from vmadm.payload.findings import CREATE
from vmadm.payload.nodefacts import POOL, NodeFacts
from vmadm.payload.parsing import brand_of, parse_create
from vmadm.payload.unset import said
from vmload import brands
from vmload.uuids import is_uuid

OF_FILES = ("customer_metadata", "internal_metadata", "tags")
OF_VOLUMES = ("compression", "refreservation", "block_size")  # what the stream itself brings to a disk's volume
OF_RECEIVE = ("create_timestamp", "datasets", "v")  # what the zone gets although no create takes it
ZONENAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
A_UUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")
LABEL = r"[A-Za-z0-9_.:-]+"  # of a dataset's name
RESERVED = ("archive", "config", "cores", "global", "opt", "swap", "dump", "usbkey", "var")  # datasets of a node's pool


@dataclass(frozen=True)
class Arrival:
    """A VM that is to be received. `awaited` are the datasets that come as chunks of their own, the root first; `kept`
    is what is written down for the installation."""

    change: Change
    root: str
    created: str
    version: int
    datasets: tuple[str, ...]
    awaited: tuple[str, ...]
    kept: Payload


def parse_arrival(vm: Payload, node: NodeFacts) -> Arrival:
    """`vm` is the object as `vmadm get` shows it. Raises BadPayload."""
    payload = arriving_payload(vm)
    uuid = uuid_of(vm)
    zonename = vm.get("zonename", uuid)
    if not _is_zonename(zonename, uuid):
        raise BadPayload([f"a zone cannot be called {zonename!r}"])
    change = parse_create(payload, node, uuid, arrives=True)
    root = f"{change.zpool}/{zonename}"
    texts = [*_foreign(vm, root), *_foreign_disks(change), *_bad_marks(vm)]
    if texts:
        raise BadPayload(texts)
    kept = {name: value for name, value in payload.items() if is_allowed(name, change.brand, CREATE)}
    kept.update({name: vm[name] for name in OF_RECEIVE if name in vm})
    kept.update(uuid=uuid, brand=change.brand, zpool=change.zpool, zonename=zonename, zfs_filesystem=root)
    return Arrival(
        change=change,
        root=root,
        created=str(vm.get("create_timestamp", "")),
        version=int(vm.get("v", 1)),
        datasets=tuple(vm.get("datasets") or ()),
        awaited=(root, *[name for name in _volumes(vm, change) if not name.startswith(root + "/")]),
        kept={**kept, "create_only": True},
    )


def _is_zonename(name: Any, uuid: str) -> bool:
    """A name of the VM's own: its uuid, or one that holds none. What is called after another VM, such as `UUID-disk0`,
    would be taken for a part of that."""
    if name == uuid:
        return True
    return isinstance(name, str) and bool(ZONENAME.fullmatch(name)) and name not in RESERVED and not A_UUID.search(name)


def uuid_of(vm: Payload) -> str:
    """Raises BadPayload if there is none."""
    if not is_uuid(vm.get("uuid")):
        raise BadPayload(["the VM has no uuid"])
    return str(vm["uuid"])


def arriving_payload(vm: Payload) -> Payload:
    """A create's payload that says of the VM what the bundle's datasets do not. Raises BadPayload."""
    if "brand" not in vm:
        raise BadPayload(["Missing required properties: brand"])
    missing = [name for name in brands.facts(brand_of(vm))["required_on_receive"] if name not in vm]
    if missing:
        raise BadPayload([f"Missing required properties: {','.join(missing)}"])
    payload = {name: value for name, value in vm.items() if name not in OF_FILES}
    payload.setdefault("dns_domain", None)  # a VM that has none gets none; all else that has a default every VM has
    if vm.get("docker") is True and isinstance(vm.get("internal_metadata"), dict):
        payload["internal_metadata"] = vm["internal_metadata"]  # says how the container's output is logged
    disks = vm.get("disks")
    if isinstance(disks, list):
        payload["disks"] = [_attached(disk) if isinstance(disk, dict) else disk for disk in disks]
    return payload


def _attached(disk: dict[str, Any]) -> dict[str, Any]:
    plain = {name: value for name, value in disk.items() if name not in OF_VOLUMES}
    if "image_uuid" in plain:
        plain.pop("size", None)  # the image's counts; the volume comes with its own
    return {**plain, "nocreate": True}


def _volumes(vm: Payload, change: Change) -> list[str]:
    """The volumes of the VM's disks that there were where it comes from."""
    disks = [disk for disk in vm.get("disks") or [] if isinstance(disk, dict)]
    missing = {str(disk.get("path")) for disk in disks if disk.get("missing")}
    return [
        disk.path.removeprefix(DEVICES)
        for disk in change.disks.add
        if said(disk.media, DISK) == DISK and disk.path not in missing
    ]


def _foreign(vm: Payload, root: str) -> Iterator[str]:
    """What the VM names that is not its own."""
    if vm.get("zfs_filesystem", root) != root:
        yield f"the root dataset of the VM would be {root}, not {vm['zfs_filesystem']!r}"
    if vm.get("zonepath", f"/{root}") != f"/{root}":
        yield f"the zonepath of the VM would be /{root}, not {vm['zonepath']!r}"
    datasets = vm.get("datasets") or []
    for name in datasets if isinstance(datasets, list) else [datasets]:
        if not isinstance(name, str) or not re.fullmatch(f"{re.escape(root)}(/{LABEL})+", name) or _climbs(name):
            yield f"the VM cannot have the dataset {name!r}: it is not below {root}"


def _foreign_disks(change: Change) -> Iterator[str]:
    seen: set[str] = set()
    for disk in change.disks.add:
        path = disk.path
        if path in seen:
            yield f"two disks of the VM have the path {path!r}"
        seen.add(path)
        own = path.startswith(DEVICES) and is_own_volume(path.removeprefix(DEVICES), change.zonename)
        if not own and (said(disk.media, DISK) == DISK or path.startswith("/dev/") or _climbs(path)):
            yield f"the VM cannot have the disk {path!r}: it is no volume of its own"


def is_own_volume(name: str, zonename: str) -> bool:
    """Whether it is a dataset at which the disks of that zone lie."""
    pool, _, rest = name.partition("/")
    own = f"{re.escape(zonename)}((/{LABEL})+|-disk[0-9]+)"
    return POOL.fullmatch(pool) is not None and re.fullmatch(own, rest) is not None and not _climbs(name)


def _climbs(name: str) -> bool:
    return any(label in (".", "..") for label in name.split("/"))


def _bad_marks(vm: Payload) -> Iterator[str]:
    created, version = vm.get("create_timestamp", ""), vm.get("v", 1)
    if created != "" and not (isinstance(created, str) and DATE.fullmatch(created)):
        yield "Invalid value(s) for: create_timestamp"
    if isinstance(version, bool) or not isinstance(version, int) or not 0 <= version < 1 << 31:
        yield "Invalid value(s) for: v"
