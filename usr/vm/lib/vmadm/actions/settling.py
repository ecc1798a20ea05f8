# SPDX-License-Identifier: MPL-2.0
"""What an interrupted reprovision left: the VM is made whole again, with its old image or its new one.

The names of datasets say how far it came (node/rootswap.py). Until the new root, or disk, is kept, the old one comes
back; from then on what is left to do is done.
Always: the VM's config lock is held, so that no reprovision is under way; each step stands what was done already, so
        that an interrupted settling is settled by the next. The transition goes last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from vmadm.actions import marks
from vmadm.actions.session import Session
from vmadm.errors import VmNotFound, WrongState
from vmadm.node import zonecfg, zonecfg_blocks
from vmadm.node.machine import Node
from vmadm.node.rootswap import RootSwap, Swap
from vmload import Vm, brands

DEVICES = "/dev/zvol/rdsk/"


@dataclass(frozen=True)
class Settled:
    """Whether the VM has its new image, and which it has."""

    is_new: bool
    image: str


def swap_of(node: Node, vm: Vm) -> Swap:
    """The place of the VM's root, or of a bhyve VM's first disk, whatever is in it now."""
    root = vm["zonepath"].lstrip("/")
    if vm["brand"] == "bhyve":
        return Swap(node, f"{root}/disk0", vm["uuid"])
    pool, _, label = root.partition("/")
    return RootSwap(node, root, vm["uuid"], cores=f"{pool}/cores/{label}", delegates=bool(vm.get("datasets")))


def can_be_interrupted(vm: Vm) -> bool:
    """Whether the VM looks as if a reprovision had not come to its end."""
    return (
        vm.get("transition_to") == "running"
        and vm.get("zone_state") in ("installed", "running")
        and not vm.get("provisioning")
    )


def check_whole(session: Session, vm: Vm) -> None:
    """Before a change that would be lost where an interrupted reprovision is taken back: its config lock is held, so
    that none is under way. Costs nothing for a VM that does not look like it. Raises WrongState."""
    if vm["brand"] == "kvm" or vm.get("zone_state") != "installed" or not can_be_interrupted(vm):
        return
    if swap_of(session.node, vm).leftovers():
        raise WrongState(
            f"a reprovision of VM {vm['uuid']} was interrupted: run vmadm start, or reprovision it again, "
            "to put it in order"
        )


def settled_vm(session: Session, vm: Vm, name: str) -> Vm:
    """The VM, whole; what was done is told. The config lock is held. Raises VmadmError."""
    settled = settle(session, vm)
    if settled is not None:
        session.tell(f"an interrupted reprovision was {ended(settled)}")
    if can_be_interrupted(vm) and vm.get("zone_state") == "installed":
        marks.remove_transition(session, vm)
    elif settled is None:
        return vm
    found = session.fresh(vm["zonename"], name)
    if found is None:
        raise VmNotFound(f"VM {vm['uuid']} was deleted meanwhile")
    return found


def ended(settled: Settled) -> str:
    """How it ended, in words."""
    if settled.is_new:
        return f"completed: the VM has its new image {settled.image}"
    return f"taken back: the VM has its old image {settled.image}"


def settle(session: Session, vm: Vm) -> Optional[Settled]:
    """Make the VM whole; None if it is. Raises VmadmError."""
    if not brands.is_supported(vm["brand"]) or vm["brand"] == "kvm":
        return None
    swap = swap_of(session.node, vm)
    leftovers = swap.leftovers()
    if swap.kept_for_removal in leftovers:
        image = swap.image_of(swap.place)
        configure_image(session, vm, image)
        remove_old(session, vm, swap)
        return Settled(True, image)
    if leftovers:
        swap.take_back(leftovers)
        return Settled(False, image_in_use(vm))
    return None


def image_in_use(vm: Vm) -> str:
    """The image that the VM's configuration names."""
    if vm["brand"] == "bhyve":
        return str((first_disk(vm) or {}).get("image_uuid") or "(none)")
    return str(vm.get("image_uuid") or "(none)")


def first_disk(vm: Vm) -> Optional[Vm]:
    """The disk of a bhyve VM that a reprovision makes anew."""
    return next((disk for disk in vm.get("disks") or [] if str(disk.get("path", "")).endswith("/disk0")), None)


def configure_image(session: Session, vm: Vm, image: str) -> None:
    """Name the new image in the zone's configuration, and take away the mark of a VM whose old root had failed. Raises
    ToolFailed."""
    uuid = vm["uuid"]
    if vm.get("failed"):
        session.must_zonecfg(uuid, zonecfg.UNMARK_FAILED)
    if vm["brand"] != "bhyve":
        session.must_zonecfg(uuid, zonecfg.set_image(image, is_there=bool(vm.get("image_uuid"))))
        return
    disk = first_disk(vm) or {"path": DEVICES + swap_of(session.node, vm).place}
    if disk.get("image_uuid") != image:
        session.must_zonecfg(uuid, zonecfg_blocks.set_disk_image(disk["path"], disk.get("image_uuid"), image))


def remove_old(session: Session, vm: Vm, swap: Swap) -> None:
    """Destroy what the new root or disk replaced. Where zfs refuses, because of a hold or a clone of one of its
    snapshots, the VM is good without that: told, and tried again by the next reprovision or delete."""
    error = session.try_to("destroy what was replaced", swap.remove_old, uuid=vm["uuid"])
    if error is not None:
        session.tell(f"{swap.kept_for_removal} is left: {error}")
    elif vm["brand"] == "bhyve":
        session.try_to(
            "reserve the disk's space",
            lambda: session.node.must("zfs", "set", "refreservation=auto", swap.place),
            uuid=vm["uuid"],
        )
