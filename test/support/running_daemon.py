# SPDX-License-Identifier: MPL-2.0
"""The real daemon as a process, on a mock node, and what a test wants to know of it: its answers, its events, its log.

Nothing here sleeps for a fixed time: everything waits for a state, with a deadline."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Optional

from support import schemacheck
from support.deadlines import SOON
from support.ports import free_port

CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SBIN = os.path.join(CHECKOUT, "usr", "vm", "sbin")

_marks = itertools.count(1)

LOG_WITHIN = 20.0  # seconds for a request whose log record is a mark; a daemon that a test has stopped gives none


def eventually(what: str, check: Callable[[], Any], within: float = SOON) -> Any:
    """The first true value of check(), which is asked again and again; AssertionError after `within` seconds."""
    until = time.monotonic() + within
    pause = 0.005  # seconds, that grow: who asks all the time holds up what is waited for
    while True:
        value = check()
        if value:
            return value
        assert time.monotonic() < until, f"not within {within} s: {what}"
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


class Answer:
    """One HTTP response: `.status`, `.headers` (names in lower case), `.body` (bytes)."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes):
        self.status, self.headers, self.body = status, headers, body

    def json(self) -> Any:
        return json.loads(self.body)


class RawConnection:
    """A TCP connection to the daemon, for requests that no HTTP library would send."""

    def __init__(self, port: int, timeout: float = SOON):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self._file = self.sock.makefile("rb")

    def send(self, data: bytes) -> RawConnection:
        self.sock.sendall(data)
        return self

    def answer(self) -> Optional[Answer]:
        """The next response; None if the daemon closed the connection instead."""
        status = self._file.readline()
        if not status:
            return None
        headers = {}
        while line := self._file.readline().strip():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        if headers.get("transfer-encoding") == "chunked":
            body = b"".join(iter(self.chunk, b""))
        else:
            body = self._file.read(int(headers.get("content-length", 0)))
        return Answer(int(status.split()[1]), headers, body)

    def head(self) -> Answer:
        """Status and headers of a response whose body is a stream."""
        status = self._file.readline()
        headers = {}
        while line := self._file.readline().strip():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        return Answer(int(status.split()[1]), headers, b"")

    def chunk(self) -> bytes:
        """The next piece of a chunked body; empty at its end."""
        size = self._file.readline()
        if not size:
            raise ConnectionError("the connection ended in the midst of a chunked body")
        body = self._file.read(int(size, 16))
        self._file.readline()
        return body

    def rest(self, length: int) -> bytes:
        """The body of `length` bytes whose head was read."""
        return self._file.read(length)

    def close(self) -> None:
        self._file.close()
        self.sock.close()


class EventLines:
    """An open /events stream. `.ready` is its first line; next() gives the events in order."""

    def __init__(self, port: int, query: str = "", headers: Optional[dict[str, str]] = None):
        self.connection = RawConnection(port)
        extra = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        self.connection.send(f"GET /events{query} HTTP/1.1\r\nHost: localhost\r\n{extra}\r\n".encode())
        self.head = self.connection.head()
        self._rest = b""
        self.ready = self.next()
        self.seen: list[dict[str, Any]] = []

    def next(self, within: float = SOON) -> dict[str, Any]:
        """The next line, parsed. TimeoutError or ConnectionError if there is none."""
        self.connection.sock.settimeout(within)
        while b"\n" not in self._rest:
            piece = self.connection.chunk()
            if not piece:
                raise ConnectionError("the stream ended")
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        event = dict(json.loads(line))
        schemacheck.check_event(event)
        return event

    def until(self, check: Callable[[dict[str, Any]], Any], within: float = SOON) -> dict[str, Any]:
        """The first event for which check() is true; those before it are in `.seen`."""
        deadline = time.monotonic() + within
        while True:
            event = self.next(max(0.01, deadline - time.monotonic()))
            self.seen.append(event)
            if check(event):
                return event

    def vms(self) -> list[dict[str, Any]]:
        """The snapshot of the ready line."""
        return list(json.loads(self.ready["vms"]))

    def close(self) -> None:
        self.connection.close()


