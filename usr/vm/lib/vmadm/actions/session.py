# SPDX-License-Identifier: MPL-2.0
"""What a command that changes a VM works with: the node, vminfod, the locks, a log, and someone to tell.

A write acts on the node and then asks vminfod for a fresh read of the VM (`GET /vms/UUID?fresh=true`): the answer is
given when vminfod has read all of the VM again and serves it, so that every read that starts later sees the change.
Always: the first question to vminfod comes before anything is touched, and fails the command if there is no answer.
        Later ones outlast a restart of vminfod of AWAY seconds.
        Within a transaction (atonce.py) fresh reads are the transaction's: they see what others do not see yet."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Optional

from vmadm.errors import CannotRead, DaemonAway, VmadmError, VmNotFound
from vmadm.node import locks
from vmadm.node.interrupts import Interrupts
from vmadm.node.machine import Node, Result, failure
from vminfod.bunyan import FATAL
from vminfod.client import HTTPStatusError, TransactionOver, VminfodClient, VminfodError, vm_path
from vminfod.clients.address import socket_below
from vminfod.clients.clientlog import StderrLog
from vminfod.clients.failures import ConnectionFailed
from vmload import Vm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vminfod.clients.clientlog import Logger
    from vminfod.clients.transaction import Transaction

FRESH_LIMIT = 60.0  # seconds that vminfod may take for a fresh read; the original waited as long for an event
ANSWER_LIMIT = 15.0  # seconds on top of that, and for any other answer
AWAY = 15.0  # seconds that vminfod may be unreachable once we have begun: it restarts in less
AGAIN_EVERY = 0.25  # seconds between tries meanwhile

MADE = "the change was made, but "
BEGINNING = re.compile(r"^VM (\S+ )?(not read within [0-9.]+ s|cannot be read): ")  # of what vminfod says about it


def silently(message: str) -> None:
    """Say nothing: what a program that uses the library gets unless it says otherwise."""


class Session:
    """One command, on one VM. `command` names it to others who wait for its locks; `req_id` is the id of the request
    that it belongs to; `tell` gets lines for the operator, `step` the steps of a long command as they begin.

    Not thread-safe: make one for each thread."""

    def __init__(
        self,
        *,
        root: str = "/",
        host: Optional[str] = None,
        port: Optional[int] = None,
        socket: Optional[str] = None,
        command: str = "vmadm",
        req_id: Optional[str] = None,
        tell: Callable[[str], None] = silently,
        step: Callable[[str], None] = silently,
        log: Optional[Logger] = None,
        interrupts: Optional[Interrupts] = None,
    ) -> None:
        self.interrupts = interrupts
        self.node = Node(root, interrupts.busy if interrupts is not None else nullcontext)
        self.host, self.port, self.socket = host, port, socket or socket_below(root)
        self.command = command
        self.req_id = req_id
        self.transaction: Optional[Transaction] = None  # that is open; atonce.py sets it
        self.tell = tell
        self.step = step
        self._locked: set[str] = set()
        self.log: Logger = log if log is not None else StderrLog("vmadm", FATAL + 1)

    # vminfod.

    def client(self, name: str, timeout: float = ANSWER_LIMIT) -> VminfodClient:
        """A client with that name in its User-Agent, which says what it waits for."""
        return VminfodClient(
            name,
            host=self.host,
            port=self.port,
            socket=self.socket,
            log=self.log,
            timeout=timeout,
            waiting=lambda path: self.tell(f"waiting for vminfod to answer GET {path.partition('?')[0]}"),
        )

    def look(self, uuid: str, name: str) -> Vm:
        """The VM as it is now, before anything was touched. Raises VmNotFound, CannotRead with the reason why it cannot
        be read, and DaemonAway if there is no answer."""
        try:
            vm = self._read_fresh(uuid, name)
        except CannotRead as error:
            error.args = (f"{error}; nothing was changed",)
            raise
        except VminfodError as error:
            raise nothing_changed(error) from error
        if vm is None:
            raise VmNotFound(not_found(uuid))
        return vm

    def look_or_last_known(self, uuid: str, name: str) -> Vm:
        """As look(), for commands that help with a VM that cannot be read: then the object that was read last. Raises
        CannotRead if there is none."""
        try:
            return self.look(uuid, name)
        except CannotRead as error:
            try:
                vm: Vm = self.client(name).get(vm_path(uuid))
            except VminfodError:
                raise error from None
            self.log.warning("going on from the object that was read last", extra={"uuid": uuid, "err": str(error)})
            return vm

    def check_known(self, uuid: str, name: str) -> None:
        """vminfod answers, and knows the VM: cheaper than look(), for before a lock is waited for. Raises VmNotFound,
        DaemonAway."""
        self.known(uuid, name)

    def known(self, uuid: str, name: str) -> Vm:
        """The VM as it is served: for what changes nothing, and has to go on where zfs hangs or the VM is held. Raises
        VmNotFound, CannotRead, DaemonAway."""
        try:
            vm: Vm = self.client(name).get(vm_path(uuid))
            return vm
        except HTTPStatusError as error:
            if error.code != 404:
                raise nothing_changed(error) from error
            return self.look(uuid, name)  # a VM that is seconds old may not be served yet
        except VminfodError as error:
            raise nothing_changed(error) from error

    def vms(self, name: str) -> list[Vm]:
        """All VMs, before anything was touched. Raises DaemonAway."""
        try:
            return self.client(name).vms()
        except VminfodError as error:
            raise nothing_changed(error) from error

    def fresh(self, uuid: str, name: str) -> Optional[Vm]:
        """The VM after a fresh read that began after this call; None if there is no such VM. For after a change: an
        outcome that cannot be seen raises CannotRead or DaemonAway, which say that the change was made."""
        until = time.monotonic() + AWAY
        while True:
            try:
                return self._read_fresh(uuid, name)
            except ConnectionFailed as error:
                if time.monotonic() > until:
                    raise DaemonAway(f"{MADE}cannot reach vminfod to see the outcome: {error}") from error
            except CannotRead as error:
                error.args = (f"{MADE}the outcome cannot be seen: {error}",)
                raise
            except VminfodError as error:
                raise DaemonAway(f"{MADE}vminfod did not tell the outcome: {error}") from error
            time.sleep(AGAIN_EVERY)

    def show(self, uuid: str, name: str) -> Optional[Vm]:
        """Let reads see what was done so far, and give it, if vminfod answers; nothing is lost if not."""
        shown: list[Optional[Vm]] = []
        with self.held():
            self.try_to("read the VM again", lambda: shown.append(self._read_fresh(uuid, name)), uuid=uuid)
        return shown[0] if shown else None

    def _read_fresh(self, uuid: str, name: str) -> Optional[Vm]:
        try:
            if self.transaction is not None:
                return self.transaction.read()
        except (TransactionOver, ConnectionFailed) as error:
            self.log.warning("the transaction ended early", extra={"uuid": uuid, "err": str(error)})
            self.transaction = None
        except HTTPStatusError as error:
            raise unreadable(uuid, error) from error
        client = self.client(name, FRESH_LIMIT + ANSWER_LIMIT)
        try:
            # No write changes what the node's sysinfo says, and none is to fail because that cannot be read.
            vm: Vm = client.get(f"{vm_path(uuid)}?fresh=true&sysinfo=false&timeout={FRESH_LIMIT:g}")
        except HTTPStatusError as error:
            if error.code == 404:
                return None
            raise unreadable(uuid, error) from error
        return vm

    # Locks.

    @contextmanager
    def config_lock(self, uuid: str) -> Iterator[None]:
        """No other vmadm changes the VM's configuration meanwhile. A command that is part of another has its lock."""
        if uuid in self._locked:
            yield
            return
        path = self.node.real(locks.config_lock(uuid))
        with locks.held(path, self.command, self.tell):
            self._locked.add(uuid)
            try:
                yield
            except VmNotFound:
                locks.forget(path)  # it was deleted while we waited: leave nothing of it behind
                raise
            finally:
                self._locked.discard(uuid)

    def zonecfg(self, uuid: str, *words: str, script: Optional[str] = None, zonename: Optional[str] = None) -> Result:
        """Run zonecfg on a VM, on the command line or with a script; on `zonename` if the VM is not there yet."""
        which = ("-z", zonename) if zonename is not None else ("-u", uuid)
        with locks.held(self.node.real(locks.zonecfg_lock(uuid)), self.command, self.tell):
            return self.node.run("zonecfg", *which, *words, stdin=script)

    def must_zonecfg(
        self, uuid: str, *words: str, script: Optional[str] = None, zonename: Optional[str] = None
    ) -> Result:
        """Likewise. Raises ToolFailed unless the status is 0."""
        result = self.zonecfg(uuid, *words, script=script, zonename=zonename)
        if result.status != 0:
            raise failure("zonecfg", result)
        return result

    def check_interrupted(self) -> None:
        """To be called before waiting. Raises Interrupted if a signal came during a command."""
        if self.interrupts is not None:
            self.interrupts.check()

    def held(self) -> AbstractContextManager[None]:
        """No interruption meanwhile."""
        return self.interrupts.held() if self.interrupts is not None else nullcontext()

    def try_to(self, what: str, act: Callable[[], Any], **fields: object) -> Optional[Exception]:
        """Do what may fail without failing the command; the error, which is logged."""
        try:
            act()
        except (VmadmError, VminfodError) as error:
            self.check_interrupted()
            self.log.warning(f"could not {what}", extra={"err": str(error), **fields})
            return error
        return None


def unreadable(uuid: str, error: HTTPStatusError) -> Exception:
    """What a fresh read that was refused means: CannotRead with the reason, if vminfod cannot read the VM."""
    if error.code != 504:
        return error
    return CannotRead(f"VM {uuid} cannot be read: {BEGINNING.sub('', error.reason or str(error))}")


def not_found(uuid: str) -> str:
    """The text of VmNotFound where nothing was touched yet."""
    return f"VM {uuid} not found"


def nothing_changed(error: VminfodError) -> DaemonAway:
    """vminfod did not answer the first question."""
    return DaemonAway(f"cannot reach vminfod: {error}; nothing was changed")
