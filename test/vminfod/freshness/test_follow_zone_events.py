# SPDX-License-Identifier: MPL-2.0
"""What the platform tells of zones, from the system event to /vms and /events (docs/platform.md, "Zone events" and
"Files of a VM")."""

import os
import uuid

import pytest

from support.following import cause_of, changes, part
from support.running_daemon import eventually

pytest_plugins = ["support.followers"]


def zone_event(zonename, newstate="running", oldstate="ready"):
    return {"zonename": zonename, "newstate": newstate, "oldstate": oldstate, "zoneid": 9, "when": 1}


def publish(follow, data, klass="status", subclass="change"):
    follow.control.publish(klass, subclass, data, channel="com.sun:zones:status", vendor="sun.com")


def reads_by_zoneadm(follow):
    """The zones that zoneadm was asked for; None for a list of all."""
    asked = [call["argv"] for call in follow.control.calls("zoneadm")]
    return [argv[argv.index("-z") + 1] if "-z" in argv else None for argv in asked]


# A VM that is known.


def test_boot_and_halt_are_followed_to_their_end(follow):
    zone = follow.add(state="stopped")
    follow.control.boot(zone)
    came = follow.until(zone, lambda vm: vm["zone_state"] == "running")
    assert {event["type"] for event in came} == {"modify"}
    assert all(cause_of(event) == {"source": "zone", "state": event["cause"]["state"]} for event in came)
    assert part(follow.vms[zone], "state", "init_restarts") == {"state": "running", "init_restarts": 0}
    assert follow.vms[zone]["zoneid"] is not None

    follow.control.halt(zone)
    follow.until(zone, lambda vm: vm["zone_state"] == "installed" and "exit_timestamp" in vm)
    assert part(follow.vms[zone], "state", "zoneid", "pid") == {"state": "stopped", "zoneid": None}
    follow.nothing()


def test_state_that_lasts_is_shown_on_the_way(follow):
    zone = follow.add()
    follow.control.set_kernel_state(zone, "shutting_down")
    publish(follow, zone_event(zone, "shutting_down", "running"))
    assert ("zone_state", "changed", "running", "shutting_down") in follow.modified(zone)
    assert cause_of(follow.events[-1]) == {"source": "zone", "state": "shutting_down"}


def test_unknown_state_is_passed_on(follow):
    zone = follow.add()
    follow.control.set_kernel_state(zone, "hibernating")
    publish(follow, zone_event(zone, "hibernating", "running"))
    assert ("zone_state", "changed", "running", "hibernating") in follow.modified(zone)
    assert cause_of(follow.events[-1]) == {"source": "zone", "state": "hibernating"}


def test_restart_of_init_is_seen(follow):
    zone = follow.add()
    old = follow.vms[zone]["pid"]
    follow.control.init_restart(zone)
    assert follow.modified(zone) == [("init_restarts", "changed", 0, 1), ("pid", "changed", old, old + 7)]
    assert cause_of(follow.events[-1]) == {"source": "zone", "restarts": 1}


def test_state_in_the_index_is_seen(follow):
    zone = follow.add(state="stopped")
    follow.control.set_index_state(zone, "incomplete")
    assert follow.modified(zone) == [
        ("zone_state", "changed", "installed", "incomplete"),
        ("state", "changed", "stopped", "incomplete"),
    ]
    assert cause_of(follow.events[-1]) == {"source": "zone", "state": "incomplete"}


def test_event_about_one_zone_costs_work_for_that_zone_only(follow):
    zone = follow.add()
    follow.control.forget_calls()
    follow.control.init_restart(zone)
    follow.modified(zone)
    follow.settle()
    assert reads_by_zoneadm(follow) == [zone]
    assert (follow.read("kstat"), follow.read("zfs")) == (1, 0)


def test_zone_event_reads_the_xml_too(follow):
    """Booting can change the zone's configuration, and the file's own event may be lost."""
    zone = follow.add()
    follow.deafen(zone)
    follow.control.set_attr(zone, "alias", "YmFy")
    follow.nothing_by_files()
    follow.control.init_restart(zone)
    assert ("alias", "changed", "foo", "bar") in follow.modified(zone)


def test_event_after_which_nothing_has_changed_makes_no_event(follow):
    zone = follow.add()
    publish(follow, zone_event(zone))
    follow.nothing_by_zones()
    follow.control.duplicate_events(match=zone)
    follow.control.init_restart(zone)
    assert ("init_restarts", "changed", 0, 1) in follow.modified(zone)
    follow.nothing_by_zones()


# One that is not.


def test_new_zone_is_created_and_served(follow):
    uuid_ = str(uuid.uuid4())
    follow.control.add_vm(uuid=uuid_, alias="brand-new", state="configured")
    event = follow.next()
    assert (event["type"], event["zonename"], event["uuid"]) == ("create", uuid_, uuid_)
    assert part(event["vm"], "uuid", "zonename", "alias", "state") == {
        "uuid": uuid_,
        "zonename": uuid_,
        "alias": "brand-new",
        "state": "configured",
    }
    assert cause_of(event) == {"source": "zone", "state": "configured"}
    assert follow.daemon.vm(uuid_) == event["vm"]


