# SPDX-License-Identifier: MPL-2.0
"""The two ends of a child's pipes: lines out of what it prints, bytes into what it reads.

Always: neither blocks the daemon; a child that always has more to say, or to read, leaves the others their turn.
Not here: what a line means, and what an end of the output means."""

import time
from collections.abc import Callable
from typing import Optional

import gevent
from gevent.os import nb_read, nb_write

from vminfod.bytelines import LineSplitter
from vminfod.watchers.lines import LINE_MOST

READ_MOST = 1 << 16  # bytes at a time, the size of a pipe
BREATH = 0.0005  # seconds between two reads. With 0 gevent would look at the sockets only at each 50th


class PipeLines:
    """The lines that come from `descriptor`, which does not block.

    `began`: when the line began whose end has not come, monotonic nanoseconds; None between two lines."""

    def __init__(self, descriptor: int, most: int = LINE_MOST, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._descriptor = descriptor
        self._splitter = LineSplitter(most)
        self._clock = clock
        self.began: Optional[int] = None

    @property
    def is_overlong(self) -> bool:
        """Whether the line that is coming is longer than `most`: what comes of it is thrown away."""
        return self._splitter.overlong

    @property
    def too_long(self) -> int:
        """How many lines were left out because they are longer than `most`."""
        return self._splitter.too_long

    def read(self) -> Optional[list[bytes]]:
        """The lines that the next piece completes, often none; None at the end of the output. OSError if it cannot be
        read."""
        gevent.sleep(BREATH)
        piece = bytes(nb_read(self._descriptor, READ_MOST))
        if not piece:
            return None
        lines = self._splitter.feed(piece)
        if not self._splitter.unfinished:
            self.began = None
        elif lines or self.began is None:
            self.began = self._clock()
        return lines


def write_all(descriptor: int, text: bytes) -> None:
    """All of `text`, in pieces. OSError if that is not possible."""
    while text:
        text = text[nb_write(descriptor, text[:READ_MOST]) :]
        gevent.sleep(BREATH)
