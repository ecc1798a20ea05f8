# SPDX-License-Identifier: MPL-2.0
"""The order in which JavaScript walks an object's keys: those like array indexes first, by number, then the others in
the order in which they were added."""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

_INDEX = re.compile(r"0|[1-9][0-9]{0,9}")
_INDEX_END = 2**32 - 1  # the first number that is no array index


def is_array_index(key: str) -> bool:
    """Whether `key` is walked by number: no leading zero, no sign, below 4294967295."""
    return _INDEX.fullmatch(key) is not None and int(key) < _INDEX_END


def walked(keys: Collection[str]) -> Collection[str]:
    """`keys`, in the order in which they were added, as they are walked; `keys` itself where the two agree for want of
    an index."""
    indexes = [key for key in keys if key[:1] <= "9" and is_array_index(key)]
    if not indexes:
        return keys
    indexes.sort(key=int)
    numeric = set(indexes)
    return indexes + [key for key in keys if key not in numeric]
