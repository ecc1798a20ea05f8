# SPDX-License-Identifier: MPL-2.0
"""The unix socket comes first where it is there and no address was named; TCP follows."""

import os
import socket

import pytest

from support.canned_server import STREAM_HEAD, CannedServer, answer, line
from support.deadlines import SOON
from support.tools import run_tool
from vminfod.client import ConnectionFailed, VminfodClient, VminfodEventStream, VminfodWatcher
from vminfod.clients import identity

PING = {"/ping": answer({"ping": "pong"})}
READY = {"type": "ready", "date": "2024-03-01T10:00:00.000Z", "uuid": "u", "vms": "[]"}


@pytest.fixture
def path(root):
    os.makedirs(os.path.join(root, "var", "run"))
    return os.path.join(root, "var", "run", "vminfod.sock")


@pytest.fixture
def unused_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def test_client_asks_through_the_socket(path):
    with CannedServer(PING, socket_path=path) as server:
        assert VminfodClient("demo", socket=path).ping() == {"ping": "pong"}
        assert server.requests[0].headers["host"].startswith("localhost")


def test_stream_and_watcher_use_the_socket(path):
    with CannedServer({"/events": [STREAM_HEAD, line(READY)]}, socket_path=path):
        with VminfodEventStream("demo", socket=path) as stream:
            assert stream.wait_ready(SOON)["uuid"] == "u"
        with VminfodWatcher("demo", socket=path) as watcher:
            assert watcher.wait_ready(SOON)["vms"] == {}


def test_who_names_a_host_or_a_port_gets_that(path, unused_port):
    with CannedServer(PING, socket_path=path) as local, CannedServer(PING) as remote:
        assert VminfodClient("demo", port=remote.port, socket=path).ping() == {"ping": "pong"}
        with pytest.raises(ConnectionFailed):
            VminfodClient("demo", port=unused_port, socket=path).ping()
        assert (len(local.requests), len(remote.requests)) == (0, 1)


def test_socket_that_is_not_there_or_was_left_behind_is_passed_over(path, monkeypatch):
    with CannedServer(PING) as remote:
        monkeypatch.setattr(identity, "DEFAULT_PORT", remote.port)
        assert VminfodClient("demo", socket=path).ping() == {"ping": "pong"}
        left = socket.socket(socket.AF_UNIX)
        left.bind(path)
        left.close()
        assert VminfodClient("demo", socket=path).ping() == {"ping": "pong"}
        assert VminfodClient("demo", socket="/x" * 100).ping() == {"ping": "pong"}
        assert len(remote.requests) == 3


def test_tools_find_the_socket_of_a_mock_node(root, path):
    with CannedServer({**PING, "/vms": answer([])}, socket_path=path) as server, CannedServer(PING) as remote:
        assert tuple(run_tool("vminfo", "ping", VMADM_ROOT=root)) == (0, "pong\n", "")
        assert tuple(run_tool("vmadm", "lookup", VMADM_ROOT=root)) == (0, "", "")
        assert tuple(run_tool("vminfo", "ping", port=remote.port, VMADM_ROOT=root)) == (0, "pong\n", "")
        assert (len(server.requests), len(remote.requests)) == (2, 1)
