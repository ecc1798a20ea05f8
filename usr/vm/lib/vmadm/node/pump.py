# SPDX-License-Identifier: MPL-2.0
"""Copying a stream from one descriptor to another, in a thread, as fast as the slower side goes.

Where the system can, the bytes stay in the kernel (splice); else they are read and written a MiB at a time. Whoever
reads more slowly holds up the other: between the two is no more than what a pipe holds.
Why there is a copy at all, where a command could have the descriptor itself: the bytes are counted, for whoever looks
on; and a stream whose vmadm was killed ends there, instead of being read on by a command that nobody waits for.
Always: the target is closed at the end if it is ours; an error of the target is kept for who asks, it is no exception
        in a thread. Leaving the `with` ends the copying, also where the target takes nothing any more."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import threading
from types import TracebackType
from typing import Optional

PIECE = 1 << 20  # bytes
NO_SPLICE = (errno.EINVAL, errno.ENOSYS)  # neither side is a pipe, or one cannot do it
LAST_WRITE = 5.0  # seconds that a write which nobody takes may go on after the end of the `with`


class Pump:
    """Copies from `source` to its end. `moved` are the bytes so far; `error` is why it ended before that."""

    def __init__(self, source: int, target: int, *, close_target: bool = False) -> None:
        self.moved = 0
        self.error: Optional[OSError] = None
        self._source, self._target, self._close = source, target, close_target
        self._wake_read, self._wake_write = os.pipe()
        self._splices = hasattr(os, "splice")
        self._thread = threading.Thread(target=self._run, name="pump", daemon=True)

    def __enter__(self) -> Pump:
        self._thread.start()
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        os.close(self._wake_write)  # it stops waiting
        self._thread.join(LAST_WRITE)
        if not self._thread.is_alive():
            os.close(self._wake_read)

    def is_done(self, within: float) -> bool:
        """Whether the source has ended, or the target takes no more, waiting so many seconds for it."""
        self._thread.join(within)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while self._waits_for(self._source, select.POLLIN) and self._copy():
                continue
        finally:
            if self._close:
                os.close(self._target)

    def _waits_for(self, descriptor: int, event: int) -> bool:
        """False if the copying is to end instead."""
        poll = select.poll()
        poll.register(descriptor, event)
        poll.register(self._wake_read, select.POLLIN)
        return self._wake_read not in [ready for ready, _ in poll.poll()]

    def _copy(self) -> bool:
        """Some more; False at the end."""
        try:
            moved = self._spliced() if self._splices else self._read_and_written()
        except BlockingIOError:
            return self._waits_for(self._target, select.POLLOUT)
        self.moved += moved or 0
        return bool(moved)

    def _spliced(self) -> Optional[int]:
        try:
            return os.splice(self._source, self._target, PIECE, flags=os.SPLICE_F_NONBLOCK)
        except BlockingIOError:
            raise
        except OSError as error:
            if error.errno in NO_SPLICE:
                self._splices = False
                return self._read_and_written()
            self.error = error
            return None

    def _read_and_written(self) -> Optional[int]:
        try:
            piece = os.read(self._source, PIECE)
        except OSError as error:
            if isinstance(error, BlockingIOError):
                return self._read_and_written() if self._waits_for(self._source, select.POLLIN) else None
            self.error = error
            return None
        left = memoryview(piece)
        while left:
            if not self._waits_for(self._target, select.POLLOUT):
                return None
            try:
                left = left[os.write(self._target, left) :]
            except BlockingIOError:
                continue
            except OSError as error:
                self.error = error
                return None
        return len(piece)


def roomy_pipe() -> tuple[int, int]:
    """(read end, write end) of a pipe that holds a MiB where the system can."""
    ends = os.pipe()
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):  # a user may have only so many of that size
            fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, PIECE)
    return ends
