# SPDX-License-Identifier: MPL-2.0
"""A client that asks for one path as fast as a server answers, over some connections at once, and the same for all
servers: peers/ask.c where there is a C compiler, else the same in Python.

One thread, epoll, no parsing beyond the head's Content-Length. It needs processor time too: where it is the slower
side, as the one in Python is, a rate says little, and the server's own time for a request says more. Both are given."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import select
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Optional

from bench import PEERS, measuring
from bench.ground import cpu_seconds


@dataclass
class Load:
    """What came of it. Rates are answers a second; times are seconds; `p99`: the 99th percentile of an answer's."""

    answers: int
    seconds: float
    p99: float
    server_cpu: float = 0.0

    @property
    def rate(self) -> float:
        return self.answers / self.seconds

    @property
    def cpu_us(self) -> float:
        """Processor time of the server for one answer, microseconds."""
        return self.server_cpu / self.answers * 1e6


class Asking:
    """One connection, which asks again as soon as it has the whole answer."""

    def __init__(self, port: int, request: bytes, *, keep: bool):
        self.port = port
        self.request = request
        self.keep = keep
        self.connect()

    def connect(self) -> None:
        self.socket = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self) -> None:
        self.began = time.perf_counter()
        self.length = -1  # of head and body, once the head is there
        self.head = b""
        self.got = 0
        self.socket.sendall(self.request)

    def read(self) -> bool:
        """Take what has come; whether the answer is complete. ConnectionError if the server ended it before."""
        data = self.socket.recv(1 << 18)
        if not data:
            raise ConnectionError(f"the server on port {self.port} ended the connection within an answer")
        self.got += len(data)
        if self.length < 0:
            self.head += data
            end = self.head.find(b"\r\n\r\n")
            if end >= 0:
                self.length = end + 4 + content_length(self.head[:end])
        return 0 <= self.length <= self.got


def content_length(head: bytes) -> int:
    """Of an answer's head. ValueError if it is not a 200 with a length."""
    if b" 200 " not in head.partition(b"\r\n")[0]:
        raise ValueError(f"not a good answer: {head[:100]!r}")
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise ValueError(f"an answer without Content-Length: {head[:200]!r}")


@functools.cache
def _compiled() -> Optional[str]:
    """The client in C; None without a compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    folder = tempfile.mkdtemp(prefix="ask-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = os.path.join(folder, "ask")
    subprocess.run([compiler, "-O2", "-o", path, os.path.join(PEERS, "ask.c")], check=True)
    return path


@contextlib.contextmanager
def ahead_of_others(pid: int) -> Iterator[None]:
    """Meanwhile the process, all its threads, and whatever we start come before all that has no real-time priority: on
    a machine that does other work, too. Needs to be root; to be done for moments only."""
    threads = [0, *(int(name) for name in os.listdir(f"/proc/{pid}/task"))]
    _schedule(threads, os.SCHED_RR, 1)
    try:
        yield
    finally:
        _schedule(threads, os.SCHED_OTHER, 0)


def _schedule(threads: list[int], policy: int, priority: int) -> None:
    for thread in threads:
        with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
            os.sched_setscheduler(thread, policy, os.sched_param(priority))


def load(port: int, pid: int, path: str, *, seconds: float, connections: int = 8, keep: bool = True) -> Load:
    """Ask the server `pid` on `port` for `path` over `connections` at once for `seconds`. Without `keep` each request
    has a connection of its own."""
    client = _compiled()
    before = cpu_seconds(pid)
    if client is None:
        found = _asked(port, path, seconds, connections, keep)
    else:
        words = [client, str(port), str(connections), str(seconds), str(int(keep)), path]
        answers, took, _, p99, _ = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
        found = Load(int(answers), float(took), float(p99) / 1e6)
    found.server_cpu = cpu_seconds(pid) - before
    return found


def _asked(port: int, path: str, seconds: float, connections: int, keep: bool) -> Load:
    """The same in Python."""
    close = "" if keep else "Connection: close\r\n"
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{close}\r\n".encode()
    latencies: list[float] = []
    poller = select.epoll()
    asking: dict[int, Asking] = {}

    def begin(one: Asking) -> None:
        asking[one.socket.fileno()] = one
        poller.register(one.socket.fileno(), select.EPOLLIN)
        one.ask()

    for _ in range(connections):
        begin(Asking(port, request, keep=keep))
    began = time.perf_counter()
    until = began + seconds
    while time.perf_counter() < until:
        for number, _ in poller.poll(1.0):
            one = asking[number]
            if not one.read():
                continue
            latencies.append(time.perf_counter() - one.began)
            if one.keep:
                one.ask()
                continue
            poller.unregister(number)
            del asking[number]
            one.socket.close()
            one.connect()
            begin(one)
    took = time.perf_counter() - began
    for one in asking.values():
        one.socket.close()
    poller.close()
    return Load(len(latencies), took, measuring.percentile(latencies, 0.99))
