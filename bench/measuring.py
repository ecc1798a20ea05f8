# SPDX-License-Identifier: MPL-2.0
"""Two things measured in turn, several rounds, and what is said about them: medians, spread, ratio; as text and JSON.

Always: both sides are measured in each round, one right after the other, and the side that begins changes from round to
        round, so that a disturbance of the machine hits both alike;
        a ratio is of medians; below 1 ours needs less (for rates: gets less).
A side is a function without arguments that gives a number in the row's unit."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable
from typing import Any, Optional

Side = Callable[[], float]


class Report:
    """The rows of one script, printed as they come."""

    def __init__(self, script: str, rounds: int):
        self.script = script
        self.rounds = rounds
        self.rows: list[dict[str, Any]] = []
        self.slopes: list[dict[str, Any]] = []
        self._machine = machine()

    def compare(self, name: str, unit: str, ours: Side, peer_name: str, peer: Side) -> dict[str, Any]:
        """One row, which is returned: `rounds` turns of both."""
        mine: list[float] = []
        theirs: list[float] = []
        for number in range(self.rounds):
            for side, found in ((ours, mine), (peer, theirs))[:: 1 if number % 2 == 0 else -1]:
                found.append(side())
        return self.put(name, unit, mine, peer_name, theirs)

    def put(
        self,
        name: str,
        unit: str,
        ours: list[float],
        peer_name: Optional[str] = None,
        peer: Optional[list[float]] = None,
    ) -> dict[str, Any]:
        """One row of numbers that were measured elsewhere; without a peer it is ours alone."""
        row: dict[str, Any] = {"name": name, "unit": unit, "ours": _summary(ours)}
        if peer:
            row.update(
                peer=peer_name, peers=_summary(peer), ratio=_ratio(row["ours"]["median"], statistics.median(peer))
            )
        self.rows.append(row)
        print(_line(row), flush=True)
        return row

    def row(self, name: str) -> dict[str, Any]:
        """The row of that name. StopIteration if there is none."""
        return next(row for row in self.rows if row["name"] == name)

    def grows(self, row: dict[str, Any]) -> None:
        """How figures grow with the number of something (slopes.row()): a line, in words."""
        self.slopes.append(row)
        print(f"{row['name']}: {row['words']}", flush=True)
        if "peer" in row:
            print(f"    {row['peer']}: {row['peer_words']}", flush=True)

    def skip(self, name: str, why: str) -> None:
        """A row that cannot be measured here."""
        self.rows.append({"name": name, "skipped": why})
        print(f"{name:<44} not measured: {why}", flush=True)

    def as_json(self) -> dict[str, Any]:
        """All of it. `load_before` and `load_after`: what the machine had to do, as the kernel counts it."""
        about = {**self._machine, "load_after": os.getloadavg()[0]}
        figures = {"script": self.script, "rounds": self.rounds, "machine": about, "rows": self.rows}
        return {**figures, "slopes": self.slopes} if self.slopes else figures


def _summary(numbers: list[float]) -> dict[str, Any]:
    return {
        "median": statistics.median(numbers),
        "least": min(numbers),
        "most": max(numbers),
        "rounds": [round(number, 6) for number in numbers],
    }


def _ratio(ours: float, peers: float) -> Optional[float]:
    return round(ours / peers, 3) if peers else None


def _line(row: dict[str, Any]) -> str:
    text = f"{row['name']:<44} {_shown(row['ours'])} {row['unit']}"
    if "peer" in row:
        ratio = "-" if row["ratio"] is None else f"{row['ratio']:.2f}"
        text += f"   {row['peer']}: {_shown(row['peers'])}   ratio {ratio}"
    return text


def _shown(summary: dict[str, Any]) -> str:
    return f"{summary['median']:.4g} ({summary['least']:.4g} to {summary['most']:.4g})"


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    model = "unknown"
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            model = next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), model)
    except OSError:
        pass  # not Linux: the figures stand without the processor's name
    return {
        "cpus": os.cpu_count(),
        "model": model,
        "system": platform.system(),
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
    }


def percentile(numbers: list[float], share: float) -> float:
    """The number that `share` (0 to 1) of them do not exceed."""
    ordered = sorted(numbers)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def main(
    script: str,
    about: Optional[str],
    sizes: dict[str, tuple[Any, Any]],
    measure: Callable[[Report, argparse.Namespace], None],
) -> int:
    """A script's main: options, the measurement, the JSON. `sizes`: option -> (default, with --tiny)."""
    parser = argparse.ArgumentParser(prog=f"python3 -m bench.{script}", description=(about or "").partition("\n\n")[0])
    parser.add_argument("--rounds", type=int, help="turns of each side (5)")
    parser.add_argument("--tiny", action="store_true", help="the smallest sizes: shows that it works, measures nothing")
    parser.add_argument("--json", metavar="FILE", help="write the figures there, - for standard output")
    for name, (default, tiny) in sizes.items():
        parser.add_argument(f"--{name}", type=type(default), help=f"({default}; {tiny} with --tiny)")
    options = parser.parse_args()
    for name, pair in sizes.items():
        attribute = name.replace("-", "_")
        if getattr(options, attribute) is None:
            setattr(options, attribute, pair[options.tiny])
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # as on a node: to compile all modules would be a fifth of a start
    report = Report(script, options.rounds or (2 if options.tiny else 5))
    measure(report, options)
    _write(report.as_json(), options.json)
    return 0


def _write(figures: dict[str, Any], path: Optional[str]) -> None:
    if path == "-":
        json.dump(figures, sys.stdout, indent=1)
        print()
    elif path:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=1)
            file.write("\n")


def growing(words: str) -> list[int]:
    """The sizes of a growth run: `30,100,300`."""
    return [int(word) for word in words.split(",")]
