# SPDX-License-Identifier: MPL-2.0
"""The command-line tools as whole processes, from fork to exit, against `node -e 0` and a bare python: what an
interpreter costs that does nothing. Their output is thrown away. Time by the clock, and processor time of the process,
which a busy machine disturbs less; of several runs in a row the least: it says what a command costs."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass

from bench import SBIN, measuring
from bench.ground import ground
from bench.measuring import Report


@dataclass(frozen=True)
class Cost:
    """Milliseconds: by the clock, and of processors."""

    took: float
    cpu: float


def cost(command: list[str], environ: dict[str, str], runs: int) -> Cost:
    """The least of some runs. RuntimeError if the command fails."""
    costs = [_run(command, environ) for _ in range(runs)]
    return Cost(min(one.took for one in costs), min(one.cpu for one in costs))


def _run(command: list[str], environ: dict[str, str]) -> Cost:
    began = time.perf_counter()
    nowhere = subprocess.DEVNULL
    child = subprocess.Popen(command, env=environ, stdin=nowhere, stdout=nowhere, stderr=nowhere)
    _, status, used = os.wait4(child.pid, 0)
    took = time.perf_counter() - began
    child.returncode = os.waitstatus_to_exitcode(status)  # nobody has to wait for it any more
    if child.returncode != 0:
        raise RuntimeError(f"{command!r} ended with {child.returncode}")
    return Cost(took * 1000, (used.ru_utime + used.ru_stime) * 1000)


def compare(
    report: Report, name: str, tool: list[str], yardsticks: dict[str, list[str]], environ: dict[str, str], runs: int
) -> None:
    """Two rows for each yardstick, from the same runs of the tool."""
    found: dict[str, list[Cost]] = {each: [] for each in ("", *yardsticks)}
    commands = {"": tool, **yardsticks}
    for number in range(report.rounds):
        for each in list(commands)[:: 1 if number % 2 == 0 else -1]:
            found[each].append(cost(commands[each], environ, runs))
    ours = found.pop("")
    for each, theirs in found.items():
        report.put(name, "ms", [one.took for one in ours], each, [one.took for one in theirs])
        report.put(f"{name}, CPU", "ms", [one.cpu for one in ours], each, [one.cpu for one in theirs])


def measure(report: Report, options: argparse.Namespace) -> None:
    with ground(options.vms, 0, "--log-level", "info") as here:
        vm = here.daemon.vms()[options.vms // 2]
        environ = {**os.environ, "VMINFOD_PORT": str(here.daemon.port), "VMINFOD_HOST": "127.0.0.1"}
        commands = {
            "vmadm get": ["vmadm", "get", vm["uuid"]],
            "vminfo vm": ["vminfo", "vm", vm["zonename"]],
            "vmadm list": ["vmadm", "list"],
            "vmadm lookup": ["vmadm", "lookup", f"alias={vm.get('alias', vm['uuid'])}"],
            "vminfo ping": ["vminfo", "ping"],
        }
        yardsticks = {"bare python": [sys.executable, "-IS", "-c", "0"]}
        if (node := shutil.which("node")) is not None:
            yardsticks = {"node -e 0": [node, "-e", "0"], **yardsticks}
        for name, (program, *words) in commands.items():
            compare(report, name, [os.path.join(SBIN, program), *words], yardsticks, environ, options.runs)


SIZES = {"vms": (1000, 10), "runs": (10, 1)}

if __name__ == "__main__":
    sys.exit(measuring.main("tools", __doc__, SIZES, measure))
