# SPDX-License-Identifier: MPL-2.0
"""Paths that the file watcher must not be asked for, because it ends or hangs when it is (bug C11).

Always: what is in here stays until the owner lifts it, however often the child is started anew; each path is due for
        another try, alone, after a wait that doubles, up to MOST_WAIT; those that have been hastened are due at once,
        together: a pool that is well again can have hundreds.
Not here: how a path is found out, and how it is tried (trial.py)."""

from dataclasses import dataclass
from typing import TypedDict

from vminfod import times
from vminfod.backoff import Backoff

FIRST_WAIT, MOST_WAIT = 5.0, 300.0  # seconds. Each try can cost a core file: not too often


class QuarantinedPath(TypedDict):
    """As /status shows it: since when, how many tries it has failed, and how the child ended or hung."""

    path: str
    since: str
    ago: str
    tries: int
    reason: str


@dataclass
class _Entry:
    since: int  # monotonic nanoseconds, as all moments here
    stay: float
    backoff: Backoff
    reason: str
    tries: int = 0
    due: int = 0
    is_hastened: bool = False  # since it was tried last


class Quarantine:
    """See the head of the module."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def __contains__(self, path: str) -> bool:
        return path in self._entries

    def add(self, path: str, reason: str, stay: float, now: int) -> None:
        """The child ended or hung, for `reason`, within `stay` seconds of being asked for `path`; it may be in here
        already."""
        entry = self._entries.get(path)
        if entry is None:
            entry = self._entries[path] = _Entry(now, stay, Backoff(FIRST_WAIT, MOST_WAIT), reason)
        entry.tries += 1
        entry.reason = reason
        self.postpone(path, now)

    def postpone(self, path: str, now: int) -> None:
        """The next try is due after the next wait; at once, if it was hastened while it was tried."""
        entry = self._entries[path]
        entry.due = now + int(entry.backoff.next() * 1e9)

    def hasten(self, path: str) -> None:
        """The path is wanted anew, so that it may be another file now: try it at once."""
        if path in self._entries:
            self._entries[path].is_hastened = True

    def hasten_around(self, place: str) -> None:
        """A file or folder that did not answer does again: try it at once, with what is below and above it."""
        for path, entry in self._entries.items():
            entry.is_hastened |= _is_in(path, place) or _is_in(place, path)

    def stay(self, path: str) -> float:
        """For how many seconds the child has to live on before the path counts as harmless."""
        return self._entries[path].stay

    def lift(self, path: str) -> None:
        del self._entries[path]

    def take_due(self, now: int) -> list[str]:
        """The paths that are to be tried now, together; those are hastened no more."""
        hastened = [path for path, entry in self._entries.items() if entry.is_hastened]
        for path in hastened:
            self._entries[path].is_hastened = False
        first = min(self._entries.items(), key=lambda one: one[1].due, default=None)
        return hastened or ([] if first is None or first[1].due > now else [first[0]])

    def shown(self, path: str, now: int) -> QuarantinedPath:
        entry = self._entries[path]
        return {
            "path": path,
            "since": times.stamp(entry.since),
            "ago": times.duration(now - entry.since),
            "tries": entry.tries,
            "reason": entry.reason,
        }


def _is_in(path: str, place: str) -> bool:
    return path == place or path.startswith(place.rstrip("/") + "/")
