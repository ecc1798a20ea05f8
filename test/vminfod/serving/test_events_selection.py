# SPDX-License-Identifier: MPL-2.0
"""Which events a listener asked for: `?uuid`, `?types`, `?fields`, `?vms`."""

import json
import uuid

import pytest

pytest_plugins = ["support.followers"]


@pytest.fixture
def listen(follow):
    """Opens streams with a query; they are closed at the end."""
    opened = []

    def open_stream(query):
        opened.append(follow.daemon.events(query))
        return opened[-1]

    yield open_stream
    for stream in opened:
        stream.close()


def quota(follow, zone, gib):
    follow.zfs("set", f"quota={gib}G", f"zones/{zone}")
    follow.until(zone, lambda vm: vm["quota"] == gib)


def tag(follow, zone, value):
    follow.control.write_config(zone, "tags", {"tag": value})
    follow.until(zone, lambda vm: vm["tags"] == {"tag": value})


def test_one_uuid_gets_the_events_and_the_snapshot_of_that_vm(follow, listen):
    one, other = follow.add(), follow.add()
    stream = listen(f"?uuid={one}")
    assert [vm["uuid"] for vm in stream.vms()] == [one]
    quota(follow, other, 20)
    quota(follow, one, 30)
    event = stream.next()
    assert (event["zonename"], event["vm"]["quota"]) == (one, 30)
    assert event["rev"] == stream.ready["rev"] + 2, "revisions count all events"


def test_several_uuids(follow, listen):
    one, two, three = follow.add(), follow.add(), follow.add()
    stream = listen(f"?uuid={three},{one}")
    assert [vm["uuid"] for vm in stream.vms()] == [one, three]
    for zone in (one, two, three):
        quota(follow, zone, 20)
    assert [stream.next()["zonename"], stream.next()["zonename"]] == [one, three]


def test_uuid_of_a_zone_of_another_name_and_that_name_select_it(follow, listen):
    uuid_ = str(uuid.uuid4())
    name = follow.add(uuid=uuid_, zonename=f"db-{uuid_[:8]}")
    by_uuid, by_name = listen(f"?uuid={uuid_}"), listen(f"?uuid={name}")
    quota(follow, name, 20)
    assert by_uuid.next() == by_name.next()
    assert by_uuid.vms() == by_name.vms() != []


def test_uuid_of_a_vm_that_does_not_exist_yet(follow, listen):
    zone = str(uuid.uuid4())
    stream = listen(f"?uuid={zone}")
    assert stream.vms() == []
    follow.add(state="configured")
    follow.add(uuid=zone, state="configured")
    assert (stream.next()["type"], zone) == ("create", zone)


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        ("create", ["create"]),
        ("delete", ["delete"]),
        ("modify", ["modify"]),
        ("create,delete", ["create", "delete"]),
        ("delete,modify,create", ["create", "modify", "delete"]),
    ],
)
def test_types(follow, listen, types, expected):
    stream = listen(f"?types={types}&uuid=" + (zone := str(uuid.uuid4())))
    assert stream.ready["type"] == "ready"
    follow.control.add_vm(uuid=zone, state="configured")
    follow.until(zone, lambda vm: vm)
    follow.control.set_index_state(zone, "incomplete")
    follow.until(zone, lambda vm: vm["zone_state"] == "incomplete")
    follow.settle()
    follow.control.delete_zone(zone)
    follow.until(zone, lambda vm: not vm)
    last = stream.ready["rev"] + len(follow.events)
    came = []
    while len(came) < len(expected):
        came.append(stream.next())
    assert [event["type"] for event in came] == expected
    assert all(event["rev"] <= last for event in came)


def test_fields_pass_a_modify_only_if_one_of_them_changed(follow, listen):
    zone = follow.add(nics=[{"interface": "net0", "mac": "90:b8:d0:00:00:02", "nic_tag": "admin", "ip": "192.0.2.1"}])
    stream = listen(f"?fields=quota,nics&uuid={zone}")
    tag(follow, zone, "a")
    quota(follow, zone, 20)
    tag(follow, zone, "b")
    follow.control.set_nic(zone, "90:b8:d0:00:00:02", "ip", "192.0.2.2")
    follow.until(zone, lambda vm: vm["nics"][0]["ip"] == "192.0.2.2")
    first, second = stream.next(), stream.next()
    assert first["changes"] == [
        {"prettyPath": "quota", "path": ["quota"], "action": "changed", "oldValue": 10, "newValue": 20},
    ]
    assert first["vm"]["tags"] == {"tag": "a"}, "the event is whole"
    assert second["vm"]["nics"][0]["ip"] == "192.0.2.2"


