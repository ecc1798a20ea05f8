# SPDX-License-Identifier: MPL-2.0
"""What the other side of a connection still sends, and whether it has closed it.

Always: it is looked for when somebody asks, so that a call of a tool that is only answered, as nearly all are, needs no
        thread for it; whoever asks at the same time gets the same answer."""

import select
import socket
import threading
import time
from typing import Optional

LONGEST_MESSAGE = 64 << 20  # bytes. Control may send whole files; the words of a tool are far below


class Incoming:
    """Of one connection. `connection` stays whoever's it is, who closes it; that counts as the other side's end."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._received = bytearray()
        self._ended = False
        self._taking = threading.Lock()

    def is_set(self) -> bool:
        """Whether the other side has closed it."""
        return self.wait(0)

    def wait(self, timeout: Optional[float] = None) -> bool:
        """The same, when it has or that many seconds have passed."""
        until = None if timeout is None else time.monotonic() + timeout
        while not self._ended:
            if not self._take(None if until is None else max(0.0, until - time.monotonic())):
                return False
        return True

    def message(self) -> bytes:
        """The next message. Raises EOFError if the other side closes instead."""
        while True:
            size = 4 + int.from_bytes(self._received[:4], "big")
            if len(self._received) >= max(4, size):
                answer = bytes(self._received[4:size])
                del self._received[:size]
                return answer
            if self._ended or size > LONGEST_MESSAGE:
                raise EOFError
            self._take(None)

    def _take(self, timeout: Optional[float]) -> bool:
        """Read what comes. False if nothing does within so many seconds."""
        try:
            if not self._comes(timeout):
                return False
            with self._taking:
                if self._comes(0):  # else another thread has it
                    piece = self._connection.recv(65536)
                    self._received += piece
                    self._ended = not piece
        except (OSError, ValueError):
            self._ended = True  # reset by the peer, or closed by us at the end: gone either way
        return True

    def _comes(self, timeout: Optional[float]) -> bool:
        looking = select.poll()
        looking.register(self._connection, select.POLLIN)
        return bool(looking.poll(None if timeout is None else timeout * 1000))
