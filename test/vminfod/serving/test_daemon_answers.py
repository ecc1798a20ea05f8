# SPDX-License-Identifier: MPL-2.0
"""What the HTTP API answers, request by request (docs/http-api.md)."""

import json

import pytest

UNKNOWN = "00000000-1111-2222-3333-444444444444"


def test_ping_answers_pong(quiet_daemon):
    answer = quiet_daemon.get("/ping")
    assert (answer.status, answer.body) == (200, b'{"ping":"pong"}')
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("path", ["//ping", "/ping/", "/ping/x", "/vms/../ping", "/./ping", "/ping?x=1", "/%70ing"])
def test_path_is_normalised_and_extra_segments_are_ignored(quiet_daemon, path):
    assert quiet_daemon.get(path).body == b'{"ping":"pong"}'


def test_extra_segments_are_ignored_behind_each_path(quiet_daemon):
    vm = quiet_daemon.vms()[0]["uuid"]
    for path in (f"/vms/{vm}", "/health", "/ping"):
        assert quiet_daemon.get(f"{path}/x/y").body == quiet_daemon.get(path).body
    assert "queue" in quiet_daemon.get("/status/x").json()
    stream = quiet_daemon.events("/x?vms=false")
    assert stream.ready["type"] == "ready"
    stream.close()


ONLY_IN_FULL = {"refreshLog", "fswatcher"}


@pytest.mark.parametrize("query", ["?full=true", "?full=false", "?full=0", "?full=no", "?full=x&full=false"])
def test_status_is_full_whatever_full_is(quiet_daemon, query):
    """Any text is true in JavaScript, and scripts have come to send `full=false`."""
    assert quiet_daemon.get(f"/status{query}").json().keys() >= ONLY_IN_FULL


@pytest.mark.parametrize("query", ["", "?", "?full", "?full=", "?Full=true", "?x=full"])
def test_status_is_short_without_full(quiet_daemon, query):
    assert not quiet_daemon.get(f"/status{query}").json().keys() & ONLY_IN_FULL


@pytest.mark.parametrize("path", ["/", "/PING", "/pings", "/vm", "/..", "/vms%2F", "*"])
def test_other_paths_are_not_found_in_plain_text(quiet_daemon, path):
    answer = quiet_daemon.get(path)
    assert (answer.status, answer.body) == (404, b"Unsupported URL Path")
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"])
@pytest.mark.parametrize("path", ["/ping", "/vms", "/nowhere"])
def test_other_methods_get_an_empty_400(quiet_daemon, method, path):
    answer = quiet_daemon.request(method, path)
    assert (answer.status, answer.body) == (400, b"")
    assert answer.headers["content-type"] == "application/json"


def test_vms_are_an_array_in_the_order_in_which_they_came(quiet_node, quiet_daemon):
    vms = quiet_daemon.vms()
    listed = [line.split(":") for line in quiet_node.run("zoneadm", "list", "-p", "-c").stdout.splitlines()]
    assert [vm["zonename"] for vm in vms] == [f[1] for f in listed if len(f[4]) == 36 or (len(f[1]) == 36 and not f[4])]
    assert len(vms) == 30
    assert quiet_daemon.get("/vms/").body == quiet_daemon.get("/vms").body


def test_vm_is_served_by_its_uuid(quiet_daemon):
    for vm in quiet_daemon.vms():
        assert quiet_daemon.vm(vm["uuid"]) == vm


def test_vm_whose_zone_has_another_name_is_served_by_both(quiet_daemon):
    [vm] = [vm for vm in quiet_daemon.vms() if vm["zonename"] != vm["uuid"]]
    assert quiet_daemon.vm(vm["zonename"]) == quiet_daemon.vm(vm["uuid"]) == vm


def test_percent_encoded_name_is_decoded(quiet_daemon):
    uuid = quiet_daemon.vms()[0]["uuid"]
    assert quiet_daemon.vm("%" + f"{ord(uuid[0]):02x}" + uuid[1:]) == quiet_daemon.vm(uuid)


@pytest.mark.parametrize("name", [UNKNOWN, "x", "UPPER", UNKNOWN.upper(), "a%20b", "%00", "%2e%2e%2fping", "\xe9"])
def test_unknown_vm_is_named_as_it_was_sent(quiet_daemon, name):
    answer = quiet_daemon.get(f"/vms/{name}")
    assert (answer.status, answer.body) == (404, b"VM Not Found: " + name.encode("latin-1"))


def test_control_characters_in_an_unknown_name_are_escaped(quiet_daemon):
    answer = quiet_daemon.raw().send(b"GET /vms/a\x1b[2Jb HTTP/1.1\r\n\r\n").answer()
    assert (answer.status, answer.body) == (404, b"VM Not Found: a\\x1b[2Jb")


def test_text_is_not_escaped_more_than_json_needs(quiet_daemon):
    body = quiet_daemon.get("/vms").body
    assert b"\\/" not in body
    assert any(ord(c) > 127 for c in body.decode()), "the mock node has metadata beyond ASCII"
    assert json.loads(body) == quiet_daemon.vms()


def test_every_answer_carries_epoch_and_revision(quiet_daemon):
    answers = [quiet_daemon.get(path) for path in ("/ping", "/status", "/vms", "/nowhere", f"/vms/{UNKNOWN}")]
    answers.append(quiet_daemon.request("POST", "/ping"))
    assert len({answer.headers["x-vminfod-epoch"] for answer in answers}) == 1
    assert {answer.headers["x-vminfod-rev"] for answer in answers} == {"0"}


def test_known_etag_gets_an_empty_304(quiet_daemon):
    uuid = quiet_daemon.vms()[0]["uuid"]
    for path in ("/vms", f"/vms/{uuid}"):
        tag = quiet_daemon.get(path).headers["etag"]
        for known in (tag, f'"other", {tag}', f"W/{tag}", "*"):
            answer = quiet_daemon.get(path, {"If-None-Match": known})
            assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", tag)
        assert quiet_daemon.get(path, {"If-None-Match": '"other"'}).status == 200


def test_several_requests_on_one_connection_are_answered_in_order(quiet_daemon):
    uuid = quiet_daemon.vms()[0]["uuid"]
    connection = quiet_daemon.raw()
    connection.send(b"GET /ping HTTP/1.1\r\n\r\nGET /vms/%s HTTP/1.1\r\n\r\nGET /x HTTP/1.1\r\n\r\n" % uuid.encode())
    assert connection.answer().body == b'{"ping":"pong"}'
    assert connection.answer().json()["uuid"] == uuid
    assert connection.answer().status == 404


def test_http_1_0_client_is_answered_and_disconnected(quiet_daemon):
    connection = quiet_daemon.raw().send(b"GET /ping HTTP/1.0\r\n\r\n")
    assert connection.answer().body == b'{"ping":"pong"}'
    assert connection.answer() is None
