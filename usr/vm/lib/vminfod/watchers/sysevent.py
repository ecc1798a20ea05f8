# SPDX-License-Identifier: MPL-2.0
"""`sysevent -rj` as a child, and the lines that it prints, as far as they are the same for all events
(docs/platform.md, "System events").

Always: a line is either ready, an event, or an error that says why not; no line raises anything else;
        what may have been lost while a child was not there is reported as missed.
Not here: what an event of a zone or a dataset means (zonewatcher.py, zpoolwatcher.py)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Union

from jsvalues.dates import epoch_ms
from vminfod.log import Log
from vminfod.watchers.child import Child
from vminfod.watchers.lines import BadLine, OddEvent


@dataclass(frozen=True)
class Ready:
    """The subscription stands: what happens from now on is printed."""


@dataclass(frozen=True)
class Sysevent:
    """`date_ms`: when the tool got it, milliseconds since the epoch. `data` is empty for an event without
    attributes."""

    klass: str
    subclass: str
    data: Mapping[str, Any]
    date_ms: int


def parse_sysevent(record: Mapping[str, Any]) -> Union[Ready, Sysevent]:
    """What one line says. BadLine for what is no message of this tool, OddEvent for an event without a class."""
    date_ms = epoch_ms(record.get("date"))
    if date_ms is None:
        raise BadLine("no valid date")
    kind = record.get("type")
    if kind == "ready":
        return Ready()
    if kind != "event":
        raise BadLine("neither ready nor an event")
    klass, subclass, data = record.get("class"), record.get("subclass"), record.get("data", {})
    if not isinstance(klass, str) or not isinstance(subclass, str):
        raise OddEvent("event without class or subclass")
    if not isinstance(data, dict):
        raise OddEvent("event whose data are no object")
    return Sysevent(klass, subclass, data, date_ms)


def sysevent_child(
    name: str,
    command: list[str],
    *,
    log: Log,
    on_record: Callable[[dict[str, Any], int], bool],
    on_missed: Callable[[str], object],
    ready_within: float,
) -> Child:
    """The child `name` that runs `command`, to be started by the caller. `on_record(record, seen_at)`: whether it
    is the ready line; it may raise BadLine and OddEvent.

    `on_missed(reason)`: events may have been lost, so that everything they are about has to be looked at again."""

    def on_ready(again: bool) -> None:
        if again:
            on_missed(f"{name}: started again")

    return Child(
        name, command, log=log, on_record=on_record, on_ready=on_ready, on_missed=on_missed, ready_within=ready_within
    )
