# SPDX-License-Identifier: MPL-2.0
"""The client library of vminfod: what agents import.

    from vminfod.client import VminfodClient, VminfodEventStream, VminfodWatcher

    VminfodClient        ask once: ping, status, vms, vm, get_vmobj, get_vmobjs; transaction holds a VM back while you
                         change it
    VminfodEventStream   follow every event, or wait for the one that your own action causes
    VminfodWatcher       a local mirror of all VMs that reconnects by itself

Plain blocking Python, the standard library only; works under gevent's monkey patching too.
Always: an error is raised once, and is a VminfodError if the network, the server or a time limit caused it.
The stream and the watcher live in modules of their own and are imported when first named: `vmadm get` should not
pay for threads that it never starts."""

from __future__ import annotations

from time import monotonic

from vminfod.clients.connection import Exchange
from vminfod.clients.failures import (
    ConnectionFailed,
    HTTPStatusError,
    NoTransactions,
    ParseError,
    Stopped,
    StreamError,
    TransactionOver,
    VmHeld,
    VminfodError,
    VminfodTimeout,
)
from vminfod.clients.httpwire import percent_encoded
from vminfod.clients.identity import Identity, checked_seconds
from vminfod.clients.plainjson import parsed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType
    from typing import Any, Optional, Union

    from vminfod.clients.clientlog import Logger
    from vminfod.clients.shapes import Status, Vm
    from vminfod.clients.stream import VminfodEventStream
    from vminfod.clients.transaction import Transaction
    from vminfod.clients.watcher import VminfodWatcher

__all__ = [
    "ConnectionFailed",
    "HTTPStatusError",
    "NoTransactions",
    "ParseError",
    "Stopped",
    "StreamError",
    "TransactionOver",
    "VmHeld",
    "VminfodClient",
    "VminfodError",
    "VminfodEventStream",
    "VminfodTimeout",
    "VminfodWatcher",
]

FRESH_MOST = 600  # seconds: as long as a fresh read may take (docs/http-api.md, "Fresh reads")
UNREADABLE = "x-vminfod-unreadable"  # header of a list: names of zones that it lacks, separated by commas


