# SPDX-License-Identifier: MPL-2.0
"""Unmounts what is mounted below a folder once the process that started this one has ended, however it did: a mock node
that is killed outright cannot do it itself, and what stays mounted keeps its folder from being removed.

    python3 -S unmounter.py ROOT     waits for the end of its standard input

Always: in a session of its own, so that a signal to the node's group does not reach it; it ends when the node does.
A private mount namespace would do without: but the tools and the daemon, which are not the node's children, must see
what it mounts."""

import ctypes
import os
import subprocess
import sys
from typing import Optional

DETACH = 2  # of umount2(2): now for all who look, later for those who use it
TABLE = "/proc/self/mountinfo"


class Unmounter:
    """Starts the process with the first mount, and ends it."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._process: Optional[subprocess.Popen[bytes]] = None

    def ensure(self) -> None:
        """From now on nothing that is mounted below the root outlives this process."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-S", os.path.abspath(__file__), self._root],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )

    def close(self) -> None:
        """Unmount what is left, and end the process."""
        if self._process is not None:
            self._process.communicate()


def mounted_below(root: str) -> list[bytes]:
    """Mount points below `root`, in the order in which they were mounted."""
    prefix = os.fsencode(root.rstrip("/")) + b"/"
    with open(TABLE, "rb") as table:
        points = [line.split(b" ")[4] for line in table]
    return [point for point in map(_unescaped, points) if point.startswith(prefix)]


def unmount_below(root: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    for point in reversed(mounted_below(root)):
        if libc.umount2(point, DETACH) != 0:
            where, why = os.fsdecode(point), os.strerror(ctypes.get_errno())
            sys.stderr.write(f"mockcn: cannot unmount {where}: {why}\n")


def _unescaped(point: bytes) -> bytes:
    """A path as the kernel's table has it: blanks, tabs, newlines and backslashes as three octal digits."""
    first, *others = point.split(b"\\")
    return first + b"".join(bytes([int(part[:3], 8)]) + part[3:] for part in others)


if __name__ == "__main__":
    sys.stdin.buffer.read()
    unmount_below(sys.argv[1])
