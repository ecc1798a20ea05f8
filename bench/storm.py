# SPDX-License-Identifier: MPL-2.0
"""Many zfs events at once. Foreign ones (datasets of no VM) against a loop that reads and parses the same lines, by
processor time; and changes of many VMs at once, until all are seen, against one listing of everything.

The foreign events end with one that matters, so that the last of them has been dealt with when it is seen."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench import PEERS, measuring
from bench.changes import history_event
from bench.ground import Ground, cpu_seconds, ground
from bench.listening import Follower
from bench.measuring import Report

_AT_ONCE = 1000  # lines in one order to the mock node
_EVENTS = "ESC_ZFS_history_event"  # the subscriber that gets them


def with_quota(here: Ground) -> list[dict[str, Any]]:
    """The VMs that have a dataset, and whose `quota` is that of it: a bhyve VM shows its refquota."""
    return [vm for vm in here.daemon.vms() if vm["brand"] != "bhyve" and "quota" in vm]


def send(here: Ground, lines: list[str]) -> None:
    for first in range(0, len(lines), _AT_ONCE):
        here.node.control.raw_line("".join(f"{line}\n" for line in lines[first : first + _AT_ONCE]), match=_EVENTS)


def foreign(here: Ground, lines: list[str], marks: dict[str, int]) -> float:
    """Processor seconds of the daemon for the lines and a mark behind them."""
    vm = with_quota(here)[0]
    follower = Follower(here.daemon.port)
    before = cpu_seconds(here.pid)
    send(here, lines)
    marks["n"] += 1
    here.node.run("zfs", "set", f"quota={60 + marks['n'] % 2}g", vm["zfs_filesystem"], check=True)
    follower.until(vm["zonename"], "quota")
    used = cpu_seconds(here.pid) - before
    follower.close()
    return used


def parsed(lines: list[str]) -> float:
    """Processor seconds of a loop that reads and parses them."""
    loop = [sys.executable, "-IS", os.path.join(PEERS, "read_lines.py")]
    done = subprocess.run(loop, input="\n".join(lines) + "\n", capture_output=True, text=True, check=True)
    return float(done.stdout)


def burst(here: Ground, sets: int, vms: int, quota: int) -> tuple[float, int, float]:
    """`sets` quotas on `vms` VMs, whose events come all at once: seconds until all are seen, zfs runs meanwhile, and
    the daemon's processor seconds."""
    chosen = with_quota(here)[:vms]
    control = here.node.control
    control.drop_events(None, match=_EVENTS)
    with ThreadPoolExecutor(2) as pool:
        list(
            pool.map(
                lambda vm: here.node.run("zfs", "set", f"quota={quota}g", vm["zfs_filesystem"], check=True), chosen
            )
        )
    control.clear_event_rules()
    names = [chosen[number % len(chosen)]["zfs_filesystem"] for number in range(sets)]
    follower = Follower(here.daemon.port)
    control.forget_calls()
    waiting = {vm["zonename"] for vm in chosen}
    before = cpu_seconds(here.pid)
    began = time.perf_counter()
    send(here, [history_event(name, details=f"quota={quota << 30}") for name in names])
    while waiting:
        event = follower.next()
        if any(change["path"] == ["quota"] for change in event.get("changes", ())):
            waiting.discard(event["zonename"])
    took = time.perf_counter() - began
    follower.close()
    return took, control.call_counts().get("zfs", 0), cpu_seconds(here.pid) - before


def measure(report: Report, options: argparse.Namespace) -> None:
    # Their dates spread over seconds, as those of a storm do.
    lines = [history_event(f"zones/cores/job-{number}", after=number // 20) for number in range(options.foreign)]
    marks = {"n": 0}
    with ground(options.vms, 0, "--log-level", "info") as here:
        name = f"{options.foreign} foreign zfs events"
        report.compare(name, "s of CPU", lambda: foreign(here, lines, marks), "reads and parses", lambda: parsed(lines))
        took: list[float] = []
        runs: list[float] = []
        listing: list[float] = []
        used: list[float] = []
        for number in range(report.rounds):
            seconds, count, processor = burst(here, options.sets, options.vms, 7001 + number)
            took.append(seconds)
            runs.append(count)
            used.append(processor)
            began = time.perf_counter()
            here.node.run("zfs", "list", "-H", "-p", "-o", "name,quota", check=True)
            listing.append(time.perf_counter() - began)
        what = f"{options.sets} zfs set over up to {options.vms} VMs"
        report.put(f"{what}, until seen", "s", took, "one listing", listing)
        report.put(f"{what}, zfs runs", "runs", runs)
        report.put(f"{what}, processor time of the daemon", "s", used)


SIZES = {"vms": (1000, 10), "foreign": (100_000, 500), "sets": (2000, 20)}

if __name__ == "__main__":
    sys.exit(measuring.main("storm", __doc__, SIZES, measure))
