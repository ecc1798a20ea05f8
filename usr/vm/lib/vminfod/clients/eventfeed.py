# SPDX-License-Identifier: MPL-2.0
"""One connection to GET /events, read by one thread. Streams, watchers and tools stand on it.

Always: ready() comes first and gives the ready event or raises; then each next() gives one event or raises; after
        an error the connection is closed and nothing more comes from it.
Not here: threads, buffers, reconnecting."""

from __future__ import annotations

from collections import deque
from time import monotonic

from vminfod.bytelines import LineSplitter
from vminfod.clients import eventlines
from vminfod.clients.connection import READY_TIMEOUT, Exchange
from vminfod.clients.failures import IncompleteResponse, StreamError, VminfodError, VminfodTimeout
from vminfod.clients.plainjson import parsed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Optional

    from vminfod.clients.identity import Identity
    from vminfod.clients.shapes import Event


class EventFeed:
    """Connects when made. `query` begins with "?" or is empty (httpwire.query_text); `ready_timeout` in seconds, None
    for no limit; `parse` reads a line's JSON; `waiting` is called once if ready has not come after three seconds.

    Every method but interrupt() belongs to one thread. Raises VminfodError of all kinds."""

    def __init__(
        self,
        identity: Identity,
        *,
        query: str = "",
        ready_timeout: Optional[float] = READY_TIMEOUT,
        parse: Callable[[bytes], Any] = parsed,
        waiting: Optional[Callable[[], object]] = None,
    ) -> None:
        self._parse = parse
        self._ready_timeout = ready_timeout
        self._splitter = LineSplitter(eventlines.MAX_LINE)
        self._lines: deque[bytes] = deque()  # whole lines that came together with the one that was asked for
        deadline = None if ready_timeout is None else monotonic() + ready_timeout
        try:
            self._exchange = Exchange(identity, "/events" + query, deadline=deadline, waiting=waiting)
        except VminfodTimeout as error:
            raise self._ready_timed_out() from error

    def ready(self) -> Event:
        """The ready event; its `vms` stays text."""
        try:
            self._exchange.check_ok()
            event = self._event()
            if event["type"] != "ready":
                raise StreamError("VminfodEventStream did not begin with a ready event")
        except VminfodTimeout as error:
            self.close()
            raise self._ready_timed_out() from error
        except VminfodError:
            self.close()
            raise
        self._exchange.deadline = self._exchange.waiting = None
        return event

    def next(self) -> Event:
        """The next event; waits for ever unless limit_silence() said otherwise."""
        try:
            event = self._event()
            if event["type"] == "ready":
                raise StreamError("VminfodEventStream got a second ready event")
        except VminfodError:
            self.close()
            raise
        return event

    def limit_silence(self, seconds: float) -> None:
        """From now on it is an error if nothing at all comes for so long: for servers that send heartbeats."""
        self._exchange.silence = seconds

    def interrupt(self) -> None:
        """Break the connection from any thread, so that the reading one gets an error."""
        self._exchange.interrupt()

    def close(self) -> None:
        self._exchange.close()

    def _event(self) -> Event:
        while not self._lines:
            try:
                data = self._exchange.body()
            except IncompleteResponse as error:
                raise _ended() from error
            if not data:
                raise _ended()
            lines = self._splitter.feed(data)
            if self._splitter.too_long:
                message = f"VminfodEventStream got a line of more than {eventlines.MAX_LINE} bytes"
                raise StreamError(message, code="EMSGSIZE")
            self._lines.extend(line for line in lines if line)  # empty ones mean nothing
        return eventlines.event_of(self._lines.popleft(), self._parse)

    def _ready_timed_out(self) -> VminfodTimeout:
        return VminfodTimeout(f"VminfodEventStream ready timeout ({(self._ready_timeout or 0) * 1000:.0f}ms) exceeded")


def _ended() -> StreamError:
    return StreamError("VminfodEventStream ended prematurely", code="EPIPE")
