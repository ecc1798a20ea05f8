# SPDX-License-Identifier: MPL-2.0
"""The log of the client library and the tools when the caller brings none: bunyan records on stderr.

It has the methods of the standard library's loggers that we use, so that either can be passed as `log`; importing
`logging` itself would cost as much as a whole `vmadm get`. Never logged: VM objects, because metadata are secrets."""

from __future__ import annotations

import os

from vminfod.bunyan import DEBUG, ERROR, INFO, WARN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Optional, Protocol

    class Logger(Protocol):
        """What the library asks of a logger."""

        def debug(self, msg: str, *, extra: Optional[Mapping[str, object]] = None) -> None: ...
        def info(self, msg: str, *, extra: Optional[Mapping[str, object]] = None) -> None: ...
        def warning(self, msg: str, *, extra: Optional[Mapping[str, object]] = None) -> None: ...
        def error(self, msg: str, *, extra: Optional[Mapping[str, object]] = None) -> None: ...


STDERR = 2


class StderrLog:
    """Bunyan records of `level` and above, one a line, written at once."""

    def __init__(self, name: str, level: int, descriptor: int = STDERR) -> None:
        self.name = name
        self.level = level
        self.descriptor = descriptor

    def debug(self, msg: str, *, extra: Optional[Mapping[str, object]] = None) -> None:
        self._write(DEBUG, msg, extra)

    def info(self, msg: str, *, extra: Optional[Mapping[str, object]] = None) -> None:
        self._write(INFO, msg, extra)

    def warning(self, msg: str, *, extra: Optional[Mapping[str, object]] = None) -> None:
        self._write(WARN, msg, extra)

    def error(self, msg: str, *, extra: Optional[Mapping[str, object]] = None) -> None:
        self._write(ERROR, msg, extra)

    def _write(self, level: int, msg: str, extra: Optional[Mapping[str, object]]) -> None:
        if level < self.level:
            return
        import json

        from vminfod import bunyan

        record = bunyan.record(self.name, level, msg, extra or {})
        try:
            os.write(self.descriptor, json.dumps(record, default=str).encode() + b"\n")
        except OSError:
            return  # stderr is closed: there is nowhere left to say so


class ClientLog:
    """`log` with the field `client` on every record: for any kind of logger."""

    def __init__(self, log: Logger, client: str) -> None:
        self._log = log
        self._client = client

    def debug(self, msg: str, **fields: object) -> None:
        self._log.debug(msg, extra={"client": self._client, **fields})

    def info(self, msg: str, **fields: object) -> None:
        self._log.info(msg, extra={"client": self._client, **fields})

    def warning(self, msg: str, **fields: object) -> None:
        self._log.warning(msg, extra={"client": self._client, **fields})

    def error(self, msg: str, **fields: object) -> None:
        self._log.error(msg, extra={"client": self._client, **fields})

    def exception(self, msg: str, **fields: object) -> None:
        """error() with the traceback of the exception that is being handled as field `err`."""
        import traceback

        self.error(msg, err=traceback.format_exc(), **fields)
