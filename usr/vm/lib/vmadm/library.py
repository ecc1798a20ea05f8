# SPDX-License-Identifier: MPL-2.0
"""vmadm for Python programs: read VMs, change one and get back the object that everybody sees from then on.

    from vmadm import Vmadm, lookup, update

    uuids = lookup({"alias": "~^web", "state": "running"})  # this node
    vm = update(uuid, quota=20)
    vm = Vmadm(root="/tmp/node", port=9191).update(uuid, quota=20)      # a mock node

Every method that changes something blocks until the change is visible to all readers. All raise a VmadmError whose
text is the command's (vmadm.errors). Safe to use from several threads: each call is a command of its own, with the
same locks. Signals are left alone: a KeyboardInterrupt ends a call between two commands of the node at best, in the
midst of one at worst."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, Optional, Protocol, Union, overload

from vmadm.actions import (
    consoles,
    creating,
    deleting,
    failing,
    installing,
    lifecycle,
    nmi,
    receiving,
    reprovisioning,
    sending,
    snapshots,
    stopping,
    updating,
    validating,
)
from vmadm.actions.following import Follower
from vmadm.actions.readying import Restart
from vmadm.actions.session import Session, silently
from vmadm.cli.info import info_of, vmadmd_of
from vmadm.cli.matching import checked_filters, found, question_for
from vmadm.errors import DaemonAway, VmNotFound, WrongState
from vmadm.payload.bootoptions import ORDER, boot_options
from vminfod.client import HTTPStatusError, VminfodClient, VminfodError
from vminfod.clients.stream import VminfodEventStream
from vminfod.clients.vmfilter import trimmed
from vmload import Vm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vminfod.clients.clientlog import Logger


class HasFileno(Protocol):
    """A file, a pipe's end, a socket."""

    def fileno(self) -> int: ...


Descriptor = Union[int, HasFileno]  # a number, or a file object, which nobody has read from or written to yet

READER = "vmload/index"  # what the reads of vmadm have always called themselves
INFO_LIMIT = 60.0  # seconds that vmadmd may take
WAIT = 300.0  # seconds to wait for a state, as ever
NOT_FOUND = 404


