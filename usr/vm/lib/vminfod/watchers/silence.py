# SPDX-License-Identifier: MPL-2.0
"""Which event source is silent while the others speak: it may have lost its subscription, and looks healthy.

Silence alone proves nothing: many a node has no zone event for days. So a source is suspected only if the others had
something to say meanwhile, on SPOKEN occasions, and the longer it is silent the more rarely: after `first` seconds,
then after twice as long each time, up to MOST_WAIT.

Always: pure; a source that says something is above suspicion, and starts anew.
Not here: what is done about a suspect (docs/architecture.md, "Why not otherwise")."""

from collections.abc import Iterable
from dataclasses import dataclass

FIRST_WAIT, MOST_WAIT = 60.0, 3600.0  # seconds
SPOKEN = 2  # moments apart by a second or more: one burst of all sources can reach us in any order
_APART = 1_000_000_000  # nanoseconds


@dataclass
class _Source:
    heard: int  # monotonic nanoseconds, as all moments here: when it spoke, or was suspected last
    wait: float
    spoken: int = 0  # moments since then in which others spoke
    spoken_at: int = 0


class Silence:
    """The sources `names`, followed from `now` on."""

    def __init__(self, names: Iterable[str], now: int, first: float = FIRST_WAIT) -> None:
        self._first = first
        self._sources = {name: _Source(now, first) for name in names}

    def heard(self, name: str, now: int) -> list[str]:
        """The source `name`, followed or not, said something: those of the others that are suspect now.

        What came at the same moment as what was heard of it last says nothing new."""
        if name in self._sources:
            if self._sources[name].heard == now:
                return []  # one of many lines that came at once
            self._sources[name] = _Source(now, self._first)
        suspects = []
        for other, source in self._sources.items():
            if other == name:
                continue
            if now - source.spoken_at >= _APART:
                source.spoken, source.spoken_at = source.spoken + 1, now
            if source.spoken >= SPOKEN and now - source.heard >= source.wait * 1e9:
                self._sources[other] = _Source(now, min(source.wait * 2, MOST_WAIT))
                suspects.append(other)
        return suspects
