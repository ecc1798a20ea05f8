# SPDX-License-Identifier: MPL-2.0
"""What all children's lines are, JSON objects, and the two ways in which one can be of no use to its reader.

Not here: how bytes become lines (bytelines.py), what a record means."""

import json
from collections.abc import Sequence
from typing import Any, Union

LINE_MOST = 1 << 20  # bytes. The longest honest line is a file watcher's STATUS of some thousand paths, below 0.5 MiB


class BadLine(ValueError):
    """A line that makes no sense: garbage. What it should have said may be missed."""


class OddEvent(BadLine):
    """A line in good order about something that lacks what we need. Skipped and counted; its writer is not to blame."""


def json_objects(lines: Sequence[bytes]) -> list[Union[dict[str, Any], BadLine]]:
    """What each line says: the JSON object that it is, or, not raised, why it is none.

    Usually all are parsed at once, which costs little more than half: names that they share are made once."""
    try:
        records: list[Any] = json.loads((b"[%b]" % b",".join(lines)).decode("utf-8"))
    except (ValueError, RecursionError):
        records = []
    if len(records) == len(lines) and set(map(type, records)) <= {dict}:
        return records
    return [_json_object(line) for line in lines]


def _json_object(line: bytes) -> Union[dict[str, Any], BadLine]:
    try:
        record = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return BadLine("no JSON")
    return record if isinstance(record, dict) else BadLine("no JSON object")
