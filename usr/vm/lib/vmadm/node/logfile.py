# SPDX-License-Identifier: MPL-2.0
"""The log of one writing command: a file of its own, where the platform's tools look for it (docs/vmadm.md, "Log").

    /var/log/vm/logs/<ms since the epoch>-<pid>-vmadm.log       bunyan records

What VMADM_DEBUG_LEVEL asks for on stderr or in a file is written there as well. Never logged: payloads and VM objects,
because metadata are secrets. A log that cannot be written stops no command."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Optional

from vminfod.bunyan import DEBUG
from vminfod.clients.clientlog import StderrLog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vminfod.clients.clientlog import Logger

FOLDER = "/var/log/vm/logs"


class _Both:
    """Two logs as one, with fields of its own on every record."""

    def __init__(self, logs: list[StderrLog], fields: Mapping[str, object]) -> None:
        self.name = "vmadm"
        self._logs = logs
        self._fields = fields

    def debug(self, msg: str, *, extra: Optional[Mapping[str, object]] = None) -> None:
        for log in self._logs:
            log.debug(msg, extra={**self._fields, **(extra or {})})

    def info(self, msg: str, *, extra: Optional[Mapping[str, object]] = None) -> None:
        for log in self._logs:
            log.info(msg, extra={**self._fields, **(extra or {})})

    def warning(self, msg: str, *, extra: Optional[Mapping[str, object]] = None) -> None:
        for log in self._logs:
            log.warning(msg, extra={**self._fields, **(extra or {})})

    def error(self, msg: str, *, extra: Optional[Mapping[str, object]] = None) -> None:
        for log in self._logs:
            log.error(msg, extra={**self._fields, **(extra or {})})


def opened(root: str, debug: StderrLog, environ: Mapping[str, str]) -> Logger:
    """The log of this command on the node at `root`; `debug` is what the operator asked for."""
    request = environ.get("REQ_ID") or environ.get("req_id")
    logs = [debug]
    folder = os.path.abspath(root).rstrip("/") + FOLDER
    name = f"{time.time_ns() // 10**6}-{os.getpid():06d}-vmadm.log"
    try:
        os.makedirs(folder, exist_ok=True)
        descriptor = os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError:
        return _Both(logs, {})  # see the head
    logs.append(StderrLog("vmadm", DEBUG, descriptor))
    return _Both(logs, {"req_id": request} if request else {})
