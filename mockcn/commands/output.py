# SPDX-License-Identifier: MPL-2.0
"""Where a command writes: two streams of text, sent on in pieces, and an error that ends the command."""

from typing import Callable

PIECE = 65536       # bytes gathered before they are sent on: few frames for a long listing


class CommandFailed(Exception):
    """Ends a command: `.message` is the whole text for standard error (no newline), `.status` the exit status."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


class Output:
    """Standard output and standard error of one command; `send(kind, bytes)` takes each piece, kind `o` or `e`."""

    def __init__(self, send: Callable[[bytes, bytes], None]) -> None:
        self._send = send
        self._out = bytearray()

    def write(self, text: bytes) -> None:
        """Standard output, sent on when a piece is full."""
        self._out += text
        if len(self._out) >= PIECE:
            self.flush()

    def line(self, text: str) -> None:
        """One line of standard output."""
        self.write(text.encode("utf-8", "surrogateescape") + b"\n")

    def error(self, text: str) -> None:
        """One line of standard error, after what was written before."""
        self.flush()
        self._send(b"e", text.encode("utf-8", "surrogateescape") + b"\n")

    def flush(self) -> None:
        if self._out:
            self._send(b"o", bytes(self._out))
            self._out.clear()
