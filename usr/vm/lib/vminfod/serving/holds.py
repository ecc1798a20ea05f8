# SPDX-License-Identifier: MPL-2.0
"""Which VMs are held back, by which transaction, and who waits for the same VM (docs/http-api.md, "Transactions").

      waiting --its turn--> open --commit, end of the connection, limit--> ending --read, or in vain--> over
         |                                                                                               ^
         '---- the connection ends, too long a wait ----------------------------------------------------'

Always: a VM is held by one transaction at a time; those that wait get it in the order in which they came, and between
        two of them there is no moment in which nobody holds it;
        of a VM that is held nothing is applied but what is read to end its transaction: that has the transaction's own
        cause, which nothing else has;
        a transaction ends in one way, by the first word that is said about it;
        how many hold and wait together is bounded, and who goes leaves nothing behind.
Nothing here costs a reader of VMs anything: what is served of a VM that is held just does not change.
Not here: what is read at the end, and when that is (transactions.py)."""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Optional, TypedDict

from gevent.event import Event as Flag

from vminfod.serving.cause import Cause, CauseDetails

# Transactions that are open or wait. A node's writers are some dozens at the most; each has a connection.
MOST = 1000


class End(str, Enum):
    """How a transaction ends. The values are words of the API."""

    COMMITTED = "committed"
    ABORTED = "aborted"  # its connection ended
    EXPIRED = "expired"  # its limit passed


@dataclass(frozen=True)
class Writer:
    """Who opened it. `pid`, `uid`: of the process at the other end of the socket; None: the system does not say."""

    command: str
    req_id: Optional[str]
    pid: Optional[int]
    uid: Optional[int]

    def __str__(self) -> str:
        return f"{'a process' if self.pid is None else f'pid {self.pid}'}: {self.command}"


class HolderShown(TypedDict):
    """Who holds a VM, in an error. `age`: seconds."""

    transaction: str
    command: str
    req_id: Optional[str]
    pid: Optional[int]
    uid: Optional[int]
    age: float


class TransactionStatus(HolderShown):
    """A member of `transactions` in /status (docs/http-api.md, "Status"). `age`: seconds since it was opened, or asked
    for if it still waits."""

    uuid: str
    state: str
    limit: float


class Transaction:
    """One writer's hold on one VM. `limit`: seconds that it may be open.

    `cause`: from when its ending reading begins; `why_not`: why that failed, None if it did not."""

    def __init__(self, zonename: str, vm_uuid: str, writer: Writer, limit: float):
        self.id = str(uuid.uuid4())
        self.zonename = zonename
        self.uuid = vm_uuid
        self.writer = writer
        self.limit = limit
        self.opened_at: Optional[int] = None  # monotonic ns, and so are the next
        self.ended_at = 0
        self.end: Optional[End] = None
        self.timeout: Optional[float] = None  # seconds that the commit may take
        self.cause: Optional[Cause] = None
        self.why_not: Optional[str] = None
        self.turn = Flag()  # it holds the VM, or is told to end before it does
        self.told = Flag()  # it is to end
        self.reading = Flag()  # what is read from now on ends it
        self.over = Flag()
        self.is_left = False  # its connection has ended
        self._asked_at = time.monotonic_ns()

    def finish(self, end: End, timeout: Optional[float] = None) -> bool:
        """It is to end so. False if something else was said before. `timeout`: seconds that its reading may take."""
        if self.end is not None:
            return False
        self.end, self.timeout, self.ended_at = end, timeout, time.monotonic_ns()
        self.turn.set()
        self.told.set()
        return True

    @property
    def age(self) -> float:
        """Seconds since it was opened, or asked for."""
        return (time.monotonic_ns() - (self.opened_at or self._asked_at)) / 1e9

    @property
    def state(self) -> str:
        """In a word, as /status has it."""
        if self.over.is_set() and self.end is not None:
            return self.end.value
        if self.opened_at is None:
            return "waiting"
        return "open" if self.end is None else "ending"

    def details(self) -> CauseDetails:
        """What its event says of it."""
        writer = self.writer
        details = CauseDetails(
            command=writer.command, pid=writer.pid, uid=writer.uid, req_id=writer.req_id, transaction=self.id
        )
        if self.end is End.ABORTED:
            details["aborted"] = True
        elif self.end is End.EXPIRED:
            details["expired"] = True
        return details

    def shown(self) -> HolderShown:
        """For who waits for it."""
        writer = self.writer
        return {
            "transaction": self.id,
            "command": writer.command,
            "req_id": writer.req_id,
            "pid": writer.pid,
            "uid": writer.uid,
            "age": round(self.age, 3),
        }

    @property
    def overdue(self) -> float:
        """Seconds since its limit passed, if that ended it and its connection is still there; else 0."""
        is_overdue = self.end is End.EXPIRED and not self.is_left
        return (time.monotonic_ns() - self.ended_at) / 1e9 if is_overdue else 0.0

    def dump(self) -> TransactionStatus:
        """For /status."""
        return {**self.shown(), "uuid": self.uuid, "state": self.state, "limit": self.limit}

    def __str__(self) -> str:
        return f"VM {self.uuid} is held since {self.age:.1f} s by {self.writer}"


