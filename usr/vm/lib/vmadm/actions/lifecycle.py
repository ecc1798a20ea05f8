# SPDX-License-Identifier: MPL-2.0
"""`vmadm start`, `reboot` and `kill`; `stop` is stopping.py's.

Always: the stream of events is open before anything is done to the zone; a state counts when the VM object shows it.
        These commands take no config lock: a stop that waits for minutes must not keep an update, a kill or
        another stop from its work. Each call of zonecfg still has its own lock.
Not here: kvm's reboot and reset, which are vmadmd's work (vmadmd.py)."""

from __future__ import annotations

from typing import Optional

from vmadm.actions.atonce import at_once
from vmadm.actions.bootdrives import check_options
from vmadm.actions.booting import START_LIMIT, boot, has_run
from vmadm.actions.finding import look_for, present
from vmadm.actions.following import Check, Follower
from vmadm.actions.gathering import check_tags_of
from vmadm.actions.marks import remove_transition
from vmadm.actions.outcome import confirmed, exactly, judged
from vmadm.actions.readying import Restart, made_ready
from vmadm.actions.session import Session
from vmadm.actions.stopping import ASK_LIMIT, GRACE, INIT_IS_GONE, stop
from vmadm.actions.vmadmd import reboot_kvm, reset_kvm
from vmadm.errors import AlreadyInState, VmadmError, VmNotFound, WrongState
from vmadm.payload.bootoptions import NOTHING, BootOptions
from vmload import Vm

REBOOT_LIMIT = 180.0  # seconds until a zone that was asked to reboot runs again


def start(session: Session, uuid: str, restart: Optional[Restart] = None, *, options: BootOptions = NOTHING) -> Vm:
    """Boot the VM, a kvm VM with `options` this once, and wait until it runs. `restart`: by a container's policy.

    Raises AlreadyInState if it does, and other VmadmErrors."""
    name = f"VM.js startZone ({uuid})"
    try:
        vm = look_for(session, uuid, name)
        state = vm.get("state")
        if state == "running":
            raise AlreadyInState(f"VM {uuid} is already 'running'")
        if state == "provisioning":
            vm = _seen_through(session, vm, name)
            if vm.get("state") == "running":
                return vm
        elif state != "stopped":
            raise WrongState(f'Cannot start vm from state "{state}", must be "stopped".')
        check_tags_of(session.node, vm)
        check_options(session, vm, options)
        vm = made_ready(session, vm, restart)
        with Follower(session, vm["zonename"], name) as follower:
            boot(session, vm, options)
            follower.until(has_run(vm), START_LIMIT, f"timed out waiting for VM {uuid} to run")
    except VmadmError as error:
        error.args = (f"Unable to start VM {uuid}: {error}",)
        raise
    return _confirmed_autoboot(session, vm, name) if vm.get("autoboot") is not True else present(session, vm, name)


def _seen_through(session: Session, vm: Vm, name: str) -> Vm:
    """A VM that shows `provisioning`, when whoever is making it has ended, or was killed: what a reprovision left is
    put in order, and a first boot that nobody waits for any more is waited for. Raises VmadmError."""
    from vmadm.actions import firstboot, settling

    uuid = vm["uuid"]
    if settling.can_be_interrupted(vm):
        with session.config_lock(uuid):
            vm = settling.settled_vm(session, look_for(session, uuid, name), name)
            if settling.can_be_interrupted(vm):
                firstboot.see_through(session, vm, name)
                vm = present(session, vm, name)
    elif vm.get("zone_state") != "installed":
        raise WrongState(f'Cannot start vm from state "{vm.get("state")}", must be "stopped".')
    return vm


def _confirmed_autoboot(session: Session, vm: Vm, name: str) -> Vm:
    if vm.get("docker"):
        return present(session, vm, name)
    return confirmed(session, vm["zonename"], [exactly("autoboot", True)], name, f"VM {vm['uuid']} was started")


def reboot(session: Session, uuid: str, *, force: bool = False) -> Vm:
    """Reboot the VM and wait until it runs again. Raises VmadmError."""
    name = f"VM.js waitForZoneState ({uuid})"
    vm = look_for(session, uuid, name)
    state, docker = vm.get("state"), bool(vm.get("docker"))
    if force and state != "running":
        raise WrongState(f'Cannot reset vm from state "{state}", must be "running".')
    if state != "running" and not (docker and state == "stopped"):
        raise WrongState(f'Cannot reboot vm from state "{state}", must be "running"')
    check_tags_of(session.node, vm, "Cannot reboot vm: ")
    if not force and (docker or vm["brand"] == "bhyve"):
        if state == "running":
            stop(session, uuid, timeout=GRACE["docker"])
        return start(session, uuid)
    if force and vm["brand"] == "kvm":
        reset_kvm(session, vm)  # the guest begins anew, its zone runs on: there is no state to wait for
        return present(session, vm, name)
    with Follower(session, vm["zonename"], name) as follower:
        if vm["brand"] == "kvm":
            reboot_kvm(session, vm)
        elif force:
            session.node.must("zoneadm", "-u", uuid, "reboot", "-X")
        else:
            lx = vm["brand"] == "lx"
            words = ("/sbin/shutdown", "-r", "now") if lx else ("/usr/sbin/shutdown", "-y", "-g", "0", "-i", "6")
            session.try_to(
                "ask the zone to reboot",
                lambda: session.node.run("zlogin", vm["zonename"], *words, limit=ASK_LIMIT),
                uuid=uuid,
            )
        running = follower.until(runs_anew(vm), REBOOT_LIMIT, "timed out waiting for zone to reboot")
    assert running is not None
    return running


def runs_anew(before: Vm) -> Check:
    """A check: the zone runs, and not as it ran `before`: each boot has a zoneid of its own."""

    def check(vm: Optional[Vm]) -> bool:
        if vm is None:
            raise VmNotFound(f"VM {before['uuid']} was deleted meanwhile")
        return bool(vm.get("zone_state") == "running" and vm.get("zoneid") != before.get("zoneid"))

    return check


def kill(session: Session, uuid: str, signal_name: str = "SIGTERM") -> Vm:
    """Send a signal to the VM's first process; gives the VM as it was. Raises VmadmError."""
    import signal

    plain = signal_name.upper().removeprefix("SIG")
    known = {name[3:] for name in signal.Signals.__members__}
    if plain not in known and not (signal_name.isascii() and signal_name.isdigit() and int(signal_name) < 128):
        raise VmadmError(f'Unknown signal "{signal_name}"')
    vm = look_for(session, uuid, f"VM.js kill ({uuid})", last_known=True)
    pid = vm.get("pid")
    if vm.get("zone_state") != "running" or not pid or pid == INIT_IS_GONE:
        raise WrongState(f"Cannot find running init PID for VM {uuid}")
    session.node.must("kill", f"-{plain}", str(pid))
    return vm


def unset_transition(session: Session, uuid: str) -> Vm:
    """Take the transition away, and start the VM if it was one to `start`; the VM as it is then. Raises VmadmError."""
    name = f"VM.js unsetTransition ({uuid})"
    with at_once(session, uuid, name, "unset-transition") as held:
        vm = held.vm
        remove_transition(session, vm)
        wanted = [exactly("transition_to", None)]
        shown = judged(held.outcome(), vm["zonename"], wanted, f"VM {uuid} was updated")
    return start(session, uuid) if vm.get("transition_to") == "start" else shown
