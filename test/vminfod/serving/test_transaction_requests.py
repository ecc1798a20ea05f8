# SPDX-License-Identifier: MPL-2.0
"""The requests about transactions: what is taken, what is refused and how, and which connection may ask what."""

import contextlib
import json
import os

import pytest

from support.running_daemon import eventually
from support.transacting import Transacting
from vminfod.serving import httpconnection, transactionroutes

UNKNOWN = "00000000-1111-4222-8333-444444444444"


@pytest.fixture
def vm(quiet_daemon):
    return next(vm for vm in quiet_daemon.vms() if vm["zonename"] == vm["uuid"] and vm["state"] == "running")


@pytest.fixture
def writer(quiet_daemon):
    connection = Transacting(quiet_daemon.root)
    yield connection
    connection.close()
    eventually("it is forgotten", lambda: quiet_daemon.status()["transactions"] == [])


def body_of(vm, **more):
    return json.dumps({"uuid": vm["uuid"], "command": "update", "req_id": None, **more}).encode()


def post(writer, body):
    return writer.request("POST", "/transactions", body)


def test_opening_gives_its_id_the_vm_its_revision_and_the_limit(quiet_daemon, writer, vm):
    opened = writer.open(vm["uuid"])
    assert list(opened) == ["transaction", "uuid", "rev", "limit"]
    assert (opened["uuid"], opened["limit"]) == (vm["uuid"], 60)
    tag = quiet_daemon.get(f"/vms/{vm['uuid']}").headers["etag"]
    assert tag.endswith(f':{opened["rev"]}"')


def test_commit_without_changes_gives_the_vm_and_makes_no_event(quiet_daemon, writer, vm):
    rev = quiet_daemon.get("/ping").headers["x-vminfod-rev"]
    opened = writer.open(vm["uuid"])
    answer = writer.commit()
    assert (answer.status, answer.json()) == (200, {"vm": vm, "rev": opened["rev"]})
    assert answer.headers["content-type"] == "application/json"
    assert quiet_daemon.get("/ping").headers["x-vminfod-rev"] == rev


def test_connection_can_open_another_after_a_commit(writer, vm):
    first = writer.open(vm["uuid"])
    assert writer.commit().status == 200
    assert writer.open(vm["uuid"])["transaction"] != first["transaction"]
    assert writer.commit().status == 200
    assert writer.request("GET", f"/transactions/{first['transaction']}/vm").status == 404


def test_second_on_the_same_connection_is_409_and_the_first_lives_on(writer, vm):
    opened = writer.open(vm["uuid"])
    answer = post(writer, body_of(vm))
    assert answer.status == 409
    assert opened["transaction"] in answer.json()["error"]
    assert writer.commit().status == 200


def test_what_ended_is_410(writer, vm):
    opened = writer.open(vm["uuid"])
    writer.commit()
    for answer in (writer.vm(), writer.commit()):
        assert answer.status == 410
        said = answer.json()
        assert (said["transaction"], said["ended"]) == (opened["transaction"], "committed")
        assert "committed" in said["error"]


def test_other_connection_is_403(quiet_daemon, writer, vm):
    writer.open(vm["uuid"])
    other = Transacting(quiet_daemon.root)
    other.id = writer.id
    for answer in (other.vm(), other.commit()):
        assert answer.status == 403
        assert writer.id in answer.json()["error"]
    other.close()
    assert writer.commit().status == 200


@pytest.mark.parametrize("name", [UNKNOWN, "x", "%00", "%ff", "a" * 2000])
def test_id_that_nobody_has_is_404(writer, name):
    writer.id = name
    for answer in (writer.vm(), writer.commit()):
        assert answer.status == 404


@pytest.mark.parametrize("key", [UNKNOWN, "global", "x" * 1000, "a b", "\x00", "\ud800", "../etc"])
def test_unknown_vm_is_404(writer, vm, key):
    answer = post(writer, body_of(vm, uuid=key))
    assert answer.status == 404
    assert answer.json()["error"] == f"VM Not Found: {key}"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[" * 16000, "no JSON"),
        (b"[]", "no JSON object"),
        (b"null", "no JSON object"),
        (b'"text"', "no JSON object"),
        (b"{}", "uuid is missing"),
        (b'{"uuid": "x", "req_id": null}', "command is missing"),
        (b'{"uuid": "x", "command": "update"}', "req_id is missing"),
        (b'{"uuid": 5, "command": "update", "req_id": null}', "bad value for uuid: 5"),
        (b'{"uuid": "", "command": "update", "req_id": null}', "bad value for uuid: ''"),
        (b'{"uuid": "x", "command": null, "req_id": null}', "bad value for command: None"),
        (b'{"uuid": "x", "command": ["update"], "req_id": null}', "bad value for command: ['update']"),
        (b'{"uuid": "x", "command": "update", "req_id": 7}', "bad value for req_id: 7"),
        (b'{"uuid": "x", "command": "' + b"c" * 1001 + b'", "req_id": null}', "bad value for command: 'ccc"),
    ],
)
def test_body_that_makes_no_sense_is_400_and_says_why(writer, body, says):
    answer = post(writer, body)
    assert answer.status == 400
    assert says in answer.json()["error"]
    assert len(answer.body) < 500


@pytest.mark.parametrize("name", ["limit", "wait"])
@pytest.mark.parametrize("value", [-1, 601, 0.5, "60", None, True, [], 1e400, float("nan"), int("9" * 400)])
def test_time_out_of_its_range_is_400(writer, vm, name, value):
    if (name, value) == ("wait", 0.5):
        value = -0.5
    answer = post(writer, body_of(vm, **{name: value}))
    assert answer.status == 400
    assert answer.json()["error"].startswith(f"bad value for {name}: ")


