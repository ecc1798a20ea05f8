# SPDX-License-Identifier: MPL-2.0
"""What changed between two JSON values, as the list of changes that listeners get.

Objects are compared key by key; the elements of an array as a set, each one whole, so that positions and numbers of
copies do not count. `map` names arrays whose elements have an identifier ({"nics": "mac"}): there an element that is
gone and one that is new, with the same identifier, are one element that was modified.

Always: the changes come in the order of the keys of the old value, then the keys that only the new one has; keys that
        look like array indexes go first, by number.
        1 and 1.0 are equal; true and 1, null and absent are not, wherever they stand. Python's `==` says otherwise for
        the former, so that it is never the last word here.
        The work is linear in the size of both values, also for arrays of thousands of elements;
        a member of a top-level object that differs in very many places, or hundreds of levels deep, is one change of
        the whole member: a guest can
        write metadata of tens of thousands of keys, and a change for each would cost many times the object itself.
Not here: anything about VMs; the map is the caller's. The values of a change are the caller's own objects, not
copies."""

import json
import marshal
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Optional, TypedDict, Union

from jsvalues.keyorder import walked

Object = dict[str, Any]
Array = list[Any]
Path = tuple[Optional[str], ...]  # None stands for "some element of an array"


class Change(TypedDict, total=False):
    """One difference; the first three members are always there. `action`: added, removed or changed, which says which
    of the values there are. `ident`: which element of a mapped array, where the change is inside one."""

    prettyPath: str
    path: list[Optional[str]]
    action: str
    oldValue: Any
    newValue: Any
    ident: Any


# Of one top-level member. Past them it changes as one. What a person or an agent changes at once is a few dozen.
MOST_CHANGES = 1000
MOST_CONTAINERS = 5000  # objects and arrays that are looked into, some microseconds each

# Elements of an array past which they are equal only if they are written alike (not 1 for 1.0): comparing values as
# such costs several microseconds for each element, and what is compared in earnest comes from one and the same parser.
LONG = 2000

_CONTAINERS = (dict, list)
_ABSENT: Any = object()
_NO_IDENT: Any = object()

FEW = 16  # elements. Up to here a search for each is cheaper than the texts of all elements of the other side

_json_text = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


def diff(old: Any, new: Any, map: Optional[Mapping[str, str]] = None) -> list[Change]:
    """The changes that turn `old` into `new`; an empty list if there are none.

    Both must be objects or both arrays, unless they are equal; anything else is a TypeError. `map` is
    {top-level key: name of the identifier} and applies to arrays that stand directly under these keys on both sides.
    A member of two objects with more than MOST_CHANGES changes is one change: `changed`, its path the key alone."""
    changes: list[Change] = []
    if isinstance(old, dict) and isinstance(new, dict):
        _members(old, new, map or {}, changes)
    elif isinstance(old, list) and isinstance(new, list):
        _arrays(old, new, (), _NO_IDENT, None, _Found(changes, bounded=False))
    elif isinstance(old, _CONTAINERS) or isinstance(new, _CONTAINERS) or not _equal_scalars(old, new):
        raise TypeError(f"need two objects or two arrays, not {type(old).__name__} and {type(new).__name__}")
    return changes


def by_member(changes: Iterable[Change]) -> dict[str, list[Change]]:
    """`changes` of two objects, in their order, by the member of the top level in which each is."""
    members: dict[str, list[Change]] = {}
    for change in changes:
        members.setdefault(str(change["path"][0]), []).append(change)
    return members


def as_one(key: str, old: Any, new: Any) -> Change:
    """The change of a whole member of the top level, from `old` to `new`."""
    return _change((key,), "changed", _NO_IDENT, old, new)


def pretty_path(path: Iterable[Optional[str]]) -> str:
    """The path for people: 'disks.*.size', 'tags[a.b]'. Ambiguous (a key may be '*'): programs use the path itself."""
    text = ""
    for element in path:
        if element is None:
            element = "*"
        elif "." in element or "[" in element or "]" in element:
            text += "[" + element.replace("[", "\\[").replace("]", "\\]") + "]"
            continue
        text += "." + element if text else element
    return text


def _change(path: Path, action: str, ident: Any, old: Any = _ABSENT, new: Any = _ABSENT) -> Change:
    change: Change = {"prettyPath": pretty_path(path), "path": list(path), "action": action}
    if old is not _ABSENT:
        change["oldValue"] = old
    if new is not _ABSENT:
        change["newValue"] = new
    if ident is not _NO_IDENT:
        change["ident"] = ident
    return change


class _TooMany(Exception):
    """A member differs in more places than are listed one by one."""


class _Found:
    """The changes that are found, and how far the search in one member has gone. Raises _TooMany past the bounds."""

    __slots__ = ("changes", "_most", "_containers")

    def __init__(self, changes: list[Change], *, bounded: bool) -> None:
        self.changes = changes
        self._most = len(changes) + MOST_CHANGES if bounded else sys.maxsize
        self._containers = MOST_CONTAINERS if bounded else sys.maxsize

    def add(self, *changes: Change) -> None:
        self.expect(len(changes))
        self.changes += changes

    def expect(self, count: int) -> None:
        """So many changes are about to come."""
        if len(self.changes) + count > self._most:
            raise _TooMany

    def enter(self) -> None:
        """An object or array is about to be looked into."""
        self._containers -= 1
        if self._containers < 0:
            raise _TooMany


# --- objects ---


