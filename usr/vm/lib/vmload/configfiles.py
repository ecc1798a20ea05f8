# SPDX-License-Identifier: MPL-2.0
"""The small files of a VM: metadata, tags, routes, lastexited, the receive payload, and sysinfo (docs/platform.md,
"sysinfo" and "Files of a VM").

Pure: bytes in, values out. None stands for a file that is not there. JSON is read as JavaScript reads it: `NaN` is no
JSON, a later key replaces an earlier one, keys that are whole numbers come first, and 1.0 is the integer 1."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any, Optional

from jsvalues import dates
from jsvalues.keyorder import walked
from jsvalues.numberrule import WHITE_SPACE, number, whole
from vmload.loaderror import LoadError
from vmload.notes import Note, silent
from vmload.records import Config, LastExited
from vmload.sharing import shared

_WHITE = re.compile(f"[{re.escape(WHITE_SPACE)}]")
_CORE_DUMPED_OR_SIGNAL = 0xFF
_NORMAL_SHUTDOWN = -1

_LONGEST_INTEGER = 400
# Levels. Honest metadata have three; what reads and writes JSON recurses, here and in clients: at 1,000 frames the end
# of Python's stack comes, at 1,024 levels that of ujson.
_DEEPEST = 600
# Values in one file. Parsing, comparing and writing them costs a microsecond or two each, which nothing interrupts.
MOST_VALUES = 30_000

# Files of more bytes are parsed one at a time: each keeps the interpreter for milliseconds at a stretch, and vminfod's
# loop would wait for its turn among all of them.
_LARGE = 64 << 10
_one_large = threading.Lock()


class _TooDeep(ValueError):
    """JSON, but nested so deeply that nobody could read what is made of it."""


def metadata(data: Optional[bytes], note: Note = silent) -> Config:
    """`customer_metadata` and `internal_metadata` of a metadata.json, each `{}` if it is not in there
    (docs/platform.md, "JSON files")."""
    content = json_or_empty(data, note)
    if not isinstance(content, dict):
        content = {}
    return {
        "customer_metadata": content.get("customer_metadata", {}),
        "internal_metadata": content.get("internal_metadata", {}),
    }


def json_or_empty(data: Optional[bytes], note: Note = silent) -> Any:
    """The JSON value in `data`; `{}` if there is no file, no valid JSON in it, or more levels than can be served, which
    is noted (docs/platform.md, "JSON files").

    Raises LoadError (code EFBIG) if it holds more than MOST_VALUES values: a guest can write such a file."""
    if data is None:
        return {}
    with _one_large if len(data) > _LARGE else nullcontext():
        if _has_too_many_values(data):
            raise LoadError(f"a config file holds more than {MOST_VALUES} values", "EFBIG")
        try:
            return parse_json(data)
        except _TooDeep as error:
            note("warn", f"counts as empty: {error}")
            return {}
        except ValueError:
            return {}


def _has_too_many_values(data: bytes) -> bool:
    """Whether `data` holds more than MOST_VALUES values, as commas and brackets outside of strings show. No step holds
    the interpreter for long or needs more memory than `data`, which a guest wrote: a pattern would need much of both.
    """
    if _commas_and_brackets(data, 0, len(data)) <= MOST_VALUES:
        return False
    text = data.replace(rb"\\", b"").replace(rb"\"", b"")  # now each quote begins or ends a string
    found = strings = end = 0
    while True:
        start = text.find(b'"', end)
        found += _commas_and_brackets(text, end, len(text) if start < 0 else start)
        strings += 1
        if found > MOST_VALUES or strings > 2 * MOST_VALUES:  # a key and a value each
            return True
        end = text.find(b'"', start + 1) + 1
        if start < 0 or not end:
            return False


def _commas_and_brackets(data: bytes, start: int, end: int) -> int:
    """As many as there are values: each is followed by one, but for the outermost, and an empty list counts twice."""
    return sum(data.count(sign, start, end) for sign in (b",", b"]", b"}"))


def receive_payload(data: Optional[bytes]) -> Optional[dict[str, Any]]:
    """The payload of a receive under way, None without a file (docs/platform.md, "The payload of a receive"). Raises
    LoadError if it is no JSON."""
    if data is None:
        return None
    try:
        content = parse_json(data)
    except ValueError as error:
        raise LoadError(f"the receive payload is no JSON: {error}") from error
    return content if isinstance(content, dict) else {}


def sysinfo(data: bytes) -> dict[str, Any]:
    """The object in the file of sysinfo (docs/platform.md, "sysinfo"). Raises LoadError if there is none."""
    try:
        content = parse_json(data)
    except ValueError as error:
        raise LoadError(f"sysinfo is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise LoadError("sysinfo is no JSON object")
    return content


def last_exited(data: Optional[bytes]) -> Optional[LastExited]:
    """How the zone's init ended, None if `data` does not say so in the platform's form (docs/platform.md,
    "lastexited")."""
    if data is None:
        return None
    parts = _WHITE.split(data.decode("utf-8", "replace").strip(WHITE_SPACE))
    if len(parts) != 2:
        return None
    seconds = number(parts[0])
    timestamp = dates.iso_of_seconds(seconds)
    return None if timestamp is None else LastExited(_exit_status(number(parts[1])), timestamp)


def last_modified(mtimes: Iterable[int]) -> Optional[str]:
    """The newest of the modification times, whole seconds since the epoch; None without any (docs/platform.md,
    "Modification times")."""
    newest = max(mtimes, default=None)
    return None if newest is None else dates.iso(newest * 1000)


def parse_json(data: bytes) -> Any:
    """The JSON value in `data`. Raises ValueError if there is none."""
    try:
        value = _DECODER.decode(data.decode("utf-8", "replace"))
    except RecursionError as error:
        raise _TooDeep(f"nested more than {_DEEPEST} levels deep") from error
    if _is_deeper(value, _DEEPEST):
        raise _TooDeep(f"nested more than {_DEEPEST} levels deep")
    return value


def _is_deeper(value: Any, most: int) -> bool:
    """Whether `value` has more than `most` levels of arrays and objects."""
    level = [value]
    for _ in range(most):
        level = [
            child
            for container in level
            if isinstance(container, (dict, list))
            for child in (container.values() if isinstance(container, dict) else container)
        ]
        if not level:
            return False
    return any(isinstance(value, (dict, list)) for value in level)


def _exit_status(status: Any) -> int:
    """A wait status, as a 32-bit integer, to what is shown: the core-dump bit stays in, the shift masks nothing."""
    if status is None:
        return 0
    bits = int(status) & 0xFFFFFFFF
    signed = bits - (1 << 32) if bits & 0x80000000 else bits
    if signed == _NORMAL_SHUTDOWN:
        return 0
    killed = signed & _CORE_DUMPED_OR_SIGNAL
    return -killed if killed else signed >> 8


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = {shared(key): value for key, value in pairs}
    keys = walked(content)
    return content if keys is content else {key: content[key] for key in keys}


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _integer(text: str) -> Any:
    return int(text) if len(text) <= _LONGEST_INTEGER else whole(float(text))


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_float=lambda text: whole(float(text)),
    parse_int=_integer,
    parse_constant=_no_constant,
)
