# SPDX-License-Identifier: MPL-2.0
"""VminfodClient against a server that answers as the original does, or badly."""

import contextlib
import os
import socket
import sys
import threading

import pytest

from support.callers_log import callers_log, records_of
from support.canned_server import HANG, RESET, CannedServer, answer, body_answer, plain_answer
from support.deadlines import SOON
from vminfod.client import ConnectionFailed, HTTPStatusError, ParseError, VminfodClient, VminfodError, VminfodTimeout

VM = {"zonename": "z1", "uuid": "z1", "alias": "wëb"}


def client_of(server, **options):
    return VminfodClient("demo", port=server.port, **options)


def test_each_method_asks_its_path_and_parses_the_answer():
    status = {"pid": 1}
    with CannedServer(
        {
            "/ping": answer({"ping": "pong"}),
            "/status": answer(status),
            "/vms": answer([VM]),
            "/vms/z1": answer(VM),
            "/anything": answer(7),
        }
    ) as server:
        client = client_of(server)
        assert client.ping() == {"ping": "pong"}
        assert client.status() == status
        assert client.status(full=True) == status
        assert client.vms() == [VM]
        assert client.vm("z1") == VM
        assert client.get("/anything") == 7
        assert [request.path for request in server.requests] == [
            "/ping",
            "/status",
            "/status?full=true",
            "/vms",
            "/vms/z1",
            "/anything",
        ]


def test_user_agent_names_who_asks():
    with CannedServer({"/ping": answer({"ping": "pong"})}) as server:
        client_of(server).ping()
        program = os.path.abspath(sys.argv[0])
        assert server.requests[0].headers["user-agent"] == f"demo - {socket.gethostname()}/{os.getpid()} ({program})"


def test_zonename_is_percent_encoded():
    with CannedServer({"/vms/a%20b%2Fc": answer(VM)}) as server:
        assert client_of(server).vm("a b/c") == VM


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_name_that_no_zone_can_have_is_an_unknown_vm_and_not_the_list(name):
    with CannedServer({"/vms/": answer([VM])}) as server, pytest.raises(HTTPStatusError) as caught:
        client_of(server).vm(name)
    assert caught.value.code == 404


@pytest.mark.parametrize("status", [404, 500, 204, 301])
def test_other_status_than_200_is_one_error_with_that_code(status):
    with CannedServer({"/vms/z1": plain_answer(status, "VM Not Found: z1")}) as server:
        with pytest.raises(HTTPStatusError) as caught:
            client_of(server).vm("z1")
        assert str(caught.value) == f"bad statusCode: {status}"
        assert caught.value.code == caught.value.status_code == status


def test_body_of_a_refusal_is_not_read():
    head = b"HTTP/1.1 404 Not Found\r\nContent-Length: 1000000\r\n\r\n"
    with CannedServer({"/vms/z1": [head, HANG]}) as server, pytest.raises(HTTPStatusError):
        client_of(server, timeout=SOON).vm("z1")


@pytest.mark.parametrize("body", [b"", b"{", b"<html>", b'{"a":NaN}', b'"\xff"', b"[" * 100_000])
def test_body_that_is_no_json_is_an_error_and_logged(body):
    log = callers_log("agent")
    with CannedServer({"/status": body_answer(body)}) as server, pytest.raises(ParseError):
        client_of(server, log=log).status()
    ((level, _, extra),) = records_of(log)
    assert level == "error"
    assert (extra["client"], extra["method"], extra["path"]) == ("demo", "GET", "/status")


def test_json_of_another_shape_is_an_error():
    with CannedServer({"/vms": answer({}), "/ping": answer([])}) as server:
        with pytest.raises(ParseError):
            client_of(server).vms()
        with pytest.raises(ParseError):
            client_of(server).ping()


def test_port_without_a_listener_is_a_connection_error_with_the_errno_name():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ConnectionFailed) as caught:
        VminfodClient("demo", port=port).ping()
    assert caught.value.code == "ECONNREFUSED"
    assert str(caught.value) == f"connect ECONNREFUSED 127.0.0.1:{port}"


def test_reset_and_early_end_are_connection_errors():
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"
    with CannedServer({"/ping": [[head, RESET], [head], []]}) as server:
        for _ in range(3):
            with pytest.raises(ConnectionFailed) as caught:
                client_of(server).ping()
            assert caught.value.code == "ECONNRESET"


@pytest.mark.parametrize("script", [[HANG], [b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{", HANG]])
def test_timeout_covers_the_whole_call(script):
    with CannedServer({"/ping": script}) as server, pytest.raises(VminfodTimeout) as caught:
        client_of(server, timeout=0.1).ping()
    assert caught.value.code == "ETIMEOUT"
    assert isinstance(caught.value, (VminfodError, TimeoutError))


def test_server_that_trickles_does_not_stretch_the_timeout():
    """A byte at a time, for far longer than that, and then no more."""
    count = 1_000_000
    script = [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (count + 1), *[b" "] * count]
    with CannedServer({"/ping": script}) as server, pytest.raises(VminfodTimeout):
        client_of(server, timeout=0.2).ping()


def test_server_that_takes_no_more_connections_costs_a_client_its_timeout_and_no_more():
    """A daemon that hangs accepts nobody: once its queue is full the kernel lets whoever connects wait for minutes."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as waiting:
        for _ in range(4):
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        ended = []

        def ask():
            with pytest.raises(VminfodTimeout):
                VminfodClient("demo", port=full.getsockname()[1], timeout=0.2).ping()
            ended.append(True)

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(SOON)
        assert ended


def test_large_body_arrives_whole():
    vms = [{**VM, "internal_metadata": {"text": "ü" * 2000, "number": index}} for index in range(500)]
    with CannedServer({"/vms": answer(vms)}) as server:
        assert client_of(server).vms() == vms


@pytest.mark.pure
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"name": 7}, TypeError),
        ({"socket": 7}, TypeError),
        ({"host": 7}, TypeError),
        ({"port": "9090"}, TypeError),
        ({"port": True}, TypeError),
        ({"port": 0}, ValueError),
        ({"port": 65536}, ValueError),
        ({"log": 7}, TypeError),
        ({"timeout": "5"}, TypeError),
        ({"timeout": -1}, ValueError),
        ({"timeout": float("nan")}, ValueError),
    ],
)
def test_wrong_arguments_are_refused_at_construction(arguments, error):
    with pytest.raises(error):
        VminfodClient(**arguments)


@pytest.mark.pure
def test_zonename_must_be_text():
    with pytest.raises(TypeError):
        VminfodClient("demo").vm(None)


def test_environment_does_not_move_the_library(monkeypatch):
    with CannedServer({"/ping": answer({"ping": "pong"})}) as right, CannedServer({}) as wrong:
        monkeypatch.setenv("VMINFOD_PORT", str(wrong.port))
        assert client_of(right).ping() == {"ping": "pong"}
        assert wrong.requests == []


def test_client_is_a_context_manager():
    with CannedServer({"/ping": answer({"ping": "pong"})}) as server, client_of(server) as client:
        assert client.ping() == {"ping": "pong"}


def test_many_threads_share_one_client():
    answers = {f"/vms/z{n}": answer({"zonename": f"z{n}"}) for n in range(8)}
    found = {}
    with CannedServer(answers) as server:
        client = client_of(server)
        threads = [threading.Thread(target=lambda n=n: found.update({n: client.vm(f"z{n}")})) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SOON)
    assert found == {n: {"zonename": f"z{n}"} for n in range(8)}
