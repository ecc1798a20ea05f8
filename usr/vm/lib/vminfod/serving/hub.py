# SPDX-License-Identifier: MPL-2.0
"""The hub: numbers the changes, keeps the newest, and hands each to every listener.

Always: revisions are integers without a gap, one an event, within one epoch, which is one run of the daemon;
        an event is serialised once, whatever the number of listeners, around the VM's bytes that the cache has anyway;
        publish() never blocks and never switches greenlets: it only appends to backlogs, the senders do the I/O;
        what a listener can hold is bounded, and what waits for all clients together (waiting.py); whoever has read
        nothing for a minute although something waits is cut, too.
Not here: sockets (the senders), and what is in the cache (cache.py calls publish())."""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Optional, TypedDict

import gevent

from jsvalues import dates
from vminfod.log import Log
from vminfod.serving import jsontext
from vminfod.serving.listener import Event, Listener, ListenerStatus, Selection, Stream, as_chunk
from vminfod.serving.waiting import Waiting

# What a client can resume over. A busy node emits some ten events a second, so this is many minutes.
RING_EVENTS = 10_000
RING_BYTES = 32 << 20

# Bytes and events that one listener may have unsent: a sleeper must not cost the node. Past it the connection is
# closed, and the client resumes by revision. Larger than any burst of a healthy node (all VMs changing at once).
BACKLOG_BYTES = 8 << 20
BACKLOG_EVENTS = 10_000

# Seconds that a listener may take nothing of what waits for it. One that lives needs milliseconds.
STALLED_SECONDS = 60.0
_LOOKS = 12  # within that time


@dataclass(frozen=True)
class Limits:
    """Bounds of the hub, see the constants of those names."""

    ring_events: int = RING_EVENTS
    ring_bytes: int = RING_BYTES
    backlog_bytes: int = BACKLOG_BYTES
    backlog_events: int = BACKLOG_EVENTS
    stalled_seconds: float = STALLED_SECONDS


class RingStatus(TypedDict):
    """What can be resumed over, and how the listeners fare together."""

    epoch: str
    rev: int
    oldestRev: Optional[int]
    ringEvents: int
    ringBytes: int
    slowListenersCut: int