class Vmadm:
    """A node and the vminfod that serves it. `tell` gets lines for an operator, such as which lock is waited for;
    `log` is a logger in the manner of the standard library's; `req_id`, the id of the request that the calls belong to,
    is in the cause of the events that they make."""

    def __init__(
        self,
        *,
        root: str = "/",
        host: Optional[str] = None,
        port: Optional[int] = None,
        tell: Callable[[str], None] = silently,
        log: Optional[Logger] = None,
        req_id: Optional[str] = None,
    ) -> None:
        self._root, self._host, self._port, self._tell, self._log = root, host, port, tell, log
        self._req_id = req_id

    # Reads. They ask vminfod, which answers from memory.

    def load(self, uuid: str, *, fields: Optional[Iterable[str]] = None, fresh: bool = False) -> Vm:
        """One VM object, or those of its top-level properties that `fields` names. `fresh`: have vminfod read all of
        the VM from the node first. Raises VmNotFound, DaemonAway."""
        session = self._session(f"load {uuid}")
        if fresh:
            vm = session.look(uuid, READER)
        else:
            with _answered():
                vm = _vm(session.client(READER), uuid)
        return vm if fields is None else {key: vm[key] for key in vm if key in frozenset(fields)}

    @overload
    def lookup(self, search: Optional[Mapping[str, object]] = None) -> list[str]: ...

    @overload
    def lookup(self, search: Optional[Mapping[str, object]] = None, *, fields: Iterable[str]) -> list[Vm]: ...

    @overload
    def lookup(self, search: Optional[Mapping[str, object]] = None, *, full: Literal[True]) -> list[Vm]: ...

    def lookup(
        self,
        search: Optional[Mapping[str, object]] = None,
        *,
        fields: Optional[Iterable[str]] = None,
        full: bool = False,
    ) -> Union[list[str], list[Vm]]:
        """The uuids of the VMs that `search` matches, by the rules of `vmadm lookup`; no `search`: all VMs.

        `full`: the objects, with `type`, and the `ram` that an operator means. `fields`: the objects with only these
        top-level properties, those without any of them left out. A zone that vminfod cannot read is not found; a
        warning in the log names it. Raises BadFilter (a VmadmError), DaemonAway."""
        session = self._session("lookup")
        filters = checked_filters(search or {}, kind="lookup")
        fields = None if fields is None else list(fields)
        shown = fields if fields is not None else None if full else ["uuid"]
        with _answered():
            vms, unreadable = session.client(READER).vms_and_unreadable(question_for(search or {}, shown))
        if unreadable:
            session.log.warning("the list of VMs is not complete", extra={"unreadable": unreadable})
        matched = found(vms, filters)
        if fields is not None:
            return trimmed(matched, fields)
        return matched if full else [str(vm.get("uuid")) for vm in matched]

    def events(self, uuid: Optional[str] = None, *, name: str = "VM.js events") -> VminfodEventStream:
        """What happens to all VMs, or to one, from now on: a stream to iterate over, to be closed with stop() or
        `with`. Its wait_ready() gives the ready event, whose `vms` has the VM objects by zonename; see
        vminfod.client.VminfodEventStream. Errors come from the stream: VminfodError. `name` is shown by `vminfo
        status`."""
        return VminfodEventStream(
            name,
            host=self._host,
            port=self._port,
            socket=self._session("events").socket,
            log=self._log,
            parse_ready=True,
            query={"uuid": uuid} if uuid is not None else None,
        )

    def info(self, uuid: str, types: Iterable[str] = ()) -> Any:
        """What vmadmd knows of a running bhyve or kvm VM, as it answers; no `types` means all.

        Raises VmNotFound, DaemonAway, and VmadmError if the VM is no such VM, or vmadmd does not answer."""
        vm = self.load(uuid)
        return info_of(vm, types, vmadmd_of(self._root, READER, INFO_LIMIT, self._log))

    def wait_for(
        self, uuid: str, state: Optional[str] = None, *, zone_state: Optional[str] = None, timeout: float = WAIT
    ) -> Vm:
        """Return the VM object as soon as it shows that `state`, that `zone_state`, or both; at once if it does.

        Raises VmNotFound, also if the VM is deleted meanwhile, WrongState if it fails while another state is waited
        for, NotReached after `timeout` seconds, and DaemonAway."""
        if state is None and zone_state is None:
            raise TypeError("wait_for() needs a state or a zone_state")
        wanted = {"state": state, "zone_state": zone_state}
        wanted = {key: value for key, value in wanted.items() if value is not None}

        def shows(vm: Optional[Vm]) -> bool:
            if vm is None:
                raise VmNotFound(f"VM {uuid} was deleted meanwhile")
            there = all(vm.get(key) == value for key, value in wanted.items())
            if not there and vm.get("state") == failing.FAILED:
                raise WrongState(f"VM {uuid} has failed, waiting for {_named(wanted)}")
            return there

        name = f"VM.js waitForZoneState ({uuid})"
        session = self._session(f"wait_for {uuid}")
        zonename = session.look(uuid, name)["zonename"]
        with Follower(session, zonename, name) as follower:
            vm = follower.until(shows, timeout, f"timed out waiting for {_named(wanted)} of VM {uuid}")
        assert vm is not None
        return vm

    # Changes.

    def mark_failed(self, uuid: str) -> Vm:
        """Give the VM up: mark it failed, take its transition away, halt it; gives the VM object."""
        return failing.mark_failed(self._session(f"mark_failed {uuid}"), uuid)

    def unset_transition(self, uuid: str) -> Vm:
        """Take the VM's transition away, as whoever has seen it through does; start the VM if it was one to `start`.

        Gives the VM object. A VM without one is fine. Raises VmNotFound, and what start() raises."""
        return lifecycle.unset_transition(self._session(f"unset_transition {uuid}"), uuid)

    def create(self, payload: Vm) -> Vm:
        """Make a VM, boot it unless `autoboot` is false, and wait until it is provisioned; gives the VM object."""
        return creating.create(self._session("create"), payload)

    def update(self, uuid: str, payload: Optional[Vm] = None, /, **properties: Any) -> Vm:
        """Change properties, given as a payload, by name, or both; gives the VM object as it is then."""
        return updating.update(self._session(f"update {uuid}"), uuid, {**(payload or {}), **properties})

    def reprovision(self, uuid: str, payload: Vm) -> Vm:
        """Give the VM another image, the payload's `image_uuid`, and start it; all else that it has stays. Where it
        fails the text says which image the VM has."""
        return reprovisioning.reprovision(self._session(f"reprovision {uuid}"), uuid, payload)

    def start(
        self,
        uuid: str,
        *,
        order: Optional[str] = None,
        drives: Iterable[tuple[str, str, str]] = (),
        restart: bool = False,
        restart_delay: Optional[int] = None,
    ) -> Vm:
        """Boot the VM and wait until it runs. AlreadyInState if it does.

        For a kvm VM, and this boot only: `order`, as qemu has it ("cd,once=d"), and further `drives`, each its media
        ("disk" or "cdrom"), its path, of one of the VM's disks or of a file in its zone, and its model.

        `restart`: it is a restart by a container's policy, which is counted in `docker:restartcount`; a start by hand
        begins to count anew. `restart_delay`: milliseconds to wait before the next one, kept in
        `docker:restartdelay`."""
        session = self._session(f"start {uuid}")
        by_policy = Restart(restart_delay) if restart else None
        asked = [] if order is None else [(ORDER, order)]
        options = boot_options([*asked, *[(media, f"{path},{model}") for media, path, model in drives]])
        return lifecycle.start(session, uuid, by_policy, options=options)

    def stop(self, uuid: str, *, force: bool = False, timeout: Optional[float] = None) -> Vm:
        """Stop the VM. `timeout` in seconds, for docker, bhyve and kvm only. AlreadyInState if it does not run."""
        return stopping.stop(self._session(f"stop {uuid}"), uuid, force=force, timeout=timeout)

    def reboot(self, uuid: str, *, force: bool = False) -> Vm:
        """Reboot the VM and wait until it runs again."""
        return lifecycle.reboot(self._session(f"reboot {uuid}"), uuid, force=force)

    def kill(self, uuid: str, signal: str = "SIGTERM") -> Vm:
        """Send a signal to the first process of the VM; gives the VM object as it was then. Waits for nothing."""
        return lifecycle.kill(self._session(f"kill {uuid}"), uuid, signal)

    def console(self, uuid: str, *, serial: bool = False, stdin: Descriptor = 0, stdout: Descriptor = 1) -> None:
        """Connect the descriptors to the VM's console until Ctrl-] is typed (of a zone: with a dot behind it), or the
        console ends. A terminal is set raw meanwhile. `serial`: only of a hardware VM.
        Only one call at a time may have a terminal."""
        session = self._session(f"console {uuid}")
        consoles.console(session, uuid, serial=serial, stdin=_descriptor(stdin), stdout=_descriptor(stdout))

    def sysrq(self, uuid: str, request: str = "nmi") -> Vm:
        """Send a hardware VM an NMI, or with "screenshot" have a kvm VM's screen written to /tmp/vm.ppm in its zone;
        gives the VM object as it was."""
        return nmi.sysrq(self._session(f"sysrq {uuid}"), uuid, request)

    def delete(self, uuid: str) -> None:
        """Take the VM away, whatever state it is in."""
        deleting.delete(self._session(f"delete {uuid}"), uuid)

    def create_snapshot(self, uuid: str, name: str) -> Vm:
        """Take a snapshot of the VM's root; gives the VM object."""
        return snapshots.create_snapshot(self._session(f"create-snapshot {uuid}"), uuid, name)

    def delete_snapshot(self, uuid: str, name: str) -> Vm:
        """Destroy a snapshot; gives the VM object."""
        return snapshots.delete_snapshot(self._session(f"delete-snapshot {uuid}"), uuid, name)

    def rollback_snapshot(self, uuid: str, name: str) -> Vm:
        """Put the VM's root back to a snapshot, and start the VM; gives the VM object."""
        return snapshots.rollback_snapshot(self._session(f"rollback-snapshot {uuid}"), uuid, name)

    def send(self, uuid: str, to: Descriptor, *, progress: Optional[sending.Progress] = None) -> Vm:
        """Stop the VM and write it, as a bundle that receive() takes, to a file, pipe or socket; gives the VM object as
        it was sent. The VM stays, stopped. `progress(dataset, bytes so far, all bytes if zfs says how many)` is called
        some times a second. Raises WrongState for a VM that is neither stopped nor running."""
        return sending.send(self._session(f"send {uuid}"), uuid, _descriptor(to), progress)

    def receive(self, source: Descriptor, *, progress: Optional[sending.Progress] = None) -> Vm:
        """Make the VM that comes from a file, pipe or socket, and start it if it ran where it comes from; gives the VM
        object. After a failure it is in state `receiving`: receive it again, or delete it. `progress` is called
        as by send(), with all bytes of a file."""
        return receiving.receive(self._session("receive"), _descriptor(source), progress)

    def install(self, uuid: str) -> Vm:
        """Install a VM all of whose datasets have been received, and start it if it is to run; gives the VM object."""
        return installing.install(self._session(f"install {uuid}"), uuid)

    def validate(self, action: str, payload: Vm, brand: Optional[str] = None) -> None:
        """Raise NotValid unless `payload` is good for `action` (create, or update of a VM of `brand`)."""
        named = payload.get("brand") if action == "create" else brand
        validating.validate(self._session("validate"), action, named, payload)

    def _session(self, what: str) -> Session:
        return Session(
            root=self._root,
            host=self._host,
            port=self._port,
            command=f"vmadm.{what}",
            req_id=self._req_id,
            tell=self._tell,
            log=self._log,
        )


