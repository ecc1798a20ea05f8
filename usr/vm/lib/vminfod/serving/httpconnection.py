# SPDX-License-Identifier: MPL-2.0
"""One connection of a client: what came from it, the answer that goes to it, and the time that it may take for either.
It lives in callbacks of gevent's own loop.

Always: a callback neither blocks nor switches greenlets;
        requests are answered one after the other, in order: the next one is looked at when the kernel has taken the
        whole answer to the one before, and until then no more is read than what came with it;
        a body is read only where a route wants one, on the Unix socket, and within bounds; what follows a body that was
        not read cannot be found, so that the connection ends after the answer;
        who asked for it (watch_end) hears of the end of the client, also while an answer is being made;
        what is sent is not copied: an answer that the client does not take waits as a reference to bytes that may be
        shared, in the account of all that waits (waiting.py), which may cut it;
        a broken connection is closed without a word, a fault of ours costs this one connection and is logged.
Not here: what the answer is (`Front`)."""

from __future__ import annotations

import contextlib
import math
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Optional, Protocol, Union

from gevent import get_hub

from vminfod.serving import peercredentials, requesthead
from vminfod.serving.peercredentials import Peer
from vminfod.serving.requesthead import HeadersTooLarge, LineTooLong, Malformed, Request, remembered
from vminfod.serving.waiting import Unsent, Waiting

HEADER_SECONDS = (
    10.0  # from the request line to the end of the headers, or of the body: local clients need microseconds
)
BODY_BYTES = 16 << 10  # of a request, on the Unix socket; those that have one say in some hundred what they want
IDLE_SECONDS = 300.0  # between two requests of a connection that is kept alive
SEND_SECONDS = 60.0  # for one response to be taken off our hands

Bytes = Union[bytes, memoryview]

_AT_ONCE = 65536  # bytes read in one call
_AHEAD = 65536  # bytes that a client whose end is watched for may send before it has its answer
_JOINED = 32 << 10  # bytes: below, one piece copied together costs less than two to gather
_READ, _WRITE = 1, 2  # of gevent's loop

_REFUSAL = "HTTP/1.1 {}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_TOO_LONG = b"HTTP/1.1 414 Request URI Too Long\r\nConnection: close\r\nContent-length: 0\r\n\r\n"


class Done(NamedTuple):
    """A request that was answered or given up, for the log. `request` is None if it was none; `size`: bytes of the
    answer; `began`: monotonic seconds."""

    request: Optional[Request]
    status: str
    began: float
    size: int = 0
    ready: bool = False


class Front(Protocol):
    """What a connection needs of its server."""

    def answer(self, connection: Connection, request: Request, body: Optional[bytes]) -> None:
        """Answer with send(), now or later. `body`: None if there is one that was not read."""
        ...

    def done(self, connection: Connection, done: Done) -> None:
        """The answer has been taken, or will never be."""
        ...

    def failed(self, connection: Connection, request: Optional[Request], error: Exception) -> None:
        """A fault of ours: for the log."""
        ...

    def cut(self, connection: Connection, request: Optional[Request], reason: str, unsent: int) -> None:
        """The client does not read, and is given up with `unsent` bytes of its answer: for the log."""
        ...

    def closed(self, connection: Connection) -> None:
        """The connection is no more."""
        ...


class Stream(Protocol):
    """What takes a connection over and writes without an end."""

    def on_open(self) -> None:
        """The head is sent: write."""
        ...

    def on_room(self) -> None:
        """There is room again after a write that was not taken whole."""
        ...

    def on_end_of_input(self) -> None:
        """The client sends no more: it wants no more."""
        ...

    def on_gone(self) -> None:
        """The connection is no more."""
        ...


