# SPDX-License-Identifier: MPL-2.0
"""From the start of the daemon to its first answer, its processor time and its memory then, against the commands and
reads that any first load needs, side by side and without a daemon."""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from bench import measuring
from bench.ground import cpu_seconds, mock_node, resident_mb
from bench.latency import ZFS_COLUMNS
from bench.measuring import Report
from mockcn.process import MockNode
from support.running_daemon import RunningDaemon

COMMANDS = (
    ("zoneadm", "list", "-p", "-c"),
    ("kstat", "-p", "-m", "zones", "-c", "zone_misc"),
    ("zfs", "list", "-H", "-p", "-t", "filesystem,snapshot,volume", "-o", ZFS_COLUMNS, "-d", "3"),
)


LOOK_EVERY = 0.002  # seconds, whether it answers


def start(node: MockNode) -> tuple[float, float, float]:
    """Seconds to the first answer, those of the processor, and resident MB at that moment."""
    began = time.perf_counter()
    with RunningDaemon(node.root, "--log-level", "info").start(wait=False) as daemon:
        pid = daemon.process.pid
        while not daemon.answers():
            time.sleep(LOOK_EVERY)
        return time.perf_counter() - began, cpu_seconds(pid), resident_mb(pid)


def read_all(node: MockNode, files: list[str]) -> float:
    """Seconds of the commands and the files' reads, side by side."""
    began = time.perf_counter()
    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(node.run, tool, *words, check=True) for tool, *words in COMMANDS]
        running.append(pool.submit(_read, files))
        for one in running:
            one.result()
    return time.perf_counter() - began


def _read(files: list[str]) -> None:
    for path in files:
        try:
            with open(path, "rb") as file:
                file.read()
                os.fstat(file.fileno())
        except FileNotFoundError:
            continue


def files_of(node: MockNode) -> list[str]:
    """The files of all VMs."""
    found = []
    for zone in node.control.vms():
        found.append(f"{node.root}/etc/zones/{zone['zonename']}.xml")
        base = node.root + zone["zonepath"]
        found += [f"{base}/lastexited", *(f"{base}/config/{name}.json" for name in ("metadata", "routes", "tags"))]
    return found


def compare_start(report: Report, node: MockNode, what: str) -> None:
    """Three rows for one node: time with its limit, processor time, and memory."""
    files = files_of(node)
    took: list[float] = []
    processor: list[float] = []
    memory: list[float] = []
    limit: list[float] = []
    for _ in range(report.rounds):
        seconds, used, resident = start(node)
        took.append(seconds)
        processor.append(used)
        memory.append(resident)
        limit.append(read_all(node, files))
    report.put(f"start, {what}", "s", took, "commands and reads", limit)
    report.put(f"processor time of the start, {what}", "s", processor)
    report.put(f"resident, {what}", "MB", memory)


def measure(report: Report, options: argparse.Namespace) -> None:
    for snapshots in (0, options.snapshots):
        with mock_node(options.vms, snapshots) as node:
            compare_start(report, node, f"{options.vms} VMs, {snapshots} snapshots")


SIZES = {"vms": (1000, 10), "snapshots": (50_000, 50)}

if __name__ == "__main__":
    sys.exit(measuring.main("startup", __doc__, SIZES, measure))
