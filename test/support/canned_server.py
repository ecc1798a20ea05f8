# SPDX-License-Identifier: MPL-2.0
"""A real TCP server that says what a test tells it to, byte for byte: what a client must survive.

A script is a list of steps for one connection: bytes are sent as they are; a threading.Event is waited for; HANG keeps
the connection open without a word until the client or the test ends; RESET breaks it so that the client sees
ECONNRESET. After the last step the connection is closed."""

import contextlib
import json
import socket
import struct
import threading

from support.deadlines import SOON

HANG = "hang"
RESET = "reset"
STEP_LIMIT = SOON  # seconds that a step may wait before a forgotten event fails the test instead of hanging it


class Request:
    """What a client asked: `path` with the query, `headers` by lower-case name."""

    def __init__(self, head):
        lines = head.decode("utf-8").split("\r\n")
        self.line = lines[0]
        self.path = lines[0].split(" ")[1] if lines[0].count(" ") == 2 else ""
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}


class CannedServer:
    """`answers` maps a path to a script, or to a list of scripts of which each request takes the next one and the
    last is used for all later ones; paths are looked up with and then without their query.

    `socket_path`: listen on a unix socket there instead of on a port."""

    def __init__(self, answers, socket_path=None):
        self.answers = dict(answers)
        self.requests = []
        self._asked = threading.Condition()
        self._served = {}
        self._closing = threading.Event()
        self._connections = []
        self._threads = []
        if socket_path is None:
            self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
            self.port = self._socket.getsockname()[1]
        else:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._socket.bind(socket_path)
            self._socket.listen(64)
        self._spawn(self._accept)

    def wait_for_requests(self, count, timeout=SOON):
        with self._asked:
            assert self._asked.wait_for(lambda: len(self.requests) >= count, timeout), (
                f"{len(self.requests)} requests instead of {count}"
            )

    def close(self):
        self._closing.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for connection in self._connections:
            with contextlib.suppress(OSError):  # that client went away first
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(STEP_LIMIT)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _spawn(self, function, *args):
        thread = threading.Thread(target=function, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self):
        while not self._closing.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self._connections.append(connection)
            self._spawn(self._serve, connection)

    def _serve(self, connection):
        with connection:
            try:
                head = b""
                while b"\r\n\r\n" not in head:
                    data = connection.recv(65536)
                    if not data:
                        return
                    head += data
                request = Request(head.partition(b"\r\n\r\n")[0])
                with self._asked:
                    self.requests.append(request)
                    script = self._next_script(request.path)
                    self._asked.notify_all()
                self._play(connection, script)
            except OSError:
                return  # the client went away, which it may

    def _next_script(self, path):
        key = path if path in self.answers else path.partition("?")[0]
        if key not in self.answers:
            return plain_answer(404, "Unsupported URL Path")
        answer = self.answers[key]
        if answer and isinstance(answer[0], list):
            turn = self._served.get(key, 0)
            self._served[key] = turn + 1
            return answer[min(turn, len(answer) - 1)]
        return answer

    def _play(self, connection, script):
        if connection.family == socket.AF_INET:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for step in script:
            if step == HANG:
                while not self._closing.is_set() and connection.recv(65536):
                    pass
                return
            if step == RESET:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
            if isinstance(step, bytes):
                connection.sendall(step)
            else:
                while not step.wait(0.02):
                    if self._closing.is_set():
                        return


def answer(value, status="200 OK"):
    """A whole JSON response with its length, as a script."""
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return body_answer(body, status)


def body_answer(body, status="200 OK"):
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return [head.encode() + body]


def plain_answer(status, text):
    """What vminfod says when it refuses: plain text under a JSON content type."""
    return body_answer(text.encode(), f"{status} No")


STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


def line(value):
    """One line of an event stream as a chunk."""
    return chunk(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
