# SPDX-License-Identifier: MPL-2.0
"""Bytes as they come from a pipe, cut into lines.

Always: a line comes out once, whole, without its newline, however the bytes were cut up; what is kept never exceeds the
        limit by more than one piece (bug L2). A line that is longer is left out and counted.
        Bytes become text only when the line is whole, since a character can be cut by a read.
Here as well: what all children's lines are, JSON objects, and the two ways in which one can be of no use to its reader.
Not here: what a record means."""

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


class LineSplitter:
    """`too_long` counts the lines that were left out."""

    def __init__(self, most: int = LINE_MOST) -> None:
        self._most = most
        self._pieces: list[bytes] = []  # the start of a line whose end has not come
        self._length = 0  # of the pieces together
        self._skipping = False  # the line that is coming is too long
        self.too_long = 0

    def feed(self, piece: bytes) -> list[bytes]:
        """The lines that `piece` completes."""
        first, *rest = piece.split(b"\n")
        if not rest:
            self._keep(first)
            return []
        lines = []
        if self._skipping or self._length + len(first) > self._most:
            self.too_long += 1
        else:
            lines.append(b"".join(self._pieces) + first)
        *whole, last = rest
        for line in whole:
            if len(line) > self._most:
                self.too_long += 1
            else:
                lines.append(line)
        self._pieces, self._length, self._skipping = [], 0, False
        self._keep(last)
        return lines

    def _keep(self, piece: bytes) -> None:
        if not piece or self._skipping:
            return
        self._length += len(piece)
        if self._length > self._most:
            self._skipping, self._pieces = True, []
        else:
            self._pieces.append(piece)
