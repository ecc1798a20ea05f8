# SPDX-License-Identifier: MPL-2.0
"""What is said to `fswatcher -r -j`, and what it says (docs/platform.md, "File watcher").

Always: a line of it is one of the four messages, or BadLine says why not; no line raises anything else.
Not here: which paths are wanted (fswatcher.py)."""

import os
from dataclasses import dataclass
from typing import Any, ClassVar, Optional, Union

from vminfod.watchers.lines import BadLine

PATH_MOST, NAME_MOST = 1023, 255  # bytes. The child reads no longer path, and aborts at a longer name in it

_CHANGE = frozenset({"FILE_MODIFIED", "FILE_RENAME_TO", "FILE_TRUNC"})
_DELETE = frozenset({"FILE_DELETE", "UNMOUNTED"})


@dataclass(frozen=True)
class Ready:
    """`time`, in all messages: monotonic nanoseconds, by the child."""

    time: int


@dataclass(frozen=True)
class Answer:
    """To the command with this key."""

    time: int
    key: int
    success: bool


@dataclass(frozen=True)
class FileChange:
    """Something happened to a file. `final`: it is not watched any more."""

    time: int
    path: str
    changes: tuple[str, ...]
    final: bool

    @property
    def kind(self) -> str:
        """change, delete or event. The end of a watch is a deletion, whatever its reason."""
        if self.final or not _DELETE.isdisjoint(self.changes):
            return "delete"
        return "event" if _CHANGE.isdisjoint(self.changes) else "change"

    @property
    def kind_was_forced(self) -> bool:
        """Whether nothing but `final` makes it a deletion."""
        return self.final and _DELETE.isdisjoint(self.changes)


@dataclass(frozen=True)
class ChildError:
    """The child could not understand or do something. `key`: of the command, or 0."""

    CANNOT_ASSOCIATE: ClassVar[int] = 4  # a file could not be watched again after an event

    time: int
    key: int
    code: int
    message: str


def unwatchable(path: str) -> Optional[str]:
    """Why the child would misread the path, or die of it; None if it would not (A10, C11)."""
    try:
        name = os.fsencode(path)
    except UnicodeEncodeError:
        return "no text"
    if not name.startswith(b"/"):
        return "not an absolute path"
    if b"\0" in name or name.split() != [name]:
        return "white space or NUL in it"
    if len(name) > NAME_MOST and (len(name) > PATH_MOST or max(map(len, name.split(b"/"))) > NAME_MOST):
        return "too long"
    return None


def command_line(key: int, command: str, path: str) -> bytes:
    """WATCH or UNWATCH of a path that is not unwatchable()."""
    return b"%d %s %s\n" % (key, command.encode(), os.fsencode(path))


def parse_message(record: dict[str, Any]) -> Union[Ready, Answer, FileChange, ChildError]:
    """What one line of the child says. BadLine for one that is no message of it."""
    time = _time(record.get("time"))
    kind = record.get("type")
    if kind == "ready":
        return Ready(time)
    if kind == "response":
        return Answer(time, _number(record, "key"), _number(record, "code") == 0)
    if kind == "error":
        return ChildError(time, _number(record, "key"), _number(record, "code"), str(record.get("message", "")))
    if kind != "event":
        raise BadLine("unknown type of message")
    path, changes, final = record.get("pathname"), record.get("changes"), record.get("final")
    if not isinstance(path, str) or not isinstance(final, bool):
        raise BadLine("event without a path, or not saying whether it is final")
    if not isinstance(changes, list) or not all(isinstance(change, str) for change in changes):
        raise BadLine("event without a list of changes")
    return FileChange(time, path, tuple(changes), final)


def _time(value: Any) -> int:
    if isinstance(value, list) and len(value) == 2:
        seconds, nanoseconds = value
        if type(seconds) is int and type(nanoseconds) is int:  # no bool
            return seconds * 1_000_000_000 + nanoseconds
    raise BadLine("message without a time")


def _number(record: dict[str, Any], name: str) -> int:
    value = record.get(name)
    if type(value) is not int:  # no bool
        raise BadLine(f"message whose {name} is no number")
    return value
