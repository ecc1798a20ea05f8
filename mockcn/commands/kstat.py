# SPDX-License-Identifier: MPL-2.0
"""kstat: the zones' miscellaneous statistics, and only those (docs/platform.md, "Kernel statistics").

The name part of a statistic is the zone's name cut to 30 characters, as the kernel cuts it."""

import getopt
import time
from typing import Optional

from mockcn.commands.output import CommandFailed, Output
from mockcn.node import Node
from mockcn.state.zones import Kernel, Zone

USAGE = "Usage:\nkstat [ -qlp ] [ -T d|u ] [ -c class ] [ -m module ] [ -i instance ] [ -n name ] [ -s statistic ]"
NAME_LENGTH = 30  # characters of a statistic's name in the kernel


def main(node: Node, words: list[str], output: Output) -> int:
    try:
        options, rest = getopt.getopt(words, "pqlm:c:i:n:s:T:")
    except getopt.GetoptError as err:
        raise CommandFailed(f"kstat: {err}\n{USAGE}", 2) from err
    chosen = dict(options)
    if rest or "-p" not in chosen:
        raise CommandFailed(USAGE, 2)
    if chosen.get("-m", "zones") != "zones" or chosen.get("-c", "zone_misc") != "zone_misc":
        return 1  # no such statistic: nothing printed
    found = False
    for instance, name, values in _groups(node, chosen.get("-i")):
        short = name[:NAME_LENGTH]
        if chosen.get("-n", short) != short:
            continue
        for statistic in sorted(values):
            if chosen.get("-s", statistic) == statistic:
                output.line(f"zones:{instance}:{short}:{statistic}\t{values[statistic]}")
                found = True
    return 0 if found else 1


def _groups(node: Node, wanted: Optional[str]) -> list[tuple[str, str, dict[str, str]]]:
    """(instance, zone's name, statistics) of the global zone and each zone in the kernel; of just the instance
    `wanted`, if one is: a node has thousands."""
    now = time.monotonic()
    with node.lock:
        kernels = [("global", Kernel(0, "running", node.started, 1, 0, 0.1))]
        for zone in sorted((zone for zone in node.zones.zones.values() if zone.kernel is not None), key=Zone.by_zoneid):
            assert zone.kernel is not None
            kernels.append((zone.name, zone.kernel))
        instances = [(str(kernel.zoneid), name, kernel) for name, kernel in kernels]
        return [
            (instance, name, _values(name, kernel, now))
            for instance, name, kernel in instances
            if wanted in (None, instance)
        ]


def _values(name: str, kernel: Kernel, now: float) -> dict[str, str]:
    busy = kernel.zoneid * 7919 % 97 + 1
    pid = kernel.init_pid & 0xFFFFFFFF  # unsigned: an init that has ended is 4294967295
    return {
        "avenrun_15min": str(busy),
        "avenrun_1min": str(busy * 2),
        "avenrun_5min": str(busy + 3),
        "boot_time": str(kernel.boot_time),
        "class": "zone_misc",
        "crtime": f"{kernel.created:.9f}",
        "forkfail_cap": "0",
        "forkfail_misc": "0",
        "forkfail_nomem": "0",
        "forkfail_noproc": "0",
        "init_pid": str(pid),
        "init_restarts": str(kernel.init_restarts),
        "nested_interp": "0",
        "nsec_sys": str(busy * 104_729_000),
        "nsec_user": str(busy * 1_299_709_000),
        "nsec_waitrq": str(busy * 15_485_863),
        "snaptime": f"{now:.9f}",
        "zonename": name,
    }