class Hub:
    """Where events come out. `rev` is the revision of the newest. `waiting`: the account of what waits, which others
    use, too."""

    def __init__(self, log: Log, limits: Limits | None = None, waiting: Waiting | None = None):
        self.epoch = str(uuid.uuid4())
        self.rev = 0
        self.limits = limits or Limits()
        self.waiting = waiting or Waiting()
        self.slow_listeners_cut = 0
        self._log = log
        self._listeners: dict[str, Listener] = {}
        self._watch: Optional[gevent.Greenlet] = None  # looks for stalled listeners as long as there are any
        # The newest events in order, their revisions without a gap, the last one `rev`.
        self._ring: deque[Event] = deque()
        self._ring_bytes = 0

    def publish(
        self,
        kind: str,
        names: tuple[str, str],
        body: dict[str, bytes],
        tail: dict[str, bytes],
        changed: Optional[Iterable[str]] = None,
    ) -> int:
        """Number an event of type `kind` and offer it to all; its revision. `names`: zone name and uuid. `body`:
        members as JSON, which follow them; `tail`: those that come last, after epoch and revision."""
        self.rev += 1
        head = {"type": kind, "date": dates.now(), "zonename": names[0], "uuid": names[1]}
        mark = {"epoch": self.epoch, "rev": self.rev}
        pieces = [
            *(jsontext.encode(head)[:-1], *_members(body), b",", jsontext.encode(mark)[1:-1], *_members(tail)),
            b"}\n",
        ]
        event = Event(self.rev, kind, names, None if changed is None else frozenset(changed), as_chunk(*pieces))
        self._keep(event)
        for listener in list(self._listeners.values()):
            self._offer(listener, event)
        self.waiting.bound()
        return event.rev

    def _offer(self, listener: Listener, event: Event) -> None:
        """Append `event`, or cut the listener if its backlog would grow beyond its bounds.

        Into an empty backlog an event goes whatever its bytes: else one VM with metadata of some megabytes, which a
        guest can write, would cut every listener each time it changes. For the same reason a snapshot that is larger
        than half of the bound is allowed for: the listener must have a chance to read it while events come."""
        if listener.cut_reason is not None or not listener.selection.takes(event):
            return
        bound = max(self.limits.backlog_bytes, listener.first + self.limits.backlog_bytes // 2)
        too_large = listener.unsent and listener.unsent + len(event.chunk) > bound
        if too_large or listener.lines_waiting >= self.limits.backlog_events:
            self._cut_slow(listener, "its backlog was full")
        else:
            listener.add(event)

    def _keep(self, event: Event) -> None:
        self._ring.append(event)
        self._ring_bytes += len(event.chunk)
        while len(self._ring) > self.limits.ring_events or self._ring_bytes > self.limits.ring_bytes:
            self._ring_bytes -= len(self._ring.popleft().chunk)

    def can_resume(self, epoch: str, rev: int) -> bool:
        """Whether all events after `rev` are still here."""
        oldest = self._ring[0].rev if self._ring else self.rev + 1
        return epoch == self.epoch and oldest - 1 <= rev <= self.rev

    def subscribe(
        self,
        selection: Selection,
        stream: Stream,
        *,
        vms: Optional[bytes],
        since: Optional[int] = None,
        unreadable: Iterable[str] = (),
    ) -> Listener:
        """A new listener, with its ready line and what it missed since revision `since` in its backlog.

        `vms` is the snapshot as it stands between quotes, None for none; it must be the cache's as of now. `unreadable`
        are the zones that exist, but cannot be read and are not in it. Nothing switches in here: no event falls between
        snapshot and subscription, and none is in both (R4)."""
        listener = Listener(stream, selection, self.waiting)
        head = {"type": "ready", "date": listener.created_date, "uuid": listener.uuid}
        mark: dict[str, Any] = {"epoch": self.epoch, "rev": self.rev}
        if names := sorted(unreadable):
            mark["unreadable"] = names
        start, tail = jsontext.encode(head)[:-1] + b",", jsontext.encode(mark)[1:] + b"\n"
        if vms is None:
            listener.begin_with(start + tail)
        else:
            listener.begin_with(start + b'"vms":"', vms, b'",' + tail)
        if since is not None:
            for event in self._ring:
                if event.rev > since and selection.takes(event):
                    listener.replay(event)
        self._listeners[listener.uuid] = listener
        if self._watch is None or self._watch.ready():
            self._watch = gevent.spawn(self._watch_for_stalled)
            self._watch.name = "stalled listeners"
        self._log.debug("listener came", listener=listener.uuid, userAgent=stream.user_agent, since=since)
        self.waiting.enter(listener, partial(self._cut_slow, listener))
        self.waiting.bound()
        return listener

    def unsubscribe(self, listener: Listener) -> None:
        """The stream of `listener` has ended."""
        if self._listeners.pop(listener.uuid, None) is not None:
            listener.cut("the client closed the connection")
            self.waiting.leave(listener)
            self._log.debug(
                "listener went",
                listener=listener.uuid,
                userAgent=listener.stream.user_agent,
                reason=listener.cut_reason,
                sentLines=listener.sent_lines,
            )

    def _watch_for_stalled(self) -> None:
        while self._listeners:
            gevent.sleep(self.limits.stalled_seconds / _LOOKS)
            now = time.monotonic_ns()
            for listener in list(self._listeners.values()):
                if listener.stalled(now) > self.limits.stalled_seconds * 1e9:
                    self._cut_slow(listener, f"it took nothing for {self.limits.stalled_seconds:g} s")

    def _cut_slow(self, listener: Listener, reason: str) -> None:
        if listener.cut_reason is not None:
            return
        self.slow_listeners_cut += 1
        self._log.warn(
            "cut a listener that does not read",
            listener=listener.uuid,
            userAgent=listener.stream.user_agent,
            rev=self.rev,
            reason=reason,
            backlog={"events": listener.lines_waiting, "bytes": listener.unsent},
            limits={"events": self.limits.backlog_events, "bytes": self.limits.backlog_bytes},
        )
        listener.cut(reason)

    def heartbeat(self) -> bytes:
        """The line that says only that nothing happened up to this revision."""
        body = {"type": "heartbeat", "date": dates.now(), "epoch": self.epoch, "rev": self.rev}
        return jsontext.encode(body) + b"\n"

    def __len__(self) -> int:
        return len(self._listeners)

    def stalled(self, seconds: float) -> list[tuple[str, float, int]]:
        """Who has taken nothing for so long although something waits: user agent, seconds, bytes that wait."""
        now = time.monotonic_ns()
        return [
            (listener.stream.user_agent or "unknown", listener.stalled(now) / 1e9, listener.unsent)
            for listener in self._listeners.values()
            if listener.stalled(now) >= seconds * 1e9
        ]

    def close(self) -> None:
        """End every stream: the daemon stops."""
        for listener in list(self._listeners.values()):
            listener.cut("the daemon stops")

    def dump(self, now: int) -> dict[str, ListenerStatus]:
        """The open streams, by uuid, for /status."""
        return {listener.uuid: listener.dump(now) for listener in self._listeners.values()}

    def dump_ring(self) -> RingStatus:
        """What can be resumed over, for /status."""
        return {
            "epoch": self.epoch,
            "rev": self.rev,
            "oldestRev": self._ring[0].rev if self._ring else None,
            "ringEvents": len(self._ring),
            "ringBytes": self._ring_bytes,
            "slowListenersCut": self.slow_listeners_cut,
        }


def _members(texts: dict[str, bytes]) -> list[bytes]:
    """The pieces of these members of an object, each with the comma before it."""
    return [piece for name, text in texts.items() for piece in (b',"%b":' % name.encode("ascii"), text)]
