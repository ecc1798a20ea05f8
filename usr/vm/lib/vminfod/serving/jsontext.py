# SPDX-License-Identifier: MPL-2.0
"""JSON as clients get it: compact, `/` and non-ASCII characters unescaped, as the original's text is.

ujson does it fast, but refuses the lone surrogates that a tag or a metadata value may hold; those few texts go the slow
way, with just the surrogates escaped."""

from __future__ import annotations

import json
from typing import Any

import ujson


def encode(value: Any) -> bytes:
    """`value` as one line of UTF-8 JSON. Takes what JSON can hold: no NaN, no bytes."""
    try:
        text: str = ujson.dumps(value, ensure_ascii=False, escape_forward_slashes=False, allow_nan=False)
        return text.encode("utf-8")
    except (UnicodeEncodeError, OverflowError):
        # OverflowError: nested more deeply than ujson goes.
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return text.encode("utf-8", "backslashreplace")  # of a surrogate that is its JSON escape


def escaped(text: bytes) -> bytes:
    """`text` as it stands between the quotes of a JSON string. The escape of joined texts is the joined escapes."""
    return encode(text.decode("utf-8"))[1:-1]
