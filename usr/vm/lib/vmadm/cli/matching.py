# SPDX-License-Identifier: MPL-2.0
"""vmadm's `key=value` words as filters: which keys it allows, and MAC addresses in any spelling.

What a filter matches stands in vminfod.clients.vmfilter."""

from __future__ import annotations

from vmadm.cli.fields import DERIVED, is_filter_key, with_derived
from vmadm.errors import VmadmError
from vmadm.payload.macs import normalised_mac
from vminfod.clients.failures import BadPattern
from vminfod.clients.vmfilter import PATTERN_MARK, Filter, as_text, filters_of, matching, question

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, Optional


class BadFilter(VmadmError):
    """A key by which VMs cannot be found, or a value that is no good pattern."""


def operands(words: Iterable[str]) -> dict[str, str]:
    """`k=v` words as pairs: cut at the first `=`, the last of equal keys wins, no `=` means an empty value."""
    return {key: value for key, _, value in [word.partition("=") for word in words]}


def checked_filters(wanted: Mapping[str, object], *, kind: str) -> list[Filter]:
    """The filters that `wanted` asks for. `kind`, "filter" or "lookup", names them in errors. Raises BadFilter."""
    for key in wanted:
        if not is_filter_key(key):
            raise BadFilter(f'Invalid {kind} key: "{key}"')
    try:
        return filters_of({key: _normalised(key, value) for key, value in wanted.items()})
    except BadPattern as error:
        raise BadFilter(str(error)) from error


def found(vms: Iterable[dict[str, Any]], filters: list[Filter]) -> list[dict[str, Any]]:
    """The VMs that meet all of `filters`, with `type` and the `ram` that an operator means.

    Raises BadFilter for a pattern that takes too long."""
    try:
        return matching([with_derived(vm) for vm in vms], filters)
    except BadPattern as error:
        raise BadFilter(str(error)) from error


def question_for(wanted: Mapping[str, object], columns: Optional[Iterable[str]]) -> str:
    """The query with which vminfod leaves out most of what found() and the `columns` (None: all properties) have no use
    for."""
    asked = {key: as_text(_normalised(key, value)) for key, value in wanted.items() if key not in DERIVED}
    if columns is None:
        return question(asked, None)
    names = [name.partition(".")[0] for name in (*columns, *wanted)]
    return question(asked, [source for name in names for source in DERIVED.get(name, (name,))])


def _normalised(key: str, value: object) -> object:
    if isinstance(value, str) and key.startswith("nics.") and key.endswith(".mac") and value[:1] != PATTERN_MARK:
        return normalised_mac(value)
    return value
