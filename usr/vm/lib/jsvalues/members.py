# SPDX-License-Identifier: MPL-2.0
"""What a name such as `ram`, `tags.role`, `nics.0.ip` or `nics.*.ip` finds in an object, and a value as JavaScript
turns it into text.

Always: a null and an absent value are the same, MISSING (None), and are not found; nothing here changes what it is
given."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

MISSING = None
LONGEST_INDEX = 9  # digits: no array is longer


def values(vm: Mapping[str, Any], field: str) -> list[Any]:
    """Every value that `field` names in `vm`, without missing ones: at most one unless an index is `*`."""
    top, *rest = field.split(".")
    found = [vm.get(top)]
    for part in rest:
        found = [value for container in found for value in _members(container, part)]
    return [value for value in found if value is not MISSING]


def as_text(value: Any) -> str:
    """A value as JavaScript turns it into text, which is what scripts have matched against for years."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    if isinstance(value, (list, tuple)):
        return ",".join(["" if element is None else as_text(element) for element in value])
    if isinstance(value, dict):
        return "[object Object]"
    return repr(value)


def is_index(text: str) -> bool:
    """May `text` name an array's element?"""
    return text.isascii() and text.isdigit()


def _members(container: Any, part: str) -> list[Any]:
    if isinstance(container, dict):
        return [container[part]] if part in container else []
    if isinstance(container, list):
        if part == "*":
            return container
        if is_index(part) and len(part) <= LONGEST_INDEX and int(part) < len(container):
            return [container[int(part)]]
    return []
