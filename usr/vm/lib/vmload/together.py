# SPDX-License-Identifier: MPL-2.0
"""Questions that wait for a slot are asked together: one command for many zones.

      ask() -> waiting -> taken by the one that leads, when it has a slot -> answered
                                     |
                                     v the command failed, or has no answer for it
                               asked again, by itself

Always: a command that answers a question began after it was asked; one that has begun takes in no more;
        who leads waits for its command, so that its own question is always in it: it must not hang of another's alone;
        equal questions that wait are one;
        what goes wrong with a command for many is nobody's answer: each question in it is asked again by itself, so
        that one zone that fails or hangs costs the others a moment, and only itself its answer;
        a question that failed by itself is not asked with others until it has succeeded: they lose that moment once;
        not more than MOST_ALONE are asked by themselves at once;
        who is stopped while it waits keeps nobody else from an answer.
For threads. Not here: what the commands are."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, Generic, TypeVar

from vmload.loaderror import LoadError, ZoneGone
from vmload.slots import Slots

Q = TypeVar("Q", bound=Hashable)
A = TypeVar("A")

InThread = Callable[[Callable[[], object]], object]  # runs a step that blocks to its end
Wait = Callable[[Future[Any]], Any]  # waits for what another thread will say

# Questions that one command is asked. Each can bring two names of datasets, at most 256 bytes each: together far below
# what the platform lets a command have in arguments.
MOST = 256

# Commands at once that are about one question of those that had no answer among others. Each that hangs keeps a thread
# and a process until its time limit.
MOST_ALONE = 48

_MOST_FAILED = 1000  # remembered; there are not so many, unless the whole node is sick


class _AskAgain(Exception):
    """It has not been asked: ask it like a new one."""


class _AskAlone(Exception):
    """A command for many had no answer for it."""


class Together(Generic[Q, A]):
    """`one` answers one question, `many` those of several for which its command is good; both block, and raise
    LoadError. `is_worth_it`: whether a command for so many is better than one for each."""

    def __init__(
        self,
        slots: Slots,
        one: Callable[[Q], A],
        many: Callable[[Sequence[Q]], Mapping[Q, A]],
        is_worth_it: Callable[[int], bool] = lambda _: True,
    ):
        self._slots = slots
        self._one = one
        self._many = many
        self._is_worth_it = is_worth_it
        self._lock = threading.Lock()
        self._waiting: dict[Q, Future[A]] = {}  # just those that no command has been begun for
        self._has_leader = False  # whether somebody waits for a slot, and will take what waits
        self._failed: set[Q] = set()
        self._alone = 0  # questions that are being asked again by themselves; the others of these wait for their turn
        self._turns: deque[Future[None]] = deque()

    def waiting(self) -> int:
        """How many questions wait for a command."""
        return len(self._waiting)

    def ask(self, question: Q, in_thread: Callable[[Callable[[], object]], object], wait: Wait) -> A:
        """The answer. `in_thread` runs a step that blocks, `wait` waits for what another thread will say: how the
        caller can (runner.py). Raises LoadError."""
        while True:
            with self._lock:
                is_alone = question in self._failed
                if not is_alone:
                    answer = self._waiting.setdefault(question, Future())
                    leads, self._has_leader = not self._has_leader, True
            try:
                if is_alone:
                    raise _AskAlone
                if leads:
                    self._lead(question, in_thread)
                found: A = wait(answer)
                return found
            except _AskAgain:
                continue
            except _AskAlone:
                return self._ask_by_itself(question, in_thread, wait)
            except BaseException:
                self._leave(question, answer)
                raise

    def _lead(self, question: Q, in_thread: InThread) -> None:
        try:
            in_thread(partial(self._answer_waiting, question))
        except BaseException:  # no thread, or no time for it
            with self._lock:
                self._has_leader = False
            raise

    def _leave(self, question: Q, answer: Future[A]) -> None:
        """Who asked has its answer, or waits for it no longer: it cannot lead then. Others who share the question ask
        again."""
        with self._lock:
            if self._waiting.get(question) is answer:
                self._waiting.pop(question).set_exception(_AskAgain())
            if not self._has_leader:
                self._let_another_lead()

    def _answer_waiting(self, own: Q) -> None:
        """In the thread of the one that leads, with its `own` question."""
        with self._slots:
            with self._lock:
                taken = self._take(own)
                self._let_another_lead()
            if len(taken) == 1:
                self._answer_one(*taken[0])
            elif taken:
                self._slots.take_all()
                self._answer_many(dict(taken))

    def _take(self, own: Q) -> list[tuple[Q, Future[A]]]:
        """What one command is to be about: `own` first, though others may wait for longer; nothing if that waits no
        more, since somebody who shared it has gone."""
        if own not in self._waiting:
            return []
        count = min(len(self._waiting), MOST)
        others = [question for question in self._waiting if question != own] if self._is_worth_it(count) else []
        return [(question, self._waiting.pop(question)) for question in [own, *others[: count - 1]]]

    def _let_another_lead(self) -> None:
        self._has_leader = False
        for question in self._waiting:
            self._waiting.pop(question).set_exception(_AskAgain())
            return

    def _answer_many(self, taken: dict[Q, Future[A]]) -> None:
        try:
            found = self._many(list(taken))
        except BaseException:  # noqa: BLE001 whatever it is: each is asked again by itself, and shows what is wrong
            found = {}
        for question, answer in taken.items():
            if question in found:
                answer.set_result(found[question])
            else:
                answer.set_exception(_AskAlone())

    def _ask_by_itself(self, question: Q, in_thread: InThread, wait: Wait) -> A:
        """When it is its turn: where all hang, as on a sick pool, they must not take all the caller's threads."""
        turn: Future[None] = Future()
        with self._lock:
            if self._alone < MOST_ALONE:
                self._alone += 1
                turn.set_result(None)
            else:
                self._turns.append(turn)
        try:
            wait(turn)
            answer: Future[A] = Future()
            in_thread(partial(self._ask_alone, question, answer))
            found: A = wait(answer)
            return found
        finally:
            with self._lock:
                if turn in self._turns:
                    self._turns.remove(turn)
                elif self._turns:
                    self._turns.popleft().set_result(None)
                else:
                    self._alone -= 1

    def _ask_alone(self, question: Q, answer: Future[A]) -> None:
        with self._slots:
            self._answer_one(question, answer)

    def _answer_one(self, question: Q, answer: Future[A]) -> None:
        try:
            found = self._one(question)
        except BaseException as error:  # noqa: BLE001 raised again where the answer is wanted
            if isinstance(error, LoadError) and not isinstance(error, ZoneGone):
                self._remember(question)
            answer.set_exception(error)
        else:
            self._failed.discard(question)
            answer.set_result(found)

    def _remember(self, question: Q) -> None:
        """It has failed by itself."""
        if len(self._failed) >= _MOST_FAILED:
            self._failed.clear()
        self._failed.add(question)