@contextmanager
def _answered() -> Iterator[None]:
    """An error of vminfod's as one of ours."""
    try:
        yield
    except VminfodError as error:
        raise DaemonAway(f"cannot reach vminfod: {error}") from error


def _vm(client: VminfodClient, uuid: str) -> Vm:
    try:
        return client.vm(uuid)
    except HTTPStatusError as error:
        if error.code != NOT_FOUND:
            raise
        raise VmNotFound(f"VM {uuid} not found") from error


def _descriptor(stream: Descriptor) -> int:
    return stream if isinstance(stream, int) else stream.fileno()


def _named(wanted: Mapping[str, Optional[str]]) -> str:
    return " and ".join([f"{key} {value}" for key, value in wanted.items()])


_here = Vmadm()
create, update, delete, validate = _here.create, _here.update, _here.delete, _here.validate
start, stop, reboot, kill = _here.start, _here.stop, _here.reboot, _here.kill
create_snapshot, delete_snapshot = _here.create_snapshot, _here.delete_snapshot
rollback_snapshot, reprovision = _here.rollback_snapshot, _here.reprovision
send, receive, install = _here.send, _here.receive, _here.install
load, lookup, events, info = _here.load, _here.lookup, _here.events, _here.info
console, sysrq = _here.console, _here.sysrq
wait_for, mark_failed, unset_transition = _here.wait_for, _here.mark_failed, _here.unset_transition
