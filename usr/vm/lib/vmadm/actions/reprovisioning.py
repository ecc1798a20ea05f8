# SPDX-License-Identifier: MPL-2.0
"""`vmadm reprovision`: another image in the place of a VM's own; all else that it has stays.

Of an OS zone the root dataset is made anew (reprovisionroot.py), of a bhyve VM the first disk (reprovisiondisk.py).
Always: the config lock is held to the end. What an earlier reprovision left, that was killed, is put in order first
        (settling.py)."""

from __future__ import annotations

from vmadm.actions import settling
from vmadm.actions.reprovisiondisk import DiskReprovision
from vmadm.actions.reprovisionroot import RootReprovision
from vmadm.actions.reprovisionsteps import SCRIPTS, Reprovision
from vmadm.actions.session import Session
from vmadm.errors import BadPayload, VmadmError, WrongState
from vmadm.payload import Payload
from vminfod.clients.plainjson import compact
from vmload import Vm
from vmload.uuids import is_uuid


def reprovision(session: Session, uuid: str, payload: Payload) -> Vm:
    """Give the VM the image `image_uuid` of the payload; the VM as it is then. Raises VmadmError."""
    name = f"VM.js reprovision ({uuid})"
    try:
        session.check_known(uuid, name)
        with session.config_lock(uuid):
            vm = session.look(uuid, name)
            image = _image_of(vm, payload)
            vm = settling.settled_vm(session, vm, name)
            kind: type[Reprovision] = DiskReprovision if vm["brand"] == "bhyve" else RootReprovision
            return kind(session, vm, image, name).run()
    except VmadmError as error:
        error.args = (f"Failed to reprovision VM {uuid}: {error}",)
        raise


def _image_of(vm: Vm, payload: Payload) -> str:
    if vm["brand"] not in SCRIPTS:
        raise WrongState(f'brand "{vm["brand"]}" does not yet support reprovision')
    image = payload.get("image_uuid")
    if not image:
        raise BadPayload(["payload is missing image_uuid"])
    if not is_uuid(image):
        raise BadPayload([f"image_uuid is no uuid: {compact(image)}"])
    return str(image)
