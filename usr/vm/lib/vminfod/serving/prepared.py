# SPDX-License-Identifier: MPL-2.0
"""What a changed VM costs before it is served: its JSON, how it differs from before, and the JSON of that. Pure.

Always: a large VM is prepared in slices, in a thread (jsonslices.py); what comes out is the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Optional

from vminfod.diff import Change, as_one, by_member, diff
from vminfod.serving import jsonslices, jsontext

# The identifier of the objects in these lists.
DIFF_MAP = {"disks": "path", "nics": "mac"}

# An event may cost three times its object, of which it has one: the changes may cost as much as the old and the new one
# together, less what an event says beside both. Past that, what changed in many places of a member changes as one.
CHANGES_MOST = 2
_BESIDE = 512

Encode = Callable[[Any], bytes]


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
    if old is None:
        body = encode(vm)
        return Prepared(body, jsonslices.escaped(body) if in_slices else None, [], b"[]", frozenset(vm))
    changes = diff(old, vm, DIFF_MAP)
    if not changes and old == vm:
        return None
    body, text = encode(vm), encode(changes)
    most = CHANGES_MOST * max(old_size, len(body)) - _BESIDE
    if len(text) > most:
        changes, text = _coarser(changes, old, vm, most, encode)
    changed = {str(change["path"][0]) for change in changes} | _differing(old, vm)
    return Prepared(body, jsonslices.escaped(body) if in_slices else None, changes, text, frozenset(changed))


def _coarser(
    changes: list[Change], old: dict[str, Any], new: dict[str, Any], most: int, encode: Encode
) -> tuple[list[Change], bytes]:
    """`changes` with one change for a member that has several, the most costly first, until their JSON, which comes
    with them, has no more than `most` bytes."""
    members = by_member(changes)
    texts = {key: encode(found) for key, found in members.items()}
    for key in sorted(texts, key=lambda key: -len(texts[key])):
        if sum(map(len, texts.values())) <= most:
            break
        if len(members[key]) > 1:
            one = [as_one(key, old[key], new[key])]
            text = encode(one)
            if len(text) < len(texts[key]):
                members[key], texts[key] = one, text
    fewer = [change for found in members.values() for change in found]
    return fewer, b"[" + b",".join(text[1:-1] for text in texts.values()) + b"]"


def _differing(old: dict[str, Any], new: dict[str, Any]) -> set[str]:
    return {key for key in new if old.get(key) != new[key]}
