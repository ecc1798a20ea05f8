# SPDX-License-Identifier: MPL-2.0
"""A logger of the standard library as a caller of the client library passes it: a stand-in that takes no call which
the real one would refuse, and remembers them."""

from __future__ import annotations

import logging
from typing import Any

import mock


def callers_log(name: str = "test") -> Any:
    """The stand-in."""
    log = mock.create_autospec(logging.Logger, instance=True)
    log.name = name
    return log


def records_of(log: Any) -> list[tuple[str, str, Any]]:
    """(level, message, extra) of each record, in order."""
    return [(name, args[0], kwargs.get("extra")) for name, args, kwargs in log.method_calls]


def failures_of(log: Any) -> list[tuple[str, Any]]:
    """(message, extra) of the errors."""
    return [(msg, extra) for level, msg, extra in records_of(log) if level == "error"]
