# SPDX-License-Identifier: MPL-2.0
"""Answers that are ready are, byte for byte, what a route gives for the same thing asked in other words."""

import re
import socket

import pytest

from support.deadlines import SOON
from support.running_daemon import eventually


def exchange(daemon, request):
    """All that comes, with the date masked; the sending side is closed."""
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=SOON) as sock:
        sock.sendall(request)
        sock.shutdown(socket.SHUT_WR)
        came = b"".join(iter(lambda: sock.recv(1 << 16), b""))
    return re.sub(
        rb"\r\nDate: [A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT\r\n", b"\r\nDate: D\r\n", came
    )


@pytest.mark.parametrize(
    "version, extra",
    [
        ("HTTP/1.1", ""),
        ("HTTP/1.1", "Connection: close\r\n"),
        ("HTTP/1.0", ""),
        ("HTTP/1.0", "Connection: keep-alive\r\n"),
        ("HTTP/1.1", "Content-Length: 3\r\n"),
    ],
)
def test_ready_answers_are_those_of_the_routes(quiet_daemon, version, extra):
    vm = next(vm for vm in quiet_daemon.vms() if vm["zonename"] != vm["uuid"])
    for path in ("/ping", "/vms", f"/vms/{vm['uuid']}", f"/vms/{vm['zonename']}"):
        ready, routed = (
            exchange(quiet_daemon, f"GET {spelled} {version}\r\nHost: localhost\r\n{extra}\r\n".encode())
            for spelled in (path, "/" + path)
        )
        assert ready == routed
        assert ready.startswith(b"HTTP/1.1 200 OK\r\n") and b"\r\nDate: D\r\n" in ready


def test_ready_answer_follows_each_change(node, daemon):
    uuid = next(vm["uuid"] for vm in daemon.vms() if vm["zonepath"] == f"/zones/{vm['uuid']}")
    for number in (1, 2):
        before = int(daemon.get("/ping").headers["x-vminfod-rev"])
        node.control.write_config(uuid, "tags", {"number": number})
        eventually("it is served", lambda number=number: daemon.vm(uuid)["tags"] == {"number": number})
        one, many, ping = (daemon.get(path) for path in (f"/vms/{uuid}", "/vms", "/ping"))
        assert {int(a.headers["x-vminfod-rev"]) for a in (one, many, ping)} == {before + 1}
        assert one.headers["etag"] == many.headers["etag"] == f'"{ping.headers["x-vminfod-epoch"]}:{before + 1}"'
        assert one.json() in many.json()


def test_many_requests_at_once_are_answered_in_order_ready_or_not(quiet_daemon):
    uuids = [vm["uuid"] for vm in quiet_daemon.vms()]
    asked = [f"/vms/{uuid}" if n % 3 else f"//vms/{uuid}" for n, uuid in enumerate(uuids * 20)]
    connection = quiet_daemon.raw()
    connection.send("".join(f"GET {path} HTTP/1.1\r\n\r\n" for path in asked).encode())
    for path in asked:
        assert connection.answer().json()["uuid"] == path.rpartition("/")[2]
    connection.close()


def test_request_that_comes_byte_by_byte_is_answered(quiet_daemon):
    connection = quiet_daemon.raw()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n":
        connection.send(bytes([byte]))
    assert connection.answer().status == 200
    connection.close()


def test_client_that_asks_without_reading_is_not_read_further(quiet_daemon):
    """Its requests wait in its own socket; the daemon keeps one answer for it."""
    before = quiet_daemon.status()["memory"]["rss"]
    sock = socket.create_connection(("127.0.0.1", quiet_daemon.port), timeout=0.5)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with pytest.raises(TimeoutError):
        for _ in range(3000):
            sock.sendall(b"GET /vms HTTP/1.1\r\n\r\n" * 500)
    assert quiet_daemon.status()["memory"]["rss"] - before < 20 << 20
    sock.close()
