# SPDX-License-Identifier: MPL-2.0
"""How cost grows: start, memory, one change's way to a listener, and reads, at several numbers of VMs and of snapshots;
changes to several numbers of listeners. Each size has its limit beside it, as in bench.startup, bench.latency and
bench.fanout; at the end it is said in words how each figure grows."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from bench import fanout, measuring, slopes
from bench.ground import Ground, mock_node
from bench.latency import Bench
from bench.measuring import Report
from bench.requests import load
from bench.startup import compare_start
from support.running_daemon import RunningDaemon

_SECONDS = 0.3  # of asking for one VM

# What is measured -> its unit.
FIGURES = {
    "start": "s",
    "resident": "MB",
    "tags.json": "ms",
    "zfs set": "ms",
    "zone event": "ms",
    "/vms/:uuid": "us of CPU",
}


def size(report: Report, vms: int, snapshots: int, changes: int) -> None:
    """The rows of one size."""
    what = f"{vms} VMs, {snapshots} snapshots"
    with mock_node(vms, snapshots) as node:
        compare_start(report, node, what)
        with RunningDaemon(node.root, "--log-level", "info").start() as daemon:
            one = Bench(Ground(node, daemon), changes)
            files = ("metadata", "routes", "tags")
            one.compare(report, f"tags.json, {what}", one.tags, "tags", "reads", lambda: one.read_files(*files))
            one.compare(report, f"zfs set, {what}", one.quota, "quota", "one zfs list", one.zfs_list)
            name = f"zone event, {what}"
            one.compare(report, name, one.restart_init, "init_restarts", "one zoneadm list", one.zoneadm)
            one.follower.close()
            path = f"/vms/{one.vm['uuid']}"
            costs = [load(daemon.port, daemon.process.pid, path, seconds=_SECONDS).cpu_us for _ in range(report.rounds)]
            report.put(f"/vms/:uuid, {what}", "us of CPU each", costs)


def say(report: Report, sizes: list[int], per: int, what: str, row_of: Callable[[str, int], str]) -> None:
    """A line for each figure: how it grows with the number of `what`."""
    for name, unit in FIGURES.items():
        rows = {number: report.row(row_of(name, number)) for number in sizes}
        ours = {number: row["ours"]["median"] for number, row in rows.items()}
        peers = {number: row["peers"]["median"] for number, row in rows.items() if "peer" in row}
        peer = next(iter(rows.values())).get("peer")
        report.grows(slopes.row(name, unit, per, what, ours, peer, peers))


def measure(report: Report, options: argparse.Namespace) -> None:
    vms, snapshots, listeners = map(measuring.growing, (options.vms, options.snapshots, options.listeners))
    sizes = [(number, 0) for number in vms] + [(options.beside, number) for number in snapshots]
    for number, of_those in dict.fromkeys(sizes):
        size(report, number, of_those, options.changes)
    rows = fanout.compare_all(report, options.beside, options.events, listeners)
    say(report, vms, 1000, "VMs", lambda name, number: f"{name}, {number} VMs, 0 snapshots")
    say(
        report, snapshots, 10_000, "snapshots", lambda name, number: f"{name}, {options.beside} VMs, {number} snapshots"
    )
    fanout.say(report, rows)


SIZES = {
    "vms": ("30,100,300,1000,3000", "10,20"),
    "snapshots": ("0,10000,100000", "0,50"),
    "listeners": ("1,10,100,1000", "1,10"),
    "beside": (300, 10),  # VMs that the snapshots belong to, and that change for the listeners
    "changes": (10, 2),  # of one VM
    "events": (100, 5),  # to all listeners
}

if __name__ == "__main__":
    sys.exit(measuring.main("growth", __doc__, SIZES, measure))
