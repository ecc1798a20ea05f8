# SPDX-License-Identifier: MPL-2.0
"""Long work in the main loop, done in turns so that requests and events get theirs in between (bug P10).

By time, not by count: a VM with a thousand snapshots takes as long as a hundred without.
A sleep of 0 would not do: gevent then goes on with what is ready, and looks at no socket until 50 turns are over."""

from __future__ import annotations

import time

import gevent

TURN = 0.002  # seconds of work between two looks at the rest of the daemon
_PAUSE = 0.0005  # seconds; any time above 0 makes the loop look at its sockets


class Turns:
    """Call next() between two pieces of the work."""

    def __init__(self) -> None:
        self._until = time.monotonic() + TURN

    def next(self) -> None:
        """Switch greenlets if this turn is over."""
        if time.monotonic() >= self._until:
            gevent.sleep(_PAUSE)
            self._until = time.monotonic() + TURN
