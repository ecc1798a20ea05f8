# SPDX-License-Identifier: MPL-2.0
"""Filters on VM objects, such as `state=running`, `nics.*.ip=10.0.0.2` and `alias=~^web`.

A key is a top-level property (`ram`), a member of a map (`tags.role`), or a property of an array's element
(`nics.0.ip`, or `nics.*.ip` for any element). A value is compared as text, case and all; after `~` it is a
regular expression of JavaScript that ignores case and may match anywhere.
Always: all filters must hold; a null and an absent value are the same, MISSING (None), and meet none; no function here
        changes a VM object it was given. What is wrong with a pattern is said when the filter is made."""

from __future__ import annotations

from jsvalues.members import MISSING, as_text, is_index, values
from vminfod.clients.failures import BadPattern

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

__all__ = ["MISSING", "PATTERN_MARK", "Filter", "as_text", "filters_of", "is_index", "matching", "trimmed", "values"]

PATTERN_MARK = "~"
LONGEST_QUESTION = 4096  # characters of a query; a server takes some 8,000 for the whole line


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


def question(wanted: Mapping[str, str], fields: Iterable[str] | None) -> str:
    """What to ask /vms for: a query with its `?` that has the daemon leave out what `wanted` (key -> value, as for
    filters_of()) and `fields` have no use for. Whoever asks still has to look: a pattern is not the daemon's to try,
    and an older daemon gives all. "" asks for everything, as does a question that would be too long."""
    from vminfod.clients.httpwire import query_text

    asked = {key: value for key, value in wanted.items() if not value.startswith(PATTERN_MARK)}
    if fields is not None:
        names = dict.fromkeys([*fields, *[key.partition(".")[0] for key in wanted]])
        if not names:
            return ""
        asked["fields"] = ",".join(names)
    text = query_text(asked)
    return text if len(text) <= LONGEST_QUESTION else ""


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
