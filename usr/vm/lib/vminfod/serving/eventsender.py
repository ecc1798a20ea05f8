# SPDX-License-Identifier: MPL-2.0
"""Sends what waits for the listeners of /events, from callbacks of gevent's loop.

Always: in one turn a listener gets all that waits for it in one call to the kernel, however many events came; one that
        does not take it waits for room, and costs nothing until then;
        a stream that is cut ends in good order (the last chunk of the body) if nothing of a line was left behind, else
        in the midst, so that the client can see it.
Not here: what waits (listener.py), and who is cut (hub.py)."""

from __future__ import annotations

import contextlib
import time
from typing import Any, Optional

from gevent import get_hub

from vminfod.serving.httpconnection import Connection
from vminfod.serving.hub import Hub
from vminfod.serving.listener import Listener

# So sending takes a quarter of a burst, and an event in it waits for some 4 ms where there are 300 listeners. Past
# _REST_MOST seconds everything else has just as long as sending took.
_REST, _REST_MOST = 3, 0.01

_LAST_CHUNK = b"0\r\n\r\n"


class Turn:
    """The senders that have something to do. Each time that they have had their turn, everything else has some times as
    long as that took: for a few listeners that is nothing, and for hundreds it lets the events of a burst gather, to be
    sent together."""

    def __init__(self) -> None:
        self._due: list[Sender] = []
        self._loop = get_hub().loop
        self._rest: Any = None  # the timer of the next turn, if that is not at once
        self._not_before = 0.0  # monotonic seconds

    def add(self, sender: Sender) -> None:
        """Have flush() called, once, soon."""
        if not self._due:
            wait = self._not_before - time.monotonic()
            if wait <= 0:
                self._loop.run_callback(self._flush)
            else:
                self._rest = self._loop.timer(wait)
                self._rest.start(self._flush)
        self._due.append(sender)

    def _flush(self) -> None:
        if self._rest is not None:
            self._rest.stop()
            self._rest.close()
            self._rest = None
        began = time.monotonic()
        due, self._due = self._due, []
        for sender in due:
            sender.flush()
        now = time.monotonic()
        took = now - began
        self._not_before = now + max(took, min(_REST * took, _REST_MOST))


class Sender:
    """The stream of one listener on a connection. `heartbeat`: seconds of silence before a line that says so; None:
    never. `framed`: the body is sent in chunks."""

    def __init__(self, hub: Hub, turn: Turn, connection: Connection, heartbeat: Optional[float], *, framed: bool):
        self._hub = hub
        self._turn = turn
        self._connection = connection
        self._framed = framed
        self._listener: Optional[Listener] = None
        self._open = False  # the head is sent, and the connection is still there
        self._behind = False  # the kernel did not take all of what was there
        self._due = False
        self._heartbeat: Any = None if heartbeat is None else get_hub().loop.timer(heartbeat, heartbeat)

    def listen(self, listener: Listener) -> None:
        """What waits for `listener` is sent from on_open() on."""
        self._listener = listener

    # Called by the listener.

    def on_lines(self) -> None:
        """There is something to send."""
        if not (self._due or self._behind) and self._open:
            self._due = True
            self._turn.add(self)

    def on_cut(self) -> None:
        """The stream has to end."""
        if not self._due and self._open:
            self._due = True
            self._turn.add(self)

    # Called by the connection.

    def on_open(self) -> None:
        """The head is sent."""
        self._open = True
        self.flush()

    def on_room(self) -> None:
        """The kernel can take more."""
        self._behind = False
        self.flush()

    def on_end_of_input(self) -> None:
        """The client has closed its side, or all of it."""
        if self._listener is not None:
            self._hub.unsubscribe(self._listener)

    def on_gone(self) -> None:
        """The connection is no more."""
        self._open = False
        if self._heartbeat is not None:
            self._heartbeat.stop()
            self._heartbeat.close()
            self._heartbeat = None
        if self._listener is not None:
            self._hub.unsubscribe(self._listener)

    # Sending.

    def flush(self) -> None:
        """Send what waits, as far as the kernel takes it."""
        self._due = False
        listener = self._listener
        if not self._open or listener is None:
            return
        if listener.cut_reason is not None:
            self._end()
            return
        if self._behind:
            return
        pieces = listener.waiting()
        try:
            taken = self._connection.write(pieces) if pieces else 0
        except OSError:
            self._connection.close()
            return
        listener.sent(taken)
        if listener.unsent:
            self._behind = True
            self._connection.wait_for_room()
        elif self._heartbeat is not None:
            self._heartbeat.again(self._on_silence)

    def _end(self) -> None:
        if self._behind:
            self._connection.close()
            return
        if self._framed:
            with contextlib.suppress(OSError):  # the client did not wait for it
                self._connection.write([_LAST_CHUNK])
        self._connection.end()

    def _on_silence(self) -> None:
        if self._listener is not None and self._listener.cut_reason is None and not self._behind:
            self._listener.add_line(self._hub.heartbeat())
            self.flush()
