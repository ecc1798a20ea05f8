# SPDX-License-Identifier: MPL-2.0
"""`kstat -p -m zones -c zone_misc`: its text to ZoneInfo records (docs/platform.md, "Kernel statistics"). Pure.

The records are keyed by the whole zone name, which is a statistic of its own: the kernel cuts the name in the key of
each line to 30 characters, so two zones can share it. Lines are grouped by the instance, which is the zoneid."""

from __future__ import annotations

from jsvalues.numberrule import Number
from vmload.loaderror import GarbledOutput
from vmload.records import ZoneInfo

ARGUMENTS_FOR_ALL = ["-p", "-m", "zones", "-c", "zone_misc"]

_WANTED = ("boot_time", "init_pid", "init_restarts")


def arguments_for(zoneid: Number) -> list[str]:
    """The arguments that print the statistics of one zone: the instance is its zoneid."""
    return [*ARGUMENTS_FOR_ALL, "-i", str(zoneid)]


def parse(data: bytes) -> dict[str, ZoneInfo]:
    """The zones in the kernel, the global one among them, by zone name.

    A group that does not say its zone's name is dropped: the zone went away while it was read (OS-4310)."""
    groups: dict[str, dict[str, str]] = {}
    for line in data.decode("utf-8", "replace").split("\n"):
        key, tab, value = line.partition("\t")
        parts = key.split(":")
        if tab and len(parts) == 4:
            groups.setdefault(parts[1], {})[parts[3]] = value
    return {
        group["zonename"]: ZoneInfo(**{stat: group[stat] for stat in _WANTED if stat in group})
        for group in groups.values()
        if group.get("zonename")
    }


def check(data: bytes) -> None:
    """Raise GarbledOutput if `data` cannot be the whole of what kstat prints.

    The global zone is always in the kernel, so it is never nothing."""
    if not data.endswith(b"\n"):
        raise GarbledOutput("kstat: the output ends in the middle of a line" if data else "kstat: no output")
    for line in data.split(b"\n")[:-1]:
        if line.strip() and (b"\t" not in line or line.partition(b"\t")[0].count(b":") != 3):
            raise GarbledOutput("kstat: the output has a line that is no module:instance:name:stat<tab>value")
