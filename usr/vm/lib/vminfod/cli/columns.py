# SPDX-License-Identifier: MPL-2.0
"""How many columns of a terminal text takes: East Asian characters take two, accents that stand over another none.

Always: what was cut or filled takes no more columns than were asked for. Pure."""

from __future__ import annotations

import unicodedata

_NO_COLUMN = ("Mn", "Me", "Cf")  # categories of what is drawn over the character before, or not at all
_CUT = "~"


def columns(text: str) -> int:
    """How many columns `text` takes, which has no control characters."""
    return len(text) if text.isascii() else sum(map(_columns_of, text))


def cut(text: str, most: int) -> str:
    """What of `text` there is room for in `most` columns."""
    if text.isascii():
        return text[: max(0, most)]
    for at, character in enumerate(text):
        most -= _columns_of(character)
        if most < 0:
            return text[:at]
    return text


def cell(text: str, width: int) -> str:
    """`text` in just `width` columns, which are at least one."""
    shown = text if columns(text) <= width else cut(text, width - 1) + _CUT
    return filled(shown, width)


def filled(text: str, width: int) -> str:
    """`text` with blanks behind it, up to `width` columns."""
    return text + " " * (width - columns(text))


def _columns_of(character: str) -> int:
    if unicodedata.category(character) in _NO_COLUMN:
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1
