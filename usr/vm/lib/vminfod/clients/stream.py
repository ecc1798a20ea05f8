# SPDX-License-Identifier: MPL-2.0
"""VminfodEventStream: every event of vminfod in order, and waits for single ones.

    stopped --start()--> running --stop(), error--> stopped

The contract: after `ready` every event arrives once and in order, or the stream raises. To whom: iteration and
read() take events; a wait sees each event that arrives while it is pending and consumes none.

Each start is a _Run with a thread of its own, so that what an old connection still says is dropped (OS-7310).
One lock, the condition `_changed`, guards everything; no callback runs and no socket is read with it held.

Unread events wait in a buffer of UNREAD events; when it is full and no wait is pending, reading from the socket
pauses, and the daemon may cut us. While a wait is pending reading goes on, for else a program that only waits would
stall; what is not read then is dropped beyond UNREAD_WHILE_WAITING, and read() says so with an error."""

from __future__ import annotations

import threading
from collections import deque

from vminfod.clients.connection import READY_TIMEOUT
from vminfod.clients.eventfeed import EventFeed
from vminfod.clients.eventlines import vms_by_zonename
from vminfod.clients.eventwaits import EventWait, EventWaits
from vminfod.clients.failures import Stopped, StreamError, VminfodError, VminfodTimeout
from vminfod.clients.httpwire import query_text
from vminfod.clients.identity import Identity, checked_seconds
from vminfod.clients.plainjson import parsed
from vminfod.clients.wanted import WantedChanges, WantedEvent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType
    from typing import Any, Optional, Union

    from vminfod.clients.clientlog import Logger
    from vminfod.clients.eventwaits import Callback
    from vminfod.clients.shapes import Event

UNREAD = 16  # events; the original's buffer
UNREAD_WHILE_WAITING = 1024  # events of some 5 KB each; a wait lasts seconds, in which a busy node makes hundreds

WHAT = "VminfodEventStream"


class _Run:
    """One start of a stream. Guarded by the stream's lock; `feed` is used by the run's thread alone, except for
    interrupt()."""

    def __init__(self) -> None:
        self.feed: Optional[EventFeed] = None
        self.ready: Optional[Event] = None
        self.unread: deque[Event] = deque()
        self.dropped = 0
        self.over = False  # stopped or failed: from then on nothing is delivered
        self.error: Optional[VminfodError] = None  # set at most once, and never by stop()


