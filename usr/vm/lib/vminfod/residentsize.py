# SPDX-License-Identifier: MPL-2.0
"""How much memory this process has resident, on illumos and on Linux."""

from __future__ import annotations

import os
import resource
import struct

# psinfo_t of a 64-bit illumos process: ten 4-byte fields, then pr_addr, pr_size and pr_rssize (KiB), 8 bytes each.
_PSINFO_RSS = struct.Struct("=40x8x8xQ")


def resident() -> int:
    """Bytes resident now; the most there ever were where the system does not say."""
    try:
        if os.path.exists("/proc/self/statm"):
            with open("/proc/self/statm", "rb") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        with open("/proc/self/psinfo", "rb") as file:
            return int(_PSINFO_RSS.unpack_from(file.read())[0]) << 10
    except (OSError, struct.error, ValueError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
