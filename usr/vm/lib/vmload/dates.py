# SPDX-License-Identifier: MPL-2.0
"""Dates as VM objects carry them: `YYYY-MM-DDTHH:MM:SS.mmmZ`, always with three digits of milliseconds
(docs/vm-object.md, "Numbers, dates and units")."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone
from typing import Optional, Union

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def iso(milliseconds: Optional[Union[int, float]]) -> Optional[str]:
    """The date `milliseconds` after 1970-01-01T00:00:00Z, a fraction cut off; None if there is no such date."""
    if milliseconds is None:
        return None
    try:
        date = _EPOCH + timedelta(milliseconds=math.trunc(milliseconds))
    except (OverflowError, ValueError):
        return None
    return f"{date:%Y-%m-%dT%H:%M:%S}".rjust(19, "0") + f".{date.microsecond // 1000:03d}Z"


def iso_of_seconds(seconds: object) -> Optional[str]:
    """The date `seconds` after the epoch; None if `seconds` is no number (a `-` from zfs)."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        return None
    return iso(seconds * 1000)
