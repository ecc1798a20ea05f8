# SPDX-License-Identifier: MPL-2.0
"""Who may ask, and through what: foreign hosts are refused, a Unix socket serves the same."""

import os
import signal
import socket
import stat

import pytest

from support.deadlines import SOON
from support.running_daemon import RunningDaemon, eventually


def ask(daemon, head):
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=SOON) as sock:
        return asked(sock, head)


def asked(sock, head):
    sock.sendall(f"{head}\r\nConnection: close\r\n\r\n".encode())
    return b"".join(iter(lambda: sock.recv(65536), b""))


def through_socket(path, head="GET /vms HTTP/1.1\r\nHost: whatever"):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(SOON)
        sock.connect(path)
        return asked(sock, head)


@pytest.mark.parametrize("path", ["/ping", "/vms", "/events", "/nowhere"])
def test_foreign_host_is_refused_whatever_it_asks_for(quiet_daemon, path):
    answer = ask(quiet_daemon, f"GET {path} HTTP/1.1\r\nHost: evil.example:{quiet_daemon.port}")
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"uuid" not in answer
    assert ask(quiet_daemon, f"GET http://evil.example{path} HTTP/1.1\r\nHost: localhost").startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize("host", ["Host: localhost:1234", "Host: 127.0.0.1", "Host: [::1]:99", "X: no host"])
def test_own_host_with_any_port_is_served(quiet_daemon, host):
    assert ask(quiet_daemon, f"GET /ping HTTP/1.1\r\n{host}").startswith(b"HTTP/1.1 200 ")


def test_address_that_is_listened_on_is_an_own_host_through_a_tunnel_too(quiet_node):
    """The tunnel ends at 127.0.0.1, its client names the address that it knows."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent
        except OSError:
            pytest.skip("this machine has no address but loopback")
        address = probe.getsockname()[0]
    with RunningDaemon(quiet_node.root, "--ip", "127.0.0.1", "--ip", address).start() as daemon:
        assert ask(daemon, f"GET /ping HTTP/1.1\r\nHost: {address}:2222").startswith(b"HTTP/1.1 200 ")
        assert ask(daemon, "GET /ping HTTP/1.1\r\nHost: 192.0.2.1").startswith(b"HTTP/1.1 403 ")


def test_http_1_0_without_a_host_is_served(quiet_daemon):
    assert ask(quiet_daemon, "GET /ping HTTP/1.0").split(b" ", 1)[1].startswith(b"200 ")


def test_unix_socket_serves_the_same_and_goes_with_the_daemon(node):
    path = os.path.join(node.root, "var/run/vminfod.sock")
    with RunningDaemon(node.root).start() as daemon:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        body = through_socket(path).partition(b"\r\n\r\n")[2]
        assert body == daemon.get("/vms").body
        with open(os.path.join(node.root, "var/run/vminfod.pid")) as pid_file:
            assert int(pid_file.read()) == daemon.process.pid
        daemon.stop()
    assert not {name for name in os.listdir(os.path.dirname(path)) if name.startswith("vminfod.")}


def test_stale_socket_is_replaced_and_a_live_one_is_left_alone(node):
    path = os.path.join(node.root, "var/run/vminfod.sock")
    first = RunningDaemon(node.root).start()
    first.stop(signal.SIGKILL)
    assert os.path.exists(path), "a daemon that is killed leaves it"
    with RunningDaemon(node.root).start() as second:
        eventually("it serves there", lambda: through_socket(path).startswith(b"HTTP/1.1 200 "))
        inode = os.stat(path).st_ino
        with RunningDaemon(node.root).start() as third:
            assert third.logged("without a Unix socket", level=40)
            assert third.get("/ping").status == 200
            third.stop()
        assert os.stat(path).st_ino == inode
        assert through_socket(path).startswith(b"HTTP/1.1 200 ")
        second.stop()
