# SPDX-License-Identifier: MPL-2.0
"""Changes to many listeners, against a bare loop that writes the same bytes to as many.

Ours is given the changes by files renamed into place, from the first rename until the last listener has the last line;
so it also reads those files and compares. The loop only writes."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time

from bench import PEERS, measuring
from bench.changes import write_tags
from bench.ground import Ground, ground, peer
from bench.listening import Follower, Listeners
from bench.measuring import Report
from support.running_daemon import free_port


def event_lines(here: Ground, changes: int) -> bytes:
    """What `changes` changes look like on the wire."""
    follower = Follower(here.daemon.port)
    change_all(here, changes, "sample")
    lines = b"".join(follower.next_line() for _ in range(changes))
    follower.close()
    return lines


def change_all(here: Ground, changes: int, value: str) -> None:
    for vm in here.daemon.vms()[:changes]:
        write_tags(here.node, vm, {"bench": value})


def measure(report: Report, options: argparse.Namespace) -> None:
    with ground(options.vms, 0, "--log-level", "info") as here, tempfile.NamedTemporaryFile() as file:
        changes = min(options.changes, options.vms)
        vms = here.daemon.vms()[:changes]
        file.write(event_lines(here, changes))
        file.flush()
        port = free_port()
        loop = [sys.executable, "-IS", os.path.join(PEERS, "write_loop.py"), str(port), file.name]
        for count in measuring.growing(options.listeners):
            with (
                peer(loop, port) as child,
                Listeners(here.daemon.port, count, ready_lines=1) as ours,
                Listeners(port, count, ready_lines=0) as theirs,
            ):
                numbers = iter(range(1_000_000))

                def hand_out(ours: Listeners = ours, numbers=numbers, count: int = count) -> float:
                    value = f"{count}-{next(numbers)}"
                    began = time.perf_counter()
                    for vm in vms:
                        write_tags(here.node, vm, {"bench": value})
                    ours.wait_for(changes)
                    return (time.perf_counter() - began) * 1000

                def write(theirs: Listeners = theirs, child=child) -> float:
                    began = time.perf_counter()
                    child.stdin.write(b"\n")
                    child.stdin.flush()
                    theirs.wait_for(changes)
                    return (time.perf_counter() - began) * 1000

                report.compare(f"{changes} changes to {count} listeners", "ms", hand_out, "bare loop", write)


SIZES = {"vms": (300, 10), "changes": (100, 5), "listeners": ("1,10,100,300,1000", "1,10")}

if __name__ == "__main__":
    sys.exit(measuring.main("fanout", __doc__, SIZES, measure))