class Connection:
    """A client's connection, from begin() on. `address`: the client's. `listens_on`: the addresses of this machine
    by which it may name it; None for the Unix socket. `waiting`: the account of what waits."""

    __slots__ = (
        "address",
        "deadline",
        "listens_on",
        "_asking",
        "_done",
        "_ends",
        "_front",
        "_heard_all",
        "_is_patient",
        "_on_end",
        "_reader",
        "_received",
        "_request",
        "_sent",
        "_socket",
        "_stream",
        "_unsent",
        "_waiting",
        "_working",
        "_writer",
    )

    def __init__(
        self,
        front: Front,
        sock: socket.socket,
        address: Any,
        listens_on: Optional[frozenset[str]],
        waiting: Waiting,
    ):
        self.address = address
        self.listens_on = listens_on
        self.deadline = time.monotonic() + HEADER_SECONDS  # monotonic seconds; past it expire() is called
        self._front = front
        self._socket: Optional[socket.socket] = sock
        self._reader: Any = None
        self._writer: Any = None
        self._received = b""
        self._asking = False  # a request line has come, its headers not yet
        self._heard_all = False  # the client sends no more
        self._working = False  # an answer is being made
        self._waiting = waiting
        self._unsent: Optional[Unsent] = None  # there is one as long as an answer was not taken whole
        self._request: Optional[Request] = None  # the one that is answered by it
        self._ends = False  # to be closed when all is sent
        self._sent = 0  # bytes of the answer, or of the stream
        self._done: Optional[Done] = None  # what to log when all is sent
        self._stream: Optional[Stream] = None
        self._on_end: Optional[Callable[[], None]] = None
        self._is_patient = False  # idle time has no limit

    def begin(self) -> None:
        """Take in the first request: it has mostly come with the connection."""
        self._on_readable()
        if self._socket is not None and self._reader is None:
            self._reader = get_hub().loop.io(self._socket.fileno(), _READ)
            self._reader.start(self._on_readable)

    @property
    def idle(self) -> bool:
        """Whether nothing is being answered."""
        return not (self._working or self._unsent is not None or self._stream is not None)

    # Reading.

    def _on_readable(self) -> None:
        try:
            if self._socket is None or self._has_other_work():
                return
            data = self._socket.recv(_AT_ONCE)
            # As nearly always: one whole request that came before, and nothing else.
            request = remembered.get(data) if self.idle and not self._received else None
            if request is not None and request.body == 0:
                self._front.answer(self, request, b"")
            else:
                self._take_in(data)
        except BlockingIOError:
            return
        except OSError:
            self.close()
        except Exception as error:  # noqa: BLE001 a fault of ours costs one connection
            self._front.failed(self, None, error)
            self.close()

    def _has_other_work(self) -> bool:
        """Whether what comes now is not for us to read, or is none of a request."""
        if self._stream is not None:
            self._discard(self._stream)
            return True
        if self._working or self._unsent is not None:
            if self._on_end is None:
                self._reader.stop()  # until the answer is out, proceed() starts it
                return True
            if len(self._received) > _AHEAD:
                self.close()  # its end could not be heard
                return True
        return False

    def _discard(self, stream: Stream) -> None:
        """A stream goes only the other way; but its end comes this way."""
        if self._socket is not None and not self._socket.recv(_AT_ONCE):
            self._reader.stop()
            stream.on_end_of_input()

    def _take_in(self, data: bytes) -> None:
        if data:
            self._received += data
        else:
            self._heard_all = True
            if self._reader is not None:
                self._reader.stop()
            if self._received:
                # More will not come: that was the head.
                self._received += b"\r\n" if self._received.endswith(b"\n") else b"\r\n\r\n"
            self._tell_end()
        self.proceed()

    def proceed(self) -> None:
        """Answer what has come, as far as the client takes the answers."""
        while self._received and self._socket is not None and self.idle and not self._ends:
            if not self._answer_next():
                break
        if self._socket is None or not self.idle:
            return
        if self._heard_all:
            self.close()
        elif self._reader is not None and not self._reader.active:
            self._reader.start(self._on_readable)

    def _answer_next(self) -> bool:
        """Whether there was a whole request."""
        try:
            found = requesthead.cut(self._received, BODY_BYTES if self.listens_on is None else 0)
            if found is None:
                return self._wait_for_rest()
        except LineTooLong:
            self._refuse("414 Request URI Too Long", _TOO_LONG)
            return False
        except HeadersTooLarge:
            self._refuse("431 Request Header Fields Too Large")
            return False
        except Malformed:
            self._refuse("400 Bad Request")
            return False
        self._received = self._received[found.size :]
        self._asking = False
        self._front.answer(self, found.request, found.body)
        return True

    def _wait_for_rest(self) -> bool:
        if self._heard_all:
            raise Malformed("a body that ends too early")
        if not self._asking and requesthead.has_request_line(self._received):
            self._asking = True
            self.deadline = time.monotonic() + HEADER_SECONDS
        return False

    def wait_for_answer(self) -> None:
        """It takes longer; send() and proceed() will be called."""
        self._working = True
        self.deadline = math.inf

    def _refuse(self, status: str, answer: Optional[bytes] = None) -> None:
        """What came is no request: a short answer and the end."""
        self._received = b""
        self.send(answer or _REFUSAL.format(status).encode(), b"", None, Done(None, status, time.monotonic()), True)

    # Writing.

    def send(self, head: bytes, body: bytes, request: Optional[Request], done: Optional[Done], ends: bool) -> None:
        """Send this answer to `request`. `done` is handed on when the client has taken it. `ends`: close then."""
        self._working = False
        self._done, self._ends = done, ends
        if self._socket is None:
            self._finish("aborted: the client went")
            return
        size = len(head) + len(body)
        try:
            self._sent = self._socket.send(head + body) if size <= _JOINED else self._socket.sendmsg((head, body))
        except BlockingIOError:
            self._sent = 0
        except OSError as error:
            self._finish(f"aborted: {error}")
            self.close()
            return
        if self._sent == size:
            self._on_all_sent()
            return
        self.deadline = time.monotonic() + SEND_SECONDS
        self._request = request
        self._unsent = Unsent(self._waiting, _without([memoryview(head), memoryview(body)], self._sent))
        self._waiting.enter(self._unsent, self._cut)
        self.wait_for_room()
        self._waiting.bound()

    def wait_for_room(self) -> None:
        """Have on_room() called, or go on with the answer, when the kernel can take more."""
        if self._writer is None and self._socket is not None:
            self._writer = get_hub().loop.io(self._socket.fileno(), _WRITE)
        if self._writer is not None and not self._writer.active:
            self._writer.start(self._on_writable)

    def _on_writable(self) -> None:
        try:
            self._write_on()
        except Exception as error:  # noqa: BLE001 a fault of ours costs one connection
            self._front.failed(self, None, error)
            self.close()

    def _write_on(self) -> None:
        if self._unsent is None:
            self._writer.stop()
            if self._stream is not None:
                self._stream.on_room()
            return
        try:
            taken = self.write(self._unsent.next_pieces())
        except OSError as error:
            self._finish(f"aborted: {error}")
            self.close()
            return
        self._unsent.took(taken)
        if not self._unsent:
            self._unsent = None
            self._writer.stop()
            self._on_all_sent()
            self.proceed()

    def write(self, pieces: Sequence[Bytes]) -> int:
        """How many of these bytes the kernel takes now. OSError: the connection is broken."""
        if self._socket is None:
            raise ConnectionError("the connection is closed")
        try:
            taken = self._socket.sendmsg(pieces)
        except BlockingIOError:
            return 0
        self._sent += taken
        return taken

    def _on_all_sent(self) -> None:
        if self._stream is not None:
            self.deadline = math.inf  # from here on the hub limits what waits, and for how long
            self._stream.on_open()
            self._watch_for_end(self._stream)
            return
        if self._done is not None:
            self._finish()
        if self._ends:
            self.end()
        else:
            self.deadline = math.inf if self._is_patient else time.monotonic() + IDLE_SECONDS

    def _finish(self, instead: Optional[str] = None) -> None:
        done, self._done = self._done, None
        if done is not None:
            self._front.done(self, done._replace(size=self._sent, status=instead or done.status))

    # The client.

    def peer(self) -> Peer:
        """The process at the other end of the Unix socket."""
        return Peer() if self._socket is None else peercredentials.of(self._socket)

    def watch_end(self, on_end: Optional[Callable[[], None]], *, is_patient: bool = True) -> None:
        """From now on have on_end() called, once, when the client sends no more or the connection is no more, also
        while an answer is being made; None: not any more. `is_patient`: and let it be idle for as long as it wants."""
        self._on_end = on_end
        self._is_patient = on_end is not None and is_patient
        if on_end is None:
            return
        if self._heard_all or self._socket is None:
            self._tell_end()
        elif self._reader is not None and not self._reader.active:
            self._reader.start(self._on_readable)

    def _tell_end(self) -> None:
        on_end, self._on_end = self._on_end, None
        self._is_patient = False
        if on_end is not None:
            on_end()

    # Streams.

    def take_over(self, stream: Stream) -> None:
        """From the next answer's head on, this connection is `stream`'s."""
        self._stream = stream

    def _watch_for_end(self, stream: Stream) -> None:
        if self._heard_all:
            stream.on_end_of_input()
        elif self._reader is not None and not self._reader.active:
            self._reader.start(self._on_readable)

    # The end.

    def expire(self) -> None:
        """The deadline has passed."""
        if self._unsent is not None:
            self._cut(f"the answer was not taken in {SEND_SECONDS:g} s")
        elif self._asking:
            self._asking = False
            self._refuse("408 Request Timeout")
        else:
            self.close()

    def _cut(self, reason: str) -> None:
        """The client does not read, and others need the room."""
        if self._unsent is not None:
            self._front.cut(self, self._request, reason, len(self._unsent))
        self._finish(f"aborted: {reason}")
        self.close()

    def end(self) -> None:
        """Close after the last answer. What came and was not asked for is read first: the kernel would tell the client
        of a broken connection otherwise, and that may overtake the answer."""
        if self._socket is not None:
            with contextlib.suppress(OSError):  # nothing came, or the client has gone
                self._socket.recv(_AT_ONCE)
        self.close()

    def close(self) -> None:
        """At once, also in the midst of something."""
        sock, self._socket = self._socket, None
        if sock is None:
            return
        for watcher in (self._reader, self._writer):
            if watcher is not None:
                watcher.stop()
                watcher.close()
        self._reader = self._writer = None
        if self._unsent is not None:
            self._unsent.drop()
            self._unsent = None
        sock.close()
        self._tell_end()
        self._front.closed(self)
        stream, self._stream = self._stream, None
        if not self._working:
            self._finish(None if stream is not None else "aborted: the client went")
        if stream is not None:
            stream.on_gone()


def _without(pieces: Sequence[memoryview], count: int) -> list[memoryview]:
    """The pieces without their first `count` bytes, and without those that are empty."""
    left = []
    for piece in pieces:
        if count >= len(piece):
            count -= len(piece)
            continue
        left.append(piece[count:])
        count = 0
    return left
