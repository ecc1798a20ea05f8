# SPDX-License-Identifier: MPL-2.0
"""What every client of vminfod is made of: a name, the daemon's address, a log (spec/client.md 1).

The name goes into the User-Agent of each request, because that is how an operator finds out in `vminfo status` who
is listening, and into each error of a stream or watch."""

from __future__ import annotations

import os
import sys

from vminfod.clients.address import DEFAULT_HOST, DEFAULT_PORT
from vminfod.clients.clientlog import DEBUG, ClientLog, StderrLog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

    from vminfod.clients.clientlog import Log

DEFAULT_NAME = "vminfod/client"


class Identity:
    """Checked arguments of a client. Raises TypeError for a wrong type and ValueError for an impossible port."""

    def __init__(self, name: Optional[str], host: str, port: int, log: Optional[Log]) -> None:
        if name is None:
            name = getattr(log, "name", DEFAULT_NAME)
        if not isinstance(name, str):
            raise TypeError(f"name must be a string, not {type(name).__name__}")
        if not isinstance(host, str):
            raise TypeError(f"host must be a string, not {type(host).__name__}")
        if not isinstance(port, int) or isinstance(port, bool):
            raise TypeError(f"port must be an integer, not {type(port).__name__}")
        if not 0 < port < 65536:
            raise ValueError(f"port must be from 1 to 65535, not {port}")
        if log is not None and not callable(getattr(log, "error", None)):
            raise TypeError(f"log must be a logger, not {type(log).__name__}")
        self.name = name
        self.host = host
        self.port = port
        self.log = ClientLog(log if log is not None else StderrLog(DEFAULT_NAME, DEBUG), name)

    def user_agent(self) -> str:
        """`NAME - HOSTNAME/PID (PROGRAM)`; made anew for each request, since an agent may fork."""
        program = os.path.abspath(sys.argv[0]) if sys.argv and sys.argv[0] else sys.executable
        return f"{self.name} - {os.uname().nodename}/{os.getpid()} ({program})"


def checked_seconds(what: str, seconds: Optional[float]) -> Optional[float]:
    """A time limit as given by a caller: None and 0 mean none. Raises TypeError, ValueError."""
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"{what} must be a number of seconds, not {type(seconds).__name__}")
    if not seconds >= 0:
        raise ValueError(f"{what} must not be negative: {seconds}")
    return float(seconds) or None


__all__ = ["DEFAULT_HOST", "DEFAULT_NAME", "DEFAULT_PORT", "Identity", "checked_seconds"]
