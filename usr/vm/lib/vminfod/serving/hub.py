# SPDX-License-Identifier: MPL-2.0
"""The hub: numbers the changes, keeps the newest, and hands each to every listener (docs/http-api.md, "The lines").

Always: revisions are integers without a gap, one an event, within one epoch, which is one run of the daemon;
        an event is serialised once, whatever the number of listeners;
        publish() never blocks and never switches greenlets: it only appends to backlogs, the senders do the I/O;
        what a listener can hold is bounded: one whose backlog is full is cut, never an event of it dropped.
Not here: sockets (api.py sends), and what is in the cache (cache.py calls publish())."""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Optional, Union

from gevent.event import Event as Flag

from vminfod import times
from vminfod.serving import jsontext

# What a client can resume over. A busy node emits some ten events a second, so this is many minutes.
RING_EVENTS = 10_000
RING_BYTES = 32 << 20

# Bytes and events that one listener may have unsent: a sleeper must not cost the node. Past it the connection is
# closed, and the client resumes by revision. Larger than any burst of a healthy node (all VMs changing at once).
BACKLOG_BYTES = 8 << 20
BACKLOG_EVENTS = 10_000

# Bytes handed to the socket in one go; together with the backlog the most that a stuck listener keeps alive.
_BATCH = 256 << 10


@dataclass(frozen=True)
class Event:
    """One change, serialised. `names`: what a selection by uuid may call the VM. `changed`: the top-level properties of
    a modify, None for other types."""

    rev: int
    type: str
    names: tuple[str, ...]
    changed: Optional[frozenset[str]]
    line: bytes


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
class Limits:
    """Bounds of the hub, see the constants of those names."""

    ring_events: int = RING_EVENTS
    ring_bytes: int = RING_BYTES
    backlog_bytes: int = BACKLOG_BYTES
    backlog_events: int = BACKLOG_EVENTS


# Part of what is sent: a line, or a piece of one.
_Piece = Union[bytes, memoryview]


class Listener:
    """One open /events stream.

    `cut_reason` is set exactly once, when the stream has to end; then nothing more is taken from the backlog."""

    def __init__(self, hub: Hub, selection: Selection, user_agent: Optional[str], on_cut: Callable[[], None]):
        self.uuid = str(uuid.uuid4())
        self.selection = selection
        self.user_agent = user_agent
        self.created = time.monotonic_ns()
        self.created_date = times.iso(time.time())
        self.cut_reason: Optional[str] = None
        self.sent_lines = 0
        self._hub = hub
        self._on_cut = on_cut
        # The ready line and what is replayed come first and do not count: the hub bounds them, and a snapshot larger
        # than the backlog must not get the listener cut before it could read any of it.
        self._first: deque[_Piece] = deque()
        self._backlog: deque[_Piece] = deque()
        self._backlog_bytes = 0  # of just the lines in _backlog
        self._wake = Flag()

    def offer(self, event: Event) -> None:
        """Append `event`, or cut the listener if its backlog would grow beyond its bounds.

        Into an empty backlog an event goes whatever its bytes: else one VM with metadata of some megabytes, which a
        guest can write, would cut every listener each time it changes. The line is shared by all of them."""
        if self.cut_reason is not None or not self.selection.takes(event):
            return
        limits = self._hub.limits
        too_large = self._backlog and self._backlog_bytes + len(event.line) > limits.backlog_bytes
        if too_large or len(self._backlog) >= limits.backlog_events:
            self._hub.cut_slow(self)
            return
        self._backlog.append(event.line)
        self._backlog_bytes += len(event.line)
        self._wake.set()

    def begin_with(self, *pieces: bytes) -> None:
        """Send these before all events: the pieces of the ready line, and what is replayed."""
        self._first += pieces

    def take(self, timeout: Optional[float]) -> Optional[bytes]:
        """The next lines joined, or a part of one that is large.

        b"" if `timeout` seconds passed in silence, None if it is the end."""
        if not self._first and not self._backlog and self.cut_reason is None:
            self._wake.clear()
            self._wake.wait(timeout)
        if self.cut_reason is not None:
            return None
        batch = _batch_of(self._first)
        if not batch:
            batch = _batch_of(self._backlog)
            self._backlog_bytes -= sum(map(len, batch))
        self.sent_lines += sum(piece[-1:] == b"\n" for piece in batch)
        return b"".join(batch)

    def cut(self, reason: str) -> None:
        """End the stream: at once, also in the midst of a send that blocks."""
        if self.cut_reason is None:
            self.cut_reason = reason
            self._first.clear()
            self._backlog.clear()
            self._backlog_bytes = 0
            self._wake.set()
            self._on_cut()

    def dump(self, now: int) -> dict[str, Any]:
        """For /status. The members of the original first."""
        shown: dict[str, Any] = {} if self.user_agent is None else {"userAgent": self.user_agent}
        shown["createdTime"] = times.stamp(self.created)
        shown["createdDate"] = self.created_date
        shown["createdAgo"] = times.duration(now - self.created)
        shown["sentLines"] = self.sent_lines
        shown["backlogEvents"] = len(self._backlog)
        shown["backlogBytes"] = self._backlog_bytes
        return shown


