# SPDX-License-Identifier: MPL-2.0
"""A full-screen program on a terminal of its own: its keys, the size of its window, and what is on its screen.

What it draws is read by a terminal emulator (pyte), so that a test sees what a person would see."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from typing import Any, Optional

import pyte

from support.deadlines import SOON


class Screen:
    """`words` run on a terminal of that size. Enter it; at its end the program is killed if it has not ended."""

    def __init__(self, words: list[str], environ: dict[str, str], columns: int = 120, lines: int = 30):
        self._words = words
        # The size is that of the window, and no other: pytest's workers have COLUMNS.
        sizes = {"COLUMNS", "LINES"}
        self._environ = {name: value for name, value in environ.items() if name not in sizes} | {"TERM": "xterm"}
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self.raw = b""  # all that it has written
        self._ours, theirs = pty.openpty()
        self._size(columns, lines)
        self.before = termios.tcgetattr(self._ours)
        self.process = subprocess.Popen(
            words, stdin=theirs, stdout=theirs, stderr=theirs, env=self._environ, preexec_fn=_own_terminal
        )
        os.close(theirs)

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *_: Any) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._ours)

    def _size(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def resize(self, columns: int, lines: int) -> None:
        """The window's owner drags its corner."""
        self._screen.resize(lines, columns)
        self._screen.reset()
        self._size(columns, lines)

    def press(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    @property
    def lines(self) -> list[str]:
        """What is on the screen, without what is blank at the end of a line."""
        return [line.rstrip() for line in self._screen.display]

    def until(self, what: str, check: Callable[[list[str]], Any], within: float = SOON) -> Any:
        """The first true value of check(lines)."""
        until = time.monotonic() + within
        while not (found := check(self.lines)):
            assert time.monotonic() < until, f"not on the screen within {within} s: {what}:\n" + "\n".join(self.lines)
            self._read(0.1)
        return found

    def ended(self, within: float = SOON) -> Optional[int]:
        """Its exit status."""
        until = time.monotonic() + within
        while self.process.poll() is None and time.monotonic() < until:
            self._read(0.05)
        return self.process.poll()

    def mode(self) -> list[Any]:
        """What the terminal is set to."""
        return termios.tcgetattr(self._ours)

    def _read(self, seconds: float) -> None:
        if select.select([self._ours], [], [], seconds)[0]:
            try:
                piece = os.read(self._ours, 65536)
            except OSError:  # all its descriptors are closed: it has ended
                time.sleep(0.01)
                return
            self.raw += piece
            self._stream.feed(piece)


def _own_terminal() -> None:
    """In the child: that terminal is where its Ctrl-C and its changes of size come from."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