def test_fields_do_not_narrow_create_and_delete(follow, listen):
    zone = str(uuid.uuid4())
    stream = listen(f"?fields=quota&uuid={zone}")
    follow.add(uuid=zone, state="configured")
    follow.settle()
    follow.control.delete_zone(zone)
    assert [stream.next()["type"], stream.next()["type"]] == ["create", "delete"]


def test_fields_pass_a_modify_in_which_only_the_order_changed_and_something_else(follow, listen):
    zone = follow.add(resolvers=["192.0.2.1", "192.0.2.2"], state="configured")
    stream = listen(f"?fields=resolvers&uuid={zone}")
    xml = follow.control.read_xml(zone)
    for old, new in (("192.0.2.1,192.0.2.2", "192.0.2.2,192.0.2.1"), ('value="Zm9v"', 'value="YmFy"')):
        assert old in xml
        xml = xml.replace(old, new)
    follow.control.edit_xml(zone, xml)
    event = stream.next()
    assert event["vm"]["resolvers"] == ["192.0.2.2", "192.0.2.1"]
    assert "alias" in [change["prettyPath"] for change in event["changes"]]


def test_fields_pass_a_modify_in_which_only_the_order_changed(follow, listen):
    zone = follow.add(resolvers=["192.0.2.1", "192.0.2.2"], state="configured")
    stream, other = listen(f"?fields=resolvers&uuid={zone}"), listen(f"?fields=alias&uuid={zone}")
    follow.control.set_attr(zone, "resolvers", "192.0.2.2,192.0.2.1")
    assert stream.next()["vm"]["resolvers"] == ["192.0.2.2", "192.0.2.1"]
    follow.control.set_attr(zone, "alias", "YmFy")
    assert other.next()["vm"]["alias"] == "bar"


@pytest.mark.parametrize("value", ["false", "0"])
def test_ready_without_the_snapshot(follow, listen, value):
    stream = listen(f"?vms={value}")
    assert list(stream.ready) == ["type", "date", "uuid", "epoch", "rev"]
    follow.nothing_by_zfs()
    assert stream.next()["rev"] == stream.ready["rev"] + 1


@pytest.mark.parametrize("query", ["?vms=true", "?vms=1", "?something=else", "?", "?vms=false&vms=true"])
def test_ready_with_the_snapshot(follow, listen, query):
    assert listen(query).vms() == list(follow.vms.values())


def test_everything_at_once(follow, listen):
    one, other = follow.add(), follow.add()
    stream = listen(f"?uuid={one}&types=modify&fields=quota&vms=false&heartbeat=3600")
    assert "vms" not in stream.ready
    tag(follow, one, "a")
    quota(follow, other, 20)
    quota(follow, one, 20)
    event = stream.next()
    assert (event["zonename"], [change["prettyPath"] for change in event["changes"]]) == (one, ["quota"])


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("types=ready", "types"),
        ("types=create,bogus", "types"),
        ("types=", "types"),
        ("types=,", "types"),
        ("types=CREATE", "types"),
        ("uuid=", "uuid"),
        ("uuid=,,", "uuid"),
        ("fields=", "fields"),
        ("vms=maybe", "vms"),
        ("vms=TRUE", "vms"),
        ("heartbeat=", "heartbeat"),
        ("heartbeat=0", "heartbeat"),
        ("heartbeat=-1", "heartbeat"),
        ("heartbeat=0.01", "heartbeat"),
        ("heartbeat=often", "heartbeat"),
        ("heartbeat=nan", "heartbeat"),
        ("heartbeat=inf", "heartbeat"),
        ("heartbeat=1e9", "heartbeat"),
        ("since=", "since"),
        ("since=5", "since"),
        ("since=x", "since"),
        ("since=EPOCH:", "since"),
        ("since=EPOCH:-1", "since"),
        ("since=EPOCH:1.5", "since"),
        ("since=EPOCH:x", "since"),
        ("since=EPOCH:%D9%A1", "since"),
        ("since=EPOCH:" + "9" * 19, "since"),
        ("types=" + "%1b%5b" + "x" * 5000, "types"),
    ],
)
def test_value_that_makes_no_sense_is_refused_by_name(follow, query, name):
    query = query.replace("EPOCH", follow.stream.ready["epoch"])
    answer = follow.daemon.get(f"/events?{query}")
    assert answer.status == 400
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["error"]
    assert answer.json()["error"].startswith(f"bad value for {name}: ")
    assert len(answer.body) < 400
    assert json.dumps(answer.json()).isprintable()