def _batch_of(pieces: deque[_Piece]) -> list[_Piece]:
    """Take pieces off the left: as many as fit into a batch, or as much of the first one."""
    if pieces and len(pieces[0]) > _BATCH:
        # Not whole: on its way to the socket it is copied, for each listener, and a snapshot has some megabytes.
        whole = memoryview(pieces.popleft())
        pieces.appendleft(whole[_BATCH:])
        return [whole[:_BATCH]]
    batch: list[_Piece] = []
    size = 0
    while pieces and size + len(pieces[0]) <= _BATCH:
        batch.append(pieces.popleft())
        size += len(batch[-1])
    return batch


class Hub:
    """Where events come out. `rev` is the revision of the newest."""

    def __init__(self, log: Any, limits: Limits | None = None):
        self.epoch = str(uuid.uuid4())
        self.rev = 0
        self.limits = limits or Limits()
        self.slow_listeners_cut = 0
        self._log = log
        self._listeners: dict[str, Listener] = {}
        # The newest events in order, their revisions without a gap, the last one `rev`.
        self._ring: deque[Event] = deque()
        self._ring_bytes = 0

    def publish(
        self, kind: str, fields: dict[str, Any], tail: dict[str, Any], changed: Optional[Iterable[str]]
    ) -> None:
        """Number an event of type `kind` and offer it to all. `fields` are the original's, after type and date;
        `tail` comes last, after epoch and revision."""
        self.rev += 1
        body = {"type": kind, "date": times.iso(time.time()), **fields, "epoch": self.epoch, "rev": self.rev, **tail}
        event = Event(
            self.rev,
            kind,
            (fields["zonename"], fields["uuid"]),
            None if changed is None else frozenset(changed),
            jsontext.encode(body) + b"\n",
        )
        self._keep(event)
        for listener in list(self._listeners.values()):
            listener.offer(event)

    def _keep(self, event: Event) -> None:
        self._ring.append(event)
        self._ring_bytes += len(event.line)
        while len(self._ring) > self.limits.ring_events or self._ring_bytes > self.limits.ring_bytes:
            self._ring_bytes -= len(self._ring.popleft().line)

    def can_resume(self, epoch: str, rev: int) -> bool:
        """Whether all events after `rev` are still here."""
        oldest = self._ring[0].rev if self._ring else self.rev + 1
        return epoch == self.epoch and oldest - 1 <= rev <= self.rev

    def subscribe(
        self,
        selection: Selection,
        user_agent: Optional[str],
        on_cut: Callable[[], None],
        *,
        vms: Optional[bytes],
        since: Optional[int] = None,
    ) -> Listener:
        """A new listener, with its ready line and what it missed since revision `since` in its backlog.

        `vms` is the snapshot as it stands between quotes, None for none; it must be the cache's as of now. Nothing
        switches in here: no event falls between snapshot and subscription, and none is in both (R4)."""
        listener = Listener(self, selection, user_agent, on_cut)
        head = {"type": "ready", "date": listener.created_date, "uuid": listener.uuid}
        tail = jsontext.encode({"epoch": self.epoch, "rev": self.rev})[1:] + b"\n"
        start = jsontext.encode(head)[:-1] + b","
        if vms is None:
            listener.begin_with(start + tail)
        else:
            listener.begin_with(start + b'"vms":"', vms, b'",' + tail)  # in pieces: all listeners share the snapshot
        if since is not None:
            for event in self._ring:
                if event.rev > since and selection.takes(event):
                    listener.begin_with(event.line)
        self._listeners[listener.uuid] = listener
        self._log.debug("listener came", listener=listener.uuid, userAgent=user_agent, since=since)
        return listener

    def unsubscribe(self, listener: Listener) -> None:
        """The stream of `listener` has ended."""
        if self._listeners.pop(listener.uuid, None) is not None:
            self._log.debug(
                "listener went",
                listener=listener.uuid,
                userAgent=listener.user_agent,
                reason=listener.cut_reason or "the client closed the connection",
                sentLines=listener.sent_lines,
            )

    def cut_slow(self, listener: Listener) -> None:
        """End the stream of a listener that does not read fast enough."""
        self.slow_listeners_cut += 1
        self._log.warn(
            "cut a listener that does not read",
            listener=listener.uuid,
            userAgent=listener.user_agent,
            rev=self.rev,
            limits={"events": self.limits.backlog_events, "bytes": self.limits.backlog_bytes},
        )
        listener.cut("its backlog was full")

    def heartbeat(self) -> bytes:
        """The line that says only that nothing happened up to this revision."""
        body = {"type": "heartbeat", "date": times.iso(time.time()), "epoch": self.epoch, "rev": self.rev}
        return jsontext.encode(body) + b"\n"

    def __len__(self) -> int:
        return len(self._listeners)

    def close(self) -> None:
        """End every stream: the daemon stops."""
        for listener in list(self._listeners.values()):
            listener.cut("the daemon stops")

    def dump(self, now: int) -> dict[str, Any]:
        """The open streams, by uuid, for /status."""
        return {listener.uuid: listener.dump(now) for listener in self._listeners.values()}

    def dump_ring(self) -> dict[str, Any]:
        """What can be resumed over, for /status."""
        return {
            "epoch": self.epoch,
            "rev": self.rev,
            "oldestRev": self._ring[0].rev if self._ring else None,
            "ringEvents": len(self._ring),
            "ringBytes": self._ring_bytes,
            "slowListenersCut": self.slow_listeners_cut,
        }
