# SPDX-License-Identifier: MPL-2.0
"""The daemon's log: Logbook underneath, one bunyan record a line on standard output (docs/operations.md, "The log").

Always: a record is one line of JSON whatever it holds; a log that refuses to be written (disk full, reader gone) never
        ends the daemon. A pipe whose reader stands still would hold it up: SMF's log is a file.
Never in a record: a VM object, its metadata, or the values of a change. Metadata are secrets, and logs are copied.
Callers log what happened, to which zone, how long it took, as fields; this module cannot know which field is secret."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
import traceback
from typing import Any, Optional

import logbook
import ujson

from vminfod import times

TRACE, DEBUG, INFO, WARN, ERROR, FATAL = 10, 20, 30, 40, 50, 60
LEVELS = {"trace": TRACE, "debug": DEBUG, "info": INFO, "warn": WARN, "error": ERROR, "fatal": FATAL}

_LOGBOOK_LEVEL = {
    TRACE: logbook.TRACE,
    DEBUG: logbook.DEBUG,
    INFO: logbook.INFO,
    WARN: logbook.WARNING,
    ERROR: logbook.ERROR,
    FATAL: logbook.CRITICAL,
}
_BUNYAN_LEVEL = {theirs: ours for ours, theirs in _LOGBOOK_LEVEL.items()}

# What bunyan itself writes; a field of that name would make a record with the key twice.
_RESERVED = frozenset({"name", "hostname", "pid", "level", "msg", "time", "v"})


class BunyanHandler(logbook.Handler):
    """Writes records to a file descriptor. `lost` counts those that could not be written (disk full, reader gone)."""

    def __init__(self, fd: int, level: int = DEBUG):
        super().__init__(level=_LOGBOOK_LEVEL[level])
        self._fd = fd
        self._hostname = socket.gethostname()
        self._whole_lines = threading.Lock()  # loads log from threads, and a pipe tears long writes apart
        self.lost = 0

    def emit(self, record: logbook.LogRecord) -> None:
        extra = record.extra.get("bunyan", {})
        line = {"name": record.channel, "hostname": self._hostname, "pid": os.getpid()}
        line.update(extra.get("child", {}))
        line["level"] = _BUNYAN_LEVEL.get(record.level, INFO)
        line.update(extra.get("call", {}))
        line.update(msg=record.message, time=times.iso(time.time()), v=0)
        data = _encoded(line) + b"\n"
        try:
            with self._whole_lines:
                while data:
                    data = data[os.write(self._fd, data) :]
        except OSError:
            self.lost += 1  # nowhere left to say it; /status shows the number


class Log:
    """A logger with fields. Each level takes a message and the fields of that call; an exception goes in as `err`."""

    def __init__(self, logger: logbook.Logger, fields: Optional[dict[str, Any]] = None):
        self._logger = logger
        self._fields = fields or {}

    def child(self, **fields: Any) -> Log:
        """A log whose records carry `fields` as well."""
        return Log(self._logger, {**self._fields, **_presentable(fields)})

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

    def _log(self, level: int, msg: str, fields: dict[str, Any]) -> None:
        theirs = _LOGBOOK_LEVEL[level]
        if theirs >= self._logger.level:
            extra = {"bunyan": {"child": self._fields, "call": _presentable(fields)}}
            # As an argument, not as the message: a `{` in a path is no placeholder.
            self._logger.log(theirs, "{0}", msg, extra=extra)


def start(name: str, level: str, fd: Optional[int] = None) -> tuple[Log, BunyanHandler]:
    """The log of the program `name`, from `level` (a name of LEVELS) on, written to `fd` (standard output)."""
    handler = BunyanHandler(sys.stdout.fileno() if fd is None else fd, LEVELS[level])
    handler.push_application()
    return Log(logbook.Logger(name, level=_LOGBOOK_LEVEL[LEVELS[level]])), handler


def _presentable(fields: dict[str, Any]) -> dict[str, Any]:
    shown = {}
    for key, value in fields.items():
        if isinstance(value, BaseException):
            value = _error(value)
        shown[f"_{key}" if key in _RESERVED else key] = value
    return shown


def _error(error: BaseException) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "message": str(error),
        "name": type(error).__name__,
        "stack": "".join(traceback.format_exception(type(error), error, error.__traceback__)),
    }
    for name in ("code", "signal"):
        if getattr(error, name, None) is not None:
            shown[name] = getattr(error, name)
    return shown


def _encoded(line: dict[str, Any]) -> bytes:
    try:
        text: str = ujson.dumps(line, escape_forward_slashes=False, default=str)
    except (ValueError, OverflowError, TypeError) as error:
        kept = {key: line[key] for key in ("name", "hostname", "pid", "level", "msg", "time", "v")}
        text = ujson.dumps({**kept, "unloggable": str(error)}, default=str)
    return text.encode("utf-8", "replace")
