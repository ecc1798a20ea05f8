# SPDX-License-Identifier: MPL-2.0
"""gevent's pywsgi with the bounds that a daemon for strangers needs, and without its traps.

Always: a client can hold a connection and a little memory, never more: the request line, the headers, the time they
        take, idle time, the time a response takes to be read and the number of connections are limited;
        what a client does wrong gets a short answer and a closed connection, never a traceback;
        TCP_NODELAY is set: pywsgi sends headers and body in two pieces, and Nagle's algorithm would hold back the
        second for 40 ms on a kept-alive connection (measured).
Not here: what is served. A stream, once it runs, has no time limit of its own; api.py bounds its backlog."""

from __future__ import annotations

import io
import socket as posix_socket
import time
from collections.abc import Callable
from typing import Any, Optional

import gevent
from gevent import pywsgi
from gevent import socket as gsocket

REQUEST_LINE = 8192  # bytes, fixed in pywsgi; the longest path of ours has some hundred
HEADER_BYTES = 32 << 10  # all headers of a request together; others allow 8 to 64 KiB
HEADER_COUNT = 100
HEADER_SECONDS = 10.0  # from the request line to the end of the headers: local clients need microseconds
IDLE_SECONDS = 300.0  # between two requests of a connection that is kept alive
SEND_SECONDS = 60.0  # for one response to be taken off our hands
# Connections at once. A node has some dozens of agents; the rest is room for a flood of short requests. Past it a
# client is told so at once rather than left waiting.
CONNECTIONS = 2000

_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\n"
    b"Content-Length: 20\r\n\r\nToo many connections"
)

# Request headers that are logged: what says who asks and for what. Never one that holds a secret, as Authorization
# and Cookie do.
LOGGED_HEADERS = frozenset({"host", "user-agent", "if-none-match", "accept", "connection", "x-request-id"})
_LOGGED_LENGTH = 500  # characters of one, and of the URL

# Enters what was done for a request into the log: method, url, headers, address, port, status, bytes, seconds.
RequestLog = Callable[[dict[str, Any], str, int, float], None]


class _TooLarge(ValueError):
    """The headers are more than we want to read."""


class _TooSlow(Exception):
    """The headers did not come in time."""


