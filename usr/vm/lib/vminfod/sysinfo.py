# SPDX-License-Identifier: MPL-2.0
"""The node's sysinfo as it was last read well.

Always: a read that fails leaves the old value (C5); the value is replaced as a whole, never changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional


class Sysinfo:
    """`value`: the sysinfo object, None before it was read for the first time. `warning`: why the last read failed."""

    def __init__(self) -> None:
        self.value: Optional[Mapping[str, Any]] = None
        self.warning: Optional[str] = None

    def take(self, value: Optional[Mapping[str, Any]], warnings: list[str]) -> bool:
        """Remember what a load gave; whether it differs from before."""
        self.warning = warnings[0] if warnings else None
        if value is None or value == self.value:
            return False
        self.value = value
        return True
