# SPDX-License-Identifier: MPL-2.0
"""`vmadm update alias=x quota=20`, from fork to exit: in a transaction, against `node -e 0`, and against the same
update where vminfod has no socket, so that each of its steps is seen, as with an older vminfod."""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import sys
from collections.abc import Callable

from bench import SBIN, measuring
from bench.ground import Ground, ground
from bench.measuring import Report
from bench.tools import Cost, cost


class Updates:
    """Updates of one VM, each of both properties. The sides give the least of some runs."""

    def __init__(self, here: Ground, runs: int):
        self._runs = runs
        self._socket = f"{here.node.root}/var/run/vminfod.sock"
        environ = {name: value for name, value in os.environ.items() if not name.startswith("VMINFOD")}
        self._environ = {**environ, "VMADM_ROOT": here.node.root}
        self._port = {"VMINFOD_PORT": str(here.daemon.port)}
        fit = [vm for vm in here.daemon.vms() if vm["brand"] == "joyent" and vm["state"] == "running"]
        self._uuid: str = fit[0]["uuid"]
        self._numbers = itertools.count(1)

    def at_once(self) -> Cost:
        """In a transaction."""
        return self._least(self._environ)

    def step_by_step(self) -> Cost:
        """Over TCP, with the socket put aside."""
        os.rename(self._socket, f"{self._socket}.aside")
        try:
            return self._least({**self._environ, **self._port})
        finally:
            os.rename(f"{self._socket}.aside", self._socket)

    def _least(self, environ: dict[str, str]) -> Cost:
        costs = [cost(self._words(), environ, 1) for _ in range(self._runs)]
        return Cost(min(one.took for one in costs), min(one.cpu for one in costs))

    def _words(self) -> list[str]:
        number = next(self._numbers)
        return [os.path.join(SBIN, "vmadm"), "update", self._uuid, f"alias=x{number}", f"quota={20 + number % 2}"]


def measure(report: Report, options: argparse.Namespace) -> None:
    with ground(options.vms, 0, "--log-level", "info") as here:
        updates = Updates(here, options.runs)
        sides: dict[str, Callable[[], Cost]] = {"": updates.at_once, "each step seen": updates.step_by_step}
        if (node := shutil.which("node")) is not None:
            sides["node -e 0"] = lambda: cost([node, "-e", "0"], dict(os.environ), options.runs)
        found: dict[str, list[Cost]] = {name: [] for name in sides}
        for number in range(report.rounds):
            for name in list(sides)[:: 1 if number % 2 == 0 else -1]:
                found[name].append(sides[name]())
        ours = found.pop("")
        for name, theirs in found.items():
            what = "vmadm update, alias and quota"
            report.put(what, "ms", [one.took for one in ours], name, [one.took for one in theirs])
            report.put(f"{what}, CPU", "ms", [one.cpu for one in ours], name, [one.cpu for one in theirs])


SIZES = {"vms": (1000, 30), "runs": (10, 1)}

if __name__ == "__main__":
    sys.exit(measuring.main("updating", __doc__, SIZES, measure))
