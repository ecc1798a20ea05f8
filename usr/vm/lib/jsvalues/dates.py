# SPDX-License-Identifier: MPL-2.0
"""Dates as text: `YYYY-MM-DDTHH:MM:SS.mmmZ`, UTC, always with three digits of milliseconds (docs/vm-object.md,
"Numbers, dates and units").

Always: a fraction of a millisecond is cut off, wherever a date comes from, so that no date lies in the future."""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta, timezone
from functools import lru_cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional, Union

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_DATE = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z", re.ASCII)


def now() -> str:
    """The date of this moment."""
    return _of_utc(datetime.now(timezone.utc))


def iso(milliseconds: Optional[Union[int, float]]) -> Optional[str]:
    """The date `milliseconds` after 1970-01-01T00:00:00Z; None if there is no such date."""
    if milliseconds is None:
        return None
    try:
        return _of_utc(_EPOCH + timedelta(milliseconds=math.trunc(milliseconds)))
    except (OverflowError, ValueError):
        return None


def iso_of_seconds(seconds: object) -> Optional[str]:
    """The date `seconds` after the epoch; None if `seconds` is no number (a `-` from zfs)."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        return None
    return iso(seconds * 1000)


def of_datetime(date: datetime) -> str:
    """The date of an aware datetime of any time zone."""
    return _of_utc(date.astimezone(timezone.utc))


def _of_utc(date: datetime) -> str:
    return date.isoformat(timespec="milliseconds")[: -len("+00:00")] + "Z"


def epoch_ms(text: object) -> Optional[int]:
    """Milliseconds since the epoch of a UTC date such as '2024-03-01T10:00:00.123Z'; None for anything that is no such
    date."""
    found = _DATE.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        return None
    second = _ms_of_second(found[1])
    return None if second is None else second + int((found[2] or "").ljust(3, "0")[:3])


@lru_cache(maxsize=16)  # events come in storms, thousands in a second
def _ms_of_second(text: str) -> Optional[int]:
    try:
        date = datetime.fromisoformat(text + "+00:00")
    except ValueError:  # the 13th month, the 32nd day
        return None
    return (date - _EPOCH) // timedelta(milliseconds=1)
