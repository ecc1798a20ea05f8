# SPDX-License-Identifier: MPL-2.0
"""How cost grows: start, memory, one change's way to a listener, and reads, at several numbers of VMs and of snapshots.
Growth over listeners is bench.fanout's. Each size has its limit beside it, as in bench.startup."""

from __future__ import annotations

import argparse
import sys

from bench import measuring
from bench.ground import Ground, mock_node
from bench.latency import Bench
from bench.measuring import Report
from bench.requests import load
from bench.startup import compare_start
from support.running_daemon import RunningDaemon

_SECONDS = 0.5  # of asking for one VM


def size(report: Report, vms: int, snapshots: int, changes: int) -> None:
    """The rows of one size."""
    what = f"{vms} VMs, {snapshots} snapshots"
    with mock_node(vms, snapshots) as node:
        compare_start(report, node, what)
        with RunningDaemon(node.root, "--log-level", "info").start() as daemon:
            one = Bench(Ground(node, daemon), changes)
            report.compare(
                f"tags.json, {what}",
                "ms",
                one.event_after(one.tags, "tags"),
                "write, reads",
                one.needed(lambda n: (one.tags(n), one.read_files("metadata", "routes", "tags"))),
            )
            report.compare(
                f"zfs set, {what}",
                "ms",
                one.event_after(one.quota, "quota"),
                "set, one zfs list",
                one.needed(lambda n: (one.quota(n), one.zfs_list())),
            )
            one.follower.close()
            path = f"/vms/{one.vm['uuid']}"
            costs = [load(daemon.port, daemon.process.pid, path, seconds=_SECONDS).cpu_us for _ in range(report.rounds)]
            report.put(f"/vms/:uuid, {what}", "us of CPU each", costs)


def measure(report: Report, options: argparse.Namespace) -> None:
    for vms in measuring.growing(options.vms):
        size(report, vms, 0, options.changes)
    for snapshots in measuring.growing(options.snapshots):
        size(report, options.beside, snapshots, options.changes)


SIZES = {
    "vms": ("30,100,300,1000,3000", "10,20"),
    "snapshots": ("10000,100000", "50"),
    "beside": (300, 10),  # VMs that the snapshots belong to
    "changes": (10, 2),
}

if __name__ == "__main__":
    sys.exit(measuring.main("growth", __doc__, SIZES, measure))
