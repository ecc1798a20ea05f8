# SPDX-License-Identifier: MPL-2.0
"""From a change on the node to its event at a listener, against the commands and reads that no reading can do without.

`zfs set` and the zone event are made through the mock node, which takes its own time; the peer's side makes the same
change and then runs the command, so that both carry it."""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from bench import measuring
from bench.changes import write_package, write_tags
from bench.ground import Ground, cpu_seconds, ground
from bench.listening import Follower
from bench.measuring import Report

ZFS_COLUMNS = (
    "compression,creation,filesystem_limit,mountpoint,name,quota,recsize,refquota,refreservation,snapshot_limit,type,"
    "usedbysnapshots,userrefs,volblocksize,volsize,written,zoned"
)
_ZFS_LIST = ("list", "-H", "-p", "-t", "filesystem,snapshot,volume", "-o", ZFS_COLUMNS, "-d", "1")


class Bench:
    """One VM that is changed, and a listener."""

    def __init__(self, here: Ground, times: int):
        self.here = here
        self.times = times
        self.follower = Follower(here.daemon.port)
        self.vm: dict[str, Any] = next(
            vm
            for vm in here.daemon.vms()
            if vm["state"] == "running" and vm["zonename"] == vm["uuid"] and not vm["hvm"]
        )
        self.zonename: str = self.vm["zonename"]
        self._numbers = itertools.count(1)

    def compare(
        self,
        report: Report,
        name: str,
        change: Callable[[int], object],
        member: str,
        what: str,
        work: Callable[[], object],
    ) -> None:
        """Two rows: from the `change` until an event says that `member` is another, against the change and the `work`
        that cannot be done without, milliseconds; and the daemon's processor time for a change."""
        used: list[float] = []

        def followed() -> float:
            before = cpu_seconds(self.here.pid)
            took = self._median(change, lambda: self._seen(member))
            used.append((cpu_seconds(self.here.pid) - before) / self.times * 1000)
            return took

        def needed() -> float:
            return self._median(change, work, after=lambda: self._seen(member))

        report.compare(name, "ms", followed, f"change, {what}", needed)
        report.put(f"{name}, processor time of the daemon", "ms", used)

    def _seen(self, member: str) -> None:
        self.follower.until(self.zonename, member)

    def _median(
        self,
        change: Callable[[int], object],
        end: Callable[[], object],
        after: Callable[[], object] = lambda: None,
    ) -> float:
        """Milliseconds from each change to its end. What is done `after` it is not measured: on the peer's side the
        change's event is taken there, so that none is left for a change of ours."""
        took = []
        for _ in range(self.times):
            number = next(self._numbers)
            began = time.perf_counter()
            change(number)
            end()
            took.append(time.perf_counter() - began)
            after()
        return statistics.median(took) * 1000

    # Changes, and what reading them needs.

    def tags(self, number: int) -> None:
        write_tags(self.here.node, self.vm, {"bench": number})

    def xml(self, number: int) -> None:
        write_package(self.here.node, self.vm, str(number))

    def restart_init(self, _: int) -> None:
        self.here.node.control.init_restart(self.vm["uuid"])

    def quota(self, number: int) -> None:
        # Two values in turn: each is a change.
        self.here.node.run("zfs", "set", f"quota={50 + number % 2}g", self.vm["zfs_filesystem"], check=True)

    def read_files(self, *names: str) -> None:
        root, zonepath = self.here.node.root, self.vm["zonepath"]
        paths = {
            "xml": f"{root}/etc/zones/{self.zonename}.xml",
            "lastexited": f"{root}{zonepath}/lastexited",
            **{name: f"{root}{zonepath}/config/{name}.json" for name in ("metadata", "routes", "tags")},
        }
        for name, path in paths.items():
            try:
                os.stat(path)
                if name in names:
                    with open(path, "rb") as file:
                        file.read()
            except FileNotFoundError:
                continue

    def zoneadm(self) -> None:
        self.here.node.run("zoneadm", "-z", self.zonename, "-u", self.vm["uuid"], "list", "-p", check=True)

    def zfs_list(self) -> None:
        self.here.node.run("zfs", *_ZFS_LIST, self.vm["zfs_filesystem"], check=True)


def measure(report: Report, options: argparse.Namespace) -> None:
    with ground(options.vms, 0, "--log-level", "info") as here:
        one = Bench(here, options.changes)
        files = ("metadata", "routes", "tags")
        one.compare(report, "tags.json renamed", one.tags, "tags", "reads", lambda: one.read_files(*files))
        one.compare(report, "zone XML renamed", one.xml, "package_version", "reads", lambda: one.read_files("xml"))
        # With the command kstat, as the mock node has no libkstat. The way with the library: zonestate.py.
        name = "init restarted, command kstat"
        one.compare(report, name, one.restart_init, "init_restarts", "one zoneadm list", one.zoneadm)
        one.compare(report, "zfs set quota", one.quota, "quota", "one zfs list", one.zfs_list)
        one.follower.close()


SIZES = {"vms": (1000, 12), "changes": (20, 2)}

if __name__ == "__main__":
    sys.exit(measuring.main("latency", __doc__, SIZES, measure))
