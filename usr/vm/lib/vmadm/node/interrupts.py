# SPDX-License-Identifier: MPL-2.0
"""Ctrl-C and its like while a VM is being changed.

      idle --signal--> Interrupted is raised                     (waiting, checking: nothing is half done)
      busy --signal--> noted; raised before the node's next command, or when something is waited for
      busy --second signal--> Interrupted is raised at once, and the command is killed
      held --signal--> noted only: what was begun is being put in order

Why: an interruption between two commands leaves a state that can be described; one in the midst of `zoneadm install`
does not. Only the command line installs these handlers; a program that uses the library keeps its own."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Optional

from vmadm.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Handlers of the three signals, from `with` to its end."""

    def __init__(self) -> None:
        self.caught: Optional[int] = None
        self._busy = 0
        self._held = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup stays nohup
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raise Interrupted if a signal came while that was not possible."""
        if self.caught is not None and not self._held:
            raise self._error()

    @contextmanager
    def busy(self) -> Iterator[None]:
        """A command of the node runs: it is let finish, and what it did counts as done."""
        self.check()
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1

    @contextmanager
    def held(self) -> Iterator[None]:
        """No interruption until the end of this, whatever came before."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1

    def _handle(self, number: int, frame: Optional[FrameType]) -> None:
        again, self.caught = self.caught is not None, number
        if not self._held and (again or not self._busy):
            raise self._error()

    def _error(self) -> Interrupted:
        return Interrupted(f"interrupted by {signal.Signals(self.caught or 0).name}")