def _members(old: Object, new: Object, idents: Mapping[str, str], out: list[Change]) -> None:
    """Appends the changes between two objects of the top level."""
    for key in walked(old):
        before, after = old[key], new.get(key, _ABSENT)
        if before is after:
            continue
        start = len(out)
        try:
            _member(before, after, (key,), _NO_IDENT, idents.get(key), _Found(out, bounded=True))
        except (_TooMany, RecursionError):
            del out[start:]
            out.append(as_one(key, before, after))
    _added(old, new, (), _NO_IDENT, _Found(out, bounded=False))


def _objects(old: Object, new: Object, path: Path, ident: Any, found: _Found) -> None:
    """Adds the changes between two objects below the top level."""
    found.enter()
    for key in walked(old):
        before, after = old[key], new.get(key, _ABSENT)
        if before is not after:
            _member(before, after, (*path, key), ident, None, found)
    _added(old, new, path, ident, found)


def _member(before: Any, after: Any, path: Path, ident: Any, ident_name: Optional[str], found: _Found) -> None:
    """Adds the changes of one member that was there before. `ident_name` pairs the elements of two arrays."""
    if before is after:
        return
    if after is _ABSENT:
        found.add(_change(path, "removed", ident, old=before))
    elif not (isinstance(before, _CONTAINERS) and isinstance(after, _CONTAINERS)):
        if not _equal_scalars(before, after):
            found.add(_change(path, "changed", ident, before, after))
    elif isinstance(before, list) and isinstance(after, list):
        _arrays(before, after, path, ident, ident_name, found)
    else:
        _objects(_as_object(before), _as_object(after), path, ident, found)


def _added(old: Object, new: Object, path: Path, ident: Any, found: _Found) -> None:
    """Adds the members that only `new` has."""
    names = new.keys() - old.keys()
    if names:
        found.expect(len(names))
        found.add(*[_change((*path, key), "added", ident, new=new[key]) for key in walked(new) if key in names])


def _as_object(container: Union[Object, Array]) -> Object:
    """An array in the place of an object has its positions as keys."""
    if isinstance(container, dict):
        return container
    return {str(position): element for position, element in enumerate(container)}


def _equal_scalars(one: Any, other: Any) -> bool:
    """False also when just one of the two is an object or array."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other)


# --- arrays ---


def _arrays(old: Array, new: Array, path: Path, ident: Any, ident_name: Optional[str], found: _Found) -> None:
    """Adds the changes between two arrays."""
    found.enter()
    old_bytes = [_bytes(element) for element in old]
    new_bytes = [_bytes(element) for element in new]
    if old_bytes == new_bytes:
        return
    removed = _missing(old, old_bytes, new, new_bytes)
    added = _missing(new, new_bytes, old, old_bytes)
    path = (*path, None)
    modified: list[Change] = []
    if ident_name and removed and added:
        removed, added = _pair(removed, added, ident_name, path, modified)
    found.expect(len(removed) + len(modified) + len(added))
    found.add(*[_change(path, "removed", ident, old=element) for element in removed])
    found.add(*modified)
    found.add(*[_change(path, "added", ident, new=element) for element in added])


def _missing(elements: Array, bytes_of: list[bytes], others: Array, bytes_of_others: list[bytes]) -> Array:
    """The elements that equal none of `others`, in order and with their copies.

    Marshalled bytes are the cheap test: the same bytes are the same value, key order included. Different bytes can
    still be equal values (1 and 1.0; index-like keys in another order), so what is left is looked at again."""
    known = set(bytes_of_others)
    rest = [element for element, text in zip(elements, bytes_of, strict=True) if text not in known]
    if len(elements) + len(others) > LONG:
        return rest
    if len(rest) <= FEW and not any(element in others for element in rest):
        return rest  # unequal even to Python, which calls more things equal than we do
    texts = {_text(other) for other in others}
    return [element for element in rest if _text(element) not in texts]


def _bytes(element: Any) -> bytes:
    # Version 2 of the format: later ones write references, and then equal values can differ in bytes.
    return marshal.dumps(element, 2)


def _text(element: Any) -> str:
    """Compact JSON in which equal elements have the same text and different ones do not."""
    return _json_text(_canonical(element))


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _canonical(value[key]) for key in walked(value)}
    if isinstance(value, list):
        return [_canonical(element) for element in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _pair(removed: Array, added: Array, name: str, path: Path, modified: list[Change]) -> tuple[Array, Array]:
    """Takes out of both lists the elements that are one and the same by the identifier `name`, and appends what changed
    in each pair to `modified`. The first free one pairs. Elements that are no objects or arrays stay where they are."""
    free: dict[Any, list[int]] = {}  # identifier -> positions in `added`, the first one last
    for position in reversed(range(len(added))):
        key = _ident_key(added[position], name)
        if key is not None:
            free.setdefault(key, []).append(position)
    alone = []
    taken = set()
    for element in removed:
        key = _ident_key(element, name)
        positions = free.get(key) if key is not None else None
        if not positions:
            alone.append(element)
            continue
        position = positions.pop()
        taken.add(position)
        before = _as_object(element)
        pair = _Found(modified, bounded=True)
        _objects(before, _as_object(added[position]), path, before.get(name, _NO_IDENT), pair)
    return alone, [element for position, element in enumerate(added) if position not in taken]


def _ident_key(element: Any, name: str) -> Any:
    """Something hashable that is equal for equal identifiers; None for an element that cannot be paired."""
    if not isinstance(element, _CONTAINERS):
        return None
    value = _as_object(element).get(name, _ABSENT)
    if isinstance(value, _CONTAINERS):
        return None
    return isinstance(value, bool), value
