# SPDX-License-Identifier: MPL-2.0
"""What a client asks /vms for, so that the daemon can leave out the rest; and daemons that leave out nothing."""

import json
import socket
import threading

import pytest

from support.deadlines import SOON
from vminfod.client import VminfodClient
from vminfod.clients.vmfilter import LONGEST_QUESTION, question

VMS = [
    {"uuid": "a", "state": "running", "alias": "web0", "ram": 512},
    {"uuid": "b", "state": "stopped", "alias": "web1", "ram": 512},
    {"uuid": "c", "state": "running", "ram": 1024},
]


@pytest.mark.parametrize(
    "wanted, fields, text",
    [
        ({}, None, ""),
        ({}, ["uuid", "alias"], "?fields=uuid,alias"),
        ({"state": "running"}, None, "?state=running"),
        ({"state": "running"}, ["uuid"], "?state=running&fields=uuid,state"),
        ({"alias": "~^w"}, ["uuid"], "?fields=uuid,alias"),
        ({"alias": "~^w"}, None, ""),
        ({"tags.a b": "x&y"}, ["uuid"], "?tags.a%20b=x%26y&fields=uuid,tags"),
        ({}, [], ""),
        ({"alias": "x" * LONGEST_QUESTION}, None, ""),
    ],
)
@pytest.mark.pure
def test_question_names_what_is_needed(wanted, fields, text):
    assert question(wanted, fields) == text


@pytest.fixture
def old_daemon():
    """A server that ignores the query, as the original does. Gives its port and the targets asked for."""
    asked = []
    body = json.dumps(VMS).encode()

    def serve(listening):
        while True:
            try:
                sock, _ = listening.accept()
            except OSError:
                return
            with sock:
                asked.append(sock.recv(65536).split()[1].decode())
                sock.sendall(
                    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
                )

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=[listening], daemon=True)
        thread.start()
        yield listening.getsockname()[1], asked
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(SOON)


def test_client_chooses_by_itself_from_a_daemon_that_gives_all(old_daemon):
    port, asked = old_daemon
    client = VminfodClient("demo", host="127.0.0.1", port=port)
    assert client.vms({"state": "running", "fields": "uuid"}) == [{"uuid": "a"}, {"uuid": "c"}]
    assert client.vms("state=running&alias=~^web") == [VMS[0]]
    assert client.get_vmobjs({"ram": 512}, fields=["alias"]) == [{"alias": "web0"}, {"alias": "web1"}]
    assert asked == ["/vms?state=running&fields=uuid,state", "/vms?state=running", "/vms?ram=512&fields=alias,ram"]


@pytest.mark.parametrize(
    "query, meets, fields",
    [
        ({"state": "running"}, lambda vm: vm["state"] == "running", None),
        ({"nics.*.vlan_id": 20, "fields": ["uuid"]}, lambda vm: 20 in [n.get("vlan_id") for n in vm["nics"]], {"uuid"}),
        ({"alias": "~^d", "fields": "alias"}, lambda vm: vm.get("alias", "").lower().startswith("d"), {"alias"}),
    ],
)
def test_client_gets_what_it_asks_for_from_a_daemon_that_leaves_out(quiet_daemon, query, meets, fields):
    client = VminfodClient("demo", host="127.0.0.1", port=quiet_daemon.port)
    chosen = [vm for vm in quiet_daemon.vms() if meets({"nics": [], **vm})]
    assert chosen
    assert client.vms(query) == [
        {name: value for name, value in vm.items() if fields is None or name in fields} for vm in chosen
    ]
