# SPDX-License-Identifier: MPL-2.0
"""What a changed VM costs before it is served: its JSON, how it differs from before, and the JSON of that. Pure.

Always: a large VM is prepared in slices, in a thread (jsonslices.py); what comes out is the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from vminfod.diff import Change, coarser, diff
from vminfod.serving import jsonslices, jsontext

# The identifier of the objects in these lists.
DIFF_MAP = {"disks": "path", "nics": "mac"}

# An event has the VM once; its changes may cost as much as the old and the new object together. Past it, what changed
# in many places changes as one, which is never more than that.
CHANGES_MOST = 2
# Bytes of changes that are listed one by one all the same: a hundred new tags cost more than twice a small object, and
# clients wait for the path of one of them.
CHANGES_LISTED = 32 << 10


@dataclass(frozen=True)
class Prepared:
    """`body`: the VM as JSON. `escaped`: the same within a JSON string; None: when somebody asks. `changes`: against
    what was served, `changes_text` the same as JSON. `changed`: the properties that differ, if only in the order of a
    list, which a diff does not see."""

    body: bytes
    escaped: Optional[bytes]
    changes: list[Change]
    changes_text: bytes
    changed: frozenset[str]


def is_large(vm: dict[str, Any], old_size: int) -> bool:
    """Whether `vm`, or what was served of it before in `old_size` bytes, is to be prepared in slices."""
    return old_size > jsonslices.HEAVY or jsonslices.is_heavy(vm)


def prepare(old: Optional[dict[str, Any]], old_size: int, vm: dict[str, Any], *, in_slices: bool) -> Optional[Prepared]:
    """What is served and said of `vm`, which was served as `old`, in `old_size` bytes; None: not yet. None if nothing
    differs."""
    encode = jsonslices.encode if in_slices else jsontext.encode
    changes: list[Change] = []
    if old is not None:
        changes = diff(old, vm, DIFF_MAP)
        if not changes and old == vm:
            return None
    body = encode(vm)
    text = encode(changes)
    if old is not None and len(text) > max(CHANGES_LISTED, CHANGES_MOST * max(old_size, len(body))):
        fewer = coarser(changes, old, vm)
        if len(fewer) < len(changes):
            changes, text = fewer, encode(fewer)
    changed = {str(change["path"][0]) for change in changes} | _differing(old or {}, vm)
    return Prepared(body, jsonslices.escaped(body) if in_slices else None, changes, text, frozenset(changed))


def _differing(old: dict[str, Any], new: dict[str, Any]) -> set[str]:
    return {key for key in new if old.get(key) != new[key]}
