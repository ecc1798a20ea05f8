# SPDX-License-Identifier: MPL-2.0
"""The verdict: what is wrong with the daemon or its node, in the words of an operator.

Pure: facts in, reasons out. No reason means that all is well. Each is short, names the thing, and says since when."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Optional, TypedDict

# Seconds. Shorter than these is how a node works.
ONE_COMMAND = 5.0  # a command, or a reading of files, about one VM; it needs milliseconds
ALL_COMMAND = 60.0  # one about all; with 100,000 snapshots it needs some ten
UNANSWERED = 10.0  # a file that the file watcher was asked to watch; 7,000 take it 0.2 s
STALLED = 10.0  # a listener for which something waits
OVERDUE = 10.0  # a transaction whose limit has passed and whose writer is still there
_LOOP = 3  # losses of a child within five minutes; see _is_lost_again_and_again()
_PROVED = 60.0  # seconds that a child has to live after a loop, at least, to be well

_NAMED = 3  # of a kind; the others are counted


@dataclass(frozen=True)
class ChildFacts:
    """`down`: seconds that it has not been up, None if it is. `losses`: how many seconds ago it was lost, each time
    in the last five minutes, in order. `quarantined`: the files that it is not asked to watch, because it ends or hangs
    when it is. `unanswered`: the other files for which it has not said whether it watches them, and for how many
    seconds, the longest first."""

    down: Optional[float]
    losses: Sequence[float] = ()
    quarantined: Sequence[str] = ()
    unanswered: Sequence[tuple[str, float]] = ()


@dataclass(frozen=True)
class CommandFacts:
    """A command that runs, or files that are read. `what`: "zfs list of U"; `seconds`: for so long; `for_all`: it asks
    about all VMs."""

    what: str
    seconds: float
    for_all: bool


@dataclass(frozen=True)
class Facts:
    """`unreadable`: VMs; `without_xml`: zones, which are not served. `stalled`: user agent, seconds and bytes of
    listeners that do not read. `refresh_failed`: why the last full refresh failed; None if it did not. `overdue`:
    writer, VM and seconds of transactions whose limit has passed."""

    children: Mapping[str, ChildFacts] = field(default_factory=dict)
    unreadable: Iterable[str] = ()
    without_xml: Iterable[str] = ()
    commands: Iterable[CommandFacts] = ()
    stalled: Iterable[tuple[str, float, int]] = ()
    refresh_failed: Optional[str] = None
    sysinfo_error: Optional[str] = None
    index_error: Optional[str] = None
    overdue: Iterable[tuple[str, str, float]] = ()


class Verdict(TypedDict):
    """The body of /health, and a member of /status."""

    status: str  # "ok" or "degraded"
    reasons: list[str]


def verdict(facts: Facts) -> Verdict:
    """What to say of these facts."""
    reasons = [
        *_children(facts.children),
        *_counted("VM", "unreadable", sorted(facts.unreadable)),
        *_counted("zone", "without XML", sorted(facts.without_xml)),
        *_commands(facts.commands),
        *_stalled(list(facts.stalled)),
        *_overdue([one for one in facts.overdue if one[2] >= OVERDUE]),
    ]
    if facts.refresh_failed is not None:
        reasons.append(f"the last full refresh failed: {facts.refresh_failed[:200]}")
    if facts.sysinfo_error is not None:
        reasons.append(f"sysinfo cannot be read: {facts.sysinfo_error[:200]}")
    if facts.index_error is not None:
        reasons.append(f"the index of zones cannot be read: {facts.index_error[:200]}")
    return {"status": "degraded" if reasons else "ok", "reasons": reasons}


def _children(children: Mapping[str, ChildFacts]) -> list[str]:
    reasons = []
    for name, child in children.items():
        lost = f"lost {len(child.losses)} times in 5 minutes"
        if child.down is not None:
            reasons.append(f"{name} down {child.down:.0f} s" + (f", {lost}" if len(child.losses) >= _LOOP else ""))
        elif _is_lost_again_and_again(child.losses):
            reasons.append(f"{name} was {lost}")
        if child.quarantined:
            count = len(child.quarantined)
            files = f"{count} file{'s' if count > 1 else ''}"
            reasons.append(f"{name} ends or hangs of {files}, seen by refreshes only: {_some(list(child.quarantined))}")
        reasons += _unanswered(name, [one for one in child.unanswered if one[1] >= UNANSWERED])
    return reasons


def _unanswered(name: str, late: list[tuple[str, float]]) -> list[str]:
    if not late:
        return []
    files = f"{len(late)} file{'s' if len(late) > 1 else ''}"
    paths = _some([path for path, _ in late])
    return [f"{name} has not answered for {files} for {late[0][1]:.0f} s, seen by refreshes only: {paths}"]


def _is_lost_again_and_again(losses: Sequence[float]) -> bool:
    """Whether one that is up may soon be lost once more: it has not lived longer by now than from one of its losses to
    the next."""
    if len(losses) < _LOOP:
        return False
    longest = max(before - after for before, after in pairwise(losses))
    return losses[-1] <= max(_PROVED, longest)


def _counted(kind: str, trouble: str, names: list[str]) -> list[str]:
    if not names:
        return []
    return [f"{len(names)} {kind}{'s' if len(names) > 1 else ''} {trouble}: {_some(names)}"]


def _commands(commands: Iterable[CommandFacts]) -> list[str]:
    late = [c for c in commands if c.seconds >= (ALL_COMMAND if c.for_all else ONE_COMMAND)]
    late.sort(key=lambda command: -command.seconds)
    reasons = [f"{command.what} runs {command.seconds:.0f} s" for command in late[:_NAMED]]
    return reasons + ([f"{len(late) - _NAMED} more hang"] if len(late) > _NAMED else [])


def _stalled(stalled: list[tuple[str, float, int]]) -> list[str]:
    if not stalled:
        return []
    agent, seconds, size = max(stalled, key=lambda one: one[1])
    others = f", and {len(stalled) - 1} more" if len(stalled) > 1 else ""
    return [f"listener {agent[:100]} reads nothing for {seconds:.0f} s, {size} bytes wait{others}"]


def _overdue(overdue: list[tuple[str, str, float]]) -> list[str]:
    if not overdue:
        return []
    writer, uuid, seconds = max(overdue, key=lambda one: one[2])
    others = f", and {len(overdue) - 1} more" if len(overdue) > 1 else ""
    return [f"a transaction on VM {uuid} is past its limit for {seconds:.0f} s, {writer[:100]}{others}"]


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
