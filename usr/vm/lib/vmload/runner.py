# SPDX-License-Identifier: MPL-2.0
"""Who runs the blocking steps of a load, named by what a step waits for.

A caller that may block runs them where it stands: Directly. One in a gevent loop gives a Runner that uses threads, and
can keep apart what hangs: a zfs that waits for a sick pool must not hold up who needs zoneadm or a file.

Always: a method returns or raises what the step does; it has no opinion of its own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Runner(Protocol):
    """One method for each thing that a step can wait for."""

    def zoneadm(self, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T: ...

    def kstat(self, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T: ...

    def zfs(self, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T: ...

    def files(self, pool: str, what: str, step: Callable[[], T]) -> T:
        """`step` reads `what`, which lies on `pool`: reads that hang are kept apart by pool, and have an end."""
        ...

    def result(self, future: Future[T]) -> T:
        """Wait for what another thread sets."""
        ...

    def beside(self, step: Callable[[], T]) -> Callable[[], T]:
        """Begin `step`, which may use the other methods. What is returned waits for it, and returns or raises what it
        does; it need not be called."""
        ...


class Directly:
    """The Runner of a caller that may block."""

    def zoneadm(self, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return step(*args, **kwargs)

    kstat = zfs = zoneadm

    def files(self, pool: str, what: str, step: Callable[[], T]) -> T:
        return step()

    def result(self, future: Future[T]) -> T:
        return future.result()

    def beside(self, step: Callable[[], T]) -> Callable[[], T]:
        return step


DIRECTLY = Directly()
