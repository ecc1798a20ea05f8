# SPDX-License-Identifier: MPL-2.0
"""The command-line tools as whole processes, from fork to exit, against `node -e 0` and a bare python: what an
interpreter costs that does nothing. Their output is thrown away."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable

from bench import SBIN, measuring
from bench.ground import ground
from bench.measuring import Report


def process_time(command: list[str], environ: dict[str, str], runs: int) -> Callable[[], float]:
    """A side: the least of some runs, milliseconds. The least says what a command costs."""

    def once() -> float:
        began = time.perf_counter()
        subprocess.run(command, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
        return (time.perf_counter() - began) * 1000

    return lambda: min(once() for _ in range(runs))


def measure(report: Report, options: argparse.Namespace) -> None:
    with ground(options.vms, 0, "--log-level", "info") as here:
        vm = here.daemon.vms()[options.vms // 2]
        environ = {**os.environ, "VMINFOD_PORT": str(here.daemon.port), "VMINFOD_HOST": "127.0.0.1"}
        commands = {
            "vmadm get": ["vmadm", "get", vm["uuid"]],
            "vminfo vm": ["vminfo", "vm", vm["zonename"]],
            "vmadm list": ["vmadm", "list"],
            "vmadm lookup": ["vmadm", "lookup", f"uuid={vm['uuid']}"],
            "vminfo ping": ["vminfo", "ping"],
        }
        yardsticks = {"bare python": [sys.executable, "-IS", "-c", "0"]}
        if (node := shutil.which("node")) is not None:
            yardsticks = {"node -e 0": [node, "-e", "0"], **yardsticks}
        for name, (program, *words) in commands.items():
            tool = process_time([os.path.join(SBIN, program), *words], environ, options.runs)
            for yardstick, command in yardsticks.items():
                report.compare(name, "ms", tool, yardstick, process_time(command, environ, options.runs))


SIZES = {"vms": (1000, 10), "runs": (10, 1)}

if __name__ == "__main__":
    sys.exit(measuring.main("tools", __doc__, SIZES, measure))
