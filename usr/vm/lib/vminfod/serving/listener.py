# SPDX-License-Identifier: MPL-2.0
"""One /events stream as the hub sees it: what it wants, what waits for it, and how long it has not read.

Always: what waits are shared bytes, of which a listener holds no copy of its own, and they are its own to count until
        the kernel has taken them, the ready line included;
        a listener that holds more than its bound is cut, never an event of it dropped;
        nothing here blocks or switches greenlets.
Not here: sockets. Whoever sends calls waiting() and then sent(), and is called when there is more."""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import NamedTuple, Optional, TypedDict, Union

from jsvalues import dates
from vminfod import times
from vminfod.serving.waiting import Waiting

Buffer = Union[bytes, memoryview]

# Buffers handed out at once, the most that a system takes in one call is some 1,000.
_GATHERED = 64


class Piece(NamedTuple):
    """Bytes that wait, the same object for all who wait for them. `whole` is what is shared, `left` the part of it that
    is to be sent."""

    whole: bytes
    left: memoryview
    ends_line: bool


@dataclass(frozen=True)
class Event:
    """One change, serialised. `names`: what a selection by uuid may call the VM. `changed`: the top-level properties of
    a modify, None for other types. `chunk`: the line as a chunk of an HTTP body, the same bytes for all listeners."""

    rev: int
    type: str
    names: tuple[str, ...]
    changed: Optional[frozenset[str]]
    chunk: bytes

    @cached_property
    def framed(self) -> Piece:
        """The chunk as a piece of a stream."""
        return Piece(self.chunk, memoryview(self.chunk), True)

    @cached_property
    def bare(self) -> Piece:
        """The same without what makes it a chunk."""
        return Piece(self.chunk, _line_in(self.chunk), True)


@dataclass(frozen=True)
class Selection:
    """Which events a listener wants; None: all."""

    uuids: Optional[frozenset[str]] = None
    types: Optional[frozenset[str]] = None
    fields: Optional[frozenset[str]] = None

    def takes(self, event: Event) -> bool:
        """Whether `event` goes to the listener. `fields` narrows only the modify events."""
        if self.types is not None and event.type not in self.types:
            return False
        if self.uuids is not None and self.uuids.isdisjoint(event.names):
            return False
        return self.fields is None or event.changed is None or not self.fields.isdisjoint(event.changed)


@dataclass(frozen=True)
class Stream:
    """What the sender of a stream supplies. `on_lines`: there is something to send now. `on_cut`: the stream has to
    end. `framed`: as chunks of a chunked body, else as bare lines."""

    user_agent: Optional[str]
    on_lines: Callable[[], None]
    on_cut: Callable[[], None]
    framed: bool = True


class ListenerStatus(TypedDict, total=False):
    """A listener in /status; `userAgent` is absent where the client sent none."""

    userAgent: str
    createdTime: str
    createdDate: str
    createdAgo: str
    sentLines: int
    backlogEvents: int
    backlogBytes: int
    stalled: Optional[str]


@dataclass(eq=False)
class Listener:
    """One open stream. `cut_reason` is set exactly once, when the stream has to end; then nothing waits any more."""

    stream: Stream
    selection: Selection
    held: Waiting
    uuid: str = field(default_factory=lambda: str(uuid.uuid4()))
    created: int = field(default_factory=time.monotonic_ns)
    created_date: str = field(default_factory=dates.now)
    cut_reason: Optional[str] = None
    sent_lines: int = 0
    unsent: int = 0  # bytes of all in _pieces
    first: int = 0  # bytes that were there from the start: the ready line and what is replayed
    progressed: int = field(default_factory=time.monotonic_ns)  # when the kernel took something, or nothing waited
    reads: bool = False  # the kernel took something more than once
    _took: bool = False
    _pieces: deque[Piece] = field(default_factory=deque)

    @property
    def largest(self) -> Optional[bytes]:
        """See waiting.Waiter. A snapshot stands behind what it begins with."""
        return max((piece.whole for piece in islice(self._pieces, 3)), key=len, default=None)

    @property
    def lines_waiting(self) -> int:
        """Pieces, of which nearly each is an event."""
        return len(self._pieces)

    def begin_with(self, *pieces: bytes) -> None:
        """Send these before all events: the ready line in pieces, of which all listeners share the snapshot."""
        size = sum(map(len, pieces))
        *most, last = [b"%x\r\n" % size, *pieces, b"\r\n"] if self.stream.framed else pieces
        for piece in most:
            self._append(Piece(piece, memoryview(piece), False))
        self._append(Piece(last, memoryview(last), True))
        self.first = self.unsent

    def replay(self, event: Event) -> None:
        """An event that the listener missed."""
        self._append(self._piece_of(event))
        self.first = self.unsent

    def add(self, event: Event) -> None:
        """An event that happens now."""
        self._append(self._piece_of(event))
        self.stream.on_lines()

    def add_line(self, line: bytes) -> None:
        """A line that is no event: a heartbeat."""
        chunk = as_chunk(line)
        self._append(Piece(chunk, memoryview(chunk) if self.stream.framed else _line_in(chunk), True))

    def _piece_of(self, event: Event) -> Piece:
        return event.framed if self.stream.framed else event.bare

    def _append(self, piece: Piece) -> None:
        if not self._pieces:
            self.progressed = time.monotonic_ns()
        self._pieces.append(piece)
        self.unsent += len(piece.left)
        self.held.hold(piece.whole)

    def waiting(self) -> list[memoryview]:
        """What is to be sent next, in order; empty: nothing for now."""
        return [piece.left for piece in islice(self._pieces, _GATHERED)]

    def sent(self, count: int) -> None:
        """The kernel has taken the first `count` bytes of waiting()."""
        if count:
            self.progressed = time.monotonic_ns()
            self.reads, self._took = self._took, True
        self.unsent -= count
        while count:
            piece = self._pieces[0]
            if count < len(piece.left):
                self._pieces[0] = piece._replace(left=piece.left[count:])
                return
            count -= len(piece.left)
            self._pieces.popleft()
            self.held.release(piece.whole)
            self.sent_lines += piece.ends_line

    def stalled(self, now: int) -> int:
        """Nanoseconds since which something waits and nothing was taken."""
        return now - self.progressed if self._pieces else 0

    def cut(self, reason: str) -> None:
        """End the stream, also in the midst of a line."""
        if self.cut_reason is None:
            self.cut_reason = reason
            for piece in self._pieces:
                self.held.release(piece.whole)
            self._pieces.clear()
            self.unsent = 0
            self.stream.on_cut()

    def dump(self, now: int) -> ListenerStatus:
        """For /status. The members of the original first."""
        agent = self.stream.user_agent
        shown: ListenerStatus = {} if agent is None else {"userAgent": agent}
        shown["createdTime"] = times.stamp(self.created)
        shown["createdDate"] = self.created_date
        shown["createdAgo"] = times.duration(now - self.created)
        shown["sentLines"] = self.sent_lines
        shown["backlogEvents"] = self.lines_waiting
        shown["backlogBytes"] = self.unsent
        shown["stalled"] = times.duration(self.stalled(now)) if self._pieces else None
        return shown


def _line_in(chunk: bytes) -> memoryview:
    return memoryview(chunk)[chunk.index(b"\n") + 1 : -2]


def as_chunk(*line: bytes) -> bytes:
    """A line, given in pieces, as a chunk of a chunked body. Joined once: a large VM is copied as seldom as can be."""
    return b"".join([b"%x\r\n" % sum(map(len, line)), *line, b"\r\n"])
