# SPDX-License-Identifier: MPL-2.0
"""A zone's change of state, from its event to that of a listener: with libkstat, and with the command in its place.

Two nodes of the same size with a daemon each. One has the tests' stand-in for the library, which is compiled: without
gcc nothing is measured. It parses a file at each call where the real one asks the kernel, and so is given few zones."""

from __future__ import annotations

import argparse
import itertools
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench import measuring
from bench.ground import Ground, mock_node
from bench.listening import Follower
from bench.measuring import Report
from support import libkstat
from support.running_daemon import RunningDaemon


class Side:
    """One VM whose state changes, and a listener."""

    def __init__(self, here: Ground, times: int):
        self._here, self._times = here, times
        self._follower = Follower(here.daemon.port)
        self._vm = next(vm for vm in here.daemon.vms() if "pid" in vm and vm["zonename"] == vm["uuid"])
        self._states = itertools.cycle(("shutting_down", "running"))

    def followed(self) -> float:
        """Milliseconds, the median of some changes."""
        return self._median(self._event)

    def needed(self) -> float:
        """The same changes, and the one command that nothing can do without."""
        name, uuid = self._vm["zonename"], self._vm["uuid"]
        asking = ("zoneadm", "-z", name, "-u", uuid, "list", "-p")
        return self._median(lambda: self._here.node.run(*asking, check=True), self._event)

    def _event(self) -> None:
        self._follower.until(self._vm["zonename"], "zone_state")

    def _median(self, end: Callable[[], object], after: Callable[[], object] = lambda: None) -> float:
        """What is done `after` the end is not measured."""
        found = []
        for _ in range(self._times):
            began = time.perf_counter()
            self._change()
            end()
            found.append(time.perf_counter() - began)
            after()
        return statistics.median(found) * 1000

    def _change(self) -> None:
        state, control = next(self._states), self._here.node.control
        control.set_kernel_state(self._vm["uuid"], state)
        event = {"zonename": self._vm["zonename"], "newstate": state, "oldstate": "", "zoneid": self._vm["zoneid"]}
        control.publish("status", "change", {**event, "when": 1}, channel="com.sun:zones:status", vendor="sun.com")

    def close(self) -> None:
        self._follower.close()


def _of_some(printed: str) -> str:
    """What `kstat -p` printed of ten zones."""
    instances = list(dict.fromkeys(line.split(":")[1] for line in printed.splitlines()))[:10]
    return "".join(line + "\n" for line in printed.splitlines() if line.split(":")[1] in instances)


def measure(report: Report, options: argparse.Namespace) -> None:
    if shutil.which("gcc") is None:
        report.skip("zone state", "no gcc to compile the stand-in for libkstat")
        return
    with tempfile.TemporaryDirectory() as folder, mock_node(options.vms) as one, mock_node(options.vms) as other:
        library = libkstat.LibKstat(one.root, libkstat.built(Path(folder), "-DFOR_MEASURING"))
        printed = one.run("kstat", "-p", check=True).stdout
        library.kernel_of(_of_some(printed))
        with RunningDaemon(one.root).start() as with_library, RunningDaemon(other.root).start() as without:
            ours = Side(Ground(one, with_library), options.changes)
            command = Side(Ground(other, without), options.changes)
            report.compare("zone state, libkstat", "ms", ours.followed, "the command kstat", command.followed)
            report.compare("zone state, libkstat", "ms", ours.followed, "event, one zoneadm list", ours.needed)
            ours.close()
            command.close()


SIZES = {"vms": (1000, 12), "changes": (20, 2)}

if __name__ == "__main__":
    sys.exit(measuring.main("zonestate", __doc__, SIZES, measure))
