# SPDX-License-Identifier: MPL-2.0
"""What every client of vminfod is made of: a name, the daemon's address, a log.

The name goes into the User-Agent of each request, because that is how an operator finds out in `vminfo status` who
is listening, and into each error of a stream or watch."""

from __future__ import annotations

import os
import sys

from vminfod.bunyan import ERROR
from vminfod.clients.address import DEFAULT_HOST, DEFAULT_PORT, HIGHEST_PORT, SOCKET
from vminfod.clients.clientlog import ClientLog, StderrLog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

    from vminfod.clients.clientlog import Logger

DEFAULT_NAME = "vminfod/client"
FOREVER = 1e9  # seconds, 30 years: past it (infinity too) a limit is none, and the kernel's clocks would overflow


class Identity:
    """Checked arguments of a client. Raises TypeError for a wrong type and ValueError for an impossible port.

    `socket` is the unix socket to be tried first, or None: whoever names a host or a port means that one. `local` is
    where the unix socket of that daemon would be all the same: transactions need it."""

    def __init__(
        self,
        name: Optional[str],
        host: Optional[str],
        port: Optional[int],
        log: Optional[Logger],
        socket: Optional[str] = None,
    ) -> None:
        by_address = host is not None or port is not None
        host = DEFAULT_HOST if host is None else host
        port = DEFAULT_PORT if port is None else port
        if name is None:
            name = getattr(log, "name", DEFAULT_NAME)
        if not isinstance(name, str):
            raise TypeError(f"name must be a string, not {type(name).__name__}")
        if not isinstance(host, str):
            raise TypeError(f"host must be a string, not {type(host).__name__}")
        if not isinstance(port, int) or isinstance(port, bool):
            raise TypeError(f"port must be an integer, not {type(port).__name__}")
        if not 0 < port <= HIGHEST_PORT:
            raise ValueError(f"port must be from 1 to {HIGHEST_PORT}, not {port}")
        if socket is not None and not isinstance(socket, str):
            raise TypeError(f"socket must be a path, not {type(socket).__name__}")
        if log is not None and not callable(getattr(log, "error", None)):
            raise TypeError(f"log must be a logger, not {type(log).__name__}")
        self.name = name
        self.host = host
        self.port = port
        self.local = socket or SOCKET
        self.socket = None if by_address else self.local
        self.log = ClientLog(log if log is not None else StderrLog(DEFAULT_NAME, ERROR), name)
        self._program = _program()  # now: later the program may stand in another folder, or in one that is gone

    def user_agent(self) -> str:
        """`NAME - HOSTNAME/PID (PROGRAM)`; made anew for each request, since an agent may fork."""
        return f"{self.name} - {os.uname().nodename}/{os.getpid()} ({self._program})"


def _program() -> str:
    """The path of the running script."""
    if not sys.argv or not sys.argv[0]:
        return sys.executable
    try:
        return os.path.abspath(sys.argv[0])
    except OSError:  # a relative path in a folder that is gone
        return sys.argv[0]


def checked_seconds(what: str, seconds: Optional[float]) -> Optional[float]:
    """A time limit as given by a caller: None, 0 and infinity mean none. Raises TypeError, ValueError."""
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"{what} must be a number of seconds, not {type(seconds).__name__}")
    if not seconds >= 0:
        raise ValueError(f"{what} must not be negative: {seconds}")
    return float(seconds) if 0 < seconds < FOREVER else None
