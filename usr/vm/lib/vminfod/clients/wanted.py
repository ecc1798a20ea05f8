# SPDX-License-Identifier: MPL-2.0
"""What a watch waits for, as plain values and without any I/O.

The subset rule: all that is wanted is in what was seen, recursively; more in the seen is fine. Elements of arrays
are compared whole, wherever they stand. Equality is that of the diff: true is not 1,
null is not absent, 1 is 1.0, and inside an element the order of keys counts."""

from __future__ import annotations

from jsvalues.keyorder import walked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from vminfod.clients.shapes import Event


def is_subset(wanted: Any, seen: Any) -> bool:
    """Is everything in `wanted` in `seen`?"""
    if isinstance(wanted, list) and isinstance(seen, list):
        return all(any(is_same(element, other) for other in seen) for element in wanted)
    if isinstance(wanted, (dict, list)) and isinstance(seen, (dict, list)):
        wanted, seen = _by_key(wanted), _by_key(seen)
        return all(key in seen and is_subset(value, seen[key]) for key, value in wanted.items())
    return is_same(wanted, seen)


def is_same(a: Any, b: Any) -> bool:
    """Are two JSON values equal, as array elements are compared?"""
    if isinstance(a, dict) and isinstance(b, dict):
        return list(walked(a)) == list(walked(b)) and all(is_same(value, b[key]) for key, value in a.items())
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(is_same, a, b))
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    return bool(a == b)


class WantedEvent:
    """The first event of which `wanted` is a subset."""

    operation = "watchForEvent"

    def __init__(self, wanted: dict[str, Any]) -> None:
        """Raises TypeError if `wanted` is no object."""
        self._wanted = _checked_object(wanted)

    def met_by(self, event: Event) -> bool:
        """Take one event; True when nothing is left to wait for."""
        return is_subset(self._wanted, event)


class WantedChanges:
    """All of a list of changes, over any number of events that match `wanted`."""

    operation = "watchForChanges"

    def __init__(self, wanted: dict[str, Any], changes: list[Any]) -> None:
        """Each of `changes` is a change or a list of alternatives. Raises TypeError or ValueError for others."""
        self._wanted = _checked_object(wanted)
        if not isinstance(changes, list):
            raise TypeError(f"changes must be a list, not {type(changes).__name__}")
        self._open = [_checked_alternatives(entry) for entry in changes]

    @property
    def nothing_wanted(self) -> bool:
        return not self._open

    def met_by(self, event: Event) -> bool:
        """Take one event; True when nothing is left to wait for."""
        changes = event.get("changes")
        if isinstance(changes, list) and is_subset(self._wanted, event):
            for seen in changes:
                self._close_one(seen)
        return not self._open

    def _close_one(self, seen: Any) -> None:
        """Close the first open entry that `seen` satisfies: one change is never used twice."""
        for at, alternatives in enumerate(self._open):
            if any(_change_matches(wanted, seen) for wanted in alternatives):
                del self._open[at]
                return


def _change_matches(wanted: dict[str, Any], seen: Any) -> bool:
    path = seen.get("path") if isinstance(seen, dict) else None
    if not isinstance(path, list) or len(path) != len(wanted["path"]):
        return False
    if not all(want is None or is_same(want, have) for want, have in zip(wanted["path"], path)):
        return False
    return all(key in seen and is_subset(value, seen[key]) for key, value in wanted.items() if key != "path")


def _checked_alternatives(entry: Any) -> list[dict[str, Any]]:
    alternatives = entry if isinstance(entry, list) else [entry]
    if not alternatives:
        raise ValueError("an entry of changes must not be an empty list of alternatives")
    for change in alternatives:
        if not isinstance(change, dict) or not isinstance(change.get("path"), list):
            raise TypeError(f"a wanted change must be an object with a path that is a list: {change!r}")
        if len(change) < 2:
            raise ValueError(f"a wanted change must have more than a path: {change!r}")
    return list(alternatives)


def _checked_object(wanted: Any) -> dict[str, Any]:
    if not isinstance(wanted, dict):
        raise TypeError(f"the wanted event must be an object, not {type(wanted).__name__}")
    return wanted


def _by_key(container: Any) -> dict[str, Any]:
    """An array beside an object counts as an object with the keys "0", "1", ..."""
    return container if isinstance(container, dict) else {str(at): value for at, value in enumerate(container)}
