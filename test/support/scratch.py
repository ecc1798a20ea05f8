# SPDX-License-Identifier: MPL-2.0
"""Where tests put their files: in memory if the machine has room there. A node is some 800 small files, and a disk that
others keep busy makes each of them wait."""

from __future__ import annotations

import os

IN_MEMORY = "/dev/shm"
LEAST = 1 << 30  # bytes that must be free there; a few nodes at once need a tenth
UNFIT = os.ST_NOEXEC | os.ST_RDONLY  # as containers have it by default: a node's tools could not run


def folder() -> str | None:
    """The folder below which temporary files are made; None for the system's own choice."""
    if "TMPDIR" in os.environ:
        return None
    try:
        there = os.statvfs(IN_MEMORY)
    except OSError:
        return None
    fits = there.f_bavail * there.f_frsize >= LEAST and not there.f_flag & UNFIT and os.access(IN_MEMORY, os.W_OK)
    return IN_MEMORY if fits else None
