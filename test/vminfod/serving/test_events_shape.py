# SPDX-License-Identifier: MPL-2.0
"""What the lines of /events look like to the letter: older programs read them (docs/http-api.md, "The lines").

What is new stands last, so that who reads members by their place, or shows the line, sees what it always saw."""

import json
import re
import uuid

import pytest

from support.following import cause_of
from support.running_daemon import EventLines

pytest_plugins = ["support.followers"]

DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class RawLines(EventLines):
    """Keeps the last line as it came."""

    def next(self, *args):
        event = super().next(*args)
        self.members = list(event)
        return event


@pytest.fixture
def lines(follow):
    opened = RawLines(follow.daemon.port)
    yield opened
    opened.close()


def test_response_is_an_endless_stream_of_json(lines):
    assert lines.head.status == 200
    assert lines.head.headers["content-type"] == "application/json"
    assert lines.head.headers["transfer-encoding"] == "chunked"
    assert lines.head.headers["x-vminfod-epoch"] == lines.ready["epoch"]
    assert lines.head.headers["x-vminfod-rev"] == str(lines.ready["rev"])


def test_ready_is_first_and_holds_the_snapshot_as_a_string(follow, lines):
    assert lines.members == ["type", "date", "uuid", "vms", "epoch", "rev"]
    assert lines.ready["type"] == "ready"
    assert DATE.fullmatch(lines.ready["date"])
    assert UUID.fullmatch(lines.ready["uuid"])
    assert UUID.fullmatch(lines.ready["epoch"])
    assert type(lines.ready["rev"]) is int
    assert lines.ready["vms"].encode() == follow.daemon.get("/vms").body


def test_listener_is_in_status_under_the_uuid_and_date_of_its_ready(follow):
    opened = follow.daemon.events(headers={"User-Agent": "a test \x1b[2J"})
    listener = follow.daemon.status()["eventsListeners"][opened.ready["uuid"]]
    assert listener["createdDate"] == opened.ready["date"]
    assert list(listener)[:4] == ["userAgent", "createdTime", "createdDate", "createdAgo"]
    opened.close()
    follow.stream.close()
    follow.stream = follow.daemon.events()
    silent = follow.daemon.status()["eventsListeners"][follow.stream.ready["uuid"]]
    assert "userAgent" not in silent


def test_create_modify_and_delete(follow, lines):
    zone = str(uuid.uuid4())
    follow.control.add_vm(uuid=zone, alias="caf\u00e9 \u2603", state="configured")
    created = lines.next()
    assert lines.members == ["type", "date", "zonename", "uuid", "vm", "epoch", "rev", "cause"]
    assert (created["type"], created["zonename"], created["uuid"]) == ("create", zone, zone)
    assert DATE.fullmatch(created["date"])
    assert created["rev"] == lines.ready["rev"] + 1
    assert created["epoch"] == lines.ready["epoch"]

    follow.control.set_index_state(zone, "installed")
    modified = lines.next()
    assert lines.members == ["type", "date", "zonename", "uuid", "vm", "changes", "epoch", "rev", "cause"]
    assert modified["changes"] == [
        {
            "prettyPath": "zone_state",
            "path": ["zone_state"],
            "action": "changed",
            "oldValue": "configured",
            "newValue": "installed",
        },
        {
            "prettyPath": "state",
            "path": ["state"],
            "action": "changed",
            "oldValue": "configured",
            "newValue": "stopped",
        },
    ]
    assert modified["vm"] == {**created["vm"], "zone_state": "installed", "state": "stopped"}
    assert json.dumps(modified["vm"]) == json.dumps(follow.daemon.vm(zone)), "in the same order too"

    follow.control.remove_vm(zone)
    came = [lines.next()]
    while came[-1]["type"] != "delete":
        came.append(lines.next())
    assert lines.members == ["type", "date", "zonename", "uuid", "epoch", "rev", "cause", "last"]
    assert (came[-1]["zonename"], came[-1]["uuid"]) == (zone, zone)
    assert came[-1]["last"]["alias"] == "caf\u00e9 \u2603"