class VminfodEventStream:
    """Follows vminfod from construction on. `query` selects events, e.g. {"types": "create,delete"}
    (docs/http-api.md); `heartbeat` lines are delivered only if the query asks for them.

    `parse_ready`: the ready event's `vms`, a JSON text, becomes a dict zonename -> VM object. `waiting` is called, in
    the stream's own thread, if that event has not come after three seconds.
    Errors: VminfodError of all kinds, with this client's name in the text. A stream that failed raises the same
    error from each call until it is started again."""

    def __init__(
        self,
        name: Optional[str] = None,
        *,
        host: Optional[str] = None,
        port: Optional[int] = None,
        socket: Optional[str] = None,
        log: Optional[Logger] = None,
        parse_ready: bool = False,
        ready_timeout: Optional[float] = READY_TIMEOUT,
        query: Union[Mapping[str, object], str, None] = None,
        waiting: Optional[Callable[[], object]] = None,
    ) -> None:
        self._identity = Identity(name, host, port, log, socket)
        self._log = self._identity.log
        self._parse_ready = bool(parse_ready)
        self._ready_timeout = checked_seconds("ready_timeout", ready_timeout)
        self._query = query_text(query)
        self._waiting = waiting
        self._wants_heartbeats = "heartbeat" in (query or "")
        self._changed = threading.Condition()
        self._waits = EventWaits(self._changed, self._log, self._identity.name, self._stop_for_wait)
        self._run = _Run()
        self._run.over = True  # nothing runs yet
        self.start()

    def start(self) -> None:
        """Connect again after stop() or an error. Raises StreamError if the stream is running."""
        with self._changed:
            if not self._run.over:
                raise self._named(StreamError(f"{WHAT} is already running"))
            self._run = _Run()
            threading.Thread(
                target=self._follow, args=(self._run,), daemon=True, name=f"vminfod stream {self._identity.name}"
            ).start()

    def stop(self) -> None:
        """End the stream: nothing is delivered any more, and pending waits end with Stopped. Idempotent."""
        with self._changed:
            self._stop_locked()
        self._waits.call_back()

    def wait_ready(self, timeout: Optional[float] = None) -> Event:
        """The ready event, as soon as it is there. Raises the stream's error, Stopped, and VminfodTimeout after
        `timeout` seconds (None or 0: no limit), which leaves the stream as it is."""
        with self._changed:
            run = self._run
            self._changed.wait_for(lambda: run.ready is not None or run.over, timeout or None)
            if run.ready is not None:
                return run.ready
            if run.over:
                raise self._end_of(run)
            raise self._named(VminfodTimeout(f"{WHAT} wait_ready timeout exceeded"))

    def read(self, timeout: Optional[float] = None) -> Event:
        """The next event. Raises the stream's error after the events that came before it, Stopped after stop(),
        VminfodTimeout after `timeout` seconds (None or 0: no limit)."""
        with self._changed:
            run = self._run
            self._changed.wait_for(lambda: run.unread or run.over or run.dropped, timeout or None)
            event = self._take(run)
            if event is not None:
                return event
            if run.over:
                raise self._end_of(run)
            raise self._named(VminfodTimeout(f"{WHAT} read timeout exceeded"))

    def read_nowait(self) -> Optional[Event]:
        """The next event if one is waiting, else None. Raises the stream's error once no event is left."""
        with self._changed:
            run = self._run
            event = self._take(run)
            if event is None and run.error is not None:
                raise self._end_of(run)
            return event

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        try:
            return self.read()
        except Stopped:
            raise StopIteration from None

    def watch_for_event(
        self,
        obj: dict[str, Any],
        *,
        timeout: Optional[float] = None,
        teardown: bool = False,
        catch_errors: bool = False,
        start_fresh: bool = False,
        callback: Optional[Callback] = None,
    ) -> EventWait:
        """Wait for one event that `obj` is a subset of; the wait's value is that event.

        `timeout` in seconds, then the wait ends with VminfodTimeout; `teardown`: the stream stops with the wait;
        `catch_errors`: an error of the stream ends the wait, and a wait that fails stops the stream;
        `start_fresh`: throw away unread events first; `callback(err, event)` is called once."""
        return self._watch(WantedEvent(obj), timeout, teardown, catch_errors, start_fresh, callback)

    def watch_for_changes(
        self,
        obj: dict[str, Any],
        changes: list[Any],
        *,
        timeout: Optional[float] = None,
        teardown: bool = False,
        catch_errors: bool = False,
        start_fresh: bool = False,
        callback: Optional[Callback] = None,
    ) -> EventWait:
        """Wait until each of `changes` was seen in events that `obj` is a subset of; the value is the last of these
        events. A wanted change has a `path`, in which None stands for any element, and more keys, of which each must
        be met; a list of changes means any one of them. No changes at all: done at once. Options as above."""
        return self._watch(WantedChanges(obj, changes), timeout, teardown, catch_errors, start_fresh, callback)

    def __enter__(self) -> VminfodEventStream:
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.stop()

    def _watch(
        self,
        wanted: Union[WantedEvent, WantedChanges],
        timeout: Optional[float],
        teardown: bool,
        catch_errors: bool,
        start_fresh: bool,
        callback: Optional[Callback],
    ) -> EventWait:
        seconds = checked_seconds("timeout", timeout)
        wait = EventWait(wanted, self._waits, teardown=teardown, catch_errors=catch_errors, callback=callback)
        with self._changed:
            run = self._run
            if start_fresh:
                run.unread.clear()
            self._waits.add(wait)
            if isinstance(wanted, WantedChanges) and wanted.nothing_wanted:
                self._log.warning("watch for no changes at all")
                self._waits.end([wait], None, None)
            else:
                self._show_unread(run, wait)
            if not wait.done and seconds is not None:
                wait.start_timer(seconds)
            self._changed.notify_all()  # reading, if it has paused, goes on for this wait
        self._waits.call_back()
        return wait

    def _show_unread(self, run: _Run, wait: EventWait) -> None:
        """Lock held: a new wait looks at what is waiting, and learns whether anything more will come."""
        for event in run.unread:
            if wait.met_by(event):
                self._waits.end([wait], None, event)
                return
        if run.over and run.error is None:
            self._waits.end([wait], self._named(Stopped(WHAT)), None)
        elif run.error is not None and wait.catch_errors:
            self._waits.end([wait], run.error, None)

    def _follow(self, run: _Run) -> None:
        """The thread of one run."""
        feed: Optional[EventFeed] = None
        try:
            feed = EventFeed(
                self._identity, query=self._query, ready_timeout=self._ready_timeout, waiting=self._waiting
            )
            with self._changed:
                run.feed = feed
                if run.over:
                    return
            ready = feed.ready()
            if self._parse_ready:
                ready["vms"] = vms_by_zonename(ready.get("vms"), parsed)
            with self._changed:
                run.ready = ready
                self._changed.notify_all()
            while self._deliver(run, feed.next()):
                pass
        except VminfodError as error:
            self._fail(run, error)
        except Exception as error:  # noqa: BLE001 - the thread's boundary: whoever waits must not wait for ever
            self._log.exception("stream failed")
            self._fail(run, StreamError(f"{WHAT} failed: {error!r}"))
        finally:
            if feed is not None:
                feed.close()

    def _deliver(self, run: _Run, event: Event) -> bool:
        """Give an event to waits and readers; False when the run is over."""
        if event["type"] == "heartbeat" and not self._wants_heartbeats:
            return not run.over
        with self._changed:
            self._changed.wait_for(lambda: run.over or self._waits or len(run.unread) < UNREAD)
            if run.over:
                return False
            self._waits.offer(event)
            if not run.over:
                run.unread.append(event)
                if len(run.unread) > UNREAD_WHILE_WAITING:
                    run.unread.popleft()
                    run.dropped += 1
                self._changed.notify_all()
        self._waits.call_back()
        return not run.over

    def _take(self, run: _Run) -> Optional[Event]:
        """Lock held: the next unread event. Raises StreamError if some were dropped before it."""
        if run.dropped:
            dropped, run.dropped = run.dropped, 0
            raise self._named(StreamError(f"{WHAT} dropped {dropped} events that nobody read", code="EOVERFLOW"))
        if not run.unread:
            return None
        event = run.unread.popleft()
        self._changed.notify_all()  # there is room again
        return event

    def _fail(self, run: _Run, error: VminfodError) -> None:
        with self._changed:
            if run.over:
                return  # an error of stopping is none
            run.error = self._named(error)
            run.over = True
            self._waits.fail(run.error)
            self._changed.notify_all()
        self._waits.call_back()

    def _stop_locked(self) -> None:
        """Lock held."""
        run = self._run
        if not run.over:
            run.over = True
            if run.feed is not None:
                run.feed.interrupt()
        run.unread.clear()  # also what a stream that failed had still to give
        run.dropped = 0
        self._waits.end_all(self._named(Stopped(WHAT)))
        self._changed.notify_all()

    def _stop_for_wait(self) -> None:
        """Lock held: a wait wants the stream stopped with it; one that failed or was stopped already stays so."""
        if not self._run.over:
            self._stop_locked()

    def _end_of(self, run: _Run) -> VminfodError:
        """Lock held, run over: what to raise. The traceback begins anew, for else each raise would lengthen it."""
        return (run.error or self._named(Stopped(WHAT))).with_traceback(None)

    def _named(self, error: VminfodError) -> VminfodError:
        error.client = self._identity.name
        return error