def test_zone_of_another_name_is_served_by_both_names_and_followed_by_its_own(follow):
    """Zonename is no uuid (S4): created by an event, changed by each source, deleted."""
    uuid_, name = str(uuid.uuid4()), "pagila-replica"
    assert follow.add(uuid=uuid_, zonename=name, alias="odd", snapshots=["vmsnap-a"]) == name
    created = follow.events[0]
    assert (created["type"], created["zonename"], created["uuid"]) == ("create", name, uuid_)
    assert follow.daemon.vm(name) == follow.daemon.vm(uuid_) == follow.vms[name]

    follow.control.set_kernel_state(name, "down")
    publish(follow, zone_event(name, "down", "running"))
    assert ("zone_state", "changed", "running", "down") in follow.modified(name)
    follow.control.set_attr(name, "alias", "YmFy")
    assert follow.modified(name) == [("alias", "changed", "odd", "bar")]
    follow.control.write_config(name, "tags", {"a": 1})
    assert follow.modified(name) == [("tags.a", "added", 1)]
    follow.zfs("set", "quota=77G", f"zones/{name}")
    assert follow.modified(name) == [("quota", "changed", 10, 77)]
    assert all(event["uuid"] == uuid_ for event in follow.events)

    follow.control.set_kernel_state(name, "running")
    follow.control.remove_vm(name)
    last = follow.until(name, lambda vm: not vm)[-1]
    assert (last["type"], last["zonename"], last["uuid"]) == ("delete", name, uuid_)
    assert follow.daemon.vm(name) is follow.daemon.vm(uuid_) is None
    follow.nothing()


def test_zone_that_is_no_vm_is_asked_for_once_and_ignored(follow):
    """A fresh `zonecfg create` of a zone without a uuid (C6)."""
    xml = follow.control.real("/etc/zones/playground.xml")
    with open(xml, "w", encoding="ascii") as file:
        file.write('<zone name="playground" zonepath="/zones/playground" brand="joyent"/>\n')
    follow.control.forget_calls()
    publish(follow, zone_event("playground", "configured", ""))
    follow.nothing_by_zones()
    assert reads_by_zoneadm(follow).count("playground") == 1
    assert follow.daemon.vm("playground") is None
    assert "playground" not in follow.daemon.status()["zoneErrors"]
    os.unlink(xml)


def test_zone_that_has_just_gone_is_asked_for_once_and_ignored(follow):
    gone = str(uuid.uuid4())
    follow.control.forget_calls()
    publish(follow, zone_event(gone, "", "configured"))
    follow.nothing_by_zones()
    assert reads_by_zoneadm(follow).count(gone) == 1
    assert gone not in follow.daemon.status()["zoneErrors"]


def test_event_that_overtakes_the_list_of_zones_creates_the_vm_later(follow):
    """zoneadm does not answer for the new zone at first: it is tried again, not forgotten (S3)."""
    zone = str(uuid.uuid4())
    follow.control.fault("zoneadm", "fail", match=zone, stderr="zoneadm: out of memory\n", times=1)
    follow.control.add_vm(uuid=zone, state="configured", alias="late")
    event = follow.next()
    assert (event["type"], event["vm"]["alias"]) == ("create", "late")
    eventually("the error is forgotten", lambda: zone not in follow.daemon.status()["zoneErrors"])


# What is no event of a zone.


@pytest.mark.parametrize(
    ("data", "klass", "subclass"),
    [
        (None, "status", "ping"),
        ({}, "status", "change"),
        ({"newstate": "running"}, "status", "change"),
        ({"zonename": 7, "newstate": "running"}, "status", "change"),
        ({"zonename": "../etc/passwd", "newstate": "running"}, "status", "change"),
        ({"zonename": "", "newstate": "running"}, "status", "change"),
        ({"zonename": "global", "newstate": "running"}, "status", "change"),
        ({"zonename": "KNOWN", "newstate": "running"}, "statistics", "change"),
        ({"zonename": "KNOWN"}, "init", "exit"),
    ],
    ids=[
        "no data",
        "empty data",
        "no zonename",
        "zonename is no text",
        "impossible zonename",
        "empty zonename",
        "global zone",
        "another class",
        "init, but no restart",
    ],
)
def test_event_that_is_about_no_vm_costs_no_command(follow, data, klass, subclass):
    known = next(iter(follow.vms))
    if data and data.get("zonename") == "KNOWN":
        data = {**data, "zonename": known}
    follow.control.forget_calls()
    publish(follow, data, klass, subclass)
    follow.nothing_by_zones()
    assert [zone for zone in reads_by_zoneadm(follow) if zone != follow.witness] == []


@pytest.mark.vms(30)
def test_line_that_makes_no_sense_is_logged_and_made_up_for(alone):
    """Whatever it was meant to say is found by a full refresh (C8)."""
    [lost] = [zone for zone in alone.vms if alone.vms[zone].get("alias") == "stopped-by-hand"]
    alone.control.drop_events(match="zones:status")
    alone.control.set_index_state(lost, "incomplete")
    alone.control.raw_line("{this was about a zone\n", match="zones:status")
    event = alone.next()
    assert (event["zonename"], event["vm"]["zone_state"]) == (lost, "incomplete")
    assert cause_of(event) == {"source": "refresh"}
    skipped = next(one for one in alone.daemon.logged("skipped a line", level=40) if "this was about" in one["line"])
    assert skipped["child"] == "zone watcher"
    alone.nothing_by_zones()


def test_second_ready_line_and_a_line_without_a_date_do_no_harm(alone):
    for line in ('{"date":"2026-01-01T00:00:00.000Z","type":"ready"}\n', '{"type":"event","class":"status"}\n', "\n"):
        alone.control.raw_line(line, match="zones:status")
    alone.nothing_by_zones()
    assert alone.daemon.status()["children"]["zonewatcher"]["restarts"] == 0


def test_latency_counts_from_the_date_of_the_event(follow):
    zone = follow.add()
    follow.control.init_restart(zone)
    follow.modified(zone)
    assert changes(follow.events[-1])
    assert 0 <= follow.events[-1]["cause"]["latency_ms"] < 60_000
