# SPDX-License-Identifier: MPL-2.0
"""The node's sysinfo as it was last read well.

Always: a read that fails leaves the old value (C5); the value is replaced as a whole, never changed;
        a read that began earlier than the one whose value is here does not replace it: the read of a full load can end
        long after that of an event."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

from vmload.loader import SysinfoReading


class Sysinfo:
    """`value`: the sysinfo object, None before it was read for the first time. `warning`: why the last read failed."""

    def __init__(self) -> None:
        self.value: Optional[Mapping[str, Any]] = None
        self.warning: Optional[str] = None
        self._began = 0  # monotonic ns, of the reading that gave `value` or `warning`

    def take(self, reading: SysinfoReading, began: int) -> bool:
        """Remember what a reading that began at `began` (monotonic ns) gave; whether it differs from before."""
        if began < self._began:
            return False
        self._began = began
        self.warning = reading.warning
        if reading.value is None or reading.value == self.value:
            return False
        self.value = reading.value
        return True
