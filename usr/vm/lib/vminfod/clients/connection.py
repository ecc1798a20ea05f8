# SPDX-License-Identifier: MPL-2.0
"""Requests over a connection to vminfod: the shell around httpwire, and the only socket code of the client.

Always: every error that leaves here is a VminfodError. Only the thread that reads closes the socket; others may
        interrupt() it, since a descriptor closed under a sleeping reader can be somebody else's a moment later.
A GET has a connection of its own (Exchange): on the loopback that costs 0.1 ms, and a kept-alive one that the daemon
closed meanwhile would need a retry. What lives as long as its connection keeps one (keptconnection.py).
A unix socket that is not there, not ours to open, or left behind by a daemon that ended, is no error: TCP comes next.
Sockets are looked up when they are used, so that gevent's monkey patching works whenever it is applied. A process that
has not imported `socket`, as `vmadm get`, does with the module in C underneath: the import costs a fifth of it."""

from __future__ import annotations

import sys
from time import monotonic

from vminfod.clients.failures import (
    EXPLAINED,
    ConnectionFailed,
    HTTPStatusError,
    IncompleteResponse,
    ParseError,
    VminfodError,
    VminfodTimeout,
    connection_failed,
)
from vminfod.clients.httpwire import ResponseParser, get_request

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from typing import Any, Optional

    from vminfod.clients.identity import Identity

RECEIVE = 256 << 10  # bytes asked of the socket at once: a /vms of 1 MB arrives in a few turns
MAX_BODY = 1 << 30  # bytes of one response: 1,000 VMs make about 2 MB; past it the server is not to be believed
OK = 200
LONGEST_REASON = 4096  # bytes of a refusal's text: an error of zfs and the command that gave it
READY_TIMEOUT = 30.0  # seconds from connecting to the first line of a stream of events; the original's limit
PATIENCE = 3.0  # seconds without an answer after which whoever waits may want to know what for
LOCAL_HOST = "localhost"  # what a request through the unix socket names as its Host


