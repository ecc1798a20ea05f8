# SPDX-License-Identifier: MPL-2.0
"""JSON text to values, by the scanner in C that Python's `json` is built on, without `json`: importing that, and `re`
with it, costs half of what a tool needs that asks vminfod one question. It is imported where the scanner is not there,
and to say what is wrong with a text.

Always: only JSON is accepted: no NaN, no Infinity; blanks around the value are none of it."""

from __future__ import annotations

try:
    from _json import make_scanner
except ImportError:  # another Python than CPython
    from json.scanner import make_scanner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

_BLANKS = " \t\n\r"


def scanned(text: str, parse_float: type[float] = float) -> Any:
    """The value of `text`; numbers with a fraction or an exponent are made by `parse_float`. Raises ValueError,
    RecursionError."""
    text = text.strip(_BLANKS)
    try:
        value, end = make_scanner(_Rules(parse_float))(text, 0)  # type: ignore[arg-type]
        if end == len(text):
            return value
    except (StopIteration, ValueError, SystemError):
        pass  # json says what is wrong: without it the scanner lacks the words, which some Pythons call a SystemError
    import json

    return json.loads(text, parse_float=parse_float, parse_constant=_refuse_constant)


class _Rules:
    """What a scanner asks of its decoder."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_int = int

    def __init__(self, parse_float: type[float]) -> None:
        self.parse_float = parse_float
        self.parse_constant = _refuse_constant


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
