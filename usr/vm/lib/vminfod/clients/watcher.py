# SPDX-License-Identifier: MPL-2.0
"""VminfodWatcher: a local mirror of all VMs that outlives the daemon's restarts.

    connecting --ready--> following --error--> waiting --backoff--> connecting     stop() ends it from anywhere

The contract: after `ready` the mirror goes through the states of the daemon in order; each callback runs after the
mirror shows its event. A reconnect is invisible except as an "error" callback: the watcher resumes by revision and so
gets what it missed, or, where it cannot (another daemon run, too long away, a daemon without revisions), it lists anew
and turns the difference into ordinary events. Such a difference may skip states in between, never the last one.

A zone that exists but cannot be read by the daemon is not taken for deleted: its VM stays as it was last seen, and
`ready` names it in `unreadable`.

Iterate over it, or register callbacks, or both. All callbacks run in the watcher's own thread, one after the other
(but see on() for a late "ready"); one that raises is logged and the next one runs.
A daemon with revisions is asked for heartbeats, so that a connection that died without a word is noticed."""

from __future__ import annotations

import threading
from collections import deque
from time import monotonic

from vminfod.backoff import Backoff
from vminfod.clients.connection import READY_TIMEOUT
from vminfod.clients.eventfeed import EventFeed
from vminfod.clients.eventlines import vms_by_zonename
from vminfod.clients.failures import HTTPStatusError, ParseError, Stopped, StreamError, VminfodError, VminfodTimeout
from vminfod.clients.httpwire import query_text
from vminfod.clients.identity import Identity, checked_seconds
from vminfod.clients.mirror import Mirror
from vminfod.clients.plainjson import parsed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType
    from typing import Any, Optional

    from vminfod.clients.clientlog import Logger
    from vminfod.clients.shapes import Event, Vm

BACKOFF_FIRST = 0.1  # seconds; doubled after each failure, with jitter: a node's clients should not come back as one
BACKOFF_MOST = 5.0  # seconds; a daemon that starts on a big node is not asked more often than this
HEARTBEAT = 10.0  # seconds of silence after which the daemon says that it is there
SHORTEST_WAIT = 0.001  # seconds; 0 would mean no limit
SILENCE = 3 * HEARTBEAT  # seconds; a daemon may be late, but not by two heartbeats

UNREAD = 1024  # events of some 5 KB each; past it the watcher waits for who iterates, and so does the daemon's backlog

TOPICS = ("ready", "create", "modify", "delete", "event", "error")
GONE = 410  # the daemon no longer has, or never had, the revision that we want to resume from


