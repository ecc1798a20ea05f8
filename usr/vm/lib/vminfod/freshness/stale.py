# SPDX-License-Identifier: MPL-2.0
"""What is to be read of one zone, and who waits for it. No I/O.

Always: a question is answered once each source has answered that was asked after it, or goes on waiting."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from functools import reduce
from typing import Optional

from gevent.event import AsyncResult

from vminfod.serving.cause import Cause
from vmload import parts as part
from vmload.loaderror import CommandFailed, LoadError, XmlGone
from vmload.zonesources import Source


class Question:
    """Somebody waits for all of the zone to be read. `answer`: None once it is applied, or why it cannot be read."""

    def __init__(self) -> None:
        self.answer: AsyncResult = AsyncResult()
        self._missing = set(Source)
        self._had_failure = False

    def applied(self, source: Source) -> None:
        """What this source was asked for it is served."""
        self._missing.discard(source)
        if not self._missing and not self.answer.ready():
            self.answer.set(None)

    def hear(self, error: Optional[LoadError]) -> bool:
        """How a reading ended that began after the question; whether that is the answer. A command that failed once is
        given one more chance, and without XML the zone is not served, which is all that is asked."""
        if self.answer.ready():
            return True
        if isinstance(error, CommandFailed) and not self._had_failure:
            self._had_failure = True
            return False
        self.answer.set(None if isinstance(error, XmlGone) else error)
        return True


@dataclass
class Stale:
    """What is to be read of one zone. `cause` is the first that came, or the newest word of a transaction that ends:
    what it publishes is its own. `questions`: who waits for it."""

    parts: set[str] = field(default_factory=set)
    datasets: set[str] = field(default_factory=set)
    cause: Optional[Cause] = None
    questions: list[Question] = field(default_factory=list)

    def add(self, parts: Collection[str], datasets: Collection[str], cause: Optional[Cause]) -> None:
        self.parts.update(parts)
        self.datasets.update(datasets)
        self.cause = cause if self.cause is None else leading(self.cause, cause)

    def add_all(self, other: Stale) -> None:
        """What is in `other` as well."""
        self.add(other.parts, other.datasets, other.cause)
        if other.questions:
            self.questions += [question for question in other.questions if question not in self.questions]

    def of(self, source: Source) -> Stale:
        """What of it this source is asked for."""
        datasets = set(self.datasets) if source is Source.ZFS else set()
        return Stale(self.parts & source.value, datasets, self.cause, list(self.questions))

    def take(self, source: Source) -> Stale:
        """What of it this source is asked for, and is in here no more."""
        mine = self.of(source)
        self.parts -= source.value
        self.datasets -= mine.datasets
        return mine

    def concerns(self, source: Source) -> bool:
        """Whether this source is asked for anything of it."""
        return bool(self.datasets if source is Source.ZFS else ()) or not self.parts.isdisjoint(source.value)

    def hear(self, error: Optional[LoadError], *, but: Collection[Question] = ()) -> None:
        """How its reading ended: those who wait for it, `but` these."""
        self.questions = [question for question in self.questions if question in but or not question.hear(error)]

    @property
    def ends_transaction(self) -> bool:
        """Whether it is read for the end of a transaction, which is seen as a whole."""
        return self.cause is not None and self.cause.ends_transaction

    def __bool__(self) -> bool:
        return bool(self.parts or self.datasets)


def leading(first: Optional[Cause], second: Optional[Cause]) -> Optional[Cause]:
    """Which of two causes counts: the end of the newest transaction, in whatever order they come, else the first."""
    if first is None or second is None:
        return first or second
    if not (first.ends_transaction and second.ends_transaction):
        return second if second.ends_transaction else first
    return first if (first.seen_at or 0) > (second.seen_at or 0) else second


def cause_of(wants: Iterable[Stale]) -> Optional[Cause]:
    """The one of their causes that counts."""
    return reduce(leading, (want.cause for want in wants), None)


def all_of(cause: Optional[Cause]) -> Stale:
    """All of a zone."""
    return Stale(set(part.ALL), set(), cause)
