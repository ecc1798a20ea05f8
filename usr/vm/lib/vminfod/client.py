# SPDX-License-Identifier: MPL-2.0
"""The client library of vminfod: what agents import.

    from vminfod.client import VminfodClient, VminfodEventStream, VminfodWatcher

    VminfodClient        ask once: ping, status, vms, vm
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
    ParseError,
    Stopped,
    StreamError,
    VminfodError,
    VminfodTimeout,
)
from vminfod.clients.httpwire import percent_encoded, query_text
from vminfod.clients.identity import Identity, checked_seconds
from vminfod.clients.plainjson import parsed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Any, Optional, Union

    from vminfod.clients.clientlog import Log
    from vminfod.clients.stream import VminfodEventStream
    from vminfod.clients.watcher import VminfodWatcher

__all__ = [
    "ConnectionFailed",
    "HTTPStatusError",
    "ParseError",
    "Stopped",
    "StreamError",
    "VminfodClient",
    "VminfodError",
    "VminfodEventStream",
    "VminfodTimeout",
    "VminfodWatcher",
]

MAX_BODY = 1 << 30  # bytes of one response: 1,000 VMs make about 2 MB; past it the server is not to be believed


class VminfodClient:
    """One GET for each call, on a connection of its own; safe to share between threads.

    Without `host` and `port` vminfod is asked through its unix socket (`socket`, /var/run/vminfod.sock if not given)
    where that is there and may be opened, else at 127.0.0.1:9090.
    `timeout` is in seconds and covers a whole call, from connecting to the last byte; None or 0: wait for ever.
    `waiting(path)` is called, in the thread that waits, when a call has taken three seconds.
    Each method raises HTTPStatusError (not 200; an unknown VM is code 404), ParseError (no JSON; logged too),
    ConnectionFailed and VminfodTimeout."""

    def __init__(
        self,
        name: Optional[str] = None,
        *,
        host: Optional[str] = None,
        port: Optional[int] = None,
        socket: Optional[str] = None,
        log: Optional[Log] = None,
        timeout: Optional[float] = None,
        waiting: Optional[Callable[[str], object]] = None,
    ) -> None:
        self._identity = Identity(name, host, port, log, socket)
        self._waiting = waiting
        self._timeout = checked_seconds("timeout", timeout)

    def ping(self) -> dict[str, Any]:
        """`{"ping": "pong"}`."""
        return _object(self.get("/ping"))

    def status(self, full: bool = False) -> dict[str, Any]:
        """The daemon's own state (docs/http-api.md, "Status"); `full` adds the refresh log and the file watcher."""
        return _object(self.get("/status?full=true" if full else "/status"))

    def vms(self, query: Union[Mapping[str, object], str, None] = None) -> list[dict[str, Any]]:
        """All VM objects in the daemon's order."""
        vms = self.get("/vms" + query_text(query))
        if not isinstance(vms, list):
            raise ParseError("the server did not answer with a JSON array")
        return vms

    def vm(self, zonename: str) -> dict[str, Any]:
        """One VM object."""
        return _object(self.get(vm_path(zonename)))

    def get(self, path: str, *, parse: Callable[[bytes], Any] = parsed) -> Any:
        """The JSON at any path, as `parse` reads it; `parse` raises ParseError."""
        body = self._body(path)
        try:
            return parse(body)
        except ParseError as error:
            self._identity.log.error("response is no JSON", method="GET", path=path, err=error.message)
            raise

    def _body(self, path: str) -> bytes:
        deadline = None if self._timeout is None else monotonic() + self._timeout
        waiting = self._waiting
        tell = None if waiting is None else lambda: waiting(path)
        exchange = Exchange(self._identity, path, deadline=deadline, waiting=tell)
        try:
            exchange.check_ok()
            return _whole_body(exchange)
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


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ParseError("the server did not answer with a JSON object")
    return value


def _whole_body(exchange: Exchange) -> bytes:
    pieces = []
    size = 0
    while piece := exchange.body():
        pieces.append(piece)
        size += len(piece)
        if size > MAX_BODY:
            raise ParseError(f"response of more than {MAX_BODY} bytes")
    return b"".join(pieces)
