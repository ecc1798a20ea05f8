# SPDX-License-Identifier: MPL-2.0
"""What was measured beside what is to be reached, as a table in Markdown, from the JSON files of the scripts.

    python3 -m bench.table [bench/results]

`make bench` prints it at its end and leaves it in the folder as table.md. A row that a script did not give is said to
be not measured."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Optional

from bench import CHECKOUT

Row = dict[str, Any]


@dataclass(frozen=True)
class Goal:
    """`text`: the goal in words. `reached`: whether a row meets it. `figure`: the number of the row that counts for
    it, as it is shown."""

    text: str
    reached: Callable[[Row], bool]
    figure: Callable[[Row], str]


@dataclass(frozen=True)
class Target:
    """A row of the table: `script` gives it, under a name that `row` matches whole; `peer`: with what it is compared,
    where a script has several."""

    what: str
    script: str
    row: str
    goal: Goal
    peer: Optional[str] = None


def ratio_at_least(limit: float) -> Goal:
    return Goal(f"at least {limit:g}", lambda row: (row["ratio"] or 0) >= limit, _ratio)


def ratio_at_most(limit: float) -> Goal:
    return Goal(f"at most {limit:g}", lambda row: row["ratio"] is not None and row["ratio"] <= limit, _ratio)


def at_most(limit: float, unit: str) -> Goal:
    return Goal(f"at most {limit:g} {unit}", lambda row: _ours(row) <= limit, _amount)


def at_most_of_peer(share: float, more: float, unit: str) -> Goal:
    text = f"at most {share:g} of it + {more:g} {unit}"
    return Goal(text, lambda row: _ours(row) <= share * _peers(row) + more, _ratio)


def over_peer(limit: float, unit: str) -> Goal:
    text = f"at most {limit:g} {unit} over it"
    return Goal(
        text, lambda row: _ours(row) - _peers(row) <= limit, lambda row: f"{_ours(row) - _peers(row):+.2g} {unit}"
    )


def _ours(row: Row) -> float:
    return float(row["ours"]["median"])


def _peers(row: Row) -> float:
    return float(row["peers"]["median"])


def _ratio(row: Row) -> str:
    return "-" if row["ratio"] is None else f"{row['ratio']:.2f}"


def _amount(row: Row) -> str:
    return f"{_ours(row):.3g} {row['unit']}"


def _front() -> Iterable[Target]:
    for path in ("/ping", "/vms/:uuid"):
        for how, least in (("kept alive", 1.5), ("a connection each", 1.0)):
            what, row = f"`{path}`, {how}", f"{path}, {how}"
            yield Target(f"{what}, requests/s", "front", row, ratio_at_least(least), "node")
            yield Target(f"{what}, 99th percentile", "front", f"{row}, 99 %", ratio_at_most(1.0), "node")
            yield Target(f"{what}, processor time", "front", f"{row}, server", ratio_at_most(1.0), "node")
    for peer, least in (("node", 4.7), ("nginx", 0.8)):
        yield Target("`/vms`, kept alive, requests/s", "front", "/vms, kept alive", ratio_at_least(least), peer)
        yield Target("`/vms`, processor time", "front", "/vms, kept alive, server", ratio_at_most(1.0), peer)


def _tools() -> Iterable[Target]:
    for name, most in (("vmadm get", 0.25), ("vminfo vm", 0.25), ("vmadm list", 0.5), ("vmadm lookup", 0.5)):
        yield Target(f"`{name}`, processor time", "tools", f"{name}, CPU", ratio_at_most(most), "node -e 0")
        yield Target(f"`{name}`, whole process", "tools", name, ratio_at_most(most), "node -e 0")


def _starting() -> Iterable[Target]:
    for snapshots, most in ((0, 60), (50_000, 70)):
        what = f"1000 VMs, {snapshots} snapshots"
        yield Target(f"start to first answer, {what}", "startup", f"start, {what}", ratio_at_most(1.3))
        yield Target(f"resident then, {what}", "startup", f"resident, {what}", at_most(most, "MB"))


TARGETS = (
    *_front(),
    Target("zone XML renamed, event at a listener", "latency", "zone XML renamed", at_most(5.9, "ms")),
    Target(
        "zone state, libkstat",
        "zonestate",
        "zone state, libkstat",
        at_most_of_peer(1.2, 2, "ms"),
        "event, one zoneadm list",
    ),
    Target("the same, the command kstat", "latency", "init restarted, command kstat", at_most_of_peer(1.2, 2, "ms")),
    Target("`zfs set quota`", "latency", "zfs set quota", at_most_of_peer(1.2, 2, "ms")),
    Target("tags.json", "latency", "tags.json renamed", at_most(2, "ms")),
    Target("2,000 `zfs set` over 1,000 VMs, until seen", "storm", r"\d+ zfs set .*, until seen", at_most(1.38, "s")),
    Target("the same, runs of zfs", "storm", r"\d+ zfs set .*, zfs runs", at_most(50, "runs")),
    Target("100,000 foreign zfs events, processor time", "storm", r"\d+ foreign zfs events", ratio_at_most(2)),
    Target("100 changes to 300 listeners", "fanout", "100 changes to 300 listeners", ratio_at_most(1.5)),
    *_starting(),
    *_tools(),
    Target("`/ping` during a refresh, 99 %", "refresh", "/ping during a refresh, 99 %", over_peer(10, "ms")),
    Target("`/vms/:uuid` during a refresh, 99 %", "refresh", "/vms/:uuid during a refresh, 99 %", over_peer(10, "ms")),
    Target("idle with 100 listeners", "idle", "idle, 100 listeners", at_most(0.5, "% of a core")),
)


def read(folder: str) -> dict[str, dict[str, Any]]:
    """Script -> its figures."""
    found = {}
    for script in dict.fromkeys(target.script for target in TARGETS):
        path = os.path.join(folder, f"{script}.json")
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                found[script] = json.load(file)
    return found


def lines(figures: dict[str, dict[str, Any]], targets: Iterable[Target] = TARGETS) -> list[str]:
    """The table: what, the goal, ours, beside it, what counts, whether that is reached, the command, and the load that
    the machine had when it began."""
    made = [
        "| what | to reach | ours | beside it | measured | reached | command | load |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for target in targets:
        script = figures.get(target.script)
        row = _row_of(script["rows"], target) if script else None
        if script is None or row is None:
            made.append(f"| {target.what} | {target.goal.text} | | | not measured | | `bench.{target.script}` | |")
            continue
        beside = f"{row['peer']}, {_spread(row, 'peers')}" if "peer" in row else ""
        reached = "yes" if target.goal.reached(row) else "**no**"
        load = f"{script['machine']['load_before']:.1f}"
        cells = [target.what, target.goal.text, _spread(row, "ours"), beside, target.goal.figure(row), reached]
        made.append(f"| {' | '.join(cells)} | `bench.{target.script}` | {load} |")
    return made


def _row_of(rows: list[Row], target: Target) -> Optional[Row]:
    for row in rows:
        fits = re.fullmatch(target.row, row["name"]) and target.peer in (None, row.get("peer"))
        if fits and "ours" in row:
            return row
    return None


def _spread(row: Row, side: str) -> str:
    one = row[side]
    return f"{one['median']:.3g} {row['unit']} ({one['least']:.3g} to {one['most']:.3g})"


def growth_lines(figures: dict[str, dict[str, Any]]) -> list[str]:
    """How each cost grows, in words, from the script that measures it."""
    made = []
    for one in figures.get("slopes", []):
        made.append(f"- **{one['name']}**: {one['words']}.")
        if "peer" in one:
            made.append(f"  Beside it, {one['peer']}: {one['peer_words']}.")
    return made


def text(folder: str) -> str:
    """All of it."""
    figures = read(folder)
    machines = {json.dumps(_of_machine(one["machine"]), sort_keys=True) for one in figures.values()}
    made = [f"Machine: {machine}" for machine in sorted(machines)] + ["", *lines(figures), ""]
    path = os.path.join(folder, "growth.json")
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            made += growth_lines(json.load(file))
    return "\n".join(made) + "\n"


def _of_machine(machine: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in machine.items() if not name.startswith("load")}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m bench.table", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("folder", nargs="?", default=os.path.join(CHECKOUT, "bench", "results"))
    print(text(parser.parse_args().folder), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
