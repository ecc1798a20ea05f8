# SPDX-License-Identifier: MPL-2.0
"""PCI slots of a bhyve guest: `bus:device:function`, `device:function` or `device`, all decimal."""

from __future__ import annotations

import re
from typing import Any, NamedTuple, Optional

_SLOT = re.compile(r"[0-9]+(:[0-9]+){0,2}")
MOST_BUS, MOST_DEVICE, MOST_FUNCTION = 255, 31, 7


class Slot(NamedTuple):
    """A place on the guest's PCI buses."""

    bus: int
    device: int
    function: int


def parsed(text: Any) -> Optional[Slot]:
    """The slot that `text` names; None if it names none."""
    if not isinstance(text, str) or len(text) > 32 or _SLOT.fullmatch(text) is None:
        return None
    numbers = [int(part) for part in text.split(":")]
    slot = {1: lambda: Slot(0, numbers[0], 0), 2: lambda: Slot(0, *numbers), 3: lambda: Slot(*numbers)}[len(numbers)]()
    if slot.bus > MOST_BUS or slot.device > MOST_DEVICE or slot.function > MOST_FUNCTION:
        return None
    return slot
