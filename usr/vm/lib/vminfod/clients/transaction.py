# SPDX-License-Identifier: MPL-2.0
"""A transaction from the writer's side (docs/http-api.md, "Transactions"): until it ends every reader sees the VM as it
was, and then all that has changed comes as one event.

      new --open()--> open --commit()--> over        everybody sees what is there now, before commit() returns
                        `----close()---> over        (or the end of this process): as above, a moment later, "aborted"
                        `----limit passed, vminfod gone: the next call raises TransactionOver or ConnectionFailed

Always: it lives as long as its connection, so that it cannot outlive its writer; no child process inherits that.
        What goes wrong between us and vminfod ends it: the VM is published as it is.
        It changes nothing and locks nothing: only what readers see, and when."""

from __future__ import annotations

from time import monotonic

from vminfod.clients.connection import Exchange
from vminfod.clients.failures import (
    HTTPStatusError,
    NoTransactions,
    ParseError,
    TransactionOver,
    VmHeld,
    VminfodError,
    connection_failed,
)
from vminfod.clients.keptconnection import Kept
from vminfod.clients.plainjson import compact, parsed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Any, Optional

    from vminfod.client import VminfodClient
    from vminfod.clients.identity import Identity
    from vminfod.clients.shapes import Vm

PATH = "/transactions"
LONGEST = 1000  # characters of a command's name or a request's id that vminfod takes: what is longer is cut
NAMELESS = "a client"
LEAST, MOST = 1.0, 600.0  # seconds that a transaction may be allowed to be open
WAIT = 60.0  # seconds for one's turn, if nothing else was said
READ = 60.0  # seconds that a reading may take, likewise
SOON = 1.0  # seconds that the question may take who holds the VM: whoever waits is to hear something
GRACE = 15.0  # seconds on top of that for the answer itself
CREATED, OK, NOT_FOUND, GONE, TIMED_OUT = 201, 200, 404, 410, 504
KNOWS_NONE = (400, 404, 405, 501)  # what a daemon without transactions says to a POST, without a word of its own
VM_NOT_FOUND = "VM Not Found"  # how the 404 begins that is about the VM, not the transaction
WITHIN = "VMINFOD_TRANSACTION"  # of the environment: the transactions in which `vminfo transaction` runs a command
EPOCH = "x-vminfod-epoch"  # header: which run of which daemon answers


class VmInTransaction(dict):  # type: ignore[type-arg]  # a plain dict of a VM, for who prints or compares it
    """The VM object as it was when the transaction was opened, read anew then."""

    def __init__(self, vm: Vm, transaction: Transaction) -> None:
        super().__init__(vm)
        self._transaction = transaction

    @property
    def id(self) -> str:
        """The transaction's, as `cause` and `vminfo status` have it."""
        return self._transaction.id

    def fresh(self) -> Optional[Vm]:
        """The VM as it would be seen if all ended now, read anew; None if there is no such VM any more."""
        return self._transaction.read()

    @property
    def outcome(self) -> Optional[Vm]:
        """Once it has ended well: the VM as everybody sees it; None if it is gone."""
        return self._transaction.outcome

    @property
    def rev(self) -> int:
        """The revision of the VM's last event: before the end the one at which it is held, then the outcome's."""
        return self._transaction.rev


