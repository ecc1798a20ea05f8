# SPDX-License-Identifier: MPL-2.0
"""What a VM needs before it boots: what its configuration lacks, and what is written for its guest.

Always: nothing is done where nothing is lacking; what is done is kept, so that the next start finds it done.
The order: a container's files from elsewhere, the changes of the configuration as one update, and then, of the VM as
it is by that, what cloud-init is told."""

from __future__ import annotations

import uuid as uuids
from typing import Any, NamedTuple, Optional

from vmadm.actions import hostvolumes, nocloud
from vmadm.actions.session import Session
from vmadm.errors import VmadmError
from vmadm.payload import pcislots
from vmadm.payload.diskrules import multiple_boot
from vmload import Vm

RESTARTS, DELAY = "docker:restartcount", "docker:restartdelay"


class Restart(NamedTuple):
    """A start that is a restart by a container's policy; `delay` in milliseconds, for the next one to wait."""

    delay: Optional[int] = None


def made_ready(session: Session, vm: Vm, restart: Optional[Restart] = None) -> Vm:
    """The VM as it is to boot. `restart`: it is no start by hand, which counts the restarts anew. Raises VmadmError."""
    from vmadm.actions.updating import update

    hostvolumes.fetch(session, vm, f"VM.js startZone ({vm['uuid']})")
    asked: dict[str, Any] = {}
    if vm["brand"] == "bhyve":
        asked["update_disks"] = _disks_that_lack(vm)
    if vm.get("docker"):
        asked["set_internal_metadata"] = _counters(vm, restart)
    asked = {key: value for key, value in asked.items() if value}
    return nocloud.written(session, update(session, vm["uuid"], asked) if asked else vm)


def _disks_that_lack(vm: Vm) -> list[Vm]:
    """Disks that an older vmadm made, and cloud-init's, get the PCI slot and the uuid that they lack. Raises
    VmadmError."""
    disks = vm.get("disks") or []
    boot = [disk for disk in disks if disk.get("boot")]
    if len(boot) > 1:
        raise VmadmError(multiple_boot(boot))
    taken = pcislots.Taken()
    slots = pcislots.assign(disks, taken, legacy=True)
    if taken.errors:
        raise VmadmError("; ".join(taken.errors))
    lacking = [
        {
            "path": disk["path"],
            **({} if disk.get("pci_slot") else {"pci_slot": slot}),
            **({} if disk.get("uuid") else {"uuid": str(uuids.uuid4())}),
        }
        for disk, slot in zip(disks, slots, strict=True)
    ]
    return [disk for disk in lacking if len(disk) > 1]


def _counters(vm: Vm, restart: Optional[Restart]) -> dict[str, int]:
    """What is to be changed of how often a container was restarted."""
    metadata = vm.get("internal_metadata") or {}
    before = metadata.get(RESTARTS)
    if restart is None:
        wanted = {RESTARTS: 0}
    else:
        wanted = {RESTARTS: before + 1 if type(before) is int else 1}
        if restart.delay is not None:
            wanted[DELAY] = restart.delay
    return {key: value for key, value in wanted.items() if metadata.get(key) != value}