class TooMany(Exception):
    """MOST are open or waiting."""


class Stopping(Exception):
    """The daemon stops: nothing is held any more."""


class StillHeld(Exception):
    """The VM was not to be had in time. `holder`: who has it."""

    def __init__(self, holder: Transaction):
        super().__init__(str(holder))
        self.holder = holder


class Holds:
    """The transactions of one daemon. Iterates over those that /status lists: open, waiting, or expired and not yet
    left."""

    def __init__(self) -> None:
        self._holders: dict[str, Transaction] = {}  # by zone name
        # Just the zones that are held and that others wait for; the longest wait first.
        self._waiting: dict[str, deque[Transaction]] = {}
        # By id: from the asking until it is over and its connection has ended.
        self._known: dict[str, Transaction] = {}

    def __iter__(self) -> Iterator[Transaction]:
        return (one for one in list(self._known.values()) if not one.over.is_set() or one.end is End.EXPIRED)

    # Looking.

    def find(self, transaction_id: str) -> Optional[Transaction]:
        """That transaction, as long as its connection lives."""
        return self._known.get(transaction_id)

    def holder(self, zonename: str) -> Optional[Transaction]:
        """Who holds the VM; None: nobody."""
        return self._holders.get(zonename)

    def keeps_back(self, zonename: str, cause: Optional[Cause]) -> bool:
        """Whether what was read of the zone because of `cause` must not be applied now."""
        holder = self._holders.get(zonename)
        return holder is not None and (holder.cause is None or holder.cause is not cause)

    def is_readable(self, zonename: str) -> bool:
        """Whether somebody may be reading the zone: nobody holds it, or its transaction is ending."""
        holder = self._holders.get(zonename)
        return holder is None or holder.reading.is_set()

    def wait_for_news(self, zonename: str) -> None:
        """Until it is otherwise: its transaction has begun to end, or is over."""
        holder = self._holders[zonename]
        (holder.over if holder.reading.is_set() else holder.reading).wait()

    # Holding.

    def take(self, wanted: Transaction, seconds: float) -> None:
        """Hold the VM for `wanted`, once it is its turn. Raises TooMany, or StillHeld if that takes more than `seconds`
        or the transaction is told to end meanwhile."""
        if len(self._holders) + sum(map(len, self._waiting.values())) >= MOST:
            raise TooMany
        self._known[wanted.id] = wanted
        try:
            if wanted.zonename not in self._holders:
                self._give(wanted)
                return
            self._waiting.setdefault(wanted.zonename, deque()).append(wanted)
            wanted.turn.wait(seconds)
            if wanted.opened_at is None:
                raise StillHeld(self._holders[wanted.zonename])
        finally:
            if wanted.opened_at is None:
                self._withdraw(wanted)

    def _give(self, wanted: Transaction) -> None:
        self._holders[wanted.zonename] = wanted
        wanted.opened_at = time.monotonic_ns()
        wanted.turn.set()

    def _withdraw(self, wanted: Transaction) -> None:
        waiting = self._waiting.get(wanted.zonename, deque())
        if wanted in waiting:
            waiting.remove(wanted)
        if not waiting:
            self._waiting.pop(wanted.zonename, None)
        wanted.over.set()
        self._known.pop(wanted.id, None)

    def read_for(self, holder: Transaction, cause: Cause) -> None:
        """From now on what is read because of just this `cause` is applied: it ends the transaction."""
        holder.cause = cause
        holder.reading.set()

    def release(self, holder: Transaction) -> None:
        """The VM is not held by it any more, but by who waits for it."""
        del self._holders[holder.zonename]
        waiting = self._waiting.get(holder.zonename)
        if waiting:
            self._give(waiting.popleft())
        if not waiting:
            self._waiting.pop(holder.zonename, None)
        holder.reading.set()
        holder.over.set()
        self._forget_if_done(holder)

    def left(self, transaction: Transaction) -> None:
        """Its connection has ended: nobody asks for it any more."""
        transaction.is_left = True
        self._forget_if_done(transaction)

    def _forget_if_done(self, transaction: Transaction) -> None:
        if transaction.is_left and transaction.over.is_set():
            self._known.pop(transaction.id, None)