class Transaction:
    """See VminfodClient.transaction(), which makes one, and the head of the module. One thread uses it."""

    def __init__(
        self,
        identity: Identity,
        uuid: str,
        *,
        command: str,
        req_id: Optional[str] = None,
        limit: Optional[float] = None,
        wait: Optional[float] = None,
        timeout: Optional[float] = None,
        waiting: Optional[Callable[[str], object]] = None,
    ) -> None:
        self._identity = identity
        req_id = None if req_id is None else req_id[:LONGEST]
        self._asked: dict[str, Any] = {"uuid": uuid, "command": command[:LONGEST] or NAMELESS, "req_id": req_id}
        self._asked |= {} if limit is None else {"limit": checked_range("limit", limit, LEAST)}
        self._wait = WAIT if wait is None else checked_range("wait", wait, 0)
        self._timeout = timeout
        self._waiting = waiting
        self._connection: Optional[Kept] = None
        self._over = ""  # why it is over, if it was not this side that ended it
        self.id, self.rev = "", 0
        self.outcome: Optional[Vm] = None

    def open(self) -> None:
        """Wait for our turn; from then on the VM is held back.

        Raises NoTransactions, HTTPStatusError (code 404: no such VM is served), VmHeld if another transaction lasts
        longer than `wait`, and what a GET raises."""
        deadline = None if self._timeout is None else monotonic() + self._wait + self._timeout
        self._connection = connection = self._connected(deadline)
        try:
            self._check_same(connection)
            body = compact({**self._asked, "wait": self._wait}).encode("utf-8", "backslashreplace")
            waiting = self._told(f"POST {PATH}")
            status, answer = connection.ask("POST", PATH, body, deadline=deadline, waiting=waiting)
            said = _said(answer)
            if status in KNOWS_NONE and "error" not in said:
                raise NoTransactions(f"the vminfod at {self._identity.local} is an older one, which knows none")
            if status == TIMED_OUT:
                raise VmHeld(said.get("error", "the VM is held by another transaction"), said.get("holder") or {})
            if status != CREATED:
                raise HTTPStatusError(status, said.get("error"))
            self.id, self.rev = said["transaction"], said["rev"]
        except (KeyError, AttributeError) as error:
            self.close()
            raise ParseError("the server did not answer with a transaction") from error
        except BaseException:
            self.close()
            raise

    def read(self) -> Optional[Vm]:
        """The VM as it would be, read anew and not published; None if there is no such VM any more. Raises
        HTTPStatusError (code 504: it cannot be read, and why; the transaction goes on), TransactionOver,
        ConnectionFailed, VminfodTimeout."""
        status, answer = self._ask("GET", "vm")
        if status == NOT_FOUND and _said(answer).get("error", "").startswith(VM_NOT_FOUND):
            return None
        vm: Vm = self._checked(status, answer)
        return vm

    def commit(self) -> Optional[Vm]:
        """End it: gives the VM as everybody sees it from now on, None if it is gone. Raises as read() does; after a
        504 it has ended, too, and the VM is read again until that succeeds."""
        try:
            status, answer = self._ask("POST", "commit")
            said = self._checked(status, answer)
            if not isinstance(said, dict) or "vm" not in said:
                raise ParseError("the server did not answer with an outcome")
            self.outcome, self.rev = said["vm"], said.get("rev", self.rev)
            self._over = "it was committed"
        finally:
            self.close()
        return self.outcome

    def close(self) -> None:
        """End it without a word, if it is open: the VM is published as it is. A second call does nothing."""
        self._over = self._over or "it was closed"
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # How it is asked.

    def _connected(self, deadline: Optional[float]) -> Kept:
        path = self._identity.local
        try:
            return Kept(self._identity, path, deadline=deadline)
        except OSError as error:
            said = connection_failed("{}", error).message
            raise NoTransactions(f"they need vminfod's unix socket, and {path} cannot be opened ({said})") from error

    def _check_same(self, connection: Kept) -> None:
        """Whoever named an address means the daemon there: the one at the socket must be that one. Raises
        NoTransactions."""
        if self._identity.socket is not None:
            return
        deadline = None if self._timeout is None else monotonic() + self._timeout  # a ping waits for no turn
        waiting = self._told("GET /ping")
        there = Exchange(self._identity, "/ping", deadline=deadline, waiting=waiting)
        try:
            there.check_ok()
            connection.ask("GET", "/ping", deadline=deadline, waiting=waiting)
            if there.header(EPOCH) is None or connection.header(EPOCH) != there.header(EPOCH):
                where = f"{self._identity.host}:{self._identity.port}"
                raise NoTransactions(f"the unix socket {self._identity.local} is not of the vminfod at {where}")
        finally:
            there.close()

    def _ask(self, method: str, what: str) -> tuple[int, bytes]:
        """Raises VminfodError; the transaction is over then."""
        if self._connection is None:
            raise TransactionOver(f"the transaction has ended: {self._over or 'it was never opened'}")
        seconds = READ if self._timeout is None else min(self._timeout, MOST)
        deadline = None if self._timeout is None else monotonic() + seconds + GRACE
        path = f"{PATH}/{self.id}/{what}"
        waiting = self._told(f"{method} {path}")
        try:
            return self._connection.ask(method, f"{path}?timeout={seconds:g}", deadline=deadline, waiting=waiting)
        except BaseException as error:
            self._over = str(error) or type(error).__name__
            self.close()
            raise

    def _told(self, asked: str) -> Optional[Callable[[], object]]:
        waiting = self._waiting
        return None if waiting is None else lambda: waiting(asked)

    def _checked(self, status: int, answer: bytes) -> Any:
        """The answer's JSON, if it is one. Raises TransactionOver, HTTPStatusError, ParseError."""
        if status == OK:
            return parsed(answer)
        said = _said(answer)
        if status in (NOT_FOUND, GONE):
            self._over = said.get("error", "vminfod knows it no longer")
            self.close()
            raise TransactionOver(self._over)
        raise HTTPStatusError(status, said.get("error"))

    # As a context.

    def __enter__(self) -> VmInTransaction:
        self.open()
        try:
            vm = self.read()
        except BaseException:
            self.close()
            raise
        if vm is None:
            self.close()
            raise HTTPStatusError(NOT_FOUND)
        return VmInTransaction(vm, self)

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if kind is None:
            self.commit()
        else:
            self.close()


