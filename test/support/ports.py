# SPDX-License-Identifier: MPL-2.0
"""Ports for daemons.

Always: each process has ports of its own, also among those of another run on the machine, wherever that puts its files:
        between the look whether a port is free and the daemon's bind() no other test can take it."""

from __future__ import annotations

import fcntl
import itertools
import os
import socket
from collections.abc import Iterator
from typing import Optional

from support.scratch import IN_MEMORY

FIRST, EACH, SHARES = 10_000, 400, 56  # below those that the system gives to connections

_ports: Optional[Iterator[int]] = None  # of this process


def free_port() -> int:
    """A port without a listener."""
    global _ports
    if _ports is None:
        _ports = itertools.cycle(_share())
    for port in _ports:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise AssertionError("unreachable")


def _share() -> range:
    """Ports that are this process's until it ends: the lock of the file that stands for them ends with it."""
    folder = IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else "/tmp"  # not where this run has its files
    for number in range(SHARES):
        path = os.path.join(folder, f"vminfod-tests-{os.getuid()}-ports-{number}")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        return range(FIRST + number * EACH, FIRST + (number + 1) * EACH)
    raise AssertionError(f"more than {SHARES} processes want ports")
