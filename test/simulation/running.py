# SPDX-License-Identifier: MPL-2.0
"""A run: a plan carried out on a world of its own, judged at each calm.

    result = run(plan(seed=7, rounds=4), folder)        # result.broken: guarantee -> what broke it

Always: the steps are written to a file before the first is done, so that whatever happens can be run again;
        a run ends with the first round in which a guarantee broke."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

from simulation.acting import Actor
from simulation.generator import CALM
from simulation.guarantees import judge
from simulation.recording import Round, Sample
from simulation.steps import Plan, Step
from simulation.world import World


@dataclass
class Result:
    """`broken`: the guarantees that did not hold. `path`: the file of its steps; `log`: what was done."""

    broken: dict[str, list[str]] = field(default_factory=dict)
    rounds: int = 0
    events: int = 0
    reads: int = 0
    promises: int = 0
    seconds: float = 0.0
    samples: list[Sample] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    path: str = ""

    def __str__(self) -> str:
        lines = [f"{name}: {what}" for name, found in self.broken.items() for what in found[:5]]
        hint = f"run it again: make simulate REPLAY={self.path}" if self.path else ""
        return "\n".join([*(lines or ["all guarantees held"]), *([hint] if self.broken and hint else [])])


def run(plan: Plan, path: str = "", patience: float = 90.0, log: str = "") -> Result:
    """Carry out the plan. `path`: where its steps are written. `patience`: seconds that a calm may take. `log`: a file
    for what the daemon logs."""
    if path:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(plan.text())
    result = Result(path=path)
    began = time.monotonic()
    with World(plan.vms, patience, log) as world:
        actor = Actor(world)
        actor.calm()
        world.turn()
        for steps in _rounds(plan.steps):
            record = one_round(actor, steps)
            add(result, record)
            result.broken = judge(record)
            if result.broken:
                break
        result.log = actor.log
    result.seconds = time.monotonic() - began
    return result


def one_round(actor: Actor, steps: Iterable[Step]) -> Round:
    """Do the steps, calm down, and give what was seen."""
    for step in steps:
        if step.do != CALM:
            actor.act(step)
    actor.calm()
    return actor.world.turn()


def add(result: Result, record: Round) -> None:
    """Count what the round brought."""
    result.rounds += 1
    result.events += len(
        {
            (event["epoch"], event["rev"])
            for one in record.chains.values()
            for segment in one.segments
            for _, event in segment.events
            if event["type"] != "heartbeat"
        }
    )
    result.reads += len(record.reads)
    result.promises += len(record.promises)
    result.samples += record.samples


def _rounds(steps: tuple[Step, ...]) -> Iterator[list[Step]]:
    """The steps up to each calm; what comes after the last one is a round, too."""
    one: list[Step] = []
    for step in chain(steps, [Step(CALM)] if steps and steps[-1].do != CALM else []):
        one.append(step)
        if step.do == CALM:
            yield one
            one = []