class VminfodWatcher:
    """Connects at once and, with `reconnect`, for ever. Arguments as in VminfodEventStream.

    `callbacks` are for on(), a topic each, and registered before it connects, so that they see every event. They can be
    called before the constructor has returned: one that uses the watcher itself is registered with on().
    With reconnect=False the first error ends it, and is raised by whoever waits then or later."""

    def __init__(
        self,
        name: Optional[str] = None,
        *,
        host: Optional[str] = None,
        port: Optional[int] = None,
        socket: Optional[str] = None,
        log: Optional[Logger] = None,
        ready_timeout: Optional[float] = READY_TIMEOUT,
        reconnect: bool = True,
        callbacks: Optional[Mapping[str, Callable[[Any], object]]] = None,
    ) -> None:
        self._identity = Identity(name, host, port, log, socket)
        self._log = self._identity.log
        self._ready_timeout = checked_seconds("ready_timeout", ready_timeout)
        self._reconnect = bool(reconnect)
        self._changed = threading.Condition()  # guards all fields below
        self._mirror = Mirror()  # changed by the watcher's thread alone
        self._ready: Optional[Event] = None  # the first ready event, its list aside: the mirror is filled
        self._callbacks: dict[str, list[Callable[[Any], object]]] = {topic: [] for topic in TOPICS}
        self._feed: Optional[EventFeed] = None
        self._stopped = False
        self._error: Optional[VminfodError] = None  # the last one; with reconnect=False also the end
        self._ended = False
        for topic, callback in (callbacks or {}).items():
            self.on(topic, callback)
        threading.Thread(
            target=self._stay_connected, daemon=True, name=f"vminfod watcher {self._identity.name}"
        ).start()

    def on(self, topic: str, callback: Callable[[Any], object]) -> None:
        """Call `callback` with each "create", "modify" or "delete" event, "event" (any of the three, afterwards),
        "ready" (the first ready event; if it has been, at once and in the caller's thread), "error" (a VminfodError; a
        reconnect follows).

        Register first and read vms() then: together they miss nothing. Raises ValueError for another topic, TypeError
        for what cannot be called."""
        if not callable(callback):
            raise TypeError(f"callback must be callable, not {type(callback).__name__}")
        if topic not in TOPICS:
            raise ValueError(f"no such topic: {topic!r}; there are {', '.join(TOPICS)}")
        with self._changed:
            self._callbacks[topic].append(callback)
            late = topic == "ready" and self._ready is not None
            ready = self._ready_event() if late else None
        if late:
            self._call(callback, topic, ready)

    def wait_ready(self, timeout: Optional[float] = None) -> Event:
        """The first ready event, with the VMs and the revision of now, once the mirror is filled.

        Raises VminfodTimeout after `timeout` seconds (None or 0: no limit), Stopped, and with reconnect=False the
        error that ended the watcher."""
        with self._changed:
            self._wait("ready", lambda: self._ready is not None, timeout)
            return self._ready_event()

    def wait_for_rev(self, rev: int, timeout: Optional[float] = None, *, epoch: Optional[str] = None) -> None:
        """Return when the mirror shows revision `rev` of the daemon's run `epoch`, or has moved on to a later run.

        Give the `epoch` that came with `rev`. Without it the run is meant that the mirror follows now, which can be
        the old one if the daemon has just been restarted.
        Raises as wait_ready() does, and StreamError if the daemon has no revisions."""
        deadline = monotonic() + timeout if timeout else None
        with self._changed:
            self._wait("ready", lambda: self._ready is not None, timeout)
            mirror = self._mirror
            if mirror.epoch is None:
                raise self._named(StreamError("the daemon has no revisions", code="ENOTSUP"))
            run = mirror.epoch if epoch is None else epoch
            self._wait(
                f"revision {rev}",
                lambda: mirror.has_shown(run, rev),
                None if deadline is None else max(deadline - monotonic(), SHORTEST_WAIT),
            )

    def vms(self) -> dict[str, Vm]:
        """All VMs by zonename: a copy of the index. The objects are the mirror's own; do not change them."""
        with self._changed:
            return dict(self._mirror.vms)

    def vm(self, zonename: str) -> Optional[Vm]:
        """One VM object, or None."""
        with self._changed:
            return self._mirror.vms.get(zonename)

    def __iter__(self) -> Iterator[Event]:
        """Every create, modify and delete from here on, each after the mirror shows it, across reconnects, until
        stop(). Each iteration gets all of them.

        Who does not keep up holds the watcher back, not the process's memory: past UNREAD events it reads no more of
        the daemon, which cuts it in the end, and it resumes. With reconnect=False the error that ends it is raised."""
        unread: deque[Event] = deque()
        taking = [True]

        def take(event: Event) -> None:
            with self._changed:
                self._changed.wait_for(lambda: len(unread) < UNREAD or self._stopped or not taking)
                unread.append(event)
                self._changed.notify_all()

        self.on("event", take)
        taken = self._taken(unread, taking, take)
        next(taken)
        return taken

    def _taken(self, unread: deque[Event], taking: list[bool], take: Callable[[Any], object]) -> Iterator[Event]:
        try:
            yield {}  # for __iter__: one that has not begun would end without a word when nobody wants it any more
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: unread or self._stopped or self._ended)
                    if self._stopped or not unread:
                        break
                    event = unread.popleft()
                    self._changed.notify_all()
                yield event
        finally:
            with self._changed:
                taking.clear()
                self._callbacks["event"].remove(take)
                self._changed.notify_all()
        if self._error is not None and not self._stopped:
            raise self._error.with_traceback(None)

    def stop(self) -> None:
        """End it: no callback begins any more, the mirror stays as it is. Idempotent."""
        with self._changed:
            self._stopped = True
            if self._feed is not None:
                self._feed.interrupt()
            self._changed.notify_all()

    def __enter__(self) -> VminfodWatcher:
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.stop()

    def _ready_event(self) -> Event:
        """Lock held, mirror filled."""
        mirror = self._mirror
        event: Event = {} if self._ready is None else {**self._ready}
        event["vms"] = dict(mirror.vms)
        if mirror.epoch is not None:
            event["epoch"], event["rev"] = mirror.epoch, mirror.rev
        event.pop("unreadable", None)  # those of then
        if mirror.unreadable:
            event["unreadable"] = sorted(mirror.unreadable)
        return event

    def _wait(self, what: str, condition: Callable[[], bool], timeout: Optional[float]) -> None:
        """Lock held."""
        self._changed.wait_for(lambda: condition() or self._stopped or self._ended, timeout or None)
        if condition():
            return
        if self._stopped:
            raise self._named(Stopped("VminfodWatcher"))
        if self._ended and self._error is not None:
            raise self._error.with_traceback(None)  # each raise would lengthen it
        because = f": {self._error.message}" if self._error is not None and self._feed is None else ""
        raise self._named(VminfodTimeout(f"VminfodWatcher {what} timeout exceeded{because}"))

    def _stay_connected(self) -> None:
        """The watcher's thread: follow, and when that breaks, back off and follow again."""
        backoff = Backoff(BACKOFF_FIRST, BACKOFF_MOST)
        while not self._stopped:
            began = monotonic()
            try:
                feed, ready = self._connect()
                self._take_ready(ready)
                self._follow(feed)
            except VminfodError as error:
                failure = error
            except Exception as error:  # noqa: BLE001 - the thread's boundary: the mirror must not silently stand still
                self._log.exception("watcher failed")
                failure = StreamError(f"VminfodWatcher failed: {error!r}")
                self._forget_position()
            finally:
                self._drop_feed()
            if self._stopped:
                return
            if not self._report(failure):
                return
            if monotonic() - began > BACKOFF_MOST:  # not by a mere ready event: a daemon that cuts us after each one
                backoff.reset()  # would have to send its whole list ten times a second
            with self._changed:
                self._changed.wait_for(lambda: self._stopped, backoff.next())

    def _connect(self) -> tuple[EventFeed, Event]:
        """A feed and its ready event; resumed where possible, else from a new list."""
        position = self._mirror.position
        query = {"heartbeat": f"{HEARTBEAT:g}", "since": position}
        feed = EventFeed(self._identity, query=query_text(query), ready_timeout=self._ready_timeout)
        with self._changed:
            self._feed = feed
            if self._stopped:
                raise self._named(Stopped("VminfodWatcher"))
        try:
            return feed, feed.ready()
        except HTTPStatusError as error:
            if error.status_code != GONE or position is None:
                raise
        self._log.info("cannot resume, listing anew", position=position)
        self._forget_position()
        self._drop_feed()
        return self._connect()

    def _take_ready(self, ready: Event) -> None:
        """Bring the mirror to where the new feed begins."""
        if "vms" not in ready:
            if not self._mirror.continues_at(ready):
                raise self._distrusted("resumed at another place than asked for")
            return
        try:
            vms = vms_by_zonename(ready["vms"], parsed)
        except ParseError:
            self._forget_position()
            raise
        if self._ready is None:
            with self._changed:
                self._mirror.fill(vms, ready)
                self._ready = {**ready, "vms": {}}
                event = self._ready_event()
                callbacks = list(self._callbacks["ready"])  # who comes later is called by on()
                self._changed.notify_all()
            for callback in callbacks:
                self._call(callback, "ready", event)
            return
        for event in self._mirror.events_towards(vms, ready):
            self._apply(event)
        with self._changed:
            if not self._stopped:  # else the events may not have been applied
                self._mirror.fill(vms, ready)
            self._changed.notify_all()

    def _follow(self, feed: EventFeed) -> None:
        if self._mirror.epoch is not None:
            feed.limit_silence(SILENCE)
        while not self._stopped:
            try:
                event = feed.next()
            except VminfodTimeout:
                raise StreamError(f"VminfodEventStream was silent for {SILENCE:g} s", code="ETIMEOUT") from None
            except ParseError:
                self._forget_position()
                raise
            step = self._mirror.step_of(event)
            if step == "gap":
                raise self._distrusted("VminfodEventStream left out events")
            if step == "known":
                continue
            if event["type"] not in ("create", "modify", "delete"):
                raise self._distrusted(f"VminfodEventStream sent an unknown type of event: {event['type']!r}")
            self._apply(event)

    def _apply(self, event: Event) -> None:
        """Change the mirror, then call the callbacks."""
        try:
            with self._changed:
                if self._stopped:
                    return
                shown = self._mirror.as_seen_from_here(event)
                self._mirror.apply(event)
                self._changed.notify_all()
        except ParseError:
            self._forget_position()
            raise
        if shown is not None:
            self._tell(shown["type"], shown)
            self._tell("event", shown)

    def _tell(self, topic: str, argument: Any) -> None:
        with self._changed:
            callbacks = list(self._callbacks[topic])
        for callback in callbacks:
            if not self._stopped:
                self._call(callback, topic, argument)

    def _call(self, callback: Callable[[Any], object], topic: str, argument: Any) -> None:
        try:
            callback(argument)
        except (Exception, SystemExit):  # noqa: BLE001 - the user's code in our thread must not end it
            self._log.exception("callback failed", topic=topic)

    def _report(self, error: VminfodError) -> bool:
        """Make the error known; False if it is the end."""
        with self._changed:
            self._error = self._named(error)
            self._ended = not self._reconnect
            self._changed.notify_all()
        self._log.warning("lost vminfod", err=str(error), reconnect=self._reconnect)
        self._tell("error", error)
        return self._reconnect

    def _drop_feed(self) -> None:
        with self._changed:
            feed, self._feed = self._feed, None
        if feed is not None:
            feed.close()

    def _forget_position(self) -> None:
        with self._changed:
            self._mirror.position = None

    def _distrusted(self, message: str) -> StreamError:
        """The stream cannot be trusted any more: list anew after it."""
        self._forget_position()
        return StreamError(message)

    def _named(self, error: VminfodError) -> VminfodError:
        error.client = self._identity.name
        return error
