# SPDX-License-Identifier: MPL-2.0
"""What is to be read of one zone, and who waits for it. No I/O.

Always: a question is answered by a reading that began after it was asked, or goes on waiting."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Optional

from gevent.event import AsyncResult

from vminfod.serving.cause import Cause
from vmload import parts as part
from vmload.loaderror import CommandFailed, LoadError, XmlGone


class Question:
    """Somebody waits for the zone to be read. `answer`: None once it is applied, or why it cannot be read."""

    def __init__(self) -> None:
        self.answer: AsyncResult = AsyncResult()
        self._had_failure = False

    def hear(self, error: Optional[LoadError]) -> bool:
        """How a reading ended that began after the question; whether that is the answer. A command that failed once is
        given one more chance, and without XML the zone is not served, which is all that is asked."""
        if isinstance(error, CommandFailed) and not self._had_failure:
            self._had_failure = True
            return False
        self.answer.set(None if isinstance(error, XmlGone) else error)
        return True


@dataclass
class Stale:
    """What is to be read of one zone. `cause` is the first that came, or the newest word of a transaction that ends:
    what it publishes is its own. `questions`: who waits for it. Of a reading under way: whether something of the zone
    was served `ahead` of it, as zfs takes long, and whether it `is_taken`."""

    parts: set[str] = field(default_factory=set)
    datasets: set[str] = field(default_factory=set)
    cause: Optional[Cause] = None
    questions: list[Question] = field(default_factory=list)
    ahead: bool = False
    is_taken: bool = False

    def add(self, parts: Collection[str], datasets: Collection[str], cause: Optional[Cause]) -> None:
        self.parts.update(parts)
        self.datasets.update(datasets)
        if self.cause is None or (cause is not None and cause.ends_transaction):
            self.cause = cause

    def add_all(self, other: Stale) -> None:
        """What is in `other` as well, which came later."""
        self.add(other.parts, other.datasets, other.cause)
        self.questions += other.questions

    def answer(self, error: Optional[LoadError]) -> None:
        self.questions = [question for question in self.questions if not question.hear(error)]

    @property
    def ends_transaction(self) -> bool:
        """Whether it is read for the end of a transaction, which is seen as a whole."""
        return self.cause is not None and self.cause.ends_transaction

    @property
    def needs_zfs(self) -> bool:
        """Whether zfs is asked for it."""
        return bool(self.datasets) or part.DATASETS in self.parts

    def __bool__(self) -> bool:
        return bool(self.parts or self.datasets)