class RunningDaemon:
    """vminfod on the node at `root`. start() waits until it answers, unless told not to.

    It logs at level debug, unless `options` say otherwise. `program`: another one with vminfod's options.
    `launch`: how its process is got from its words, where it needs no environment of its own (forking.py)."""

    launch: Optional[Callable[[list[str]], Any]] = None

    def __init__(
        self,
        root: str,
        *options: str,
        port: Optional[int] = None,
        environ: Optional[dict[str, str]] = None,
        program: str = os.path.join(SBIN, "vminfod"),
    ):
        self.program = program
        self.root = str(root)
        self.port = port or free_port()
        self.options = options if "--log-level" in options else ("--log-level", "debug", *options)
        self.environ = {**os.environ, **(environ or {})}
        self._plain = environ is None and program == os.path.join(SBIN, "vminfod")
        self.process: subprocess.Popen[bytes]
        self._log: list[bytes] = []
        self.stderr = b""
        self._readers: list[threading.Thread] = []

    def start(self, *, wait: bool = True) -> RunningDaemon:
        words = ["--root", self.root, "--port", str(self.port), *self.options]
        launch = type(self).launch if self._plain else None
        self.process = launch(words) if launch is not None else self._by_itself(words)
        self._readers = [
            threading.Thread(target=self._read_log, args=[self.process.stdout], daemon=True),
            threading.Thread(target=self._read_stderr, args=[self.process.stderr], daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        if wait:
            eventually("the daemon answers", self.answers)
        return self

    def _by_itself(self, words: list[str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, self.program, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environ,
        )

    def answers(self) -> bool:
        """Whether a ping is answered now. AssertionError if the process has ended."""
        assert self.process.poll() is None, f"the daemon ended with {self.process.returncode}: {self.stderr!r}"
        try:
            return self.get("/ping").status == 200
        except OSError:
            return False

    def listens(self) -> bool:
        """Whether anybody takes connections on its port."""
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=SOON).close()
        except ConnectionRefusedError:
            return False
        return True

    def _read_log(self, pipe: Any) -> None:
        for line in pipe:
            self._log.append(line)

    def _read_stderr(self, pipe: Any) -> None:
        for line in pipe:
            self.stderr += line

    def log(self) -> list[dict[str, Any]]:
        """The records logged so far."""
        self._catch_up()
        return [json.loads(line) for line in list(self._log)]

    def _catch_up(self) -> None:
        """Wait until all that was logged before now has come through the pipe: the daemon logs a request of ours."""
        quiet = {"info", "warn", "error", "fatal"} & set(self.options)
        if quiet or self.process.poll() is not None:
            return
        mark = f"/ping?log={next(_marks)}"
        try:
            if self.get(mark, within=LOG_WITHIN).status != 200:
                return
        except (OSError, AssertionError):
            return  # it does not serve yet, or no more
        eventually("the log has come", lambda: any(mark.encode() in line for line in reversed(list(self._log))))

    def logged(self, msg: str, level: int = 0) -> list[dict[str, Any]]:
        """The records whose message contains `msg`, at least at `level`."""
        return [record for record in self.log() if msg in record["msg"] and record["level"] >= level]

    def take_log(self) -> list[dict[str, Any]]:
        """The records logged since the last call; they are kept no longer."""
        taken, self._log = self._log, []
        return [json.loads(line) for line in taken]

    def raw_log(self) -> bytes:
        return b"".join(list(self._log))

    # Asking.

    def request(self, method: str, path: str, headers: Optional[dict[str, str]] = None, within: float = SOON) -> Answer:
        extra = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        connection = RawConnection(self.port, within)
        try:
            answer = connection.send(
                f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{extra}\r\n".encode("latin-1")
            ).answer()
        finally:
            connection.close()
        assert answer is not None, f"no answer to {method} {path}"
        return answer

    def get(self, path: str, headers: Optional[dict[str, str]] = None, within: float = SOON) -> Answer:
        return self.request("GET", path, headers, within)

    def vms(self) -> list[dict[str, Any]]:
        vms = list(self.get("/vms").json())
        for vm in vms:
            schemacheck.check_vm(vm)
        return vms

    def vm(self, key: str) -> Optional[dict[str, Any]]:
        """The VM object; None for a 404."""
        answer = self.get(f"/vms/{key}")
        if answer.status == 404:
            return None
        vm = dict(answer.json())
        schemacheck.check_vm(vm)
        return vm

    def status(self, full: bool = True) -> dict[str, Any]:
        return dict(self.get("/status?full=true" if full else "/status").json())

    def events(self, query: str = "", headers: Optional[dict[str, str]] = None) -> EventLines:
        return EventLines(self.port, query, headers)

    def raw(self) -> RawConnection:
        return RawConnection(self.port)

    def tool(
        self, name: str, *words: str, environ: Optional[dict[str, str]] = None
    ) -> subprocess.CompletedProcess[str]:
        """Run one of the product's command-line tools against this daemon."""
        return subprocess.run(
            [os.path.join(SBIN, name), *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SOON,
            env={**os.environ, "VMINFOD_PORT": str(self.port), **(environ or {})},
            check=False,
        )

    # Ending.

    def stop(self, number: int = signal.SIGTERM, within: float = SOON) -> int:
        """Its exit status after the signal."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            status = self.process.wait(within)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        for reader in self._readers:
            reader.join(within)
        return status

    def wait(self, within: float = SOON) -> int:
        """Its exit status, when it ends by itself."""
        status = self.process.wait(within)
        for reader in self._readers:
            reader.join(within)
        return status

    def __enter__(self) -> RunningDaemon:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()
