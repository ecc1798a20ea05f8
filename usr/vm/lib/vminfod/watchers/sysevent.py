# SPDX-License-Identifier: MPL-2.0
"""The lines that `sysevent -rj` prints, as far as they are the same for all events (docs/platform.md, "System events").

Always: a line is either ready, an event, or an error that says why not; no line raises anything else.
Not here: what an event of a zone or a dataset means (zonewatcher.py, zpoolwatcher.py)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Union

from jsvalues.dates import epoch_ms
from vminfod.watchers.lines import BadLine, OddEvent, json_object


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


def parse_sysevent(line: bytes) -> Union[Ready, Sysevent]:
    """One line. BadLine for what is no message of this tool, OddEvent for an event without a class."""
    record = json_object(line)
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
