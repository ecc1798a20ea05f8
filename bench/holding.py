# SPDX-License-Identifier: MPL-2.0
"""What open transactions cost those who have nothing to do with them: reads of other VMs, and a change's way to its
event, with a tenth of all VMs held back and changed meanwhile, against the same daemon with none held."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Iterator
from typing import Any

from bench import measuring
from bench.changes import write_tags
from bench.ground import Ground, ground
from bench.listening import Follower
from bench.measuring import Report
from bench.requests import Load, load
from support.transacting import Transacting

CONNECTIONS = 8


@contextlib.contextmanager
def held(here: Ground, vms: list[dict[str, Any]]) -> Iterator[None]:
    """These VMs are held back, and have changed since."""
    writers = [Transacting(here.node.root) for _ in vms]
    try:
        for writer, vm in zip(writers, vms):
            writer.open(vm["uuid"], command="bench", limit=600)
            write_tags(here.node, vm, {"held": time.time()})
        yield
        for writer in writers:
            writer.commit()
    finally:
        for writer in writers:
            writer.close()


def way(here: Ground, vm: dict[str, Any], changes: int) -> list[float]:
    """Milliseconds from a change of tags to its event."""
    follower = Follower(here.daemon.port)
    took = []
    for number in range(changes):
        began = time.perf_counter()
        write_tags(here.node, vm, {"n": f"{began}-{number}"})
        line = follower.next_line()
        took.append((time.perf_counter() - began) * 1000)
        assert json.loads(line)["zonename"] == vm["zonename"], "the event of a VM that is held"
    follower.close()
    return took


def measure(report: Report, options: argparse.Namespace) -> None:
    with ground(options.vms, 0, "--log-level", "info") as here:
        vms = [vm for vm in here.daemon.vms() if vm.get("zonepath")]
        ours, *others = vms
        paths = {"/vms/:uuid": f"/vms/{ours['uuid']}", "/vms": "/vms"}
        loads: dict[str, dict[bool, list[Load]]] = {name: {True: [], False: []} for name in paths}
        ways: dict[bool, list[float]] = {True: [], False: []}
        for number in range(report.rounds):
            for are_held in (True, False)[:: 1 if number % 2 == 0 else -1]:
                with held(here, others[: len(vms) // 10] if are_held else []):
                    for name, path in paths.items():
                        seconds = options.milliseconds / 1000
                        one = load(here.daemon.port, here.pid, path, seconds=seconds, connections=CONNECTIONS)
                        loads[name][are_held].append(one)
                    ways[are_held].append(measuring.percentile(way(here, ours, options.changes), 0.5))
        peer = "none held"
        for name, found in loads.items():
            for what, unit, figure in (
                ("", "requests/s", lambda one: one.rate),
                (", server", "us of CPU each", lambda one: one.cpu_us),
            ):
                both = [[figure(one) for one in found[are_held]] for are_held in (True, False)]
                report.put(f"{name}, a tenth held{what}", unit, both[0], peer, both[1])
        report.put("a change's way to its event, a tenth held", "ms", ways[True], peer, ways[False])


SIZES = {"vms": (1000, 20), "milliseconds": (2000, 100), "changes": (50, 3)}

if __name__ == "__main__":
    sys.exit(measuring.main("holding", __doc__, SIZES, measure))
