# SPDX-License-Identifier: MPL-2.0
"""JSON of values so large that making it in one go would stop the loop: made in a thread, in slices.

ujson holds the interpreter for as long as one call lasts, also in a thread: 3 MB of a guest's metadata are up to some
50 ms. A slice is less than one, and between two of them the loop has its turn.

Always: what comes out is, byte for byte, what jsontext gives."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vminfod.serving import jsontext

HEAVY = 128 << 10  # characters, and as many bytes of JSON: up to here a call is a millisecond at the most
_SLICE = 64 << 10  # characters
_EACH = 16  # characters, that a value costs beside its text
_SMALL = 256  # characters of a member of a map, of which so many are made together:
_TOGETHER = 256


def is_heavy(value: Any, most: int = HEAVY) -> bool:
    """Whether its JSON has more than some `most` characters. Looks no further than that."""
    left = most
    rest = [value]
    while rest:
        one = rest.pop()
        kind = type(one)  # JSON has no others, and a VM has hundreds of values
        inside: Iterable[Any] = ()
        if kind is str:
            left -= len(one)
        elif kind is dict:
            left -= sum(map(len, one)) + 2 * _EACH * len(one)
            inside = one.values()
        elif kind is list:
            left -= 2 * _EACH * len(one)
            inside = one
        if left < 0:
            return True
        for each in inside:
            kind = type(each)
            if kind is str:
                left -= len(each)
            elif kind is dict or kind is list:
                rest.append(each)
    return left < 0


def encode(value: Any) -> bytes:
    """As jsontext.encode()."""
    out: list[bytes] = []
    try:
        _encode(value, out)
    except RecursionError:  # much of it is hundreds of levels deep: in one go, which the one in C can do
        return jsontext.encode(value)
    return b"".join(out)


def escaped(text: bytes) -> bytes:
    """As jsontext.escaped()."""
    return _text_slices(text.decode("utf-8"))


def _encode(value: Any, out: list[bytes]) -> None:
    if isinstance(value, str):
        out += (b'"', _text_slices(value), b'"')
    elif not value or not is_heavy(value, _SLICE):
        out.append(jsontext.encode(value))
    elif isinstance(value, dict):
        _encode_members(value, out)
    elif isinstance(value, list):
        _encode_elements(value, out)
    else:
        out.append(jsontext.encode(value))


def _encode_members(members: dict[str, Any], out: list[bytes]) -> None:
    """Small ones many at a time, for the sake of maps of tens of thousands of keys."""
    before = b"{"
    small: dict[str, Any] = {}
    for key, member in members.items():
        if not is_heavy({key: member}, _SMALL):
            small[key] = member
            if len(small) < _TOGETHER:
                continue
        if small:
            out += (before, jsontext.encode(small)[1:-1])
            before = b","
        if key not in small:
            out += (before, b'"', _text_slices(key), b'":')
            _encode(member, out)
            before = b","
        small = {}
    if small:
        out += (before, jsontext.encode(small)[1:-1])
    out.append(b"}")


def _encode_elements(elements: list[Any], out: list[bytes]) -> None:
    before = b"["
    for element in elements:
        out.append(before)
        _encode(element, out)
        before = b","
    out.append(b"]")


def _text_slices(text: str) -> bytes:
    """`text` as it stands between the quotes of a JSON string."""
    return b"".join([jsontext.encode(text[at : at + _SLICE])[1:-1] for at in range(0, len(text), _SLICE)])
