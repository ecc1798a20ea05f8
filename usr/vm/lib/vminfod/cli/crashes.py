# SPDX-License-Identifier: MPL-2.0
"""What no tool should ever show: an exception that nothing expected. The operator gets one line, the log the traceback.

    /var/log/vm/logs/<ms since the epoch>-<pid>-<tool>.log      below VMADM_ROOT, where that is set

Always: nothing here fails; imported only when it is needed, which costs more than the rest of a short command."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Mapping

from vminfod.bunyan import ERROR
from vminfod.clients.clientlog import StderrLog

FOLDER = "/var/log/vm/logs"


def recorded(tool: str, environ: Mapping[str, str], error: Exception) -> str:
    """Log the exception that is being handled; the line about it for the operator."""
    where = _logged(tool, environ)
    text = " ".join(str(error).split())[:200]
    return f"{tool}: unexpected error, please report it: {type(error).__name__}: {text} ({where})"


def _logged(tool: str, environ: Mapping[str, str]) -> str:
    """Write the log; the sentence about it for the operator."""
    path = f"{FOLDER}/{time.time_ns() // 10**6}-{os.getpid():06d}-{tool}.log"
    folder = (environ.get("VMADM_ROOT") or "").rstrip("/")
    try:
        os.makedirs(folder + FOLDER, exist_ok=True)
        descriptor = os.open(folder + path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        return f"its traceback cannot be logged: {folder + FOLDER}: {error.strerror}"
    StderrLog(tool, ERROR, descriptor).error("unexpected error", extra={"err": traceback.format_exc()})
    return f"its traceback is in {folder + path}"
