# SPDX-License-Identifier: MPL-2.0
"""What all children's lines are, JSON objects, and the two ways in which one can be of no use to its reader.

Not here: how bytes become lines (bytelines.py), what a record means."""

import json
from typing import Any

LINE_MOST = 1 << 20  # bytes. The longest honest line is a file watcher's STATUS of some thousand paths, below 0.5 MiB


class BadLine(ValueError):
    """A line that makes no sense: garbage. What it should have said may be missed."""


class OddEvent(BadLine):
    """A line in good order about something that lacks what we need. Skipped and counted; its writer is not to blame."""


def json_object(line: bytes) -> dict[str, Any]:
    """The JSON object that a line is. BadLine if it is none."""
    try:
        record = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise BadLine("no JSON") from error
    if not isinstance(record, dict):
        raise BadLine("no JSON object")
    return record
