# SPDX-License-Identifier: MPL-2.0
"""A log that keeps its records for a test to look at. It has the interface of vminfod.log: a method per level that
takes a message and fields, and child() for a log whose records carry more fields."""

from dataclasses import dataclass
from typing import Any, Optional

LEVELS = {"debug": 20, "info": 30, "warn": 40, "error": 50, "fatal": 60}


@dataclass(frozen=True)
class Record:
    """One line of the log: the level as in bunyan, the message, all fields (a child's included)."""

    level: int
    msg: str
    fields: dict[str, Any]


class RecordingLog:
    """Children write into the list of the log they come from."""

    def __init__(self, records: Optional[list[Record]] = None, **fields: Any) -> None:
        self.records: list[Record] = [] if records is None else records
        self._fields = fields

    def child(self, **fields: Any) -> "RecordingLog":
        return RecordingLog(self.records, **{**self._fields, **fields})

    def writes(self, level: int) -> bool:
        return level >= LEVELS["debug"]

    def _keep(self, level: str, msg: str, fields: dict[str, Any]) -> None:
        self.records.append(Record(LEVELS[level], msg, {**self._fields, **fields}))

    def debug(self, msg: str, **fields: Any) -> None:
        self._keep("debug", msg, fields)

    def info(self, msg: str, **fields: Any) -> None:
        self._keep("info", msg, fields)

    def warn(self, msg: str, **fields: Any) -> None:
        self._keep("warn", msg, fields)

    def error(self, msg: str, **fields: Any) -> None:
        self._keep("error", msg, fields)

    def fatal(self, msg: str, **fields: Any) -> None:
        self._keep("fatal", msg, fields)

    def at(self, level: int) -> list[Record]:
        """The records of this level."""
        return [record for record in self.records if record.level == level]
