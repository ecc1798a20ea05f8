# SPDX-License-Identifier: MPL-2.0
"""`vmadm receive`: make of a bundle the VM that it came from.

    JSON --> zone configured, state receiving --> datasets, one by one --> install (installing.py) --> stopped, running

Always: whatever ends it, a VM whose datasets have not all come whole stays in state `receiving`, which nothing boots:
        receiving it again, or deleting it, takes it away.
Always: only datasets that the VM's JSON leads one to await are received, each once, and none that was there before. So
        no bundle changes what is not its own VM's (payload/arriving.py, receiveddatasets.py).
The config lock is held from the look whether the VM is there until it is installed, and not while it boots."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Optional

from vmadm.actions import installing
from vmadm.actions.deleting import RECEIVING, clean_up, exists, receiving_path, take_away
from vmadm.actions.gathering import gather
from vmadm.actions.outcome import confirmed, exactly
from vmadm.actions.receiveddatasets import receive_dataset
from vmadm.actions.sending import Progress
from vmadm.actions.session import Session
from vmadm.actions.steps import Steps
from vmadm.errors import BadPayload, VmadmError, VmNotFound
from vmadm.node import bundle, zonecfg
from vmadm.node.bundle import BadBundle
from vmadm.node.pump import Pump, roomy_pipe
from vmadm.payload import Payload
from vmadm.payload.arriving import Arrival, arriving_payload, parse_arrival, uuid_of
from vmadm.payload.nodefacts import facts_needed
from vminfod.clients.failures import ParseError
from vminfod.clients.plainjson import parsed, pretty
from vmload import Vm

EXPIRE = 86400  # ms from now; nothing acts on it, and tools that look at it know this value
OF_DATASETS = ("zpool", "quota", "flexible_disk_size", "internal_metadata", "customer_metadata", "tags", "routes")


def receive(session: Session, source: int, progress: Optional[Progress] = None) -> Vm:
    """Receive the VM that comes from the descriptor `source`, install it, and start it if it is to run; the VM as it is
    then. Bare JSON in place of a bundle: the VM is left to have its datasets received by hand. Raises VmadmError."""
    with _pumped(source) as (stream, pump):
        text, has_datasets = bundle.read_vm_text(stream)
        vm = _object(text)
        uuid = uuid_of(vm)
        receiving = _Receiving(session, vm, f"VM.js receive global ({uuid})", stream)
        if progress is not None:
            receiving.watch = lambda what: progress(what, pump.moved, _length(source))
        receiving.look()  # no lock file before vminfod has answered
        with session.config_lock(uuid):
            receiving.configure()
            if not has_datasets:
                return receiving.shown()
            receiving.fill()
    return installing.started(session, uuid, receiving.arrival.kept, receiving.name)


class _Receiving:
    """One VM that is being received from the descriptor `stream`."""

    def __init__(self, session: Session, vm: Payload, name: str, stream: int) -> None:
        self.session, self.node, self.name = session, session.node, name
        self.uuid = uuid_of(vm)
        self.watch: Callable[[str], None] = lambda what: None  # is called, with a dataset's name, while it comes
        self._vm, self._stream = vm, stream
        self._arrival: Optional[Arrival] = None
        self._awaited: list[str] = []

    @property
    def arrival(self) -> Arrival:
        """There is one once the VM is configured."""
        assert self._arrival is not None
        return self._arrival

    def look(self) -> Optional[Vm]:
        """The VM that is there already, if any."""
        try:
            return self.session.look(self.uuid, self.name)
        except VmNotFound:
            return None

    def shown(self) -> Vm:
        return confirmed(self.session, self.arrival.change.zonename, [], self.name, f"VM {self.uuid} was made")

    def configure(self) -> None:
        """The zone, in state receiving; what an earlier receive has left goes first. Raises VmadmError."""
        left = self.look()
        if left is not None and left.get("state") != RECEIVING:
            raise BadPayload([f"VM with UUID {self.uuid} already exists"])
        needed = facts_needed(arriving_payload(self._vm))
        self._arrival = parse_arrival(self._vm, gather(self.session, needed, self.name, self.uuid))
        if left is not None:
            self.session.tell(f"VM {self.uuid} was received in part: that is taken away first")
            take_away(self.session, left, self.name)
        # Who comes under the same name at the same moment waits, and finds it taken: zonecfg would change that zone.
        with self.session.config_lock(self._arrival.change.zonename):
            self._check_free()
            try:
                self._configure()
            except (VmadmError, KeyboardInterrupt) as error:
                raise self._cleaned_up(error) from error

    def fill(self) -> None:
        """The datasets, and the installation. Raises VmadmError; the VM is in state receiving then."""
        self._awaited = list(self.arrival.awaited)
        steps = Steps(self.session.check_interrupted)
        try:
            while (header := bundle.read_header(self._stream)) is not None:
                steps.run([(self._checked(header), lambda: self._receive(header.name))])
            vm = self._confirm()
            installing.install_received(self.session, vm, self.arrival.kept, self.name)
        except (VmadmError, KeyboardInterrupt) as error:
            raise self._left(error) from error

    # Before anything is touched.

    def _check_free(self) -> None:
        """No other zone or dataset stands where ours is to be."""
        zonename = self.arrival.change.zonename
        if self.node.exists(f"/etc/zones/{zonename}.xml"):
            raise VmadmError(f"zone {zonename} exists already")
        for dataset in self.arrival.awaited:
            if exists(self.node, dataset):
                raise VmadmError(f"dataset {dataset} exists already")
            above = dataset.rpartition("/")[0]
            if not exists(self.node, above):
                raise VmadmError(f"there is no dataset {above}, below which {dataset} would be received")

    # The steps.

    def _configure(self) -> None:
        arrival = self.arrival
        now_ms = int(time.time() * 1000)
        created = arrival.created or time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(now_ms // 1000))
        script = zonecfg.create_script(
            arrival.change,
            created=created,
            transition_expire=now_ms + EXPIRE,
            arrives=True,
            version=arrival.version,
            datasets=arrival.datasets,
        )
        self.session.must_zonecfg(self.uuid, script=script, zonename=arrival.change.zonename)
        self._write_down(arrival.kept)
        confirmed(
            self.session, arrival.change.zonename, [exactly("state", RECEIVING)], self.name, f"VM {self.uuid} was made"
        )

    def _checked(self, header: bundle.Header) -> str:
        """The name of the dataset that comes next. Raises BadBundle."""
        if header.name not in self._awaited:
            what = "comes twice" if header.name in self.arrival.awaited else "is none of the VM's"
            raise BadBundle(f"the stream has the dataset {header.name!r}, which {what}")
        if header.size or header.padded:
            raise BadBundle(f"the header of the dataset {header.name!r} has sizes, {header.size} and {header.padded}")
        self._awaited.remove(header.name)
        return header.name

    def _receive(self, dataset: str) -> None:
        """One dataset. While it comes that is written down: what a kill leaves of it is not to be installed."""
        kept = self.arrival.kept
        self._write_down({**kept, installing.UNDER_WAY: dataset})
        receive_dataset(self.session, self.arrival, dataset, self._stream, self.watch)
        self._write_down(kept)
        self.session.show(self.arrival.change.zonename, self.name)  # listeners see it come

    def _write_down(self, kept: Payload) -> None:
        self.node.write(receiving_path(self.uuid), pretty(kept) + "\n")

    def _confirm(self) -> Vm:
        """The VM, which shows what its datasets brought. Raises OutcomeMissed."""
        wanted = [
            exactly(key, self._vm[key]) for key in OF_DATASETS if self._vm.get(key) not in (None, "", 0, [], {}, False)
        ]
        what = f"VM {self.uuid} was received"
        vm = confirmed(self.session, self.arrival.change.zonename, [], self.name, what)
        if installing.missing_of(self.session, vm):
            return vm  # the installation says what
        return confirmed(self.session, self.arrival.change.zonename, wanted, self.name, what)

    # When it fails.

    def _left(self, error: BaseException) -> VmadmError:
        raised = error if isinstance(error, VmadmError) else VmadmError("interrupted")
        vm = self.session.show(self.arrival.change.zonename, self.name)
        is_whole = vm is not None and not self._awaited and not installing.missing_of(self.session, vm)
        more = "finish it with vmadm install" if is_whole else "receive it again"
        state = "an unknown state" if vm is None else f"state {vm.get('state')}"
        text = f"VM {self.uuid} is left in {state}: {more}, or remove it with vmadm delete"
        raised.args = (f"{raised}; {text}",)
        return raised

    def _cleaned_up(self, error: BaseException) -> VmadmError:
        raised = error if isinstance(error, VmadmError) else VmadmError("interrupted")
        change = self.arrival.change
        where = {"uuid": self.uuid, "zonename": change.zonename, "zpool": change.zpool}
        left = clean_up(self.session, where, ["zone"], self.name)
        with self.session.held():
            self.session.try_to("remove what was written down", lambda: self.node.remove(receiving_path(self.uuid)))
        what = f"could not remove all that was made of it ({'; '.join(left)}): run vmadm delete {self.uuid}"
        raised.args = (f"{raised}; {what if left else f'what was made of VM {self.uuid} has been removed'}",)
        return raised


@contextmanager
def _pumped(source: int) -> Iterator[tuple[int, Pump]]:
    """A descriptor that gives what `source` does, for as long as we live, and who copies it there."""
    read_end, write_end = roomy_pipe()
    with Pump(source, write_end, close_target=True) as pump:
        try:
            yield read_end, pump
        finally:
            os.close(read_end)


def _length(source: int) -> Optional[int]:
    """How many bytes come, where that can be known: of a file."""
    status = os.fstat(source)
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _object(text: str) -> dict[str, Any]:
    try:
        vm = parsed(text)
    except ParseError as error:
        raise BadBundle(f"the stream's JSON is damaged: {error.message}") from error
    if not isinstance(vm, dict):
        raise BadBundle("the stream's JSON is no VM object")
    return vm
