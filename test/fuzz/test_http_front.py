# SPDX-License-Identifier: MPL-2.0
"""Whatever bytes come to the daemon's port, it answers with a status or closes, and goes on answering others.

Requests are sent in one piece to the real daemon, and the sending side is closed, so that each has an end."""

from __future__ import annotations

import socket

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.deadlines import SOON
from support.examples import examples

GOOD = b"GET /vms/x?fresh=false HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
PATHS = [
    b"/",
    b"/ping",
    b"/vms",
    b"/vms/",
    b"/vms/%00",
    b"/vms/%ff%fe",
    b"/vms/..%2f..",
    b"/status",
    b"/status?full",
    b"*",
    b"//",
    b"//[x://",
    b"http://[x/ping",
    b"/%",
    b"/vms/x?fresh",
]
QUERIES = [
    b"",
    b"?",
    b"?full=true",
    b"?fresh=1&timeout=0",
    b"?timeout=-1",
    b"?timeout=nan",
    b"?since=x:y",
    b"?uuid=" + b"a," * 50,
    b"?%=%&&=",
]
METHODS = [b"GET", b"HEAD", b"POST", b"PUT", b"get", b"OPTIONS", b"", b"G\x00T", b"X" * 300]
VERSIONS = [b"HTTP/1.1", b"HTTP/1.0", b"HTTP/9.9", b"HTTP/1.1 x", b"", b"\xff"]
HEADERS = [
    b"Host: localhost",
    b"Host:",
    b"Connection: close",
    b"Content-Length: 5",
    b"Content-Length: -1",
    b"Content-Length: " + b"9" * 40,
    b"Transfer-Encoding: chunked",
    b"Expect: 100-continue",
    b'If-None-Match: "a", \xff',
    b"no colon",
    b": empty",
    b"X: " + b"y" * 5000,
    b" folded",
    b"User-Agent: \x1b[31m",
]

header_lines = st.lists(st.sampled_from(HEADERS) | st.binary(max_size=30), max_size=6).map(b"\r\n".join)
requests = st.builds(
    lambda method, path, query, version, headers, body: (
        b"%b %b%b %b\r\n%b\r\n\r\n%b" % (method, path, query, version, headers, body)
    ),
    st.sampled_from(METHODS),
    st.sampled_from(PATHS) | st.binary(max_size=40),
    st.sampled_from(QUERIES),
    st.sampled_from(VERSIONS),
    header_lines,
    st.binary(max_size=40),
)
damaged = st.builds(
    lambda start, end, new: GOOD[: min(start, end)] + new + GOOD[max(start, end) :],
    st.integers(0, len(GOOD)),
    st.integers(0, len(GOOD)),
    st.binary(max_size=20),
)


def exchange(port: int, sent: bytes) -> bytes:
    """What comes back until the daemon closes. TimeoutError if it neither answers nor closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=SOON) as connection:
        came = b""
        try:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(1 << 16):
                came += piece
        except ConnectionError:
            pass  # closed in our face, with bytes of ours unread
        return came


@pytest.fixture(scope="module")
def port(quiet_daemon):
    yield quiet_daemon.port
    errors = quiet_daemon.logged("", level=50)
    assert not [record for record in errors if "has no uuid" not in record["msg"]], (
        "no input is an error of the daemon's"
    )


@settings(
    max_examples=examples(100),
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(sent=requests | damaged | st.binary(max_size=200))
def test_any_bytes_are_answered_or_refused_and_the_daemon_lives_on(port, sent):
    came = exchange(port, sent)
    if came:
        assert came.startswith(b"HTTP/1.1 "), came[:100]
        assert came[9:12].isdigit() and came[9:12] != b"500", came[:200]
    assert exchange(port, b"GET /ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").startswith(
        b"HTTP/1.1 200 "
    )
