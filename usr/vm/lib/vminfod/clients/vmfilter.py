# SPDX-License-Identifier: MPL-2.0
"""Filters on VM objects, such as `state=running`, `nics.*.ip=10.0.0.2` and `alias=~^web`.

A key is a top-level property (`ram`), a member of a map (`tags.role`), or a property of an array's element
(`nics.0.ip`, or `nics.*.ip` for any element). A value is compared as text, case and all; after `~` it is a
regular expression of JavaScript that ignores case and may match anywhere.
Always: all filters must hold; a null and an absent value are the same, MISSING (None), and meet none; no function here
        changes a VM object it was given. What is wrong with a pattern is said when the filter is made."""

from __future__ import annotations

from vminfod.clients.failures import BadPattern

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

MISSING = None
PATTERN_MARK = "~"
LONGEST_INDEX = 9  # digits: no array is longer


class Filter:
    """One condition. Raises BadPattern when made."""

    def __init__(self, key: str, wanted: str) -> None:
        self._key = key
        self._wanted = wanted
        self._is_pattern = wanted.startswith(PATTERN_MARK)
        if self._is_pattern:
            self._matches([])

    def kept(self, vms: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Those of `vms` that meet the condition, in their order. Raises BadPattern if a pattern takes too long."""
        texts = [[as_text(value) for value in values(vm, self._key)] for vm in vms]
        if not self._is_pattern:
            return [vm for vm, found in zip(vms, texts) if self._wanted in found]
        distinct = list({text: None for found in texts for text in found})
        met = {text for text, matches in zip(distinct, self._matches(distinct)) if matches}
        return [vm for vm, found in zip(vms, texts) if not met.isdisjoint(found)]

    def _matches(self, texts: list[str]) -> list[bool]:
        from vminfod.clients.patterntime import matches

        pattern = self._wanted[len(PATTERN_MARK) :]
        try:
            return matches(pattern, texts)
        except BadPattern as error:
            raise BadPattern(f'Invalid regular expression "{pattern}": {error}') from error


def filters_of(wanted: Mapping[str, object]) -> list[Filter]:
    """Conditions from key -> value; what is no text stands for its text (True for `true`). Raises BadPattern."""
    return [Filter(key, as_text(value)) for key, value in wanted.items()]


def query_pairs(query: object) -> dict[str, Any]:
    """A query as given to VminfodClient.vms(), key -> value, without values that are None; of equal keys in a text the
    last one wins. Raises TypeError."""
    if isinstance(query, str):
        from urllib.parse import parse_qsl

        return dict(parse_qsl(query.lstrip("?"), keep_blank_values=True))
    if not isinstance(query, dict) and not hasattr(query, "items"):
        raise TypeError(f"query must be text or a mapping, not {type(query).__name__}")
    return {key: value for key, value in query.items() if value is not None}


def matching(vms: Iterable[dict[str, Any]], filters: list[Filter]) -> list[dict[str, Any]]:
    """The VMs that meet all of `filters`, in the order given. Raises BadPattern for a pattern that takes too long."""
    kept = list(vms)
    for each in filters:
        kept = each.kept(kept)
    return kept


def trimmed(vms: Iterable[dict[str, Any]], fields: Iterable[str]) -> list[dict[str, Any]]:
    """The VMs with only these top-level properties, in each VM's own order; VMs left empty by that are dropped."""
    names = frozenset(fields)
    return [kept for kept in [{key: value for key, value in vm.items() if key in names} for vm in vms] if kept]


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
