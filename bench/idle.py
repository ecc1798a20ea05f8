# SPDX-License-Identifier: MPL-2.0
"""What a daemon costs while nothing happens and its listeners wait: processor time as a share of one core, against the
bare loop with as many connections. The full refresh is put off, since it is work."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time

from bench import PEERS, measuring
from bench.ground import cpu_seconds, ground, peer
from bench.listening import Listeners
from bench.measuring import Report
from support.ports import free_port


def shares(pids: list[int], seconds: float) -> list[float]:
    """Percent of one core that each of the processes takes, in the same stretch of time."""
    before, began = [cpu_seconds(pid) for pid in pids], time.perf_counter()
    time.sleep(seconds)
    took = time.perf_counter() - began
    return [(cpu_seconds(pid) - used) / took * 100 for pid, used in zip(pids, before)]


def measure(report: Report, options: argparse.Namespace) -> None:
    port, quiet = free_port(), ("--log-level", "info", "--refresh-interval", "86400")
    with ground(options.vms, 0, *quiet) as here, tempfile.NamedTemporaryFile() as file:
        loop = [sys.executable, "-IS", os.path.join(PEERS, "write_loop.py"), str(port), file.name]
        with (
            peer(loop, port) as child,
            Listeners(here.daemon.port, options.listeners, ready_lines=1),
            Listeners(port, options.listeners, ready_lines=0),
        ):
            rounds = [shares([here.pid, child.pid], options.seconds) for _ in range(report.rounds)]
            ours, theirs = map(list, zip(*rounds))
            report.put(f"idle, {options.listeners} listeners", "% of a core", ours, "bare loop", theirs)


SIZES = {"vms": (1000, 10), "listeners": (100, 5), "seconds": (20, 1)}

if __name__ == "__main__":
    sys.exit(measuring.main("idle", __doc__, SIZES, measure))