def test_change_has_the_members_of_the_original(follow, lines):
    zone = follow.add(
        files={"tags": {"a": None}},
        nics=[{"interface": "net0", "mac": "90:b8:d0:00:00:01", "nic_tag": "external", "ip": "192.0.2.7"}],
    )
    follow.control.write_config(zone, "tags", {"b": 1})
    event = lines.until(lambda event: event["type"] == "modify" and any("tags" in c["path"] for c in event["changes"]))
    assert [list(change) for change in event["changes"] if "tags" in change["path"]] == [
        ["prettyPath", "path", "action", "oldValue"],
        ["prettyPath", "path", "action", "newValue"],
    ]
    assert {"prettyPath": "tags.a", "path": ["tags", "a"], "action": "removed", "oldValue": None} in event["changes"]
    follow.control.set_nic(zone, "90:b8:d0:00:00:01", "ip", "192.0.2.8")
    event = lines.next()
    [change] = [change for change in event["changes"] if "nics" in change["path"]]
    assert list(change) == ["prettyPath", "path", "action", "oldValue", "newValue", "ident"]
    assert change == {
        "prettyPath": "nics.*.ip",
        "path": ["nics", None, "ip"],
        "action": "changed",
        "oldValue": "192.0.2.7",
        "newValue": "192.0.2.8",
        "ident": "90:b8:d0:00:00:01",
    }


def test_order_of_a_list_that_changes_is_a_modify_without_changes(follow):
    """A diff knows no positions, yet the order of resolvers matters."""
    zone = follow.add(resolvers=["192.0.2.1", "192.0.2.2"], state="configured")
    follow.control.set_attr(zone, "resolvers", "192.0.2.2,192.0.2.1")
    assert follow.modified(zone) == []
    assert follow.vms[zone]["resolvers"] == ["192.0.2.2", "192.0.2.1"]


def test_each_source_is_named_as_the_cause(follow):
    zone = follow.add()
    follow.control.init_restart(zone)
    follow.zfs("set", "quota=20G", f"zones/{zone}")
    follow.control.write_config(zone, "tags", {"n": 1})
    follow.until(zone, lambda vm: vm["quota"] == 20 and vm["tags"] and vm["init_restarts"] == 1)
    follow.control.drop_events(match=zone)
    follow.zfs("set", "quota=30G", f"zones/{zone}")
    assert follow.daemon.get(f"/vms/{zone}?fresh=true").json()["quota"] == 30
    follow.until(zone, lambda vm: vm["quota"] == 30)
    causes = [event["cause"] for event in follow.events if event["type"] == "modify"][-4:]
    assert {cause["source"] for cause in causes} <= {"zone", "zfs", "file", "request"}
    assert causes[-1] == {"source": "request"}
    for cause in causes[:-1]:
        assert list(cause)[0] == "source"
        assert list(cause)[-1] == "latency_ms"
        assert cause["latency_ms"] == round(cause["latency_ms"], 1)


def test_change_that_a_refresh_finds_is_called_so(alone):
    alone.control.drop_events(match=alone.witness)
    alone.zfs("set", "quota=99G", f"zones/{alone.witness}")
    alone.control.kill_child("sysevent", match="EC_zfs")  # when it is back, everything is read again
    assert alone.modified(alone.witness)[0][:2] == ("quota", "changed")
    assert cause_of(alone.events[-1]) == {"source": "refresh"}


def test_text_is_sent_as_utf_8_one_event_a_line(follow):
    zone = follow.add(state="stopped")
    odd = '\u2028 \u2029 \x7f \n \t \\ / " \U0001f600 \u00e9'
    connection = follow.daemon.raw().send(b"GET /events?vms=false HTTP/1.1\r\n\r\n")
    connection.head()
    assert connection.chunk().endswith(b"}\n")
    follow.control.write_config(zone, "tags", {"odd": odd})
    data = b""
    while not data.endswith(b"\n"):
        data += connection.chunk()
    assert data.count(b"\n") == 1
    assert "\U0001f600 \u00e9".encode() in data
    assert json.loads(data)["vm"]["tags"] == {"odd": odd}
    connection.close()


def test_http_1_0_client_gets_the_same_lines_without_chunks(follow):
    connection = follow.daemon.raw().send(b"GET /events?vms=false HTTP/1.0\r\n\r\n")
    assert "transfer-encoding" not in connection.head().headers
    assert json.loads(connection._file.readline())["type"] == "ready"
    follow.nothing_by_files()
    assert json.loads(connection._file.readline())["type"] == "modify"
    connection.close()


@pytest.mark.parametrize("path", ["/events/", "/events/x", "//events", "/vms/../events"])
def test_path_of_the_stream_is_normalised_too(follow, path):
    connection = follow.daemon.raw().send(f"GET {path}?vms=false HTTP/1.1\r\n\r\n".encode())
    assert connection.head().status == 200
    assert json.loads(connection.chunk())["type"] == "ready"
    connection.close()
