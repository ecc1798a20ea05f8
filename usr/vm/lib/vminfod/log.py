# SPDX-License-Identifier: MPL-2.0
"""The daemon's log: Logbook underneath, one bunyan record a line on standard output.

Always: a record is one line of JSON whatever it holds; a log that refuses to be written (disk full, reader gone) never
        ends the daemon. A pipe whose reader stands still would hold it up: SMF's log is a file;
        a warning or error that repeats about the same thing is one record a minute, which says how often it came;
        a stack trace is logged for the unexpected, not for what a platform does (an error with a `code`).
Never in a record: a VM object, its metadata, or the values of a change. Metadata are secrets, and logs are copied.
Callers log what happened, to which zone, how long it took, as fields; this module cannot know which field is secret."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Optional, Protocol

import logbook
import ujson

from vminfod import bunyan
from vminfod.bunyan import DEBUG, ERROR, FATAL, INFO, LEVELS, TRACE, WARN

_LOGBOOK_LEVEL = {
    TRACE: logbook.TRACE,
    DEBUG: logbook.DEBUG,
    INFO: logbook.INFO,
    WARN: logbook.WARNING,
    ERROR: logbook.ERROR,
    FATAL: logbook.CRITICAL,
}
_BUNYAN_LEVEL = {theirs: ours for ours, theirs in _LOGBOOK_LEVEL.items()}


# A complaint that repeats is written once in so many seconds.
PAUSE = 60.0
COMPLAINTS_MOST = 1000  # different ones that are remembered for that
# What a record can be about: with the message they say whether two are the same. `child` and `component` come from a
# child log.
SUBJECTS = (
    "child",
    "component",
    "zonename",
    "action",  # and not its dataset: of a platform's new action each of thousands would be a complaint
    "path",
    "warning",
    "reason",
    "err",
    "line",
    "greenlet",
)
_NUMBER = re.compile(r"(?<![0-9a-z])[0-9]+(?![0-9a-z])")  # a pid, a duration; not what is in a uuid

_CHILD = "\0child"  # among the fields of a record on its way to the handler: those of the child log
_ONE_AT_A_TIME = threading.RLock()


class BunyanHandler(logbook.Handler):
    """Writes records to a file descriptor. `lost` counts those that could not be written (disk full, reader gone)."""

    def __init__(self, fd: int, level: int = DEBUG):
        super().__init__(level=_LOGBOOK_LEVEL[level])
        self._fd = fd
        self._whole_lines = threading.Lock()  # loads log from threads, and a pipe tears long writes apart
        self.lost = 0

    def emit(self, record: logbook.LogRecord) -> None:
        extra = record.extra.get("bunyan", {})
        level = _BUNYAN_LEVEL.get(record.level, INFO)
        line = bunyan.record(record.channel, level, record.message, extra.get("call", {}), extra.get("child", {}))
        data = _encoded(line) + b"\n"
        try:
            with self._whole_lines:
                while data:
                    data = data[os.write(self._fd, data) :]
        except OSError:
            self.lost += 1  # nowhere left to say it; /status shows the number


class Log(Protocol):
    """A logger with fields. Each level takes a message and the fields of that call; an exception goes in as `err`."""

    def child(self, **fields: Any) -> Log:
        """A log whose records carry `fields` as well."""
        ...

    def writes(self, level: int) -> bool:
        """Whether records of `level` (DEBUG, INFO, ...) are written: for whom making one costs too much."""
        ...

    def trace(self, msg: str, **fields: Any) -> None: ...

    def debug(self, msg: str, **fields: Any) -> None: ...

    def info(self, msg: str, **fields: Any) -> None: ...

    def warn(self, msg: str, **fields: Any) -> None: ...

    def error(self, msg: str, **fields: Any) -> None: ...

    def fatal(self, msg: str, **fields: Any) -> None: ...


@dataclass
class _Complaint:
    """A warning or error as it was written last, at `at` (seconds), and how often it came since."""

    at: float
    level: int
    msg: str
    fields: dict[str, Any]
    repeated: int = 0


class Complaints:
    """Which warnings and errors are written: each at once, then again after PAUSE at the earliest, with a count.

    Two are the same if level, message and what they are about (SUBJECTS) agree; a reason whose numbers differ each time
    does not make them two. `write` gets level, message and fields. No timer: what has waited long enough is written
    with whatever is logged next."""

    def __init__(self, write: Callable[[int, str, dict[str, Any]], None], clock: Callable[[], float] = time.monotonic):
        self._write = write
        self._clock = clock
        self._known: OrderedDict[tuple[Any, ...], _Complaint] = OrderedDict()  # the one written longest ago first

    def add(self, level: int, msg: str, fields: dict[str, Any]) -> None:
        """Write it, or count it."""
        now = self._clock()
        self.flush(now)
        about = {**fields.get(_CHILD, {}), **fields}
        key = (level, msg, *(_NUMBER.sub("#", str(about.get(name, ""))) for name in SUBJECTS))
        known = self._known.get(key)
        if known is not None:
            known.repeated += 1
            known.fields = fields
            return
        while len(self._known) >= COMPLAINTS_MOST:
            self._close(self._known.popitem(last=False)[1])
        self._known[key] = _Complaint(now, level, msg, fields)
        self._write(level, msg, fields)

    def flush(self, now: Optional[float] = None) -> None:
        """Write what was repeated and is due; `now` None: all of it, this is the end."""
        while self._known:
            key, first = next(iter(self._known.items()))
            if now is not None and now - first.at < PAUSE:
                return
            del self._known[key]
            self._close(first)
            if first.repeated and now is not None:
                self._known[key] = _Complaint(now, first.level, first.msg, first.fields)

    def _close(self, complaint: _Complaint) -> None:
        if complaint.repeated:
            self._write(complaint.level, complaint.msg, {**complaint.fields, "repeated": complaint.repeated})


class BunyanLog:
    """The Log of a program."""

    def __init__(
        self, logger: logbook.Logger, fields: Optional[dict[str, Any]] = None, complaints: Optional[Complaints] = None
    ):
        self._logger = logger
        self._fields = fields or {}
        self._complaints = complaints or Complaints(self._write)

    def child(self, **fields: Any) -> BunyanLog:
        """A log whose records carry `fields` as well."""
        return BunyanLog(self._logger, {**self._fields, **fields}, self._complaints)

    def writes(self, level: int) -> bool:
        """See Log."""
        return bool(_LOGBOOK_LEVEL[level] >= self._logger.level)

    def trace(self, msg: str, **fields: Any) -> None:
        self._log(TRACE, msg, fields)

    def debug(self, msg: str, **fields: Any) -> None:
        self._log(DEBUG, msg, fields)

    def info(self, msg: str, **fields: Any) -> None:
        self._log(INFO, msg, fields)

    def warn(self, msg: str, **fields: Any) -> None:
        self._log(WARN, msg, fields)

    def error(self, msg: str, **fields: Any) -> None:
        self._log(ERROR, msg, fields)

    def fatal(self, msg: str, **fields: Any) -> None:
        self._log(FATAL, msg, fields)

    def note(self, level: str, msg: str) -> None:
        """A remark of a parser (vmload.notes)."""
        self._log(LEVELS[level], msg, {})

    def close(self) -> None:
        """Write what was only counted so far."""
        self._complaints.flush()

    def _log(self, level: int, msg: str, fields: dict[str, Any]) -> None:
        if _LOGBOOK_LEVEL[level] < self._logger.level:
            return
        with _ONE_AT_A_TIME:  # loads log from threads
            if level in (WARN, ERROR):
                self._complaints.add(level, msg, {_CHILD: self._fields, **fields})
            else:
                self._complaints.flush(time.monotonic())
                self._write(level, msg, {_CHILD: self._fields, **fields})

    def _write(self, level: int, msg: str, fields: dict[str, Any]) -> None:
        call = {name: value for name, value in fields.items() if name != _CHILD}
        extra = {"bunyan": {"child": _presentable(fields[_CHILD]), "call": _presentable(call)}}
        # As an argument, not as the message: a `{` in a path is no placeholder.
        self._logger.log(_LOGBOOK_LEVEL[level], "{0}", msg, extra=extra)


def start(name: str, level: str, fd: Optional[int] = None) -> tuple[BunyanLog, BunyanHandler]:
    """The log of the program `name`, from `level` (a name of LEVELS) on, written to `fd` (standard output)."""
    handler = BunyanHandler(sys.stdout.fileno() if fd is None else fd, LEVELS[level])
    handler.push_application()
    return BunyanLog(logbook.Logger(name, level=_LOGBOOK_LEVEL[LEVELS[level]])), handler


def _presentable(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: _error(value) if isinstance(value, BaseException) else value for name, value in fields.items()}


def _error(error: BaseException) -> dict[str, Any]:
    shown: dict[str, Any] = {"message": str(error), "name": type(error).__name__}
    if not hasattr(error, "code"):
        shown["stack"] = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    for name in ("code", "signal"):
        if getattr(error, name, None) is not None:
            shown[name] = getattr(error, name)
    return shown


def _encoded(line: dict[str, Any]) -> bytes:
    try:
        text: str = ujson.dumps(line, escape_forward_slashes=False, default=str)
    except (ValueError, OverflowError, TypeError) as error:
        text = ujson.dumps({**bunyan.bare(line), "unloggable": str(error)}, default=str)
    return text.encode("utf-8", "replace")
