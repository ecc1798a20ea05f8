# SPDX-License-Identifier: MPL-2.0
"""A step of a simulation, and the file in which the steps of a run are kept: one JSON object a line, the first one
saying what they run on.

Always: a step is plain JSON and names what it acts on by number or seed, never by what an earlier step gave, so that
        any line can be taken out of a file and the rest still runs: that is how a failing run is made smaller by hand.
Pure, but for the reading and writing of that file."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Optional


@dataclass(frozen=True)
class Step:
    """`do` names a method of acting.py; `args` are its arguments."""

    do: str
    args: dict[str, Any] = field(default_factory=dict)

    def line(self) -> str:
        return json.dumps({"do": self.do, **self.args})


@dataclass(frozen=True)
class Plan:
    """What is run. `seed` is what the steps came from; None: they were written or cut by hand. `vms`: of the node."""

    steps: tuple[Step, ...]
    seed: Optional[int] = None
    vms: int = 30

    def text(self) -> str:
        head = json.dumps({"seed": self.seed, "vms": self.vms})
        return "".join(line + "\n" for line in [head, *(step.line() for step in self.steps)])


def parse(text: str) -> Plan:
    """The plan that Plan.text() wrote, without empty lines and those that begin with #. ValueError if it is none."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    head, *rest = [json.loads(line) for line in lines]
    steps = [Step(step["do"], {name: value for name, value in step.items() if name != "do"}) for step in rest]
    return Plan(tuple(steps), head["seed"], head["vms"])