@pytest.mark.parametrize("limit", [1, 600, 2.5])
def test_limit_is_said_back_as_it_was_given(writer, vm, limit):
    assert writer.open(vm["uuid"], limit=limit, more="ignored")["limit"] == limit


@pytest.mark.parametrize("query", ["?timeout=-1", "?timeout=601", "?timeout=soon", "?timeout=nan"])
def test_timeout_that_makes_no_sense_is_400_and_the_transaction_stays_open(writer, vm, query):
    writer.open(vm["uuid"])
    for answer in (writer.vm(query), writer.commit(query)):
        assert answer.status == 400
    assert writer.commit().status == 200


def test_body_may_come_in_pieces(writer, vm):
    body = body_of(vm)
    writer.send(b"POST /transactions HTTP/1.1\r\nContent-Length: %d\r\n" % len(body))
    writer.send(b"\r\n")
    for byte in body:
        writer.send(bytes([byte]))
    writer.opened()


def test_requests_behind_a_body_are_answered_in_order(writer, vm):
    body = body_of(vm)
    head = b"POST /transactions HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
    writer.send(head + body + b"GET /ping HTTP/1.1\r\n\r\n" + head + body)
    writer.opened()
    assert writer.heard().json() == {"ping": "pong"}
    assert writer.heard().status == 409


def test_largest_body_is_read(writer, vm):
    body = body_of(vm)
    writer.ask("POST", "/transactions", body + b" " * (httpconnection.BODY_BYTES - len(body)))
    writer.opened()


@pytest.mark.parametrize(
    "more", ["Content-Length: 16385", "Content-Length: 999999999999999999999", "Transfer-Encoding: chunked"]
)
def test_body_that_is_too_large_or_endless_is_413_and_the_connection_closed(quiet_daemon, more):
    connection = Transacting(quiet_daemon.root)
    connection.send(f"POST /transactions HTTP/1.1\r\n{more}\r\n\r\n".encode())
    answer = connection.heard()
    assert answer.status == 413
    assert str(httpconnection.BODY_BYTES) in answer.json()["error"]
    assert connection.answer() is None
    connection.close()


def test_giant_body_is_refused_before_it_was_sent(quiet_daemon):
    connection = Transacting(quiet_daemon.root)
    with contextlib.suppress(ConnectionError):
        connection.send(b"POST /transactions HTTP/1.1\r\nContent-Length: 50000000\r\n\r\n" + b"x" * 50_000_000)
    assert connection.heard().status == 413
    connection.close()


def test_body_that_ends_too_early_is_400(quiet_daemon):
    connection = Transacting(quiet_daemon.root)
    connection.send(b"POST /transactions HTTP/1.1\r\nContent-Length: 50\r\n\r\n{")
    connection.end_sending()
    assert connection.heard().status == 400
    connection.close()


def test_bodies_of_other_requests_are_passed_over(writer):
    assert writer.request("GET", "/ping", b"GET /vms HTTP/1.1\r\n\r\n").json() == {"ping": "pong"}
    answer = writer.request("POST", "/vms", b"{}")
    assert (answer.status, answer.body) == (400, b"")
    assert writer.request("GET", "/ping").json() == {"ping": "pong"}


@pytest.mark.parametrize("method", ["PUT", "DELETE", "HEAD", "post"])
def test_other_methods_are_an_empty_400(writer, method):
    answer = writer.request(method, "/transactions")
    assert (answer.status, answer.body) == (400, b"")


@pytest.mark.parametrize("path", ["/transactions/x", "/transactions/x/y", "/transactions/x/vm"])
def test_post_elsewhere_is_404(writer, path):
    assert writer.request("POST", path, b"{}").status == 404


def test_tcp_port_has_none_of_it(quiet_daemon, writer, vm):
    """As ever: nothing but GET, and no such path."""
    writer.open(vm["uuid"])
    for path in ("/transactions", f"/transactions/{writer.id}/commit"):
        connection = quiet_daemon.raw()
        body = body_of(vm)
        connection.send(b"POST %b HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (path.encode(), len(body), body))
        answer = connection.answer()
        assert (answer.status, answer.body) == (400, b"")
        assert connection.answer() is None, "what follows a body that was not read cannot be found"
        connection.close()
    answer = quiet_daemon.get(f"/transactions/{writer.id}/vm")
    assert (answer.status, answer.body) == (404, b"Unsupported URL Path")
    assert writer.commit().status == 200


def test_status_lists_it_with_who_opened_it(quiet_daemon, writer, vm):
    writer.open(vm["uuid"], command="update alias=x", req_id="9d1c", limit=90)
    [shown] = quiet_daemon.status(full=False)["transactions"]
    assert 0 <= shown.pop("age") < 90
    assert shown == {
        "transaction": writer.id,
        "command": "update alias=x",
        "req_id": "9d1c",
        "pid": os.getpid(),
        "uid": os.getuid(),
        "uuid": vm["uuid"],
        "state": "open",
        "limit": 90,
    }


@pytest.mark.pure
def test_limits_are_those_of_the_page():
    with open(os.path.join(os.path.dirname(__file__), "../../../docs/http-api.md"), encoding="utf-8") as file:
        page = file.read()
    routes = transactionroutes
    assert f"{routes.LIMIT_LEAST} to {routes.LIMIT_MOST}; {routes.LIMIT} if not given" in page
    assert f"0 to {routes.WAIT_MOST}; {routes.WAIT} if not given" in page
    assert f"{httpconnection.BODY_BYTES >> 10} KiB" in page
    assert f"text of 1 to {routes.TEXT_MOST:,} characters" in page
    assert f"{routes.MOST:,} are open or waiting" in page
