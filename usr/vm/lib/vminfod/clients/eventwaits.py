# SPDX-License-Identifier: MPL-2.0
"""Waits for single events on an event stream: the handles that callers wait on, and the list a stream keeps of them.

    pending --event that completes it--> done(event)
            --timeout, error of the stream, cancel(err)--> done(error)
            --cancel(value=...)--> done(value)

Always: a wait ends once; later events, timers and cancels change nothing. Everything is guarded by the stream's
        lock, except for callbacks: each runs once and without it, so that it may use the stream.
        An event reaches every pending wait before the first of them may stop the stream.
Create the wait, then act, then wait: an event that comes between is not lost."""

from __future__ import annotations

import threading
from collections import deque

from vminfod.clients.failures import VminfodTimeout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Optional, Union

    from vminfod.clients.clientlog import ClientLog
    from vminfod.clients.wanted import WantedChanges, WantedEvent

    Callback = Callable[[Optional[BaseException], Any], object]
    from vminfod.clients.shapes import Event

UNMATCHED_KEPT = 10  # events that a timeout's log line shows: enough to see what came instead (L3)


class EventWait:
    """Made by the stream's watch_for_event() and watch_for_changes(). Callers use done, wait() and cancel()."""

    def __init__(
        self,
        wanted: Union[WantedEvent, WantedChanges],
        waits: EventWaits,
        *,
        teardown: bool,
        catch_errors: bool,
        callback: Optional[Callback],
    ) -> None:
        self.teardown = teardown
        self.catch_errors = catch_errors
        self._wanted = wanted
        self._waits = waits
        self._operation = f'vminfod {wanted.operation} "{waits.name}"'
        self._callback = callback
        self._timer: Optional[threading.Timer] = None
        self._unmatched: deque[Event] = deque(maxlen=UNMATCHED_KEPT)
        self._done = False
        self._error: Optional[BaseException] = None
        self._value: Any = None

    @property
    def done(self) -> bool:
        """Has it ended, in whatever way?"""
        return self._done

    def wait(self, timeout: Optional[float] = None) -> Any:
        """The event that completed the wait (or cancel()'s value); raises the error that ended it.

        `timeout` (seconds; None or 0: none) limits this call only and leaves the wait pending: VminfodTimeout."""
        with self._waits.lock:
            if not self._waits.lock.wait_for(lambda: self._done, timeout or None):
                raise VminfodTimeout(f"{self._operation} wait timeout exceeded")
            if self._error is not None:
                raise self._error
            return self._value

    def cancel(self, err: Optional[BaseException] = None, value: Any = None) -> None:
        """End the wait with just these values. On a wait that has ended, only a warning is logged."""
        with self._waits.lock:
            if self._done:
                self._waits.log.warning("cancel of a watch that has ended", watch=self._operation)
                return
            self._waits.end([self], err, value)
        self._waits.call_back()

    # What follows is for the EventWaits, with the lock held unless it says otherwise.

    def start_timer(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, self._time_out)
        self._timer.daemon = True
        self._timer.start()

    def met_by(self, event: Event) -> bool:
        """Look at an event; True if it completes the wait."""
        if self._wanted.met_by(event):
            return True
        self._unmatched.append(event)
        return False

    def settle(self, error: Optional[BaseException], value: Any) -> None:
        self._done = True
        self._error = error
        self._value = value
        self._unmatched.clear()
        if self._timer is not None:
            self._timer.cancel()

    def call_back(self) -> None:
        """Call the callback, without the lock; only the EventWaits calls this, once."""
        if self._callback is None:
            return
        try:
            self._callback(self._error, self._value)
        except (Exception, SystemExit):  # noqa: BLE001 - the user's code in our thread must not end it
            self._waits.log.exception("callback of a watch failed", watch=self._operation)

    def _time_out(self) -> None:
        """The timer's thread, without the lock."""
        with self._waits.lock:
            if self._done:
                return
            error = VminfodTimeout(f"{self._operation} timeout exceeded")
            # Which events, and not the events themselves: they carry metadata.
            unmatched = [{key: event.get(key) for key in ("type", "zonename", "rev")} for event in self._unmatched]
            self._waits.log.error(error.message, unmatched=unmatched)
            self._waits.end([self], error, None)
        self._waits.call_back()


class EventWaits:
    """The pending waits of one stream. Every method but call_back() needs the lock held; after one that may have
    ended a wait, call_back() has to follow without it. `stop_stream` is called with the lock held."""

    def __init__(self, lock: threading.Condition, log: ClientLog, name: str, stop_stream: Callable[[], None]) -> None:
        self.lock = lock
        self.log = log
        self.name = name
        self._stop_stream = stop_stream
        self._pending: list[EventWait] = []
        self._uncalled: deque[EventWait] = deque()  # ended, their callbacks not yet called

    def __bool__(self) -> bool:
        return bool(self._pending)

    def add(self, wait: EventWait) -> None:
        self._pending.append(wait)

    def offer(self, event: Event) -> None:
        """Show an event to all waits and end those that it completes."""
        met = [wait for wait in self._pending if wait.met_by(event)]
        if met:
            self.end(met, None, event)

    def fail(self, error: BaseException) -> None:
        """The stream failed: end the waits that asked to know."""
        self.end([wait for wait in self._pending if wait.catch_errors], error, None)

    def end_all(self, error: BaseException) -> None:
        self.end(list(self._pending), error, None)

    def end(self, waits: list[EventWait], error: Optional[BaseException], value: Any) -> None:
        """End these waits together, and then the stream if one of them wants that."""
        for wait in waits:
            self._pending.remove(wait)
            wait.settle(error, value)
            self._uncalled.append(wait)
        if any(wait.teardown or (wait.catch_errors and error is not None) for wait in waits):
            self._stop_stream()
        self.lock.notify_all()

    def call_back(self) -> None:
        """Call the callbacks of waits that ended, each by whoever comes first, without the lock."""
        while True:
            with self.lock:
                if not self._uncalled:
                    return
                wait = self._uncalled.popleft()
            wait.call_back()
