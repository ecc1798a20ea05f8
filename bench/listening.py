# SPDX-License-Identifier: MPL-2.0
"""Listeners on /events, many in one process, and the same for the daemon and for a peer: they count lines."""

from __future__ import annotations

import json
import select
import socket
import time
from types import TracebackType
from typing import Any, Optional

# HTTP/1.0: without chunks between the lines.
REQUEST = b"GET /events?vms=false HTTP/1.0\r\nHost: localhost\r\n\r\n"
_WITHIN = 120.0  # seconds in which all lines must have come


class Listeners:
    """`count` connections to a server that streams lines; each is read as fast as lines come."""

    def __init__(self, port: int, count: int, *, ready_lines: int):
        """`ready_lines`: lines that the server sends each listener before the first event."""
        self._poller = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._lines: dict[int, int] = {}
        for _ in range(count):
            one = socket.create_connection(("127.0.0.1", port), timeout=60)
            one.sendall(REQUEST)
            self._sockets[one.fileno()] = one
            self._lines[one.fileno()] = 0
            self._poller.register(one.fileno(), select.EPOLLIN)
        self._heads = set(self._sockets)  # those whose HTTP head is still to come
        self._wait_for(ready_lines)

    def wait_for(self, lines: int) -> None:
        """Until each listener has had so many more event lines. TimeoutError."""
        for number in self._lines:
            self._lines[number] -= lines
        self._wait_for(0)

    def _wait_for(self, lines: int) -> None:
        open_ones = {number for number, had in self._lines.items() if had < lines} | self._heads
        until = time.monotonic() + _WITHIN
        while open_ones:
            if time.monotonic() > until:
                raise TimeoutError(f"{len(open_ones)} listeners still wait for lines")
            for number, _ in self._poller.poll(1.0):
                self._read(number)
                if number not in self._heads and self._lines[number] >= lines:
                    open_ones.discard(number)

    def _read(self, number: int) -> None:
        data = self._sockets[number].recv(1 << 18)
        if not data:
            raise ConnectionError("a listener was cut")
        if number in self._heads:
            _, end, data = data.partition(b"\r\n\r\n")
            if not end:
                raise ValueError("a head that comes in pieces")
            self._heads.discard(number)
        self._lines[number] += data.count(b"\n")

    def __enter__(self) -> Listeners:
        return self

    def __exit__(self, kind: Optional[type[BaseException]], error: object, trace: Optional[TracebackType]) -> None:
        for one in self._sockets.values():
            one.close()
        self._poller.close()


class Follower:
    """One listener that reads what events say."""

    def __init__(self, port: int):
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=_WITHIN)
        self._socket.sendall(REQUEST)
        self._file = self._socket.makefile("rb")
        while self._file.readline().strip():
            continue
        self.next()

    def next_line(self) -> bytes:
        line = self._file.readline()
        if not line:
            raise ConnectionError("the stream of events ended")
        return line

    def next(self) -> dict[str, Any]:
        """The next event."""
        event: dict[str, Any] = json.loads(self.next_line())
        return event

    def until(self, zonename: str, *names: str) -> dict[str, Any]:
        """The next event of the zone that changes one of the properties."""
        while True:
            event = self.next()
            changed = {change["path"][0] for change in event.get("changes", ())}
            if event["zonename"] == zonename and changed & set(names):
                return event

    def close(self) -> None:
        self._file.close()
        self._socket.close()
