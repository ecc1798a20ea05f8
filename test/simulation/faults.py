# SPDX-License-Identifier: MPL-2.0
"""What goes wrong in a simulation, by themes: each gives the faults of one round as steps (acting.py).

Always: the same random source gives the same steps;
        what is in UNANNOUNCED is lost without any sign that the daemon could see: only after it may convergence need a
        full refresh. Everything else has to come right by itself.
Pure."""

from __future__ import annotations

import random
from collections.abc import Callable

from mockcn.churn import WEIGHTS
from simulation.steps import Step

Random = random.Random
Theme = Callable[[Random], list[Step]]

UNANNOUNCED = {
    "lose": "the kernel's queue of system events overflowed",
    "deaf": "files changed in a way that nobody can watch",
    "lie": "a tool left something out and ended well",
    "resize": "OpenZFS has no event for the size of a volume whose reservation does not follow it",
}
ANNOUNCED = [kind for kind in WEIGHTS if kind != "volume"]  # of what happens to a node

TOOLS = ("zoneadm", "zfs", "kstat")
LIST_OF_ALL = "list -p -c"  # the words of a zoneadm that is asked for all zones
CHILDREN = ("zones", "zfs", "files")
FILES = ("xml", "tags", "metadata", "routes", "lastexited", "sysinfo")
NONSENSE = ("garbage\n", "{}\n", "\x00\xff\n", "[1,2\n", '{"date":"never","type":"what"}\n')


def nothing(random: Random) -> list[Step]:
    return []


def late_events(random: Random) -> list[Step]:
    kinds = random.sample(["duplicate", "delay", "reorder"], random.choice([1, 2, 3]))
    return [
        Step(
            "late", {"kind": kind, "chance": round(random.uniform(0.2, 0.6), 2), "seconds": _seconds(random, 0.05, 0.4)}
        )
        for kind in kinds
    ]


def lost_events(random: Random) -> list[Step]:
    return [Step("lose", {"chance": round(random.uniform(0.2, 0.9), 2)})]


def deaf_watcher(random: Random) -> list[Step]:
    return [Step("deaf", {"number": _number(random)}) for _ in range(random.choice([1, 3, 8]))]


def silent_sizes(random: Random) -> list[Step]:
    return [Step("resize", {"seed": random.randrange(10**6)}) for _ in range(random.choice([1, 3]))]


def failing_tools(random: Random) -> list[Step]:
    """First zones of which a reading is overtaken by a change. Then tools fail, each when it is asked about a zone of
    which it alone can tell what has changed: no other reading comes upon the fault, and no later event makes up for
    what the failed one did not see. Nor does a full refresh that an earlier round has left to do: it comes first."""
    steps = [Step("refresh")]
    for _ in range(3):
        about = {"number": _number(random), "seconds": _seconds(random, 0.5, 0.8)}
        steps += [Step("overtaken", about), Step("wait", {"seconds": 0.1})]
    for tool in random.choices(TOOLS, k=random.randint(5, 8)):
        about = {"number": _number(random), **_failure(random, tool).args}
        steps += [Step("untold", about), Step("wait", {"seconds": 0.1})]
    return steps


def failing_refreshes(random: Random) -> list[Step]:
    """A full refresh in which a tool fails. It is tried again, and would heal what a failed reading left behind."""
    return [_failure(random, random.choice(TOOLS)), Step("refresh")]


def _failure(random: Random, tool: str) -> Step:
    ways: list[dict[str, object]] = [
        {"kind": "fail", "stderr": "cannot allocate memory\n"},
        {"kind": "die", "signal": random.choice([9, 11])},
        {"kind": "hang", "seconds": _seconds(random, 0.3, 1.0)},
        {"kind": "hang"},
        {"kind": "slow", "seconds": _seconds(random, 0.1, 0.6), "when": random.choice(["before", "after"])},
        {"kind": "garbage", "bytes": "gar\tbage\n\x00", "exit": 1},
        {"kind": "cut", "bytes_out": random.randint(1, 40)},
        {"kind": "cut", "bytes_out": random.randint(1, 200), "exit": 1},
        {"kind": "die", "lines": random.randint(0, 3)},
    ]
    return Step("tool", {"tool": tool, "times": random.choice([1, 1, 2, 3]), **random.choice(ways)})


