# SPDX-License-Identifier: MPL-2.0
"""The operator's terminal while somebody else has the say on it.

Always: it is set afterwards as it was before, whatever ends the block, and also when this process is killed: then a
        guard does it (terminalguard.py), a process that waits at the other end of a pipe.
What is no terminal, such as a pipe, is left alone."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import termios
import tty
from collections.abc import Iterator
from typing import Any, Optional

from vmadm.node import terminalguard

GUARD_LIMIT = 10.0  # seconds that it may take to end when it is told that it has nothing to do


class KeptTerminal:
    """A terminal whose settings are kept; `kept()` gives one."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._before = termios.tcgetattr(descriptor)
        self._guard = _guard_of(descriptor, self._before)

    def set_raw(self) -> None:
        """From now on each key comes at once and as it is, Ctrl-C too, and nothing is echoed."""
        tty.setraw(self._descriptor, termios.TCSANOW)

    def shared_with(self, pid: int) -> None:
        """A process that is to be ended, too, if this one is killed."""
        self._tell(f"{pid}\n")

    def set_back(self) -> None:
        """As it was."""
        with contextlib.suppress(termios.error):  # a terminal that has been hung up needs nothing
            termios.tcsetattr(self._descriptor, termios.TCSANOW, self._before)
        self._tell(terminalguard.DONE)
        if self._guard is not None:
            try:
                self._guard.communicate(timeout=GUARD_LIMIT)
            except subprocess.TimeoutExpired:
                self._guard.kill()
                self._guard.wait()

    def _tell(self, text: str) -> None:
        if self._guard is not None and self._guard.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # somebody has killed the guard
                self._guard.stdin.write(text)
                self._guard.stdin.flush()


@contextlib.contextmanager
def kept(descriptor: int) -> Iterator[Optional[KeptTerminal]]:
    """The terminal at `descriptor`, to be changed within the block; None if there is none."""
    if not os.isatty(descriptor):
        yield None
        return
    terminal = KeptTerminal(descriptor)
    try:
        yield terminal
    finally:
        terminal.set_back()


def _guard_of(descriptor: int, before: list[Any]) -> Optional[subprocess.Popen[str]]:
    """Its session is its own, so that no signal of the terminal's reaches it."""
    try:
        return subprocess.Popen(
            [sys.executable, "-IS", terminalguard.__file__, repr(before)],
            stdin=subprocess.PIPE,
            stdout=descriptor,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
    except OSError:
        return None  # no process can be had: then only what can be caught is
