# SPDX-License-Identifier: MPL-2.0
"""How long a client may take, with the limits made short: the server alone, on a real socket, in a thread."""

import contextlib
import socket
import threading
from unittest.mock import patch

import gevent

from support.deadlines import SOON
from support.running_daemon import eventually
from vminfod.serving import httpconnection, httpserver, listening
from vminfod.serving.ready import Answer

LARGE = b"x" * (16 << 20)  # more than the kernel keeps for a socket

LARGE_ANSWER = Answer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n" % len(LARGE), LARGE)


class FakeApi:
    """/large is ready, /slow takes a second, /patient has its end watched, all else fails. `ended`: whose end came."""

    ended = []

    def ready(self, request):
        return LARGE_ANSWER if request.target == "/large" else None

    def __call__(self, environ, start_response):
        if environ["PATH_INFO"] in ("/patient", "/impatient"):
            path = environ["PATH_INFO"]
            environ["vminfod.connection"].watch_end(lambda: self.ended.append(path), is_patient=path == "/patient")
            start_response("200 OK", [])
            return [b"watched"]
        if environ["PATH_INFO"] != "/slow":
            raise RuntimeError("it fails")
        gevent.sleep(1.0)  # a handler that is slow: this is the case, not a wait
        start_response("200 OK", [("X-Said", "slowly")])
        return [b"slow"]


slow = []  # what the server says of clients that do not read


@contextlib.contextmanager
def running(**limits):
    """(port, log records) of a server with these limits."""
    listening_socket = listening.bound(("127.0.0.1", 0))
    port = listening_socket.getsockname()[1]
    records, started = [], threading.Event()
    slow.clear()

    def serve():
        record = lambda request, status, size, seconds: records.append((request.get("url"), status, size))  # noqa: E731
        server = httpserver.Server(
            listening_socket,
            FakeApi(),
            record,
            lambda error, _request: records.append(str(error)),
            record,
            slow_log=lambda request, reason, unsent: slow.append((request["url"], reason, unsent)),
        )
        server.start()
        stop = gevent.get_hub().loop.async_()
        done = gevent.event.Event()
        stop.start(done.set)
        handles.append(stop)
        started.set()
        done.wait()
        server.stop(1.0)
        assert server.connections == 0

    handles = []
    patches = [patch.object(httpconnection, name, value) for name, value in limits.items()]
    with contextlib.ExitStack() as stack:
        for one in [*patches, patch.object(httpserver, "_LOOK_EVERY", 0.05)]:
            stack.enter_context(one)
        thread = threading.Thread(target=serve)
        thread.start()
        assert started.wait(SOON)
        try:
            yield port, records
        finally:
            handles[0].send()
            thread.join(SOON)
            assert not thread.is_alive()


def connected(port):
    return socket.create_connection(("127.0.0.1", port), timeout=SOON)


def until_end(sock):
    came = bytearray()  # bytes would be copied for each piece
    with contextlib.suppress(ConnectionResetError):
        while piece := sock.recv(1 << 16):
            came += piece
    sock.close()
    return bytes(came)


def test_connection_that_says_nothing_is_closed():
    with running(HEADER_SECONDS=0.2, IDLE_SECONDS=60.0) as (port, _):
        assert until_end(connected(port)) == b""


def test_connection_that_is_kept_is_closed_when_it_stays_idle():
    with running(IDLE_SECONDS=0.2) as (port, _):
        sock = connected(port)
        sock.sendall(b"GET /large HTTP/1.1\r\n\r\n")
        assert until_end(sock).endswith(b"\r\n\r\n" + LARGE)


def test_connection_whose_end_is_watched_may_be_idle_as_long_as_it_is_patient():
    with running(IDLE_SECONDS=0.2) as (port, _):
        FakeApi.ended.clear()
        patient, impatient = connected(port), connected(port)
        for sock, path in ((patient, b"/patient"), (impatient, b"/impatient")):
            sock.sendall(b"GET %b HTTP/1.1\r\n\r\n" % path)
        assert until_end(impatient).endswith(b"watched")
        eventually("its end is told", lambda: FakeApi.ended == ["/impatient"])  # a moment after the socket's
        patient.sendall(b"GET /slow HTTP/1.1\r\n\r\n")
        patient.shutdown(socket.SHUT_WR)
        assert until_end(patient).endswith(b"slow")
        eventually("the other's is", lambda: FakeApi.ended == ["/impatient", "/patient"])


def test_client_whose_end_is_watched_and_that_sends_on_without_end_is_closed():
    with running() as (port, _):
        FakeApi.ended.clear()
        sock = connected(port)
        sock.sendall(b"GET /patient HTTP/1.1\r\n\r\nGET /slow HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(1000):
                sock.sendall(b"x" * 4096)
        until_end(sock)
        eventually("its end is told", lambda: FakeApi.ended == ["/patient"])


def test_headers_that_do_not_end_get_408():
    with running(HEADER_SECONDS=2.0) as (port, records):  # time enough to begin
        sock = connected(port)
        sock.sendall(b"GET /large HTTP/1.1\r\nX: ")
        assert until_end(sock).startswith(b"HTTP/1.1 408 ")
        assert [record[1] for record in records] == ["408 Request Timeout"]


def test_answer_that_is_not_taken_is_given_up():
    with running(SEND_SECONDS=0.3) as (port, records):
        sock = connected(port)
        sock.sendall(b"GET /large HTTP/1.1\r\n\r\n")
        assert sock.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")
        eventually("it is given up", lambda: records)
        [(url, status, size)] = records
        assert (url, status.partition(":")[0]) == ("/large", "aborted")
        assert 0 < size < len(LARGE)
        [(url, reason, unsent)] = slow
        assert (url, reason) == ("/large", "the answer was not taken in 0.3 s")
        assert len(LARGE) < size + unsent < len(LARGE) + 500  # with the head
        assert len(until_end(sock)) < len(LARGE)


def test_slow_application_has_no_limit_here_and_may_leave_the_length_to_the_server():
    with running(IDLE_SECONDS=0.2, SEND_SECONDS=0.2) as (port, _):
        sock = connected(port)
        sock.sendall(b"GET /slow HTTP/1.1\r\n\r\n")
        head, _, body = until_end(sock).partition(b"\r\n\r\n")
        assert body == b"slow"
        assert head.splitlines()[:2] == [b"HTTP/1.1 200 OK", b"X-Said: slowly"] and b"Content-Length: 4" in head


def test_fault_of_the_application_is_logged_and_answered_with_500():
    with running() as (port, records):
        sock = connected(port)
        sock.sendall(b"GET /fault HTTP/1.1\r\n\r\n")
        answer = until_end(sock)
        assert answer.startswith(b"HTTP/1.1 500 ") and answer.endswith(b"Internal Server Error")
        assert b"\r\nConnection: close\r\n" in answer
        assert records[0] == "it fails"
