# SPDX-License-Identifier: MPL-2.0
"""`kstat -p -m zones -c zone_misc`: its text to ZoneInfo records (docs/platform.md, "Kernel statistics"). Pure.

A zone is known by its whole name, which is a statistic of its own: the kernel cuts the name in the key of each line to
30 characters, so two zones can share it. Lines are grouped by the instance, which is the zoneid."""

from __future__ import annotations

import io
from typing import Optional

from jsvalues.numberrule import Number
from vmload.loaderror import GarbledOutput
from vmload.records import Zone, ZoneInfo

ARGUMENTS_FOR_ALL = ["-p", "-m", "zones", "-c", "zone_misc"]

_WANTED = ("boot_time", "init_pid", "init_restarts")
_KEPT = frozenset(stat.encode() for stat in (*_WANTED, "zonename"))


def arguments_for(zoneid: Number) -> list[str]:
    """The arguments that print the statistics of one zone: the instance is its zoneid."""
    return [*ARGUMENTS_FOR_ALL, "-i", str(zoneid)]


def has_some(zone: Zone) -> bool:
    """Whether the zone must have statistics: it is in the kernel, and its name is its uuid, by which they are matched
    (docs/platform.md, "Kernel statistics")."""
    return zone.zoneid is not None and zone.zonename == zone.uuid


Printed = dict[str, tuple[str, ZoneInfo]]  # zoneid -> zone name, statistics


def parse(data: bytes) -> Printed:
    """The zones in the kernel, the global one among them.

    A group that does not say its zone's name is dropped: the zone went away while it was read (OS-4310)."""
    groups: dict[str, dict[str, str]] = {}
    for line in io.BytesIO(data):  # line by line: a thousand zones have some 25,000
        key, tab, value = line.partition(b"\t")
        if key.rpartition(b":")[2] not in _KEPT:
            continue
        parts = key.decode("utf-8", "replace").split(":")
        if tab and len(parts) == 4:
            groups.setdefault(parts[1], {})[parts[3]] = value.decode("utf-8", "replace").rstrip("\n")
    return {
        instance: (group["zonename"], ZoneInfo(**{stat: group[stat] for stat in _WANTED if stat in group}))
        for instance, group in groups.items()
        if group.get("zonename")
    }


def by_name(printed: Printed) -> dict[str, ZoneInfo]:
    """Zone name -> statistics."""
    return dict(printed.values())


def of_zone(printed: Printed, zone: Zone) -> Optional[ZoneInfo]:
    """Those of the zone with this zoneid and uuid; None if there are none."""
    name, info = printed.get(str(zone.zoneid), ("", None))
    return info if name == zone.uuid else None


def check(data: bytes) -> None:
    """Raise GarbledOutput if `data` cannot be the whole of what kstat prints.

    The global zone is always in the kernel, so it is never nothing."""
    if not data.endswith(b"\n"):
        raise GarbledOutput("kstat: the output ends in the middle of a line" if data else "kstat: no output")
    for line in io.BytesIO(data):
        if line.strip() and (b"\t" not in line or line.partition(b"\t")[0].count(b":") != 3):
            raise GarbledOutput("kstat: the output has a line that is no module:instance:name:stat<tab>value")