class _Handler(pywsgi.WSGIHandler):
    """One connection."""

    server: Server

    def __init__(self, sock: Any, address: Any, server: Server):
        super().__init__(sock, address, server)
        if sock.family != posix_socket.AF_UNIX:
            sock.setsockopt(posix_socket.IPPROTO_TCP, posix_socket.TCP_NODELAY, 1)
        # A peer that vanishes without a word is found by the kernel; nobody else would tell an idle stream.
        sock.setsockopt(posix_socket.SOL_SOCKET, posix_socket.SO_KEEPALIVE, 1)
        sock.settimeout(SEND_SECONDS)
        self._requests = 0

    def read_requestline(self) -> str:
        """The next request line; "" ends the connection: the client closed it, or says nothing."""
        self._requests += 1
        with gevent.Timeout(HEADER_SECONDS if self._requests == 1 else IDLE_SECONDS, False):
            self.socket.settimeout(None)
            try:
                return str(self.rfile.readline(REQUEST_LINE).decode("latin-1"))
            finally:
                self.socket.settimeout(SEND_SECONDS)
        return ""

    def read_request(self, raw_requestline: str) -> bool:
        with gevent.Timeout(HEADER_SECONDS, _TooSlow):
            return bool(super().read_request(raw_requestline))

    def MessageClass(self, fp: Any, *args: Any) -> Any:  # noqa: N802 the name is pywsgi's
        """The headers, read with a bound on all of them together."""
        lines: list[bytes] = []
        size = 0
        while True:
            line = fp.readline(HEADER_BYTES + 1)
            size += len(line)
            lines.append(line)
            if size > HEADER_BYTES or len(lines) > HEADER_COUNT + 1:
                raise _TooLarge
            if line in (b"\r\n", b"\n", b""):
                return pywsgi.headers_factory(io.BytesIO(b"".join(lines)), *args)

    def get_environ(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environ()
        environ["vminfod.raw_path"] = self.path or "/"
        environ["vminfod.socket"] = self.socket
        environ["vminfod.listens_on"] = self.server.address_of(self.socket)
        if self.content_length or self.wsgi_input.chunked_input:
            # No request of ours has a body. Not reading it means that the connection cannot be used again.
            self.close_connection = True
            self.wsgi_input.content_length = 0
            self.wsgi_input.chunked_input = False
        return environ

    def finalize_headers(self) -> None:
        super().finalize_headers()
        if self.close_connection and not any(name.lower() == b"connection" for name, _ in self.response_headers):
            self.response_headers.append((b"Connection", b"close"))

    def handle_one_request(self) -> Any:
        try:
            return super().handle_one_request()
        except (OSError, gevent.Timeout) as error:
            # The connection broke or stood still in the midst of something: there is nobody to answer.
            self.server.request_log(self._shown(with_headers=False), f"aborted: {error}", 0, 0.0)
            return None

    def _handle_client_error(self, ex: BaseException) -> Any:
        if isinstance(ex, _TooLarge):
            answer = "431 Request Header Fields Too Large"
        elif isinstance(ex, (_TooSlow, gsocket.timeout)):
            answer = "408 Request Timeout"
        else:
            answer = "400 Bad Request"
        self.server.request_log(self._shown(with_headers=False), answer, 0, time.time() - self.time_start)
        head = f"HTTP/1.1 {answer}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        return answer, head.encode("ascii")

    def _log_error(self, t: type[BaseException], v: BaseException, tb: Any) -> None:
        if issubclass(t, OSError):
            # The client went, did not take its answer in time, or was cut in the midst of a send.
            self.server.request_log(self._shown(with_headers=True), f"aborted: {v}", self.response_length, 0.0)
        elif not issubclass(t, gevent.GreenletExit):
            self.server.failure_log(v, self._shown(with_headers=True))

    def log_request(self) -> None:
        if getattr(self, "environ", None) is not None and self.status is not None:
            status = self.status.decode("latin-1") if isinstance(self.status, bytes) else str(self.status)
            took = (self.time_finish or time.time()) - self.time_start
            self.server.request_log(self._shown(with_headers=True), status, self.response_length, took)

    def _shown(self, *, with_headers: bool) -> dict[str, Any]:
        """The request as bunyan's readers know it."""
        headers: dict[str, str] = {}
        if with_headers and self.headers is not None:
            headers = {
                name.lower(): value[:_LOGGED_LENGTH]
                for name, value in self.headers.items()
                if name.lower() in LOGGED_HEADERS
            }
        remote = self.client_address[:2] if isinstance(self.client_address, tuple) else ("unix", 0)
        return {
            "method": self.command,
            "url": (self.path or "")[:_LOGGED_LENGTH],
            "headers": headers,
            "remoteAddress": remote[0],
            "remotePort": remote[1],
        }


class Server(pywsgi.WSGIServer):
    """Serves `application` on one listening socket (listening.py).

    `failure_log(error, request)` is told of what goes wrong in the application; the client gets a 500."""

    handler_class = _Handler

    def __init__(
        self,
        sock: Any,
        application: Any,
        request_log: RequestLog,
        failure_log: Callable[[BaseException, dict[str, Any]], None],
        connections: int = CONNECTIONS,
    ):
        # With the name given, pywsgi does not ask the DNS for it.
        super().__init__(sock, application, log=None, error_log=None, environ={"SERVER_NAME": "vminfod"})
        self.request_log = request_log
        self.failure_log = failure_log
        self.connections = 0
        self._most = connections

    @staticmethod
    def address_of(sock: Any) -> Optional[str]:
        """The address of this machine that a client is connected to; None for the Unix socket."""
        return None if sock.family == posix_socket.AF_UNIX else str(sock.getsockname()[0])

    def handle(self, sock: Any, address: Any) -> None:
        if self.connections >= self._most:
            _refuse(sock)
            return
        self.connections += 1
        try:
            super().handle(sock, address)
        except OSError as error:
            # The client did not wait to be told what was wrong with its request.
            self.request_log({"remoteAddress": str(address)}, f"aborted: {error}", 0, 0.0)
        finally:
            self.connections -= 1


def _refuse(sock: Any) -> None:
    try:
        sock.settimeout(1.0)
        sock.sendall(_BUSY)
    except OSError:
        return  # gone already: nobody to tell
    finally:
        sock.close()


def discard_input(sock: Any) -> bool:
    """Throw away what the client sends on a stream that only goes the other way. False: it closed the connection."""
    try:
        # gevent's own recv would wait for more.
        return bool(sock._sock.recv(65536, posix_socket.MSG_DONTWAIT))
    except BlockingIOError:
        return True
    except OSError:
        return False
