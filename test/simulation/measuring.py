# SPDX-License-Identifier: MPL-2.0
"""What the daemon's process uses: by what it says itself, and by what the kernel says of it.

Always: nothing here judges; a sample that cannot be taken, because the daemon is just down, is none."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Optional

from simulation.recording import Sample
from support.processes import children_of
from support.running_daemon import RunningDaemon

BACKLOG = 2_000_000  # bytes that a listener may leave unread, as the daemon of a simulation is told
ESCAPED = 1.3  # times as long a list is in `ready`
SMALL_EVENTS = 100_000  # bytes
COUNTED_WITHIN = 5.0  # seconds for the daemon to count its greenlets


class Measuring:
    """Measures the processes of one daemon. `greenlets_file`: see inside/sitecustomize.py. `largest`: bytes of the
    largest metadata that a guest had so far."""

    def __init__(self, daemon: RunningDaemon, greenlets_file: str):
        self.largest = 0
        self._daemon = daemon
        self._greenlets_file = greenlets_file
        self._longest = 0  # bytes of the longest list of all VMs so far

    def sample(self, *, calm: bool, resumed: bool) -> Optional[Sample]:
        """What the daemon uses now; None if it cannot be told. Greenlets are counted only when all is calm. `resumed`:
        whether there is a listener that got what it had missed."""
        pid = self._daemon.process.pid
        try:
            status = self._daemon.status(full=False)
            self._longest = max(self._longest, len(self._daemon.get("/vms").body))
            with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
                facts = dict(line.split(":", 1) for line in file if ":" in line)
            descriptors = len(os.listdir(f"/proc/{pid}/fd"))
        except (OSError, ValueError, AssertionError):
            return None
        listeners, events = status["eventsListeners"].values(), status["events"]
        return Sample(
            calm=calm,
            rss=status["memory"]["rss"],
            descriptors=descriptors,
            threads=int(facts["Threads"]),
            greenlets=self._greenlets() if calm else None,
            children=len(children_of(pid)),
            ring_events=events["ringEvents"],
            ring_bytes=events["ringBytes"],
            waiting_bytes=events["waitingBytes"],
            backlog_bytes=max((one["backlogBytes"] for one in listeners), default=0),
            allowed_bytes=self._allowed(events["ringBytes"] if resumed else 0),
            queued=status["queue"]["vasync_queue"]["nqueued"],
            listeners=len(listeners),
            rev=events["rev"],
        )

    def _allowed(self, missed: int) -> int:
        """Bytes that may wait for one listener (docs/http-api.md, "Listeners that do not read"): its bound, or what it
        got at first, a snapshot or what it `missed`, and half of that; and one event, which goes into an empty backlog
        whatever its size."""
        first = max(int(ESCAPED * (self._longest + self.largest)), missed)
        return max(BACKLOG, first + BACKLOG // 2) + 4 * self.largest + SMALL_EVENTS

    def _greenlets(self) -> Optional[int]:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._greenlets_file)
        self._daemon.process.send_signal(signal.SIGUSR2)
        until = time.monotonic() + COUNTED_WITHIN
        while time.monotonic() < until:
            if os.path.exists(self._greenlets_file):
                with open(self._greenlets_file, encoding="ascii") as file:
                    return int(file.read())
            time.sleep(0.02)
        return None
