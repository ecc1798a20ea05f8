# SPDX-License-Identifier: MPL-2.0
"""Which processes there are: to see that none is left."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable

from support.deadlines import SOON
from support.running_daemon import eventually


def children_of(pid: int) -> list[int]:
    """The processes that `pid` has started and not reaped."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in listed.splitlines()]
    return [child for child, parent in pairs if parent == pid]


def is_alive(pid: int) -> bool:
    """Whether the process runs. A zombie, which a lazy init leaves behind, does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    if sys.platform != "linux":
        return True
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def gone(pids: Iterable[int], within: float = SOON) -> bool:
    """Whether all of them end within that many seconds."""
    pids = list(pids)
    assert pids, "no process to watch"
    eventually(f"the processes {pids} are gone", lambda: not any(map(is_alive, pids)), within)
    return True