def lying_tools(random: Random) -> list[Step]:
    """Some about single VMs, one about all of them, in a full refresh."""
    steps = [
        Step("lie", {"tool": random.choice(TOOLS), "lines": random.randint(1, 12), "times": random.randint(1, 3)})
        for _ in range(random.randint(1, 3))
    ]
    about_all = {"tool": "zoneadm", "match": LIST_OF_ALL, "lines": random.randint(1, 12), "times": 1}
    return [*steps, Step("lie", about_all), Step("refresh")]


def dying_children(random: Random) -> list[Step]:
    return [
        Step("kill", {"child": child, "number": random.choice([9, 15])})
        for child in random.sample(CHILDREN, random.choice([1, 2, 3]))
    ]


def dazed_children(random: Random) -> list[Step]:
    frozen = random.choice(CHILDREN)
    steps = [Step("freeze", {"child": frozen}), Step("thaw")]
    steps += [
        Step("garbage", {"child": random.choice(CHILDREN[:2]), "line": random.choice(NONSENSE)})
        for _ in range(random.randint(0, 3))
    ]
    return steps


def broken_files(random: Random) -> list[Step]:
    steps = [
        Step(
            "break",
            {
                "number": _number(random),
                "file": random.choice(FILES),
                "how": random.choice(["cut", "tag", "rubbish", "folder"]),
                "keep": round(random.random(), 2),
            },
        )
        for _ in range(random.randint(2, 5))
    ]
    return [*steps, Step("mend")] if random.random() < 0.3 else steps


def replaced_files(random: Random) -> list[Step]:
    steps = [Step("flicker", {"number": _number(random), "seconds": _seconds(random, 0.0, 0.4)})]
    for _ in range(random.randint(1, 3)):
        steps.append(Step("swap", {"number": _number(random), "seconds": _seconds(random, 0.0, 0.5)}))
    return steps


def vanishing_zones(random: Random) -> list[Step]:
    return [
        Step(
            "vanish", {"number": _number(random), "tool": random.choice(TOOLS), "seconds": _seconds(random, 0.05, 0.4)}
        )
        for _ in range(random.choice([1, 2]))
    ]


def bad_listeners(random: Random) -> list[Step]:
    """One stalls until it is cut, and takes it up again; another loses its connection now and then."""
    stalled = random.choice(["resuming", "choosing"])
    steps = [Step("stall", {"listener": "resuming"}), Step("stall", {"listener": stalled})]
    size = random.randint(900_000, 1_000_000)
    number = _number(random)
    steps += [Step("large", {"number": number, "size": size + more}) for more in range(random.randint(13, 15))]
    steps += [Step("measure"), Step("shrink"), Step("go_on", {"listener": "resuming"})]
    return steps


def cut_listeners(random: Random) -> list[Step]:
    names = [random.choice(["resuming", "choosing"]) for _ in range(random.randint(2, 6))]
    return [Step("cut", {"listener": name, "number": _number(random)}) for name in ["resuming", *names]]


def restarts(random: Random) -> list[Step]:
    return [
        Step(
            "restart",
            {"number": random.choice([15, 9]), "meanwhile": random.randint(3, 10), "seed": random.randrange(10**6)},
        )
    ]


def restarts_in_trouble(random: Random) -> list[Step]:
    """A zone that cannot be read when the daemon starts, and lists of zones that are cut short, both that it makes
    then."""
    broken = {"number": _number(random), "file": "xml", "how": random.choice(["rubbish", "folder"])}
    short = {"tool": "zoneadm", "match": LIST_OF_ALL, "lines": 4, "times": 2}
    return [Step("break", broken), Step("lie", short), *restarts(random)]


def moving_clock(random: Random) -> list[Step]:
    return [
        Step("clock", {"seconds": random.choice([-86400, -3600, -2, 2, 3600, 10**7])})
        for _ in range(random.randint(1, 3))
    ]


THEMES: dict[str, Theme] = {
    "nothing": nothing,
    "late events": late_events,
    "lost events": lost_events,
    "deaf watcher": deaf_watcher,
    "silent sizes": silent_sizes,
    "failing tools": failing_tools,
    "failing refreshes": failing_refreshes,
    "lying tools": lying_tools,
    "dying children": dying_children,
    "dazed children": dazed_children,
    "broken files": broken_files,
    "replaced files": replaced_files,
    "vanishing zones": vanishing_zones,
    "bad listeners": bad_listeners,
    "cut listeners": cut_listeners,
    "restarts": restarts,
    "restarts in trouble": restarts_in_trouble,
    "moving clock": moving_clock,
}


def _number(random: Random) -> int:
    return random.randrange(1000)


def _seconds(random: Random, least: float, most: float) -> float:
    return round(random.uniform(least, most), 2)