class Exchange:
    """A GET that was sent, and the response that is being read.

    `deadline` (time.monotonic() seconds, None for no limit) binds everything from connecting on and may be changed
    between two calls; `silence` (seconds) binds the wait for each piece. Past either: VminfodTimeout.
    `waiting` is called, in the thread that waits, once when the whole has taken PATIENCE seconds; set it to None and
    that is over."""

    _socket: socket.socket

    def __init__(
        self,
        identity: Identity,
        path: str,
        *,
        deadline: Optional[float],
        waiting: Optional[Callable[[], object]] = None,
    ) -> None:
        self._begin("GET", path, deadline, waiting)
        local = self._connect_locally(identity.socket) if identity.socket else None
        self._socket = local or self._connect(identity.host, identity.port)
        host = identity.host if local is None else LOCAL_HOST
        self._send(get_request(path, host=host, port=identity.port, user_agent=identity.user_agent()))

    def _begin(
        self, method: str, path: str, deadline: Optional[float], waiting: Optional[Callable[[], object]]
    ) -> None:
        self.deadline = deadline
        self.silence: Optional[float] = None
        self.waiting = waiting
        self._tell_at = monotonic() + PATIENCE
        self._asked = f"{method} {path.partition('?')[0]}"
        self._response = ResponseParser()
        self._early = b""  # body bytes that arrived together with the head

    def _send(self, octets: bytes) -> None:
        try:
            self._socket.settimeout(self._patience())
            self._socket.sendall(octets)
        except OSError as error:
            self.close()
            raise self._translated("write {}", error) from error

    def status(self) -> int:
        """The status code, as soon as the head is there. Raises ConnectionFailed, ParseError, VminfodTimeout."""
        while self._response.status is None:
            self._early += self._receive()
        return self._response.status

    def check_ok(self) -> None:
        """Raises HTTPStatusError unless the server says 200, with its reason if the status is one of EXPLAINED; else
        as status() does."""
        status = self.status()
        if status != OK:
            raise HTTPStatusError(status, self._reason() if status in EXPLAINED else None)

    def header(self, name: str) -> Optional[str]:
        """A header of the response, which status() has read; `name` in lower case."""
        return self._response.headers.get(name)

    def body(self) -> bytes:
        """The next piece of the body, or b"" when it is complete. Raises as status() does."""
        body, self._early = self._early, b""
        while not body and not self._response.complete:
            body = self._receive()
        return body

    def whole_body(self) -> bytes:
        """All of the body. Raises as status() does, and ParseError past MAX_BODY."""
        pieces = []
        size = 0
        while piece := self.body():
            pieces.append(piece)
            size += len(piece)
            if size > MAX_BODY:
                raise ParseError(f"response of more than {MAX_BODY} bytes")
        return b"".join(pieces)

    def _reason(self) -> str:
        """The text of a refusal, as far as it comes: what goes wrong now is not what the caller has to hear of."""
        text = b""
        while len(text) < LONGEST_REASON:
            try:
                piece = self.body()
            except VminfodError:
                break
            if not piece:
                break
            text += piece
        return text[:LONGEST_REASON].decode("utf-8", "replace").strip()

    def interrupt(self) -> None:
        """Break the connection from any thread; one that is reading wakes with an error or the end."""
        try:
            self._socket.shutdown(_sockets().SHUT_RDWR)
        except OSError:
            return  # it was broken or closed already

    def close(self) -> None:
        """Close the connection; a second call does nothing."""
        self._socket.close()

    def _connect_locally(self, path: str) -> Optional[socket.socket]:
        try:
            return self._locally_connected(path)
        except OSError:
            return None

    def _locally_connected(self, path: str) -> socket.socket:
        """Raises OSError, also for a path that is too long for a socket."""
        sockets = _sockets()
        connection: socket.socket = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
        try:
            connection.settimeout(self._patience())
            connection.connect(path)
        except OSError:
            connection.close()
            raise
        return connection

    def _connect(self, host: str, port: int) -> socket.socket:
        # As bytes: for a str, getaddrinfo imports Python's IDNA tables, 5 ms that no loopback address needs.
        try:
            name = host.encode("ascii" if host.isascii() else "idna")
            while True:
                try:
                    return self._connected(name, port)
                except TimeoutError:
                    if not self._told():
                        raise
        except (_sockets().gaierror, UnicodeError) as error:
            raise ConnectionFailed(f"getaddrinfo ENOTFOUND {host}", code="ENOTFOUND") from error
        except OSError as error:
            raise self._translated(f"connect {{}} {host}:{port}", error) from error

    def _connected(self, name: bytes, port: int) -> socket.socket:
        """To the first of the addresses of `name` that takes us. Raises OSError."""
        sockets = _sockets()
        failed: OSError = ConnectionRefusedError("no address")
        for family, kind, protocol, _, address in sockets.getaddrinfo(name, port, 0, sockets.SOCK_STREAM):
            connection: socket.socket = sockets.socket(family, kind, protocol)
            try:
                connection.settimeout(self._patience())
                connection.connect(address)
                return connection
            except OSError as error:
                connection.close()
                failed = error
        raise failed

    def _receive(self) -> bytes:
        try:
            data = self._received()
        except OSError as error:
            raise self._translated("read {}", error) from error
        if data:
            return self._response.feed(data)
        self._response.end()
        if not self._response.complete:
            raise IncompleteResponse
        return b""

    def _received(self) -> bytes:
        while True:
            try:
                self._socket.settimeout(self._patience())
                return self._socket.recv(RECEIVE)
            except TimeoutError:
                if not self._told():
                    raise

    def _told(self) -> bool:
        """Was it only time to say that somebody waits?"""
        if self.waiting is None or monotonic() < self._tell_at:
            return False
        waiting, self.waiting = self.waiting, None
        waiting()
        return self.deadline is None or monotonic() < self.deadline

    def _patience(self) -> Optional[float]:
        """Seconds that the next socket call may take."""
        now = monotonic()
        limits = [] if self.silence is None else [self.silence]
        if self.deadline is not None:
            if self.deadline <= now:
                raise TimeoutError
            limits.append(self.deadline - now)
        if self.waiting is not None:
            limits.append(max(self._tell_at - now, 0.001))
        return min(limits, default=None)

    def _translated(self, doing: str, error: OSError) -> Exception:
        if isinstance(error, TimeoutError):
            return VminfodTimeout(f"{self._asked} timeout exceeded")
        return connection_failed(doing, error)


def _sockets() -> Any:
    """The module `socket` as this process has it, or else the one that it is made of."""
    loaded = sys.modules.get("socket")
    if loaded is None:
        import _socket as loaded
    return loaded