def within(client: VminfodClient, environ: Mapping[str, str], uuids: list[str]) -> Optional[str]:
    """Whoever was started within a transaction and wants another one on the same VM would wait for itself: what is to
    be said then, None if that is not so. `uuids`: the VMs that are wanted. Raises VminfodError."""
    ids = environ.get(WITHIN, "").split()
    for one in client.status().get("transactions", []) if ids else []:
        if one["transaction"] in ids and one["state"] == "open" and one["uuid"] in uuids:
            who = f"`{one['command']}`, pid {one['pid']}"
            return f"VM {one['uuid']} is held by the transaction in which this command runs ({who})"
    return None


def waiting_text(client: VminfodClient, uuid: str, asked: str) -> str:
    """For an operator who waits for the answer to `asked`, a request about a transaction on that VM: if it is for the
    turn, who holds the VM, as far as vminfod says so at once."""
    text = f"waiting for vminfod to answer {asked}"
    if asked != f"POST {PATH}":
        return f"{text} (VM {uuid})"
    try:
        known = client.in_a_hurry(SOON).status().get("transactions", [])
    except VminfodError:
        return text
    for one in known:
        if one["uuid"] == uuid and one["state"] != "waiting":
            return f"{text}: VM {uuid} is held by `{one['command']}`, pid {one['pid']}, for {one['age']:.0f} s"
    return text


def checked_range(what: str, seconds: float, least: float) -> float:
    """Raises TypeError, ValueError unless the argument `what` is a number of seconds from `least` to MOST."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"{what} must be a number of seconds, not {type(seconds).__name__}")
    if not least <= seconds <= MOST:
        raise ValueError(f"{what} must be from {least:g} to {MOST:g} seconds, not {seconds}")
    return seconds


def _said(answer: bytes) -> dict[str, Any]:
    """What a refusal says, {} if it says nothing in JSON."""
    try:
        said = parsed(answer)
    except VminfodError:
        return {}
    return said if isinstance(said, dict) else {}
