# SPDX-License-Identifier: MPL-2.0
"""The simulation for as long as one likes: seed after seed on fresh nodes, and a report of how the daemon fared.

    python -m simulation.soak --minutes 30 [--folder soak] [--seed N]

Always: one daemon lives through all rounds of a seed, so that what grows can be seen to grow; after each calm it is
        asked for a full refresh, which must find nothing (drift);
        a round that breaks a guarantee leaves the files of its seed's steps so far and of what the daemon logged, is in
        the report, and ends its seed.
The report says what was measured; only a broken guarantee makes the exit status 1."""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from dataclasses import dataclass, field

from simulation.acting import Actor
from simulation.generator import endless
from simulation.guarantees import judge
from simulation.recording import Sample
from simulation.running import Result, add, one_round
from simulation.steps import Plan, Step
from simulation.world import World

ROUNDS = 150  # of one seed; then a new node
LENGTH = 30
VMS = 40


@dataclass
class Seed:
    """What became of one seed. `drift`: events that refreshes of a calm node made."""

    seed: int
    result: Result = field(default_factory=Result)
    drift: list[str] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    themes: dict[str, int] = field(default_factory=dict)


def soak(minutes: float, folder: str, seed: int) -> list[Seed]:
    """Run for so long. The steps of each seed are written to `folder` as they are done."""
    os.makedirs(folder, exist_ok=True)
    until = time.monotonic() + 60 * minutes
    seeds = []
    while time.monotonic() < until:
        one = Seed(seed)
        seeds.append(one)
        _one_seed(one, until, os.path.join(folder, f"seed-{seed}.steps"))
        write_report(seeds, os.path.join(folder, "report.md"))
        print(f"seed {seed}: {one.result.rounds} rounds, {one.result}", flush=True)
        seed += 1
    return seeds


def _one_seed(one: Seed, until: float, path: str) -> None:
    began = time.monotonic()
    one.result.path = path
    log = path.replace(".steps", ".log")
    with World(VMS, log=log) as world, open(path, "w", encoding="utf-8") as file:
        file.write(Plan((), one.seed, VMS).text())
        actor = Actor(world)
        actor.calm()
        world.turn()
        for steps in endless(one.seed, LENGTH):
            file.writelines(step.line() + "\n" for step in steps)
            file.flush()
            record = one_round(actor, steps)
            add(one.result, record)
            for theme in steps[-1].args["themes"]:
                one.themes[theme] = one.themes.get(theme, 0) + 1
            one.result.broken = judge(record)
            if one.result.broken or one.result.rounds >= ROUNDS or time.monotonic() > until:
                break
            if found := world.refresh():
                one.drift.append(f"round {one.result.rounds} ({', '.join(steps[-1].args['themes'])}): {found} events")
            actor.log.clear()
    one.result.seconds = time.monotonic() - began
    if not one.result.broken:
        os.unlink(log)


def write_report(seeds: list[Seed], path: str) -> None:
    """Markdown, for people."""
    total = sum(one.result.seconds for one in seeds)
    lines = [
        "# Soak",
        "",
        f"{total / 60:.1f} minutes, {len(seeds)} seeds, {sum(one.result.rounds for one in seeds)} rounds, "
        f"{sum(one.result.events for one in seeds)} events, {sum(one.result.reads for one in seeds)} lists read, "
        f"{sum(one.result.promises for one in seeds)} promises checked.",
        "",
        "| seed | rounds | minutes | events | drift | broken |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for one in seeds:
        result = one.result
        broken = ", ".join(result.broken) or "-"
        cells = [one.seed, result.rounds, f"{result.seconds / 60:.1f}", result.events, len(one.drift), broken]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines += ["", "## What the daemon used", "", "When all was calm, first, middle and last of each seed.", ""]
    lines += [
        "| seed | round | memory | descriptors | threads | greenlets | events kept | bytes kept |",
        "| --- " * 8 + "|",
    ]
    for one in seeds:
        calm = [sample for sample in one.result.samples if sample.calm]
        for place in sorted({0, len(calm) // 2, len(calm) - 1} if calm else set()):
            lines.append(_row(one.seed, place + 1, calm[place]))
    lines += ["", "Most at any time: " + _most([sample for one in seeds for sample in one.result.samples]), ""]
    themes: dict[str, int] = {}
    for one in seeds:
        for theme, count in one.themes.items():
            themes[theme] = themes.get(theme, 0) + count
    lines += ["## Themes", "", ", ".join(f"{theme} {count}" for theme, count in sorted(themes.items())), ""]
    for title, found in (("Drift", _drift(seeds)), ("Broken", _broken(seeds))):
        lines += [f"## {title}", "", *(found or ["None."]), ""]
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(lines))


def _row(seed: int, number: int, sample: Sample) -> str:
    return (
        f"| {seed} | {number} | {sample.rss / 2**20:.1f} MiB | {sample.descriptors} | {sample.threads} "
        f"| {sample.greenlets} | {sample.ring_events} | {sample.ring_bytes / 2**20:.1f} MiB |"
    )


def _most(samples: list[Sample]) -> str:
    if not samples:
        return "nothing was measured"
    return (
        f"memory {max(one.rss for one in samples) / 2**20:.1f} MiB, "
        f"descriptors {max(one.descriptors for one in samples)}, threads {max(one.threads for one in samples)}, "
        f"greenlets {max(one.greenlets or 0 for one in samples)}, children {max(one.children for one in samples)}, "
        f"waiting for listeners {max(one.waiting_bytes for one in samples) / 2**20:.1f} MiB, "
        f"tasks waiting {max(one.queued for one in samples)}."
    )


def _drift(seeds: list[Seed]) -> list[str]:
    return [f"- seed {one.seed}, {what}" for one in seeds for what in one.drift]


def _broken(seeds: list[Seed]) -> list[str]:
    return [
        f"- seed {one.seed}, round {one.result.rounds} ({one.result.path}): {name}: {what}"
        for one in seeds
        for name, found in one.result.broken.items()
        for what in found[:5]
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="soak", description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--folder", default="soak", help="where the report and the steps go (soak)")
    parser.add_argument("--seed", type=int, default=0, help="the first one (0: a new one)")
    options = parser.parse_args()
    seeds = soak(options.minutes, options.folder, options.seed or random.SystemRandom().randrange(1, 10**6))
    print(f"the report is in {os.path.join(options.folder, 'report.md')}")
    return 1 if any(one.result.broken for one in seeds) else 0


if __name__ == "__main__":
    sys.exit(main())
