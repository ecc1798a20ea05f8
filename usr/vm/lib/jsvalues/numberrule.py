# SPDX-License-Identifier: MPL-2.0
"""Text to numbers and numbers to JSON, as a client of the original expects them (docs/platform.md, "Numbers and names",
docs/vm-object.md, "Numbers, dates and units").

Always: a number that comes out whole is an `int` of any size, any other is a `float`, and what is not a number is None,
        which JSON shows as null. Never NaN or an infinity: JSON has neither."""

from __future__ import annotations

import math
import re
from typing import Optional, Union

Number = Union[int, float]

# What JavaScript calls white space; Python's own idea differs (it has U+001C to U+001F and lacks U+FEFF).
WHITE_SPACE = (
    "\t\n\v\f\r \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\ufeff"
)

_DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\Z")
_PREFIXED = re.compile(r"0(?:[xX][0-9a-fA-F]+|[oO][0-7]+|[bB][01]+)\Z")

# int() of a longer text is refused by Python itself; beyond it a double has long become infinite.
_LONGEST_INTEGER = 400


def number(text: str) -> Optional[Number]:
    """`text` by the number rule: white space around it is dropped, the empty text is 0, `-` or `1_0` is None."""
    if text.isdigit() and text.isascii() and len(text) <= _LONGEST_INTEGER:
        return int(text)  # nearly all are
    text = text.strip(WHITE_SPACE)
    if not text:
        return 0
    if _DECIMAL.match(text):
        digits = text.lstrip("+-")
        if digits.isdigit() and len(digits) <= _LONGEST_INTEGER:
            return int(text)
        return whole(float(text))
    if _PREFIXED.match(text) and len(text) <= _LONGEST_INTEGER:
        return int(text, 0)
    return None


def whole(value: float) -> Optional[Number]:
    """`value` as an int if it has no fraction, None if it is infinite or NaN."""
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() else value


def quotient(value: object, divisor: int) -> Optional[Number]:
    """`value` / `divisor`, not rounded; None if `value` is no number (a `-` from zfs)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if isinstance(value, int):
        return value // divisor if value % divisor == 0 else whole(value / divisor)
    return whole(value / divisor)


def rounded_up(value: object, divisor: int) -> Optional[int]:
    """`value` / `divisor` as the next whole number above; None if `value` is no number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return math.ceil(value / divisor) if isinstance(value, float) else -(-value // divisor)
