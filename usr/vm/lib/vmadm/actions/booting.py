# SPDX-License-Identifier: MPL-2.0
"""The boot of a zone that is ready for it, and the look whether it has run; what a VM needs before that is
readying.py's."""

from __future__ import annotations

from typing import Optional

from vmadm.actions.following import Check
from vmadm.actions.marks import set_autoboot
from vmadm.actions.session import Session
from vmadm.errors import VmNotFound
from vmadm.node import startvm
from vmadm.node.machine import prefixed
from vmadm.node.zonefolder import ZoneFolder
from vmadm.payload.bootoptions import NOTHING, BootOptions
from vmload import Vm

START_LIMIT = 300.0  # seconds until the VM runs, or has run


def boot(session: Session, vm: Vm, options: BootOptions = NOTHING) -> None:
    """Boot the zone, a kvm VM with `options`, and have it booted with the node from now on. Raises ToolFailed,
    NotWritten."""
    if vm["brand"] == "kvm":
        startvm.write(ZoneFolder(session.node, vm["zonepath"]), vm, options)
    prefixed(session.node.run("zoneadm", "-u", vm["uuid"], "boot", "-X"), "zoneadm")
    if not vm.get("docker") or vm.get("internal_metadata", {}).get("docker:restartpolicy"):
        set_autoboot(session, vm, True)


def has_run(before: Vm) -> Check:
    """A check: the VM runs, or it ran since `before` and has stopped again, as one does whose init ends at once."""
    seen_running = False

    def check(vm: Optional[Vm]) -> bool:
        nonlocal seen_running
        if vm is None:
            raise VmNotFound(f"VM {before['uuid']} was deleted meanwhile")
        seen_running = seen_running or vm.get("zone_state") == "running"
        if vm.get("state") == "running":
            return True
        ran = seen_running or vm.get("exit_timestamp") not in (None, before.get("exit_timestamp"))
        return bool(vm.get("state") == "stopped" and ran)

    return check
