# SPDX-License-Identifier: MPL-2.0
"""From a seed to the steps of a run: rounds of ordinary operations, with the faults of a theme among them, each round
ending in a calm.

Always: the same seed, rounds and length give the same plan, on any machine;
        every theme comes before any comes again, so that a long run leaves none out.
Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice

from mockcn.churn import WEIGHTS
from simulation.faults import ANNOUNCED, THEMES
from simulation.steps import Plan, Step

CALM = "calm"  # the step that ends a round
MEASURE_EVERY = 12  # steps
READING = ("", "event", "refresh")  # why the daemon reads the VM when it is held
CHANGED = ("xml", "tags", "zfs", "sysinfo")  # what differs when a fresh read is asked for
ENDS = ("commit", "commit", "abort", "abort halfway", "expire")  # of a transaction

# vmadm's words, without the VM: writes that are confirmed only when every read shows them.
WRITES = (
    ["update", "alias=renamed-{n}"],
    ["update", "ram={n}"],
    ["update", "quota={n}"],
    ["update", "cpu_cap={n}"],
    ["create-snapshot", "taken{n}"],
    ["stop", "-F"],
    ["start"],
    ["delete"],
)


def plan(seed: int, rounds: int, length: int = 24, skip: int = 0, vms: int = 30) -> Plan:
    """`rounds` rounds, each of some `length` ordinary operations on a node of `vms` VMs. `skip`: leave out so many of
    the seed's rounds before."""
    chosen = islice(endless(seed, length, skip + rounds), skip, None)
    return Plan(tuple(step for one in chosen for step in one), seed, vms)


def endless(seed: int, length: int, rounds: int | None = None) -> Iterator[list[Step]]:
    """Round after round, for ever or as many as are asked for."""
    source, of_writers = random.Random(seed), random.Random(f"{seed}, writers")
    of_races = random.Random(f"{seed}, races")
    deck: list[str] = []
    done = 0
    while rounds is None or done < rounds:
        if not deck:
            deck = source.sample(list(THEMES), len(THEMES))
        themes = [deck.pop()]
        if rounds is None and deck and source.random() < 0.3:
            themes.append(deck.pop())  # a long run has rounds in which two things go wrong
        steps = one_round(source, themes, length)
        for step in _writers(of_writers, done):
            steps.insert(of_writers.randrange(len(steps)), step)  # not behind the calm
        for step in _races(done, themes):
            place = of_races.randrange(len(steps))
            # Who appears does so last: what else happens may have all of it read again, such as a full refresh.
            steps.insert(len(steps) - 1 if step.do == "appear" else place, step)
        if "restarts" in themes:  # only where all was read anew anyway, and last: a full refresh heals what others show
            steps.insert(len(steps) - 1, Step("behind", {"number": done, "seconds": 0.6}))
        yield steps
        done += 1


def one_round(source: random.Random, themes: list[str], length: int) -> list[Step]:
    """The faults of all `themes`, each theme's in their order, among ordinary operations; then a calm."""
    steps: list[Step] = []
    lines = [THEMES[theme](source) for theme in themes]
    ordinary = [_ordinary(source) for _ in range(length)]
    lines.append(ordinary)
    while any(lines):
        line = source.choices(lines, [len(one) for one in lines])[0]
        steps.append(line.pop(0))
    steps = [s for i, s in enumerate(steps) for s in ([Step("measure"), s] if i % MEASURE_EVERY == 11 else [s])]
    return [*steps, Step(CALM, {"themes": themes})]


def _writers(source: random.Random, number: int) -> list[Step]:
    """Writers of the round of that number that hold a VM back (holding.py). Their steps are drawn beside the others, so
    that those are what they would be without."""
    by_hand = {
        "end": source.choice(ENDS),
        "pause": round(source.uniform(0.0, 0.08), 3),
        "reading": source.choice(READING),
    }
    kill = source.choice([None, round(source.uniform(0.0, 0.6), 3)])
    by_tool = {"which": source.choice(["vmadm", "vminfo"]), **({} if kill is None else {"kill": kill})}
    return [
        Step(do, {"number": source.randrange(1000), "mark": 1000 + 2 * number + place, **args})
        for place, (do, args) in enumerate([("transaction", by_hand), ("writer", by_tool)])
    ]


def _races(number: int, themes: list[str]) -> list[Step]:
    """Changes of the round of that number that come while what was read before them is on its way. Placed beside the
    others, too."""
    steps = []
    if number % 3 == 0:
        steps.append(Step("appear", {"number": number, "seconds": 5.0}))
    if number % 3 == 1:
        steps.append(Step("swap", {"number": 2 * number + 1, "seconds": 0.3}))
    if number % 9 == 4 and not any("events" in theme for theme in themes):
        steps.append(Step("unheralded", {"number": number}))
    return steps


def _ordinary(source: random.Random) -> Step:
    draw = source.random()
    if draw < 0.06:
        return Step("wait", {"seconds": round(source.uniform(0.01, 0.15), 3)})
    if draw < 0.10:
        words = [word.format(n=source.randint(100, 999)) for word in source.choice(WRITES)]
        return Step("vmadm", {"words": words, "number": source.randrange(1000)})
    if draw < 0.20:
        number, cap = source.randrange(1000), source.randint(10, 6400)
        return Step("fresh", {"number": number, "cap": cap, "of": CHANGED[cap % len(CHANGED)]})
    if draw < 0.25:
        cap, pause = source.randint(10, 6400), round(source.uniform(0.0, 0.04), 3)
        return Step("twice", {"number": source.randrange(1000), "cap": cap, "seconds": pause})
    if draw < 0.30:
        return Step("burst", {"count": source.randint(5, 20), "seed": source.randrange(10**6)})
    kind = source.choices(ANNOUNCED, [WEIGHTS[kind] for kind in ANNOUNCED])[0]
    return Step("churn", {"kind": kind, "seed": source.randrange(10**6)})
