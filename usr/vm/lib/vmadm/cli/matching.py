# SPDX-License-Identifier: MPL-2.0
"""`key=value` words as conditions on a VM (spec/vmadm.md 1.2, "Matching").

Always: all conditions must hold; a missing value meets none. What a condition is, is decided once when the words
are read, so that 1,000 VMs are matched without looking at the words again."""

from __future__ import annotations

from vmadm.cli.fields import as_text, is_filter_key, values
from vmadm.errors import CommandFailed
from vmadm.payload.macs import normalised_mac

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    Condition = Callable[[dict[str, Any]], bool]

REGEX_MARK = "~"


class BadFilter(CommandFailed):
    """A key that cannot be matched, or a regular expression that is none."""


def operands(words: Iterable[str]) -> dict[str, str]:
    """`k=v` words as pairs: cut at the first `=`, the last of equal keys wins, no `=` means an empty value."""
    return {key: value for key, _, value in [word.partition("=") for word in words]}


def conditions(filters: dict[str, str], *, kind: str) -> list[Condition]:
    """The checks that `filters` ask for. `kind`, "filter" or "lookup", names them in errors. Raises BadFilter."""
    for key in filters:
        if not is_filter_key(key):
            raise BadFilter(f'Invalid {kind} key: "{key}"')
    return [_condition(key, wanted) for key, wanted in filters.items()]


def matching(vms: Iterable[dict[str, Any]], checks: list[Condition]) -> list[dict[str, Any]]:
    """The VMs that meet all of `checks`, in the order given."""
    return [vm for vm in vms if all(check(vm) for check in checks)]


def _condition(key: str, wanted: str) -> Condition:
    if wanted.startswith(REGEX_MARK):
        search = _regex(wanted[len(REGEX_MARK) :])
        return lambda vm: any(search(as_text(value)) for value in values(vm, key))
    if key.startswith("nics.") and key.endswith(".mac"):
        wanted = normalised_mac(wanted)
    return lambda vm: any(as_text(value) == wanted for value in values(vm, key))


def _regex(pattern: str) -> Callable[[str], object]:
    import re

    try:
        return re.compile(pattern, re.IGNORECASE).search
    except (re.error, OverflowError, RecursionError) as error:
        raise BadFilter(f'Invalid regular expression "{pattern}": {error}') from error
