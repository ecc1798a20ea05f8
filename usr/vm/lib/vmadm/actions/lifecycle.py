# SPDX-License-Identifier: MPL-2.0
"""`vmadm start`, `stop`, `reboot` and `kill`.

Always: the stream of events is open before anything is done to the zone; a state counts when the VM object shows it.
        These commands take no config lock: a stop that waits for minutes must not keep an update, a kill or
        another stop from its work. Each call of zonecfg still has its own lock.
Not here: kvm's graceful stop and reset, which are vmadmd's work (vmadmd.py)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Optional

from vmadm.actions.atonce import at_once
from vmadm.actions.bootdrives import check_options
from vmadm.actions.following import Check, Follower
from vmadm.actions.gathering import check_tags_of
from vmadm.actions.outcome import confirmed, exactly, judged
from vmadm.actions.readying import Restart, made_ready
from vmadm.actions.session import Session, not_found
from vmadm.actions.vmadmd import STOP, check_there, reboot_kvm, reset_kvm, stop_kvm
from vmadm.errors import AlreadyInState, CannotRead, NotReached, ToolFailed, VmadmError, VmNotFound, WrongState
from vmadm.node import startvm, zonecfg
from vmadm.node.machine import FIRST, Result, failure
from vmadm.node.zonefolder import ZoneFolder
from vmadm.payload.bootoptions import NOTHING, BootOptions
from vmload import Vm, brands

START_LIMIT = 300.0  # seconds until the VM runs, or has run
STOP_LIMIT = 300.0  # seconds until the VM shows that it is stopped
SHUTDOWN_LIMIT = 60.0  # seconds that a zone has for shutting down by itself; then it is halted
HALT_LIMIT = 60.0  # seconds until a halted zone is shown so
REBOOT_LIMIT = 180.0  # seconds until a zone that was asked to reboot runs again
GRACE = {"docker": 10.0, "bhyve": 180.0}  # seconds between SIGTERM and the end
ASK_LIMIT = 60.0  # seconds that zlogin may take to ask a zone for a shutdown

INIT_IS_GONE = 4294967295  # the pid that the kernel shows when a running zone has no init any more
ALREADY_HALTED = "zone is already halted"


# Starting.


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
    return _confirmed_autoboot(session, vm, name) if vm.get("autoboot") is not True else _present(session, vm, name)


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
                vm = _present(session, vm, name)
    elif vm.get("zone_state") != "installed":
        raise WrongState(f'Cannot start vm from state "{vm.get("state")}", must be "stopped".')
    return vm


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


def _confirmed_autoboot(session: Session, vm: Vm, name: str) -> Vm:
    if vm.get("docker"):
        return _present(session, vm, name)
    return confirmed(session, vm["zonename"], [exactly("autoboot", True)], name, f"VM {vm['uuid']} was started")


# Stopping.


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
    return _present(session, vm, name)


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


# Rebooting.


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
        return _present(session, vm, name)
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


# Signals.


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


# What they have in common.


def look_for(session: Session, uuid: str, name: str, *, last_known: bool = False) -> Vm:
    """The VM, for the commands whose word for "no such VM" has always been the status code. `last_known`: of a VM that
    cannot be read the object that was read last. Raises VmNotFound, CannotRead."""
    with not_found_as_ever(uuid):
        return session.look_or_last_known(uuid, name) if last_known else session.look(uuid, name)


def known(session: Session, uuid: str, name: str) -> Vm:
    """The VM as it is served, for the commands that only turn to it. Raises VmNotFound, as look_for()."""
    with not_found_as_ever(uuid):
        return session.known(uuid, name)


@contextmanager
def not_found_as_ever(uuid: str) -> Iterator[None]:
    """The word of those commands for a VM that is not there to begin with."""
    try:
        yield
    except VmNotFound as error:
        if str(error) != not_found(uuid):
            raise
        raise VmNotFound("bad statusCode: 404") from error


def set_autoboot(session: Session, vm: Vm, on: bool) -> None:
    """Whether the VM boots with the node; failing is no failure of the start or stop."""
    statement = zonecfg.autoboot(on, vm["brand"])
    session.try_to("set autoboot", lambda: session.must_zonecfg(vm["uuid"], statement), uuid=vm["uuid"])


def remove_transition(session: Session, vm: Vm) -> None:
    """Take the transition marker away; none is fine. Raises ToolFailed."""
    result = session.zonecfg(vm["uuid"], zonecfg.REMOVE_TRANSITION)
    if result.status != 0 and zonecfg.ATTR_GONE not in result.stderr:
        raise failure("zonecfg", result)


def unset_transition(session: Session, uuid: str) -> Vm:
    """Take the transition away, and start the VM if it was one to `start`; the VM as it is then. Raises VmadmError."""
    name = f"VM.js unsetTransition ({uuid})"
    with at_once(session, uuid, name, "unset-transition") as held:
        vm = held.vm
        remove_transition(session, vm)
        wanted = [exactly("transition_to", None)]
        shown = judged(held.outcome(), vm["zonename"], wanted, f"VM {uuid} was updated")
    return start(session, uuid) if vm.get("transition_to") == "start" else shown


def prefixed(result: Result, tool: str) -> None:
    """Raise ToolFailed, with the words that stand before it, unless the command succeeded."""
    if result.status != 0:
        error = failure(tool, result)
        error.args = (FIRST + str(error),)
        raise error


def _present(session: Session, vm: Vm, name: str) -> Vm:
    found = session.fresh(vm["zonename"], name)
    if found is None:
        raise VmNotFound(f"VM {vm['uuid']} was deleted meanwhile")
    return found
