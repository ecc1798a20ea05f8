# SPDX-License-Identifier: MPL-2.0
"""The volume on which the cloud-init of a guest finds its data, written before the VM boots (docs/vmadm.md,
"cloud-init").

Always: only the volume of one of the VM's own disks is written, and only one of the size and kind that is made for
        this; what is on it is known by the digest in the metadata, so that it is not written at every boot."""

from __future__ import annotations

from vmadm.actions.session import Session
from vmadm.errors import VmadmError
from vmadm.node import fatimage
from vmadm.payload import cloudinit
from vmadm.payload.diskrules import DEVICES
from vmadm.payload.follow import DATASOURCE, NOCLOUD, NOCLOUD_BLOCK, NOCLOUD_PATH, NOCLOUD_SIZE
from vmload import Vm

HASH = "cloudinit_nocloud_hash"
LABEL = "CIDATA"


def written(session: Session, vm: Vm) -> Vm:
    """The VM with its data on that volume, where it has one. Raises VmadmError."""
    from vmadm.actions.updating import update

    metadata = vm.get("internal_metadata") or {}
    path = metadata.get(NOCLOUD_PATH)
    if metadata.get(DATASOURCE) != NOCLOUD or not path:
        return vm
    if not any(_is_for_it(disk, path) for disk in vm.get("disks") or []):
        raise VmadmError(f"Invalid cloudinit_nocloud_path: {path}")
    digest = cloudinit.digest(vm)
    if metadata.get(HASH) == digest:
        return vm
    files = {name: text.encode("utf-8", "surrogatepass") for name, text in cloudinit.files(vm).items()}
    try:
        content = fatimage.image(LABEL, int(digest[:8], 16), files)
    except fatimage.DoesNotFit as error:
        raise VmadmError(f"cannot write {path} for cloud-init: {error}") from error
    session.node.write_device(path, content)
    found = [vm]
    remember = {"set_internal_metadata": {HASH: digest}}
    session.try_to(
        "remember what cloud-init was told",
        lambda: found.append(update(session, vm["uuid"], remember)),
        uuid=vm["uuid"],
    )
    return found[-1]


def _is_for_it(disk: Vm, path: str) -> bool:
    return (
        disk.get("path") == path == f"{DEVICES}{disk.get('zfs_filesystem')}"
        and (disk.get("size"), disk.get("block_size")) == (NOCLOUD_SIZE, NOCLOUD_BLOCK)
        and not disk.get("boot")
    )
