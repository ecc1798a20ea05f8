# SPDX-License-Identifier: MPL-2.0
"""Reads while a full refresh loads and compares a large node, against the same reads of the same daemon while nothing
happens. /ping and /vms/:uuid take turns on one kept-alive connection."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, field

from bench import measuring
from bench.ground import Ground, ground
from bench.measuring import Report
from bench.requests import Asking

EVERY = 0.002  # seconds between two reads
_INTERVAL = "3"  # seconds from one refresh to the next
_LIMIT = 300.0  # seconds for all refreshes


@dataclass
class Times:
    """Seconds of each read, by what the daemon was doing."""

    idle: list[float] = field(default_factory=list)
    during: list[float] = field(default_factory=list)


class Reading:
    """One connection and one path."""

    def __init__(self, port: int, path: str):
        self._asking = Asking(port, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(), keep=True)

    def once(self) -> float:
        self._asking.ask()
        while not self._asking.read():
            continue
        return time.perf_counter() - self._asking.began

    def close(self) -> None:
        self._asking.socket.close()


def count(here: Ground, what: str) -> int:
    """How many refreshes have started, or ended, seen in the log: asking would disturb."""
    return here.daemon.raw_log().count(f'"msg":"full refresh {what}"'.encode())


def read(here: Ground, paths: dict[str, str], refreshes: int) -> dict[str, Times]:
    """Until so many refreshes have ended, reads of each path."""
    found = {name: Times() for name in paths}
    readings = {name: Reading(here.daemon.port, path) for name, path in paths.items()}
    ends, until = refreshes + count(here, "ended"), time.monotonic() + _LIMIT
    while (done := count(here, "ended")) < ends:
        if time.monotonic() > until:
            raise TimeoutError(f"{ends - done} refreshes did not end in {_LIMIT:.0f} s")
        for name, reading in readings.items():
            refreshing = count(here, "starts") > done
            took = reading.once()
            # One in which a refresh began or ended counts as one of that refresh.
            refreshing = refreshing or count(here, "starts") > done
            (found[name].during if refreshing else found[name].idle).append(took)
        time.sleep(EVERY)
    for reading in readings.values():
        reading.close()
    return found


def measure(report: Report, options: argparse.Namespace) -> None:
    with ground(options.vms, options.snapshots, "--log-level", "debug", "--refresh-interval", _INTERVAL) as here:
        paths = {"/ping": "/ping", "/vms/:uuid": f"/vms/{here.daemon.vms()[0]['uuid']}"}
        rounds = [read(here, paths, 1) for _ in range(report.rounds)]
        for name in paths:
            for what, share in (("median", 0.5), ("99 %", 0.99), ("worst", 1.0)):
                during = [measuring.percentile(one[name].during, share) * 1000 for one in rounds if one[name].during]
                idle = [measuring.percentile(one[name].idle, share) * 1000 for one in rounds if one[name].idle]
                if during and idle:
                    report.put(f"{name} during a refresh, {what}", "ms", during, "idle", idle)
                else:
                    report.skip(f"{name} during a refresh, {what}", "no read fell into one")


SIZES = {"vms": (1000, 30), "snapshots": (100_000, 200)}

if __name__ == "__main__":
    sys.exit(measuring.main("refresh", __doc__, SIZES, measure))
