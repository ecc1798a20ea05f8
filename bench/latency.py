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
from bench.ground import Ground, ground
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

    def event_after(self, change: Callable[[int], object], *names: str) -> Callable[[], float]:
        """A side: milliseconds, the median of some changes."""

        def once() -> float:
            number = next(self._numbers)
            began = time.perf_counter()
            change(number)
            self.follower.until(self.zonename, *names)
            return time.perf_counter() - began

        return lambda: statistics.median(once() for _ in range(self.times)) * 1000

    def needed(self, work: Callable[[int], object]) -> Callable[[], float]:
        """The other side: what cannot be done without."""

        def once() -> float:
            began = time.perf_counter()
            work(next(self._numbers))
            return time.perf_counter() - began

        return lambda: statistics.median(once() for _ in range(self.times)) * 1000

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
        report.compare(
            "tags.json renamed",
            "ms",
            one.event_after(one.tags, "tags"),
            "write, reads",
            one.needed(lambda n: (one.tags(n), one.read_files("metadata", "routes", "tags"))),
        )
        report.compare(
            "zone XML renamed",
            "ms",
            one.event_after(one.xml, "package_version"),
            "write, reads",
            one.needed(lambda n: (one.xml(n), one.read_files("xml"))),
        )
        report.compare(
            "zone event",
            "ms",
            one.event_after(one.restart_init, "init_restarts"),
            "event, one zoneadm list",
            one.needed(lambda n: (one.restart_init(n), one.zoneadm())),
        )
        report.compare(
            "zfs set quota",
            "ms",
            one.event_after(one.quota, "quota"),
            "set, one zfs list",
            one.needed(lambda n: (one.quota(n), one.zfs_list())),
        )
        one.follower.close()


SIZES = {"vms": (1000, 12), "changes": (20, 2)}

if __name__ == "__main__":
    sys.exit(measuring.main("latency", __doc__, SIZES, measure))
