# SPDX-License-Identifier: MPL-2.0
"""Bunyan records, as every program of ours logs them: their levels, their members, the order of these.

Always: the members that bunyan itself writes stand in a record once; a field of such a name gets a `_` in front.
Not here: who writes them where, and what may be in them (log.py for the daemon, clients/clientlog.py for the rest)."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

TRACE, DEBUG, INFO, WARN, ERROR, FATAL = 10, 20, 30, 40, 50, 60
LEVELS = {"trace": TRACE, "debug": DEBUG, "info": INFO, "warn": WARN, "error": ERROR, "fatal": FATAL}

_HOSTNAME = os.uname().nodename
_OWN = frozenset({"name", "hostname", "pid", "level", "msg", "time", "v"})


def record(
    program: str, level: int, msg: str, fields: Mapping[str, object], logs_own: Mapping[str, object] | None = None
) -> dict[str, Any]:
    """One record of `program`: `fields` are those of this call, `logs_own` those that the log puts on every record."""
    from jsvalues import dates  # its import of datetime costs more than a quick command that logs nothing

    return {
        "name": program,
        "hostname": _HOSTNAME,
        "pid": os.getpid(),
        **_renamed(logs_own or {}),
        "level": level,
        **_renamed(fields),
        "msg": msg,
        "time": dates.now(),
        "v": 0,
    }


def bare(whole: Mapping[str, Any]) -> dict[str, Any]:
    """Only what bunyan itself writes: for a record whose fields cannot be encoded."""
    return {name: value for name, value in whole.items() if name in _OWN}


def _renamed(fields: Mapping[str, object]) -> dict[str, object]:
    return {f"_{name}" if name in _OWN else name: value for name, value in fields.items()}