class VminfodClient:
    """One GET for each call, on a connection of its own; safe to share between threads. A transaction is one thread's.

    Without `host` and `port` vminfod is asked through its unix socket (`socket`, /var/run/vminfod.sock if not given)
    where that is there and may be opened, else at 127.0.0.1:9090.
    `timeout` is in seconds and covers a whole call, from connecting to the last byte; None or 0: wait for ever.
    `waiting(path)` is called, in the thread that waits, when a call has taken three seconds; `path` without a query.
    Each method raises HTTPStatusError (not 200; an unknown VM is code 404), ParseError (no JSON; logged too),
    ConnectionFailed and VminfodTimeout."""

    def __init__(
        self,
        name: Optional[str] = None,
        *,
        host: Optional[str] = None,
        port: Optional[int] = None,
        socket: Optional[str] = None,
        log: Optional[Logger] = None,
        timeout: Optional[float] = None,
        waiting: Optional[Callable[[str], object]] = None,
    ) -> None:
        self._identity = Identity(name, host, port, log, socket)
        self._waiting = waiting
        self._timeout = checked_seconds("timeout", timeout)

    def in_a_hurry(self, seconds: float) -> VminfodClient:
        """The same client, whose calls may take so many seconds and which does not say that it waits."""
        from copy import copy  # costs time, which nobody has who asks one question

        hurried = copy(self)
        hurried._timeout, hurried._waiting = checked_seconds("timeout", seconds), None
        return hurried

    def ping(self) -> dict[str, Any]:
        """`{"ping": "pong"}`."""
        return _object(self.get("/ping"))

    def status(self, full: bool = False) -> Status:
        """The daemon's own state (docs/http-api.md); `full` adds the refresh log and the file watcher."""
        status: Status = self.get("/status?full=true" if full else "/status")
        _object(status)
        return status

    def vms(self, query: Union[Mapping[str, object], str, None] = None) -> list[Vm]:
        """The VM objects that `query` asks for, in the daemon's order; all of them without one.

        `query` is a mapping, or text as after the `?` of an address. `fields` (a list, or text with commas) names
        top-level properties to be left in; each other key is a filter (vminfod.clients.vmfilter):
        {"state": "running", "nics.*.ip": "10.0.0.2", "alias": "~^web", "fields": "uuid,alias"}. What is None is left
        out. The daemon leaves out what it can, and the client looks again. Raises BadPattern, a ValueError, too."""
        if not query:
            return _objects(self.get("/vms"))
        from vminfod.clients.vmfilter import query_pairs

        wanted = query_pairs(query)
        fields = wanted.pop("fields", None)
        return self.get_vmobjs(wanted, fields=fields.split(",") if isinstance(fields, str) else fields)

    def get_vmobj(self, uuid: str, *, fields: Optional[Iterable[str]] = None) -> Vm:
        """One VM object by its uuid or zonename, with only the top-level properties `fields` if given: for callers of
        the original's vmload.getVmobj(). An unknown VM is an HTTPStatusError with code 404."""
        vm = self.vm(uuid)
        return vm if fields is None else {key: vm[key] for key in vm if key in frozenset(fields)}

    def get_vmobjs(
        self,
        filter: Union[Mapping[str, object], Callable[[Vm], object], None] = None,
        *,
        fields: Optional[Iterable[str]] = None,
    ) -> list[Vm]:
        """The VM objects that `filter` lets through, in the daemon's order: for callers of the original's
        vmload.getVmobjs(). `filter` is a mapping as for vms(), or a function of a VM object; `fields` as for
        get_vmobj(), and objects left empty by it are not given. Raises BadPattern, a ValueError, too."""
        from vminfod.clients.vmfilter import as_text, filters_of, matching, question, trimmed

        if filter is None or callable(filter):
            vms = [vm for vm in _objects(self.get("/vms")) if filter is None or filter(vm)]
        else:
            filters = filters_of(filter)  # first: what is wrong with a pattern needs no daemon
            fields = None if fields is None else list(fields)
            wanted = {key: as_text(value) for key, value in filter.items()}
            vms = matching(_objects(self.get("/vms" + question(wanted, fields))), filters)
        return vms if fields is None else trimmed(vms, fields)

    def vms_and_unreadable(
        self, query: str = "", *, parse: Callable[[bytes], Any] = parsed
    ) -> tuple[list[Vm], list[str]]:
        """All VM objects, and the names of zones that exist but are not among them, since the daemon could not read
        them: with any of these the list is not complete. `query`: what to leave out
        (vminfod.clients.vmfilter.question); an older daemon does not."""
        vms, names = self._parsed("/vms" + query, parse)
        return _objects(vms), [name.strip() for name in (names or "").split(",") if name.strip()]

    def vm(self, zonename: str, *, fresh: bool = False) -> Vm:
        """One VM object, by its zone's name or its uuid. `fresh`: read anew from the system first, all of it, which
        takes some commands; what somebody else's transaction holds back is waited for. An older daemon does not."""
        path = vm_path(zonename)
        if fresh:
            limit = "" if self._timeout is None else f"&timeout={min(self._timeout, FRESH_MOST):g}"
            path += f"?fresh=true{limit}"
        return _object(self.get(path))

    def transaction(
        self,
        uuid: str,
        *,
        command: Optional[str] = None,
        req_id: Optional[str] = None,
        limit: Optional[float] = None,
        wait: Optional[float] = None,
        waiting: Optional[Callable[[str], object]] = None,
    ) -> Transaction:
        """Hold one VM back while you change it, so that all comes as one event:

            with client.transaction(uuid, command="resize") as vm:      # the VM object as it is now, a dict
                ...                                                     # zfs, zonecfg, files
                vm.fresh()                                              # what it would be now
            vm.outcome                                                  # what everybody sees from here on

        The block's normal end commits; an exception passes on, and what is there by then is published, marked as
        aborted. `command` (the client's name if not given) and `req_id` are shown by `vminfo status` and are in the
        event's cause. `limit`: seconds that it may be open, 1 to 600, 60 if not given; past it the VM is published as
        it is. `wait`: seconds to wait for the end of another transaction on that VM, 0 to 600, 60 if not given;
        `waiting(asked)` is called when an answer has not come in three seconds: the turn's, if that is what was asked,
        `POST /transactions`.
        Only through vminfod's unix socket, which is looked for also where a host or port was named. Opening raises
        NoTransactions (no socket, an older vminfod), HTTPStatusError (an unknown VM is code 404), VmHeld; the end
        TransactionOver (the limit has passed), ConnectionFailed (vminfod has gone) and HTTPStatusError (code 504: it
        cannot be read)."""
        from vminfod.clients.transaction import Transaction

        return Transaction(
            self._identity,
            uuid,
            command=self._identity.name if command is None else command,
            req_id=req_id,
            limit=limit,
            wait=wait,
            timeout=self._timeout,
            waiting=waiting,
        )

    def get(self, path: str, *, parse: Callable[[bytes], Any] = parsed) -> Any:
        """The JSON at any path, as `parse` reads it; `parse` raises ParseError."""
        return self._parsed(path, parse)[0]

    def _parsed(self, path: str, parse: Callable[[bytes], Any]) -> tuple[Any, Optional[str]]:
        """(the JSON at `path`, the response's header UNREADABLE)."""
        body, unreadable = self._body(path)
        try:
            return parse(body), unreadable
        except ParseError as error:
            self._identity.log.error("response is no JSON", method="GET", path=path, err=error.message)
            raise

    def _body(self, path: str) -> tuple[bytes, Optional[str]]:
        deadline = None if self._timeout is None else monotonic() + self._timeout
        waiting = self._waiting
        tell = None if waiting is None else lambda: waiting(path.partition("?")[0])
        exchange = Exchange(self._identity, path, deadline=deadline, waiting=tell)
        try:
            exchange.check_ok()
            return exchange.whole_body(), exchange.header(UNREADABLE)
        finally:
            exchange.close()

    def __enter__(self) -> VminfodClient:
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        """Nothing to close: no connection outlives its call."""


def vm_path(zonename: str) -> str:
    """The path of one VM. Raises TypeError for what is no text, and HTTPStatusError(404) at once for what cannot
    be a zone's name and would ask for another path: "/vms/" is the list of all VMs."""
    if not isinstance(zonename, str):
        raise TypeError(f"zonename must be a string, not {type(zonename).__name__}")
    if zonename in ("", ".", ".."):
        raise HTTPStatusError(404)
    return "/vms/" + percent_encoded(zonename)


def __getattr__(name: str) -> object:
    """The classes that need threads, imported when they are first named."""
    if name == "VminfodEventStream":
        from vminfod.clients.stream import VminfodEventStream

        return VminfodEventStream
    if name == "VminfodWatcher":
        from vminfod.clients.watcher import VminfodWatcher

        return VminfodWatcher
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _objects(value: Any) -> list[Vm]:
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise ParseError("the server did not answer with a JSON array of VM objects")
    return value


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ParseError("the server did not answer with a JSON object")
    return value
