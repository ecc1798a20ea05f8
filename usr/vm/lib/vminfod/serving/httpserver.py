# SPDX-License-Identifier: MPL-2.0
"""The HTTP server on one listening socket: takes connections in, answers from what is ready or by a route, in bounds.

Always: a client can hold a connection and a little memory, never more: the request line, the headers, the time they
        take, idle time, the time a response takes to be read and the number of connections are limited;
        what a client does wrong gets a short answer and a closed connection, never a traceback;
        what is ready (ready.py) is answered in the callback in which the request came; everything else by the WSGI
        application, in a greenlet of its own, so that one that waits holds up no other;
        TCP_NODELAY is set: Nagle's algorithm would hold back the second piece of a response for 40 ms.
A stream, once it runs, has no time limit of its own; the hub bounds its backlog."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable, Collection
from email.utils import formatdate
from typing import Any, Optional, Protocol, TypedDict

import gevent
from gevent.event import Event as Flag

from vminfod.meters import Meters
from vminfod.serving import wsgicall
from vminfod.serving.httpconnection import Connection, Done, Stream
from vminfod.serving.ready import Answer
from vminfod.serving.requesthead import Request
from vminfod.serving.target import is_own_host
from vminfod.serving.waiting import Waiting
from vminfod.serving.wsgicall import Application

# Connections at once. A node has some dozens of agents; the rest is room for a flood of short requests. Past it a
# client gets that answer at once rather than left waiting.
CONNECTIONS = 2000

_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\n"
    b"Content-Length: 20\r\n\r\nToo many connections"
)

# Request headers that are logged: what says who asks and for what. Never one that holds a secret, as Authorization
# and Cookie do.
LOGGED_HEADERS = ("host", "user-agent", "if-none-match", "accept", "connection", "x-request-id")
_LOGGED_LENGTH = 500  # characters of one, and of the URL

_ACCEPTED = 64  # connections taken in one turn of the loop
_LOOK_EVERY = 1.0  # seconds between two looks for connections whose time is up
_SHORTAGE = 0.2  # seconds without new connections when the system has no descriptors left
_SHORT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_FAULT = Answer(b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain\r\n", b"Internal Server Error")


class RequestShown(TypedDict, total=False):
    """A request as bunyan's readers know it; what was none has only the client's address."""

    method: str
    url: str
    headers: dict[str, str]
    remoteAddress: str
    remotePort: int


# Enters what was done for a request into the log: the request; status, bytes, seconds.
RequestLog = Callable[[RequestShown, str, int, float], None]

# Enters that a client was cut because it does not read: what it asked for; why, the bytes that it had not taken.
SlowLog = Callable[[RequestShown, str, int], None]


class Api(Protocol):
    """What is served: answers that are ready, and a WSGI application for the others."""

    def ready(self, request: Request) -> Optional[Answer]:
        """The answer, if it is ready."""
        ...

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        """The WSGI application."""
        ...


class Server:
    """Serves `api` on one listening socket (listening.py).

    `failure_log(error, request)` is called with what goes wrong in the application; the client gets a 500. Answers that
    are ready can be tens of thousands a second: they go into `ready_log`, the others into `request_log`. `addresses`:
    all that are listened on, here or by other servers. `waiting`: the account of what waits, of all servers. `slow_log`
    is told of clients that are cut because they do not read."""

    def __init__(
        self,
        sock: socket.socket,
        api: Api,
        request_log: RequestLog,
        failure_log: Callable[[BaseException, RequestShown], None],
        ready_log: Optional[RequestLog] = None,
        connections: int = CONNECTIONS,
        meters: Optional[Meters] = None,
        addresses: Collection[str] = (),
        waiting: Optional[Waiting] = None,
        slow_log: Optional[SlowLog] = None,
    ):
        self._socket = sock
        self._api = api
        self._application: Application = api
        self._request_log = request_log
        self._ready_log = ready_log
        self._failure_log = failure_log
        self._most = connections
        self._addresses = frozenset(addresses)
        self._waiting = waiting or Waiting()
        self._slow_log = slow_log
        self._requests = (meters or Meters()).requests
        self._open: set[Connection] = set()
        self._none_open = Flag()
        self._second = 0
        self._ends_of_head: dict[tuple[str, bool], bytes] = {}  # those of that second, by version and `ends`
        loop = gevent.get_hub().loop
        self._acceptor = loop.io(sock.fileno(), 1)
        self._look = loop.timer(_LOOK_EVERY, _LOOK_EVERY)
        self._pause = loop.timer(_SHORTAGE)
        self._serving = False

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._open)

    # Starting and stopping.

    def start(self) -> None:
        """Take connections from now on."""
        self._serving = True
        self._acceptor.start(self._on_connections)
        self._look.start(self._look_for_late)

    def close(self) -> None:
        """Take no more connections."""
        if self._serving:
            self._serving = False
            for watcher in (self._acceptor, self._pause):
                watcher.stop()
                watcher.close()
            self._socket.close()

    def stop(self, timeout: float) -> None:
        """Close, and end all connections: at once where nothing is being answered, else within `timeout` seconds."""
        self.close()
        for connection in [one for one in self._open if one.idle]:
            connection.close()
        if self._open:
            self._none_open.clear()
            self._none_open.wait(timeout)
        for connection in list(self._open):
            connection.close()
        self._look.stop()
        self._look.close()

    # Connections.

    def _on_connections(self) -> None:
        for _ in range(_ACCEPTED):
            try:
                sock, address = self._socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _SHORT:
                    self._acceptor.stop()
                    self._pause.start(self._on_pause_over)
                return  # else that client has gone again already
            if len(self._open) >= self._most:
                _refuse(sock)
                continue
            try:
                sock.setblocking(False)
                listens_on = None
                if sock.family != socket.AF_UNIX:
                    listens_on = self._addresses | {str(sock.getsockname()[0])}
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                # A peer that vanishes without a word is found by the kernel; nothing else would end an idle stream.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            except OSError:
                sock.close()  # it has gone: some systems say so here
                continue
            connection = Connection(self, sock, address, listens_on, self._waiting)
            self._open.add(connection)
            connection.begin()

    def _on_pause_over(self) -> None:
        self._pause.stop()
        if self._serving:
            self._acceptor.start(self._on_connections)

    def _look_for_late(self) -> None:
        now = time.monotonic()
        for connection in [one for one in self._open if one.deadline < now]:
            connection.expire()

    def closed(self, connection: Connection) -> None:
        """The connection is no more."""
        self._open.discard(connection)
        if not self._open:
            self._none_open.set()

    # Requests.

    def answer(self, connection: Connection, request: Request, body: Optional[bytes]) -> None:
        """Send what is ready, else have it made. `body`: None if there is one that was not read."""
        answer = self._api.ready(request)
        if answer is None or not _is_own(connection, request):
            connection.wait_for_answer()
            gevent.spawn(self._call, connection, request, body)
            return
        self._requests["ready", answer.head[9:12]] += 1
        done = None if self._ready_log is None else Done(request, answer.status, time.monotonic(), ready=True)
        ends = not request.keep_alive or body is None
        connection.send(answer.head + self._end_of_head(request.version, ends), answer.body, request, done, ends)

    def _call(self, connection: Connection, request: Request, body: Optional[bytes]) -> None:
        """In a greenlet: the answer of the application."""
        began = time.monotonic()
        taken: list[Stream] = []
        extra = {
            "vminfod.raw_path": request.target,
            "vminfod.listens_on": connection.listens_on,
            "vminfod.connection": connection,
            "vminfod.body": body,
            "vminfod.take_over": taken.append,
        }
        try:
            answer = wsgicall.called(self._application, wsgicall.environ_of(request, extra))
        except Exception as error:  # noqa: BLE001 the client gets a 500, the log the rest
            self.failed(connection, request, error)
            answer = _FAULT
        self._requests["route", answer.head[9:12]] += 1
        ends = not request.keep_alive or body is None or answer is _FAULT or bool(taken)
        answer = wsgicall.without_length(answer) if taken else wsgicall.with_length(answer)
        chunked = bool(taken) and request.version != "HTTP/1.0"
        if b"\r\nConnection:" in answer.head:
            end = self._date_line() + (b"Transfer-Encoding: chunked\r\n\r\n" if chunked else b"\r\n")
        else:
            end = self._end_of_head(request.version, ends)
        if taken:
            connection.take_over(taken[0])
        connection.send(answer.head + end, answer.body, request, Done(request, answer.status, began), ends)
        connection.proceed()

    def _end_of_head(self, version: str, ends: bool) -> bytes:
        """What a head says of the time and of the connection."""
        now = int(time.time())
        if self._second != now:
            self._second = now
            self._ends_of_head.clear()
        return self._ends_of_head.get((version, ends)) or self._made_end(version, ends)

    def _made_end(self, version: str, ends: bool) -> bytes:
        connection = b"Connection: close\r\n" if ends else b"Connection: keep-alive\r\n"
        if version == "HTTP/1.0":
            end = connection + self._date_line() + b"\r\n"
        else:
            end = self._date_line() + (connection if ends else b"") + b"\r\n"
        self._ends_of_head[version, ends] = end
        return end

    @staticmethod
    def _date_line() -> bytes:
        return f"Date: {formatdate(usegmt=True)}\r\n".encode()

    # The log.

    def done(self, connection: Connection, done: Done) -> None:
        """The answer has been taken, or will never be."""
        log = self._ready_log if done.ready else self._request_log
        if log is not None:
            log(_shown(connection, done.request), done.status, done.size, time.monotonic() - done.began)

    def cut(self, connection: Connection, request: Optional[Request], reason: str, unsent: int) -> None:
        """A client that does not read was given up."""
        if self._slow_log is not None:
            self._slow_log(_shown(connection, request), reason, unsent)

    def failed(self, connection: Connection, request: Optional[Request], error: Exception) -> None:
        """A fault of ours."""
        self._failure_log(error, _shown(connection, request))


def _is_own(connection: Connection, request: Request) -> bool:
    """Who comes through the Unix socket always means this daemon."""
    return connection.listens_on is None or is_own_host(request.headers.get("host"), connection.listens_on)


def _shown(connection: Connection, request: Optional[Request]) -> RequestShown:
    remote = connection.address[:2] if isinstance(connection.address, tuple) else ("unix", 0)
    if request is None:
        return {"remoteAddress": remote[0], "remotePort": remote[1]}
    headers = {name: request.headers[name][:_LOGGED_LENGTH] for name in LOGGED_HEADERS if name in request.headers}
    return {
        "method": request.method,
        "url": request.target[:_LOGGED_LENGTH],
        "headers": headers,
        "remoteAddress": remote[0],
        "remotePort": remote[1],
    }


def _refuse(sock: socket.socket) -> None:
    try:
        sock.setblocking(False)
        sock.send(_BUSY)
    except OSError:
        pass  # gone already: no client to answer
    finally:
        sock.close()
