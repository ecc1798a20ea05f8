# SPDX-License-Identifier: MPL-2.0
"""One GET over one TCP connection to vminfod: the shell around httpwire, and the only socket code of the client.

Always: every error that leaves here is a VminfodError. Only the thread that reads closes the socket; others may
        interrupt() it, since a descriptor closed under a sleeping reader can be somebody else's a moment later.
Each request has its own connection: on the loopback that costs 0.1 ms, and a kept-alive one that the daemon closed
meanwhile would need a retry.
`socket` is looked up when it is used, so that gevent's monkey patching works whenever it is applied."""

from __future__ import annotations

import socket
from time import monotonic

from vminfod.clients.failures import ConnectionFailed, IncompleteResponse, VminfodTimeout, connection_failed
from vminfod.clients.httpwire import ResponseParser, get_request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

RECEIVE = 256 << 10  # bytes asked of the socket at once: a /vms of 1 MB arrives in a few turns


class Exchange:
    """A request that was sent, and the response that is being read.

    `deadline` (time.monotonic() seconds, None for no limit) binds everything from connecting on and may be changed
    between two calls; `silence` (seconds) binds the wait for each piece. Past either: VminfodTimeout."""

    def __init__(self, host: str, port: int, path: str, *, user_agent: str, deadline: Optional[float]) -> None:
        request = get_request(path, host=host, port=port, user_agent=user_agent)
        self.deadline = deadline
        self.silence: Optional[float] = None
        self._path = path
        self._response = ResponseParser()
        self._early = b""  # body bytes that arrived together with the head
        self._socket = self._connect(host, port)
        try:
            self._socket.sendall(request)
        except OSError as error:
            self.close()
            raise self._translated("write {}", error) from error

    def status(self) -> int:
        """The status code, as soon as the head is there. Raises ConnectionFailed, ParseError, VminfodTimeout."""
        while self._response.status is None:
            self._early += self._receive()
        return self._response.status

    def body(self) -> bytes:
        """The next piece of the body, or b"" when it is complete. Raises as status() does."""
        body, self._early = self._early, b""
        while not body and not self._response.complete:
            body = self._receive()
        return body

    def interrupt(self) -> None:
        """Break the connection from any thread; one that is reading wakes with an error or the end."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it was broken or closed already

    def close(self) -> None:
        """Close the connection; a second call does nothing."""
        self._socket.close()

    def _connect(self, host: str, port: int) -> socket.socket:
        # As bytes: for a str, getaddrinfo imports Python's IDNA tables, 5 ms that no loopback address needs.
        try:
            name = host.encode("ascii" if host.isascii() else "idna")
            return socket.create_connection((name, port), self._patience())  # type: ignore[arg-type]
        except (socket.gaierror, UnicodeError) as error:
            raise ConnectionFailed(f"getaddrinfo ENOTFOUND {host}", code="ENOTFOUND") from error
        except OSError as error:
            raise self._translated(f"connect {{}} {host}:{port}", error) from error

    def _receive(self) -> bytes:
        try:
            self._socket.settimeout(self._patience())
            data = self._socket.recv(RECEIVE)
        except OSError as error:
            raise self._translated("read {}", error) from error
        if data:
            return self._response.feed(data)
        self._response.end()
        if not self._response.complete:
            raise IncompleteResponse
        return b""

    def _patience(self) -> Optional[float]:
        """Seconds that the next socket call may take."""
        if self.deadline is None:
            return self.silence
        left = self.deadline - monotonic()
        if left <= 0:
            raise TimeoutError
        return left if self.silence is None else min(left, self.silence)

    def _translated(self, doing: str, error: OSError) -> Exception:
        if isinstance(error, TimeoutError):
            return VminfodTimeout(f"GET {self._path} timeout exceeded")
        return connection_failed(doing, error)
