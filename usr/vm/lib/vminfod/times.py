# SPDX-License-Identifier: MPL-2.0
"""The daemon's times as text.

Inside the daemon a moment is an int: nanoseconds of the monotonic clock, as time.monotonic_ns() gives them. It becomes
text only at the edge: in /status, in the log, in an event line.

Always: the fraction of a stamp has nine digits; a duration is never negative (a negative one is a fault of ours and
        raises ValueError); dates are UTC with milliseconds and a Z.
Not here: the choice of a clock. Whoever measures passes the numbers in."""

import datetime
import math
import re
from typing import Optional

_SECOND = 1_000_000_000  # nanoseconds

# The largest unit with a whole part is used. Nanoseconds in the unit, and its sign.
_UNITS = (
    (86400 * _SECOND, "d"),
    (3600 * _SECOND, "h"),
    (60 * _SECOND, "m"),
    (_SECOND, "s"),
    (1_000_000, "ms"),
    (1_000, "us"),
)

_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?Z", re.ASCII)
_EPOCH = datetime.datetime(1970, 1, 1)


def pair(ns: int) -> list[int]:
    """`ns` as [seconds, nanoseconds], the form that the file watcher and its dump use."""
    return list(divmod(ns, _SECOND))


def stamp(ns: int) -> str:
    """A monotonic moment: 'S.NNNNNNNNN'."""
    seconds, rest = divmod(ns, _SECOND)
    return f"{seconds}.{rest:09d}"


def short(ns: int) -> str:
    """A duration for people: '5.12s', '1.09d', '999ns'. At most two decimals, without trailing zeros.

    The value is rounded half up as a binary fraction: 1.125 us is exact and becomes 1.13, while 1.005 s is stored as
    slightly less and becomes 1. Readers of the original's output see the same digits."""
    if ns < 0:
        raise ValueError(f"a duration cannot be negative: {ns} ns")
    for size, sign in _UNITS:
        if ns >= size:
            hundredths = math.floor(ns / size * 100 + 0.5)
            return f"{hundredths / 100:.2f}".rstrip("0").rstrip(".") + sign
    return f"{ns}ns"


def duration(ns: int) -> str:
    """A duration, exact and for people: '5.123456789s (5.12s)'. ValueError if it is negative."""
    return f"{stamp(ns)}s ({short(ns)})"


def iso(epoch_seconds: float) -> str:
    """A date from seconds since the epoch: '2024-03-01T10:00:00.123Z', rounded to the nearest millisecond."""
    millis = math.floor(epoch_seconds * 1000 + 0.5)
    when = _EPOCH + datetime.timedelta(milliseconds=millis)
    return when.isoformat(timespec="milliseconds") + "Z"


def epoch_ms(date: object) -> Optional[int]:
    """Milliseconds since the epoch of a UTC date such as '2024-03-01T10:00:00.123Z'; None for anything that is no such
    date."""
    found = _DATE.fullmatch(date) if isinstance(date, str) else None
    if found is None:
        return None
    try:
        when = datetime.datetime(*(int(part) for part in found.groups()[:6]))  # type: ignore[arg-type]
    except ValueError:  # the 13th month, the 32nd day
        return None
    whole = (when - _EPOCH) // datetime.timedelta(milliseconds=1)
    return whole + int((found[7] or "").ljust(3, "0")[:3])
