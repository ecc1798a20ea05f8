# SPDX-License-Identifier: MPL-2.0
"""Firewall rules follow their VMs: fwadm is told when one comes, changes or goes (docs/vmadm.md, "Firewall").

    came       create, receive                     after the VM's files are written, before it counts as made
    changed    update of NICs, tags or firewall_enabled, after vminfod serves the change
    went       delete: VMs whose rules name it forget its addresses

Always: only if some VM has a firewall, or is to have none any more, and the node has fwadm. A failure is reported and
        undoes nothing: what was changed stays, and the message says so. Start, stop, reboot, reprovision and snapshots
        call nothing: a zone's boot loads the files of its filter, which lie in its dataset."""

from __future__ import annotations

from collections.abc import Callable
from typing import Optional

from vmadm.actions.session import Session
from vmadm.errors import VmadmError
from vmadm.node import fwadm
from vmadm.node.zonefolder import ZoneFolder
from vmadm.payload.change import Change
from vmadm.payload.unset import UNSET
from vminfod.client import VminfodError
from vmload import Vm

BEING_MADE = ("provisioning", "receiving")  # states of VMs that come to the rules when they are whole
REPEAT = "the change was made: repeat the command, or run fwadm update"


def came(session: Session, vm: Vm, name: str) -> None:
    """Rules that name the new VM apply to it, and to those on their other side. A failure is told and logged: the VM
    is good without."""
    if not vm.get("nics"):
        return

    def add() -> None:
        session.fresh(vm["uuid"], name)  # fwadm finds the VM with all its tags
        if _with_firewall(session, name, vm["uuid"]):
            fwadm.tell(session.node, "add", [vm["uuid"]])

    _try_to(session, vm, "add firewall rules for VM", add)


def changed(session: Session, change: Change, vm: Vm, name: str) -> None:
    """What an update of the VM means for rules; `vm` as it is now served. Raises VmadmError, which names the change
    that stays."""
    enabled = change.request.properties.firewall_enabled
    if not fwadm.is_there(session.node):
        return
    doing = "enabling firewall" if enabled is True else "updating firewall rules"
    try:
        follows = bool(change.request.nics or change.request.maps.tags)
        if enabled is True or (follows and _with_firewall(session, name, vm["uuid"])):
            fwadm.tell(session.node, "update", [vm["uuid"]])
        if enabled is not UNSET and enabled is not True:
            doing = "disabling firewall"
            running = vm.get("zone_state") == "running"
            fwadm.switch_off(session.node, vm["zonename"], ZoneFolder(session.node, vm["zonepath"]), running=running)
    except VmadmError as error:
        error.args = (f"Error {doing} for VM: {error}; {REPEAT}",)
        raise


def went(session: Session, vm: Vm, name: str) -> None:
    """The VM is gone: its addresses may be another's tomorrow. A failure is told and logged."""
    if not vm.get("nics"):
        return

    def update() -> None:
        left = _with_firewall(session, name)
        if left:
            fwadm.tell(session.node, "update", left)

    _try_to(session, vm, "take from the firewall rules of others VM", update)


def _with_firewall(session: Session, name: str, own: Optional[str] = None) -> list[str]:
    """The VMs that have a firewall, without those that are just being made; `own` is the VM itself, which counts.

    Raises VmadmError."""
    if not fwadm.is_there(session.node):
        return []
    try:
        vms = session.client(name).vms({"fields": ["uuid", "state", "firewall_enabled"]})
    except VminfodError as error:
        raise VmadmError(f"cannot reach vminfod: {error}") from error
    return [
        vm["uuid"]
        for vm in vms
        if vm.get("firewall_enabled") and (vm.get("state") not in BEING_MADE or vm["uuid"] == own)
    ]


def _try_to(session: Session, vm: Vm, what: str, act: Callable[[], None]) -> None:
    error = session.try_to(what, act, uuid=vm["uuid"])
    if error is not None:
        session.tell(f"could not {what} {vm['uuid']}: {error}; run fwadm update")
