# SPDX-License-Identifier: MPL-2.0
"""The daemon's moments and durations as text.

Inside the daemon a moment is an int: nanoseconds of the monotonic clock, as time.monotonic_ns() gives them. It becomes
text only at the edge: in /status, in the log, in an event line.

Always: the fraction of a stamp has nine digits; a duration is never negative (a negative one is a fault of ours and
        raises ValueError).
Not here: the choice of a clock (whoever measures passes the numbers in); dates (jsvalues/dates.py)."""

import math

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
