# SPDX-License-Identifier: MPL-2.0
"""Who listens and reads while a simulation runs: threads that only note down what comes over the wire.

      Follower   one /events listener, which can stall, be cut and resume, as clients in the field do
      Reader     GET /vms again and again, and a GET /ping each time

Always: what comes is kept as it came; whether it may is judged later (guarantees.py);
        a follower that has lost its connection resumes after the last event it has dealt with, and begins anew only
        where the daemon refuses that.
        a heartbeat is kept like an event: its revision, too, is one to resume from.
Nothing of the product's client library is used: this is a second reading of docs/http-api.md."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from typing import Any, Optional

from simulation.recording import Chain, Choice, Read, Segment, Vms
from support.running_daemon import RawConnection

ANSWER_WITHIN = 30.0  # seconds; what takes longer is not alive
SMALL_BUFFER = 64 << 10  # bytes that the kernel may take for a listener that stalls
BETWEEN_READS = 0.03  # seconds
BETWEEN_TRIES = 0.05
HEARTBEAT = "heartbeat=0.2"  # seconds: who chose knows by it that there was nothing for it


def by_name(vms: list[dict[str, Any]]) -> Vms:
    return {vm["zonename"]: vm for vm in vms}


class Follower:
    """A listener in a thread of its own. `chain` is what it heard."""

    def __init__(self, name: str, port: int, choice: Choice | None = None):
        self.name = name
        self.chain = Chain(choice or Choice())
        self.trouble: list[str] = []
        self.resumed = False  # whether its connection goes on where another was lost
        self._port = port
        self._last: Optional[tuple[str, int]] = None  # epoch and revision of what it has dealt with
        self._vms: Optional[Vms] = None  # at _last, if it can know
        self._open: Optional[Segment] = None  # of the connection that there is; the last of the chain
        self._lock = threading.Lock()  # around the chain, _open, _last and _vms
        self._reads = threading.Event()
        self._reads.set()
        self._is_there = threading.Event()  # it may connect
        self._is_there.set()
        self._stopping = False
        self._connection: Optional[RawConnection] = None
        self._thread = threading.Thread(target=self._follow, name=f"follower {name}", daemon=True)
        self._thread.start()

    # What a simulation does with it.

    def stall(self) -> None:
        """From now on it reads nothing."""
        self._reads.clear()

    def go_on(self) -> None:
        self._reads.set()

    def leave(self) -> None:
        """Its connection is lost. It resumes when it comes back."""
        self._is_there.clear()
        with self._lock:
            if self._open is not None:
                self._open.ended = "we"
        self._shut()

    def come_back(self) -> None:
        self._is_there.set()

    def caught_up(self, epoch: str, rev: int) -> bool:
        """Whether it has dealt with revision `rev`, or knows by a heartbeat that it has nothing to deal with."""
        with self._lock:
            return self._last is not None and self._last[0] == epoch and self._last[1] >= rev

    def turn(self) -> Chain:
        """The chain so far; a new one begins where that ends."""
        with self._lock:
            done, self.chain = self.chain, Chain(self.chain.choice)
            if self._open is not None and self._last is not None:
                epoch, rev = self._last
                self._open = Segment(None, 200, epoch, rev, rev, _copy(self._vms), ended=self._open.ended)
                self.chain.segments.append(self._open)
            return done

    def stop(self) -> None:
        self._stopping = True
        self._reads.set()
        self.leave()
        self.come_back()
        self._thread.join(ANSWER_WITHIN)

    # Its thread.

    def _shut(self) -> None:
        connection = self._connection
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def _follow(self) -> None:
        while not self._stopping:
            try:
                self._one_connection()
            except (OSError, ValueError, IndexError):
                pass  # the daemon is down, or this connection was lost, if before its head: the chain has it
            except Exception as error:  # noqa: BLE001 boundary: a thread of the simulation; shown at the round's end
                self.trouble.append(f"{self.name}: {type(error).__name__}: {error}")
            time.sleep(0 if self._stopping else BETWEEN_TRIES)
            self._is_there.wait()

    def _one_connection(self) -> None:
        since = self._last
        self.resumed = since is not None
        query = "&".join(
            [self.chain.choice.query(), HEARTBEAT, *([f"since={since[0]}:{since[1]}"] if since else [])]
        ).strip("&")
        connection = self._connection = RawConnection(self._port, ANSWER_WITHIN)
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        request = f"GET /events?{query} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: {self.name}\r\n\r\n"
        try:
            connection.send(request.encode())
            self._reads.wait()
            head = connection.head()
            segment = Segment(since, head.status)
            if head.status != 200:
                length = int(head.headers.get("content-length", 0))
                segment.refusal = json.loads(connection.rest(length) or b"{}")
                segment.ended = "daemon"
                with self._lock:
                    self.chain.segments.append(segment)
                    self._last = self._vms = None
                return
            connection.sock.settimeout(None)
            self._lines(connection, segment)
        finally:
            self._connection = None
            connection.close()

    def _lines(self, connection: RawConnection, segment: Segment) -> None:
        rest = b""
        try:
            while True:
                self._reads.wait()
                piece = connection.chunk()
                if not piece:
                    return
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    self._take(json.loads(line), segment)
        finally:
            with self._lock:
                if self._open is not None:
                    self._open.ended = self._open.ended or ("we" if self._stopping else "daemon")
                self._open = None

    def _take(self, line: dict[str, Any], segment: Segment) -> None:
        now = time.monotonic()
        if line["type"] == "ready":
            self._ready(line, segment)
            return
        with self._lock:
            assert self._open is not None, "an event came before ready"
            self._open.events.append((now, line))
            self._last = (line["epoch"], line["rev"])
            if self._vms is not None and line["type"] != "heartbeat":
                if line["type"] == "delete":
                    self._vms.pop(line["zonename"], None)
                else:
                    self._vms[line["zonename"]] = line["vm"]

    def _ready(self, line: dict[str, Any], segment: Segment) -> None:
        segment.epoch, segment.ready_rev = line["epoch"], line["rev"]
        segment.unreadable = frozenset(line.get("unreadable", []))
        with self._lock:
            if segment.since is None:
                self._vms = by_name(json.loads(line["vms"])) if self.chain.choice.is_all else None
                self._last = (line["epoch"], line["rev"])
                segment.first = line["rev"]
            else:
                segment.first = segment.since[1]
            segment.start = _copy(self._vms)
            self.chain.segments.append(segment)
            self._open = segment


def _copy(vms: Optional[Vms]) -> Optional[Vms]:
    return None if vms is None else dict(vms)


class Reader:
    """Reads /vms as fast as it comes, as long as it is expected to be answered. `trouble`: where it was not."""

    def __init__(self, port: int):
        self.reads: list[Read] = []
        self.trouble: list[str] = []
        self._port = port
        self._due = threading.Event()
        self._last: Optional[tuple[str, int, bytes]] = None
        self._stopping = False
        self._thread = threading.Thread(target=self._read_on, name="reader", daemon=True)
        self._thread.start()

    def expect(self, answers: bool) -> None:
        """Whether the daemon has to answer from now on; what was asked before may fail."""
        if answers:
            self._due.set()
        else:
            self._due.clear()

    def turn(self) -> list[Read]:
        done, self.reads = self.reads, []
        return done

    def stop(self) -> None:
        self._stopping = True
        self._due.set()
        self._thread.join(ANSWER_WITHIN)

    def _read_on(self) -> None:
        while not self._stopping:
            self._due.wait()
            try:
                ask(self._port, "/ping")
                self._note(ask(self._port, "/vms"))
            except (OSError, ValueError, IndexError, AssertionError) as error:
                if self._due.is_set() and not self._stopping:
                    self.trouble.append(f"no answer: {type(error).__name__}: {error}")
                    time.sleep(BETWEEN_TRIES)
            time.sleep(BETWEEN_READS)

    def _note(self, read: tuple[Read, bytes]) -> None:
        """Keep it, unless it is what the one before said."""
        one, body = read
        key = (one.epoch, one.rev, body)
        if key != self._last:
            self._last = key
            self.reads.append(one)


def ask(port: int, path: str, within: float = ANSWER_WITHIN) -> tuple[Read, bytes]:
    """One GET: what was answered, and the body as it came. OSError or ValueError if there is no good answer in time."""
    began = time.monotonic()
    connection = RawConnection(port, within)
    try:
        answer = connection.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()).answer()
    finally:
        connection.close()
    if answer is None:
        raise ConnectionError(f"the daemon closed the connection without an answer to {path}")
    headers = answer.headers
    body = json.loads(answer.body) if answer.status == 200 else answer.body.decode("utf-8", "replace")
    lacks = frozenset(name for name in headers.get("x-vminfod-unreadable", "").split(",") if name)
    epoch, rev = headers["x-vminfod-epoch"], int(headers["x-vminfod-rev"])
    return Read(began, time.monotonic(), path, answer.status, epoch, rev, body, lacks), answer.body
