# SPDX-License-Identifier: MPL-2.0
"""What a command has of the tool that called it: two streams to write to, standard input, and an error that ends it.

A command that works in steps says so by `reached(STEP)` before each: there a fault can strike (docs/mockcn.md), and
there a command whose tool was killed stops."""

from typing import Callable, Optional

from mockcn.incoming import Incoming

PIECE = 65536  # bytes gathered before they are sent on: few frames for a long listing


class CommandFailed(Exception):
    """Ends a command: `.message` is the whole text for standard error (no newline), `.status` the exit status."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


class Output:
    """Standard output and standard error of one command; `send(kind, bytes)` takes each piece, kind `o` or `e`.

    `gone` is set when the tool has ended before its command; `ask(size)` gives so much of the tool's standard input,
    or all of it without a size."""

    def __init__(
        self, send: Callable[[bytes, bytes], None], gone: Incoming, ask: Callable[[Optional[int]], bytes]
    ) -> None:
        self._send = send
        self._ask = ask
        self._out = bytearray()
        self.gone = gone
        self.strike: Callable[[str], None] = lambda step: None  # the fault's, if there is one

    def input(self) -> str:
        """All of the tool's standard input."""
        return self._ask(None).decode("utf-8", "surrogateescape")

    def read(self, size: int) -> bytes:
        """Just `size` bytes of the tool's standard input, fewer at its end; what follows stays there."""
        return self._ask(size)

    def reached(self, step: str, *, alone: bool = False) -> None:
        """The command comes to `step`. Unless the work is done by another process than the tool (`alone`), a tool that
        was killed does it no more: ConnectionAbortedError."""
        self.strike(step)
        if self.gone.is_set() and not alone:
            raise ConnectionAbortedError(f"the tool was killed before {step}")

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
