# SPDX-License-Identifier: MPL-2.0
"""The bytes that wait for all connections together: answers, and the streams of /events. One account, one limit.

Always: bytes that several wait for are counted once, from when the kernel has not taken them until it has, or until
        who waits is cut; what the kernel takes at once is never counted;
        past the limit those are cut that have taken nothing for the longest time, and who reads comes last, however
        many wait that do not;
        who waits for the same bytes as somebody who takes them costs nothing, and goes no sooner than that one;
        what is taken last of all stays, however large: a list beyond the limit can still be read.
Not here: sockets, and for how long one may take nothing (hub.py, httpconnection.py)."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Optional, Protocol

# Bytes that may wait for all connections together, shared ones counted once. Clients that read hold hardly any.
ALL_WAITING_BYTES = 64 << 20

TOO_MUCH = "what waits for all clients together was too much"

# Who has taken something of what waited, and that not longer ago, is one that reads. Through a slow network the kernel
# takes more only every other second; one that has just come has filled the kernel's buffer, and proved nothing.
READS_SECONDS = 5.0

_GATHERED = 64  # pieces handed out at once; systems take some 1,000 in one call


class Waiter(Protocol):
    """A connection for which bytes may wait. `progressed`: monotonic nanoseconds at which the kernel took some, or
    before which nothing waited. `reads`: it has taken some that had waited."""

    progressed: int
    reads: bool

    @property
    def largest(self) -> Optional[bytes]:
        """The largest of what it waits for next, as it was given to hold(); None: nothing waits."""
        ...


class Waiting:
    """The account. `total`: bytes. `most`: the limit."""

    def __init__(self, most: int = ALL_WAITING_BYTES):
        self.total = 0
        self.most = most
        self._holders: dict[int, int] = {}  # id of the bytes -> how many hold them; those who do keep the id valid
        self._cuts: dict[Waiter, Callable[[str], None]] = {}
        self._on_free: list[Callable[[], None]] = []

    # Bytes.

    def hold(self, piece: bytes) -> None:
        """Somebody waits for `piece`. bound() is to be called when all of what waits is held."""
        holders = self._holders.get(id(piece), 0)
        self._holders[id(piece)] = holders + 1
        if not holders:
            self.total += len(piece)

    def release(self, piece: bytes) -> None:
        """One who held `piece` does no more."""
        holders = self._holders[id(piece)] - 1
        if holders:
            self._holders[id(piece)] = holders
            return
        del self._holders[id(piece)]
        self.total -= len(piece)
        for call in self._on_free:
            call()

    def is_held(self, piece: bytes) -> bool:
        """Whether anybody waits for it."""
        return id(piece) in self._holders

    def on_free(self, call: Callable[[], None]) -> None:
        """Have this called whenever nobody waits any more for some bytes."""
        self._on_free.append(call)

    # Who waits.

    def enter(self, waiter: Waiter, cut: Callable[[str], None]) -> None:
        """From now on bytes may wait for `waiter`. `cut` ends it at once, for the reason given: it holds none then."""
        self._cuts[waiter] = cut

    def leave(self, waiter: Waiter) -> None:
        """It holds none any more."""
        self._cuts.pop(waiter, None)

    def bound(self) -> None:
        """Cut whom the limit costs the connection."""
        if self.total <= self.most:
            return
        for group in self._groups()[:-1]:
            for waiter in group:
                cut = self._cuts.get(waiter)
                if cut is not None:
                    cut(TOO_MUCH)
                if self.total <= self.most:
                    return

    def _groups(self) -> list[list[Waiter]]:
        """Who waits, together with those that wait for the same: first those that are to go first."""
        groups: dict[int, list[Waiter]] = {}
        for waiter in self._cuts:
            piece = waiter.largest
            if piece is not None:
                groups.setdefault(id(piece), []).append(waiter)
        now = time.monotonic_ns()

        def standing(waiter: Waiter) -> tuple[bool, int]:
            return waiter.reads and now - waiter.progressed < READS_SECONDS * 1e9, waiter.progressed

        for group in groups.values():
            group.sort(key=standing)
        return sorted(groups.values(), key=lambda group: standing(group[-1]))


class Unsent:
    """What the kernel has not taken yet of one answer; `pieces`: all of that. It is held until took() or drop()."""

    __slots__ = ("progressed", "reads", "_pieces", "_waiting")

    def __init__(self, waiting: Waiting, pieces: Sequence[memoryview]):
        self.progressed = time.monotonic_ns()
        self.reads = False
        self._pieces = deque(pieces)
        self._waiting = waiting
        for piece in pieces:
            waiting.hold(_whole(piece))

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def __len__(self) -> int:
        """Bytes."""
        return sum(map(len, self._pieces))

    @property
    def largest(self) -> Optional[bytes]:
        """See Waiter."""
        return max(map(_whole, self._pieces), key=len, default=None)

    def next_pieces(self) -> list[memoryview]:
        """What is to be sent next, in order."""
        return list(islice(self._pieces, _GATHERED))

    def took(self, count: int) -> None:
        """The kernel has taken the first `count` bytes."""
        if count:
            self.progressed, self.reads = time.monotonic_ns(), True
        while self._pieces and count >= len(self._pieces[0]):
            piece = self._pieces.popleft()
            count -= len(piece)
            self._waiting.release(_whole(piece))
        if not self._pieces:
            self._waiting.leave(self)
        elif count:
            self._pieces[0] = self._pieces[0][count:]

    def drop(self) -> None:
        """Nobody waits for the rest any more."""
        for piece in self._pieces:
            self._waiting.release(_whole(piece))
        self._pieces.clear()
        self._waiting.leave(self)


def _whole(piece: memoryview) -> bytes:
    whole = piece.obj
    assert isinstance(whole, bytes)
    return whole
