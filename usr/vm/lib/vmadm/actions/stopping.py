# SPDX-License-Identifier: MPL-2.0
"""Stopping a VM: what is asked of its guest, how long it has, and what ends it by force.

Always: the stream of events is open before anything is done to the zone; a VM is stopped when its object shows it.
Not here: kvm's graceful stop, which is vmadmd's work (vmadmd.py)."""

from __future__ import annotations

from typing import Optional

from vmadm.actions.finding import look_for, present
from vmadm.actions.following import Check, Follower
from vmadm.actions.marks import remove_transition, set_autoboot
from vmadm.actions.outcome import confirmed, exactly
from vmadm.actions.session import Session
from vmadm.actions.vmadmd import STOP, check_there, stop_kvm
from vmadm.errors import AlreadyInState, CannotRead, NotReached, ToolFailed, VmadmError, VmNotFound
from vmadm.node import zonecfg
from vmadm.node.machine import FIRST, failure, prefixed
from vmload import Vm, brands

STOP_LIMIT = 300.0  # seconds until the VM shows that it is stopped
SHUTDOWN_LIMIT = 60.0  # seconds that a zone has for shutting down by itself; then it is halted
HALT_LIMIT = 60.0  # seconds until a halted zone is shown so
GRACE = {"docker": 10.0, "bhyve": 180.0}  # seconds between SIGTERM and the end
ASK_LIMIT = 60.0  # seconds that zlogin may take to ask a zone for a shutdown

INIT_IS_GONE = 4294967295  # the pid that the kernel shows when a running zone has no init any more
ALREADY_HALTED = "zone is already halted"


def stop(session: Session, uuid: str, *, force: bool = False, timeout: Optional[float] = None) -> Vm:
    """Stop the VM. `timeout` in seconds: how long a docker, bhyve or kvm VM has before it is halted. Raises
    AlreadyInState if it does not run, and other VmadmErrors."""
    if force:
        return halt(session, uuid)
    name = f"VM.js VM.stop ({uuid})"
    vm = session.look(uuid, name)
    graceful = vm.get("docker") or brands.is_hvm(vm["brand"])
    if timeout is not None and not graceful:
        raise VmadmError(f"{FIRST}Timeout option is only supported for bhyve, KVM and docker containers.")
    if vm["brand"] == "kvm" and vm.get("state") == "running":
        check_there(session, STOP)
    result = session.zonecfg(uuid, zonecfg.autoboot(False, vm["brand"]))
    if result.status != 0:
        raise failure("zonecfg", result)
    if vm.get("state") != "running":
        session.show(uuid, name)
        raise not_running(vm)
    with Follower(session, vm["zonename"], name) as follower:
        if vm["brand"] == "kvm":
            stop_kvm(session, vm, timeout)
        elif graceful:
            _end_init(session, vm, timeout)
        else:
            _shut_down(session, vm, follower)
            set_autoboot(session, vm, False)
        stopped = follower.until(is_stopped(vm), STOP_LIMIT, f"timed out waiting for VM {uuid} to stop")
    if stopped is None or stopped.get("autoboot") is not False:
        return confirmed(session, vm["zonename"], [exactly("autoboot", False)], name, f"VM {uuid} was stopped")
    return stopped


def halt(session: Session, uuid: str) -> Vm:
    """Stop the VM by force. Raises AlreadyInState, and other VmadmErrors."""
    name = f"VM.js halt ({uuid})"
    vm = look_for(session, uuid, name, last_known=True)
    with Follower(session, vm["zonename"], name) as follower:
        result = session.node.run("zoneadm", "-u", uuid, "halt", "-X")
        if result.stderr.rstrip().endswith(ALREADY_HALTED):
            remove_transition(session, vm)
            session.show(uuid, name)
            raise not_running(vm)
        prefixed(result, "zoneadm")
        try:
            follower.until(is_halted(vm), HALT_LIMIT, f"timed out waiting for VM {uuid} to halt")
        except CannotRead as error:  # zoneadm has halted it, whoever can see that
            session.tell(str(error))
            return vm
    set_autoboot(session, vm, False)
    if vm.get("state") == "stopping":
        remove_transition(session, vm)
    return present(session, vm, name)


def is_stopped(before: Vm) -> Check:
    """A check: the VM is stopped, and shows when and how its init ended."""
    shows_exit = not brands.is_hvm(before["brand"])  # their zones leave no exit status

    def check(vm: Optional[Vm]) -> bool:
        if vm is None:
            raise VmNotFound(f"VM {before['uuid']} was deleted meanwhile")
        return bool(
            vm.get("state") == "stopped"
            and not (shows_exit and ("exit_timestamp" not in vm or "exit_status" not in vm))
        )

    return check


def is_halted(before: Vm) -> Check:
    """A check: the zone is out of the kernel."""

    def check(vm: Optional[Vm]) -> bool:
        if vm is None:
            raise VmNotFound(f"VM {before['uuid']} was deleted meanwhile")
        return vm.get("zone_state") == "installed"

    return check


def not_running(vm: Vm) -> AlreadyInState:
    return AlreadyInState(f"VM {vm['uuid']} is already not 'running' (currently: {vm.get('state')})")


def _shut_down(session: Session, vm: Vm, follower: Follower) -> None:
    """Ask the zone to shut down; one that does not is halted."""
    zonename = vm["zonename"]
    if vm.get("pid") == INIT_IS_GONE:
        session.node.must("zoneadm", "-z", zonename, "halt")
        return
    lx = vm["brand"] == "lx"
    words = ("/sbin/shutdown", "-h", "now") if lx else ("/usr/sbin/shutdown", "-y", "-g", "0", "-i", "5")
    session.try_to(
        "ask the zone to shut down",
        lambda: session.node.run("zlogin", zonename, *words, limit=ASK_LIMIT),
        uuid=vm["uuid"],
    )
    try:
        follower.until(is_halted(vm), SHUTDOWN_LIMIT, "it did not shut down by itself")
    except NotReached:
        session.node.must("zoneadm", "-z", zonename, "halt")


def _end_init(session: Session, vm: Vm, timeout: Optional[float]) -> None:
    """End a docker container's or a bhyve VM's first process, first with a request, then by force."""
    uuid, pid = vm["uuid"], vm.get("pid")
    kind = "docker" if vm.get("docker") else vm["brand"]
    ended = pid == INIT_IS_GONE
    if pid and not ended:
        session.try_to("signal init", lambda: session.node.must("kill", "-TERM", str(pid)), uuid=uuid)
        ended = _waited(session, pid, timeout if timeout is not None else GRACE[kind])
    if kind == "docker" and pid and not ended:
        session.try_to("kill init", lambda: session.node.must("kill", "-KILL", str(pid)), uuid=uuid)
        ended = _waited(session, pid, GRACE["docker"])
    if kind == "docker" or not ended:
        result = session.node.run("zoneadm", "-u", uuid, "halt", "-X")
        if result.status != 0 and not result.stderr.rstrip().endswith(ALREADY_HALTED):
            raise failure("zoneadm", result)


def _waited(session: Session, pid: int, seconds: float) -> bool:
    """Whether the process has ended within that time."""
    try:
        session.node.run("pwait", str(pid), limit=max(seconds, 0.001))
    except ToolFailed:
        return False
    return True
