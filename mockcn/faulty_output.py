# SPDX-License-Identifier: MPL-2.0
"""Carrying out a fault on a thin tool's output.

    kind      at the mark                                        options
    fail      stderr text, exit                                  stderr, exit (1)
    hang      nothing more comes; goes on after `seconds`        seconds (none: for ever)
    slow      a pause of `seconds`                               seconds (1), when
    hold      a pause that the order `step` ends                 when
    garbage   `bytes` are printed, then it goes on               bytes, exit (given: then ends with that)
    cut       the rest is lost, exit status `exit`               exit (0)
    die       the tool ends by a signal                          signal (9)

The mark is before anything is done, unless `lines` or `bytes_out` say after how many lines or bytes of standard output,
or `at` names the step of the command before which it lies (`cloned` of an install; docs/mockcn.md has them all), or is
`each`. `when="after"` of slow and hold: the command runs first and its answer is delivered late, so that it is stale;
of garbage: at the end of the output."""

import time
from contextlib import contextmanager
from typing import Callable, Iterator, Optional

from mockcn.incoming import Incoming
from mockcn.state.faults import Fault

EACH = "each"  # an `at` that means every step
LOOK_EVERY = 0.2  # seconds between looks whether a tool that is held is still there


class ToolEnds(Exception):
    """The tool ends here: by `signal`, or with `status`."""

    def __init__(self, status: int = 0, signal: Optional[int] = None) -> None:
        super().__init__()
        self.status = status
        self.signal = signal


class FaultyOutput:
    """A `send` with a fault in it. Raises ToolEnds where the tool is to end."""

    def __init__(self, send: Callable[[bytes, bytes], None], gone: Incoming, fault: Fault) -> None:
        self._send = send
        self._gone = gone
        self._kind = fault.kind
        self._steps = fault.steps
        self._waiting = fault.waiting
        self._options = fault.options
        lines, size = fault.options.get("lines"), fault.options.get("bytes_out")
        self._lines: Optional[int] = None if lines is None else int(lines)
        self._bytes: Optional[int] = None if size is None else int(size)
        self._late = fault.options.get("when") == "after"
        self._step: Optional[str] = fault.options.get("at")
        self._struck = False
        self._kept: list[tuple[bytes, bytes]] = []

    def before(self) -> None:
        """The mark at the very start."""
        if self._lines is None and self._bytes is None and self._step is None and not self._late:
            self._strike()

    def reached(self, step: str) -> None:
        """The command is about to take this step."""
        if self._step == EACH or (step == self._step and not self._struck):
            self._strike()

    def __call__(self, kind: bytes, piece: bytes) -> None:
        if self._late:
            self._kept.append((kind, piece))
            return
        place = None if self._struck or kind != b"o" else self._mark_in(piece)
        if place is None:
            self._send(kind, piece)
            return
        if place:
            self._send(kind, piece[:place])
        self._strike()
        if piece[place:]:
            self._send(kind, piece[place:])

    def after(self, status: int) -> int:
        """The command has ended with `status`; the exit status to give."""
        if self._late:
            if self._kind in ("slow", "hold"):
                self._strike()
            for kind, piece in self._kept:
                self._send(kind, piece)
            if self._kind not in ("slow", "hold"):
                self._strike()
        elif not self._struck and self._kind == "cut":
            return int(self._options.get("exit", 0))
        return status

    def _mark_in(self, piece: bytes) -> Optional[int]:
        """Where in this piece of output the mark lies, None if later."""
        if self._bytes is not None:
            if self._bytes <= len(piece):
                return self._bytes
            self._bytes -= len(piece)
            return None
        if self._lines is None:
            return None
        place = 0
        while self._lines:
            newline = piece.find(b"\n", place)
            if newline < 0:
                return None
            place = newline + 1
            self._lines -= 1
        return place

    def _strike(self) -> None:
        self._struck = True
        options = self._options
        if self._kind == "fail":
            self._send(b"e", str(options.get("stderr", "")).encode("utf-8", "surrogateescape"))
            raise ToolEnds(int(options.get("exit", 1)))
        if self._kind == "hang":
            self._pause(options.get("seconds"))
        elif self._kind == "slow":
            self._pause(options.get("seconds", 1))
        elif self._kind == "hold":
            with self._shown_as_waiting():
                while not self._steps.acquire(timeout=LOOK_EVERY):
                    if self._gone.is_set():
                        raise ConnectionAbortedError("the tool was gone before it was let go on")
        elif self._kind == "garbage":
            self._send(b"o", str(options.get("bytes", "")).encode("latin-1", "replace"))
            if "exit" in options:
                raise ToolEnds(int(options["exit"]))
        elif self._kind == "cut":
            raise ToolEnds(int(options.get("exit", 0)))
        elif self._kind == "die":
            raise ToolEnds(signal=int(options.get("signal", 9)))

    @contextmanager
    def _shown_as_waiting(self) -> Iterator[None]:
        self._waiting.add(self)
        try:
            yield
        finally:
            self._waiting.discard(self)

    def _pause(self, seconds: Optional[float]) -> None:
        """Wait, but not longer than the tool lives."""
        started = time.monotonic()
        with self._shown_as_waiting():
            self._gone.wait(None if seconds is None else float(seconds))
        if self._gone.is_set():
            raise ConnectionAbortedError(f"the tool was gone after {time.monotonic() - started:.1f} s")
