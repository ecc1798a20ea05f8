# SPDX-License-Identifier: MPL-2.0
"""Many reads of one pool's files, one after the other in one thread: a thread for each costs more than most reads do.

Always: one that takes too long keeps the thread that it has, and the rest goes on in another: so what hangs costs
        itself, and each read has its own deadline, as one that was begun alone (filereads.py).
Whoever asks blocks until all have ended, or are past their deadlines."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Generic, Optional, TypeVar

from vmload.filereads import FileRead, FileReads, Outcome
from vmload.loaderror import LoadError

T = TypeVar("T")

# Seconds that one read may take before the next ones go on beside it; and once one has taken that long.
PATIENCE = 2.0
LITTLE_PATIENCE = 0.1


class ReadsInARow(Generic[T]):
    """`wanted`: (what is read, the step that reads it). It may keep its reader waiting, which is no time of a read, and
    raises nothing. run() it once."""

    def __init__(self, reads: FileReads, pool: str, wanted: Iterable[tuple[str, Callable[[], T]]]):
        self._reads = reads
        self._pool = pool
        self._rest = iter(wanted)
        self._values: dict[str, T] = {}
        self._errors: dict[str, Exception] = {}
        self._lock = threading.Lock()  # of all below, and of _rest
        self._worker = 0  # the number of the thread that goes on; the others have been left with what hangs
        self._present: Optional[FileRead[T]] = None  # what that thread reads
        self._outcome: Optional[Outcome[T]] = None  # and what becomes of that
        self._left: list[FileRead[T]] = []  # what the others read
        self._is_through = threading.Event()  # nothing is left to begin, and all has ended but what is in _left

    def run(self) -> tuple[dict[str, T], dict[str, Exception]]:
        """By what is read: what the steps returned; and what they raised, or a LoadError for what takes too long."""
        patience = PATIENCE
        self._go_on()
        while not self._is_through.wait(LITTLE_PATIENCE):
            if self._present_takes(patience):
                patience = LITTLE_PATIENCE
                self._go_on()
        for read in self._left:
            self._end(read)
        return self._values, self._errors

    def _present_takes(self, patience: float) -> bool:
        with self._lock:
            return self._present is not None and time.monotonic() - self._present.began > patience

    def _go_on(self) -> None:
        """In a new thread."""
        with self._lock:
            self._worker += 1
            if self._present is not None:
                self._left.append(self._present)
                self._present = None
        name = f"read on {self._pool}"
        threading.Thread(target=self._work, args=(self._worker,), name=name, daemon=True).start()

    def _work(self, worker: int) -> None:
        while True:
            with self._lock:
                if worker != self._worker:
                    return
                if self._present is not None:
                    self._end(self._present)
                outcome = self._begin_next()
            if outcome is None:
                self._is_through.set()
                return
            outcome.run()

    def _begin_next(self) -> Optional[Outcome[T]]:
        """What is to be run now; None once there is no more."""
        for what, step in self._rest:
            try:
                self._present = self._reads.start(self._pool, what, step, self._begin)
            except LoadError as error:
                self._errors[what] = error
                continue
            return self._outcome
        self._present = None
        return None

    def _begin(self, _pool: str, step: Callable[[], T]) -> Outcome[T]:
        """A filereads.Begin: the thread that asks runs it next."""
        self._outcome = Outcome(step)
        return self._outcome

    def _end(self, read: FileRead[T]) -> None:
        """It is not kept beside its value: a thousand of them are a megabyte or two."""
        try:
            self._values[read.what] = read.result()
        except Exception as error:  # noqa: BLE001 for who wanted it
            self._errors[read.what] = error
