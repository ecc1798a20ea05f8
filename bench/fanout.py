# SPDX-License-Identifier: MPL-2.0
"""Changes to many listeners, against a bare loop that writes the same bytes to as many.

Ours is given the changes by files renamed into place, from the first rename until the last listener has the last line;
so it also reads those files and compares. The loop only writes; meanwhile the same files are renamed on its side too,
where nobody watches them. What one listener more costs is said at the end: that is what both do."""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from subprocess import Popen
from typing import Any

from bench import PEERS, measuring, slopes
from bench.changes import write_tags_below
from bench.ground import Ground, ground, peer
from bench.listening import Follower, Listeners
from bench.measuring import Report
from support.ports import free_port


@dataclass(frozen=True)
class Loop:
    """The peer: its port, its process, and a folder that has the same files as the node."""

    port: int
    process: Popen[bytes]
    root: str

    def begin(self) -> None:
        """Have all lines written once to all listeners."""
        if self.process.stdin is not None:
            self.process.stdin.write(b"\n")
            self.process.stdin.flush()


def event_lines(here: Ground, vms: list[dict[str, Any]]) -> bytes:
    """What the changes look like on the wire."""
    follower = Follower(here.daemon.port)
    change_all(here.node.root, vms, "sample")
    lines = b"".join(follower.next_line() for _ in vms)
    follower.close()
    return lines


def change_all(root: str, vms: list[dict[str, Any]], value: str) -> None:
    for vm in vms:
        write_tags_below(root, vm, {"bench": value})


def compare(report: Report, here: Ground, vms: list[dict[str, Any]], count: int, loop: Loop) -> dict[str, Any]:
    """The row of so many listeners."""
    values = (f"{count}-{number}" for number in itertools.count())
    with (
        Listeners(here.daemon.port, count, ready_lines=1) as ours,
        Listeners(loop.port, count, ready_lines=0) as theirs,
    ):

        def hand_out() -> float:
            began = time.perf_counter()
            change_all(here.node.root, vms, next(values))
            ours.wait_for(len(vms))
            return (time.perf_counter() - began) * 1000

        def write() -> float:
            began = time.perf_counter()
            loop.begin()
            change_all(loop.root, vms, next(values))
            theirs.wait_for(len(vms))
            return (time.perf_counter() - began) * 1000

        return report.compare(f"{len(vms)} changes to {count} listeners", "ms", hand_out, "bare loop", write)


def compare_all(report: Report, vms: int, changes: int, listeners: list[int]) -> dict[int, dict[str, Any]]:
    """The rows, by number of listeners."""
    with (
        ground(vms, 0, "--log-level", "info") as here,
        tempfile.NamedTemporaryFile() as file,
        tempfile.TemporaryDirectory() as root,
    ):
        changed = here.daemon.vms()[:changes]
        file.write(event_lines(here, changed))
        file.flush()
        port = free_port()
        words = [sys.executable, "-IS", os.path.join(PEERS, "write_loop.py"), str(port), file.name]
        with peer(words, port) as process:
            loop = Loop(port, process, root)
            return {count: compare(report, here, changed, count, loop) for count in listeners}


def say(report: Report, rows: dict[int, dict[str, Any]]) -> None:
    """How the time grows with the listeners."""
    ours = {count: row["ours"]["median"] for count, row in rows.items()}
    peers = {count: row["peers"]["median"] for count, row in rows.items()}
    report.grows(slopes.row("changes", "ms", 100, "listeners", ours, "bare loop", peers))


def measure(report: Report, options: argparse.Namespace) -> None:
    say(report, compare_all(report, options.vms, options.changes, measuring.growing(options.listeners)))


SIZES = {"vms": (300, 10), "changes": (100, 5), "listeners": ("1,300", "1,10")}

if __name__ == "__main__":
    sys.exit(measuring.main("fanout", __doc__, SIZES, measure))
