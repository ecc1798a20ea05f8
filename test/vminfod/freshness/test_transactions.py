# SPDX-License-Identifier: MPL-2.0
"""A transaction holds one VM back: until it ends nobody sees a state between, and then comes one event."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading

import pytest

from support.deadlines import SOON
from support.following import Follow, cause_of, changes
from support.running_daemon import RunningDaemon, eventually
from support.transacting import Transacting

pytest_plugins = ["support.followers"]


@pytest.fixture
def connect(shared_daemon):
    """Makes connections of writers, and closes them all."""
    with contextlib.ExitStack() as stack:

        def connected(daemon=shared_daemon):
            writer = Transacting(daemon.root)
            stack.callback(writer.close)
            return writer

        yield connected


def change_much(follow, zone):
    """Several steps, told of by each source."""
    follow.zfs("set", "quota=20G", f"zones/{zone}")
    follow.control.write_config(zone, "tags", {"n": 1})
    follow.control.set_attr(zone, "alias", "YmFy")
    follow.zfs("snapshot", f"zones/{zone}@vmsnap-one")


def seen_everywhere(follow, zone):
    """The VM as each kind of reader sees it now."""
    get = follow.daemon.get
    stream, chosen = follow.daemon.events(), follow.daemon.events(f"?uuid={zone}")
    resumed = follow.daemon.events(f"?since={follow.stream.ready['epoch']}:{follow.stream.ready['rev']}")
    vms = {zone: None}
    last = [get(f"/vms/{zone}").json()]
    last += [vm for vm in get("/vms").json() if vm["uuid"] == zone]
    last += get(f"/vms?uuid={zone}").json()
    last += [vm for vm in stream.vms() if vm["uuid"] == zone]
    last += chosen.vms()
    for _ in range(resumed.ready["rev"] - follow.stream.ready["rev"]):
        event = resumed.next()
        vms[event["zonename"]] = event.get("vm")
    last += [vms[zone]]
    assert get(f"/vms?fields=uuid,quota&uuid={zone}").json() == [{"uuid": zone, "quota": last[0]["quota"]}]
    for one in (stream, chosen, resumed):
        one.close()
    return last


def changed(event):
    return {path for path, *_ in changes(event)}


def fresh_beside(follow, zone, more=""):
    """A fresh read by somebody else, under way: the thread, and where its answer will be."""
    answers = []
    asking = threading.Thread(
        target=lambda: answers.append(follow.daemon.get(f"/vms/{zone}?fresh=true{more}", within=SOON))
    )
    asking.start()
    return asking, answers


def none_is_left(follow):
    return eventually("no transaction is left", lambda: follow.daemon.status()["transactions"] == [])


# What is seen meanwhile.


def test_every_reader_sees_the_vm_as_it_was_and_then_all_changes_in_one_event(follow, connect):
    zone = follow.add(state="stopped")
    before, writer = follow.daemon.vm(zone), connect()
    writer.open(zone, command="update", req_id="r1")
    change_much(follow, zone)
    follow.nothing()
    assert all(seen == before for seen in seen_everywhere(follow, zone))
    answer = writer.commit()
    event = follow.next()
    assert changed(event) == {"quota", "tags.n", "alias", "snapshots.*"}
    assert isinstance(event["cause"]["latency_ms"], float)
    assert cause_of(event) == {
        "source": "vmadm",
        "command": "update",
        "pid": os.getpid(),
        "uid": os.getuid(),
        "req_id": "r1",
        "transaction": writer.id,
    }
    assert (answer.status, answer.json()) == (200, {"vm": event["vm"], "rev": event["rev"]})
    assert all(seen == event["vm"] for seen in seen_everywhere(follow, zone))
    follow.nothing()


def test_zone_that_is_not_called_by_its_uuid_is_held_by_either_name(follow, connect):
    uuid = "7e1f5a10-0b5c-4a5e-8c1d-5d1a0b9e2f31"
    zone = follow.add(uuid=uuid, zonename="pagila", delegated=True)
    for key in (uuid, zone):
        writer = connect()
        assert writer.open(key)["uuid"] == uuid
        before = follow.daemon.vm(zone)
        follow.zfs("set", f"quota={before['quota'] + 1}G", before["zfs_filesystem"])
        follow.nothing_by_zfs()
        for name in (uuid, zone):
            assert follow.daemon.vm(name) == before
            assert follow.daemon.get(f"/vms/{name}?fresh=true&timeout=0").status == 504
            assert writer.request("GET", f"/vms/{name}?fresh=true").status == 409
        assert writer.vm().json()["quota"] == before["quota"] + 1
        assert writer.commit().json()["vm"] == follow.next()["vm"]
        assert follow.events[-1]["cause"]["transaction"] == writer.id
    follow.nothing()


def test_the_writer_itself_sees_what_all_see_but_for_what_it_would_be(follow, connect):
    zone, writer = follow.add(state="stopped"), connect()
    before = follow.daemon.get(f"/vms/{zone}").body
    writer.open(zone)
    change_much(follow, zone)
    assert writer.request("GET", f"/vms/{zone}").body == before
    would_be = writer.vm().json()
    assert (would_be["quota"], would_be["alias"], would_be["tags"]) == (20, "bar", {"n": 1})
    refused = writer.request("GET", f"/vms/{zone}?fresh=true")
    assert refused.status == 409 and writer.id in refused.json()["error"]
    assert writer.request("GET", f"/vms/{follow.witness}?fresh=true").status == 200
    assert follow.daemon.get(f"/vms/{zone}").body == before, "it was not published"
    assert writer.commit().json()["vm"] == would_be
    assert follow.next()["vm"] == would_be


def test_other_vms_come_go_and_change_meanwhile(follow, connect):
    zone, other, doomed, writer = follow.add(), follow.add(), follow.add(state="configured"), connect()
    writer.open(zone)
    follow.zfs("set", "quota=20G", f"zones/{zone}")
    follow.zfs("set", "quota=30G", f"zones/{other}")
    assert follow.modified(other) == [("quota", "changed", 10, 30)]
    follow.add(alias="new")  # which reads it fresh
    assert follow.events[-1]["type"] in ("create", "modify")
    follow.control.delete_zone(doomed)
    follow.until(doomed, lambda vm: not vm)
    assert follow.daemon.vm(zone)["quota"] == 10
    writer.commit()
    assert follow.modified(zone) == [("quota", "changed", 10, 20)]


def test_changes_by_others_come_in_the_same_event(follow, connect):
    zone, writer = follow.add(state="installed"), connect()
    writer.open(zone)
    follow.zfs("set", "quota=20G", f"zones/{zone}")
    follow.node.run("zoneadm", "-z", zone, "boot", check=True)
    follow.nothing_by_zones()
    assert follow.daemon.vm(zone)["state"] == "stopped"
    writer.commit()
    event = follow.next()
    assert {"quota", "state", "zone_state"} <= changed(event)
    assert event["vm"]["state"] == "running"


def test_what_was_being_read_when_it_was_opened_is_not_shown_before_its_end(follow, connect):
    """Nor is whoever waits for that reading answered by it."""
    zone, writer = follow.add(), connect()
    follow.control.fault("zfs", "hold", match=zone, times=1)
    asking, answers = fresh_beside(follow, zone)
    eventually("zfs is asked", lambda: follow.control.children("zfs"))
    writer.open(zone)
    follow.zfs("set", "quota=20G", f"zones/{zone}")
    follow.zfs("set", "recordsize=16K", f"zones/{zone}")
    follow.control.clear_faults()
    follow.nothing()
    assert follow.daemon.vm(zone)["quota"] == 10 and not answers
    writer.commit()
    event = follow.next()
    assert {"quota", "zfs_root_recsize"} <= changed(event)
    assert event["cause"]["transaction"] == writer.id
    asking.join(SOON)
    assert answers[0].json() == event["vm"]
    follow.nothing()


def test_what_was_served_ahead_of_zfs_hides_nothing_of_the_end(follow, connect):
    zone, writer = follow.add(), connect()
    follow.control.fault("zfs", "hold", match=zone, times=1)
    asking, answers = fresh_beside(follow, zone)
    eventually("zfs is asked", lambda: follow.control.children("zfs"))
    follow.control.write_config(zone, "tags", {"n": 1})
    assert follow.modified(zone) == [("tags.n", "added", 1)]
    writer.open(zone)
    follow.control.write_config(zone, "tags", {"n": 2})
    follow.zfs("set", "quota=20G", f"zones/{zone}")
    follow.control.clear_faults()
    follow.nothing()
    assert writer.commit().json()["vm"]["tags"] == {"n": 2}
    assert sorted(follow.modified(zone)) == [("quota", "changed", 10, 20), ("tags.n", "changed", 1, 2)]
    asking.join(SOON)
    assert answers[0].json()["tags"] == {"n": 2}


def test_state_between_that_cannot_be_read_is_nobodys_trouble(follow, connect):
    zone, writer = follow.add(), connect()
    text = follow.control.read_xml(zone)
    writer.open(zone)
    follow.control.corrupt(f"/etc/zones/{zone}.xml", "<zone name=")
    follow.nothing_by_files()
    assert writer.vm().status == 504
    assert follow.daemon.status()["zoneErrors"] == {}
    follow.control.edit_xml(zone, text.replace("Zm9v", "YmFy"))
    assert writer.commit().json()["vm"]["alias"] == "bar"
    assert changed(follow.next()) >= {"alias"}
    assert not [one for one in follow.daemon.logged("cannot read a zone") if one["zonename"] == zone]


def test_full_refresh_neither_shows_nor_misses_what_is_held(node):
    """Nor those that nobody asked for, which tell of lost events."""
    with RunningDaemon(node.root, "--refresh-interval", "0.2").start() as daemon:
        follow = Follow(node, daemon, next(vm["zonename"] for vm in daemon.vms() if vm["state"] == "running"))
        zone, writer = follow.add(state="stopped"), Transacting(daemon.root)
        writer.open(zone)
        change_much(follow, zone)
        wait_for_refreshes(daemon)
        daemon.process.send_signal(signal.SIGHUP)
        eventually("one was asked for", lambda: daemon.logged("a full refresh is asked for"))
        wait_for_refreshes(daemon)
        assert daemon.vm(zone) == follow.vms[zone]
        writer.commit()
        event = follow.next()
        assert (event["zonename"], cause_of(event)["source"]) == (zone, "vmadm")
        assert changed(event) == {"quota", "tags.n", "alias", "snapshots.*"}
        assert daemon.status()["refreshLog"] == []
        assert not daemon.logged("lost events")
        writer.close()
        follow.close()


def wait_for_refreshes(daemon):
    count = len(daemon.logged("full refresh ended"))
    eventually("two began and ended", lambda: len(daemon.logged("full refresh ended")) > count + 2)


def test_refresh_that_loads_while_it_ends_shows_nothing_old(follow, connect):
    zone, writer = follow.add(), connect()
    writer.open(zone)
    follow.zfs("set", "quota=20G", f"zones/{zone}")
    follow.control.fault("zoneadm", "hold", match="list", times=1)
    follow.daemon.process.send_signal(signal.SIGHUP)
    eventually("it loads", lambda: follow.control.children("zoneadm"))
    follow.zfs("set", "quota=30G", f"zones/{zone}")
    assert writer.commit().json()["vm"]["quota"] == 30
    assert follow.modified(zone) == [("quota", "changed", 10, 30)]
    follow.control.clear_faults()
    follow.settle()
    follow.nothing()


def test_sysinfo_reaches_the_others_at_once_and_the_vm_at_the_end(alone):
    zone, writer = alone.add(), Transacting(alone.daemon.root)
    writer.open(zone)
    alone.control.write_sysinfo({**alone.control.sysinfo(), "Datacenter Name": "moved"})
    others = set(alone.vms) - {zone}
    while others:
        event = alone.next()
        assert changed(event) == {"datacenter_name"}
        others.remove(event["zonename"])
    alone.nothing()
    assert alone.daemon.vm(zone)["datacenter_name"] != "moved"
    writer.commit()
    event = alone.next()
    assert (event["zonename"], changed(event)) == (zone, {"datacenter_name"})
    assert event["cause"]["transaction"] == writer.id
    writer.close()


def test_vm_that_is_deleted_meanwhile_is_gone_at_the_end(follow, connect):
    zone, writer, waiting = follow.add(state="configured"), connect(), connect()
    writer.open(zone)
    waiting.ask_to_open(zone)
    eventually("it waits", lambda: len(follow.daemon.status()["transactions"]) == 2)
    follow.control.delete_zone(zone)
    follow.nothing()
    assert follow.daemon.vm(zone) == follow.vms[zone]
    gone = writer.vm()
    assert (gone.status, gone.json()) == (404, {"error": f"VM Not Found: {zone}"})
    answer = writer.commit()
    event = follow.next()
    assert (event["type"], event["zonename"], event["cause"]["transaction"]) == ("delete", zone, writer.id)
    assert (answer.status, answer.json()) == (200, {"vm": None, "rev": event["rev"]})
    refused = waiting.heard()
    assert (refused.status, refused.json()) == (404, {"error": f"VM Not Found: {zone}"})
    assert none_is_left(follow)
    follow.nothing()


def test_vm_that_is_gone_when_the_connection_ends_has_its_delete(follow, connect):
    zone, writer = follow.add(state="configured"), connect()
    writer.open(zone)
    follow.control.delete_zone(zone)
    follow.nothing()
    assert follow.daemon.vm(zone) == follow.vms[zone]
    writer.sock.shutdown(2)
    event = follow.next()
    assert (event["type"], event["zonename"], event["cause"]["aborted"]) == ("delete", zone, True)
    assert none_is_left(follow)


# Others who want it.


def test_fresh_read_by_others_waits_for_the_end(follow, connect):
    zone, writer = follow.add(), connect()
    writer.open(zone, command="update --slowly")
    follow.zfs("set", "quota=20G", f"zones/{zone}")
    refused = follow.daemon.get(f"/vms/{zone}?fresh=true&timeout=0.1")
    assert refused.status == 504
    assert re.search(rf" is held since [\d.]+ s by pid {os.getpid()}: update --slowly$", refused.body.decode())
    asking, answers = fresh_beside(follow, zone)
    follow.nothing()
    assert not answers
    writer.commit()
    asking.join(SOON)
    assert answers[0].json()["quota"] == 20
    assert follow.modified(zone) == [("quota", "changed", 10, 20)]


def test_those_who_wait_get_their_turn_in_order_and_who_leaves_is_passed_over(follow, connect):
    zone, first, second, third, fourth = follow.add(), connect(), connect(), connect(), connect()
    first.open(zone, command="first")
    for number, (writer, name) in enumerate([(second, "second"), (third, "third"), (fourth, "fourth")], 2):
        writer.ask_to_open(zone, command=name)
        eventually("it waits", lambda number=number: len(follow.daemon.status()["transactions"]) == number)
    states = [(one["command"], one["state"]) for one in follow.daemon.status()["transactions"]]
    assert states == [("first", "open"), ("second", "waiting"), ("third", "waiting"), ("fourth", "waiting")]
    third.close()
    eventually("it has left", lambda: len(follow.daemon.status()["transactions"]) == 3)
    for writer, next_one, quota in ((first, second, 20), (second, fourth, 30)):
        follow.zfs("set", f"quota={quota}G", f"zones/{zone}")
        assert writer.commit().json()["vm"]["quota"] == quota
        next_one.opened()
    follow.zfs("set", "quota=40G", f"zones/{zone}")
    fourth.commit()
    assert [follow.modified(zone) for _ in range(3)] == [
        [("quota", "changed", old, new)] for old, new in ((10, 20), (20, 30), (30, 40))
    ]
    assert [event["cause"]["command"] for event in follow.events[-3:]] == ["first", "second", "fourth"]


def test_wait_that_is_too_long_is_504_and_says_who_holds_the_vm(follow, connect):
    zone, writer, waiting = follow.add(), connect(), connect()
    writer.open(zone, command="update", req_id="r1")
    waiting.ask_to_open(zone, wait=0)
    answer = waiting.heard()
    assert answer.status == 504
    assert f"pid {os.getpid()}: update" in answer.json()["error"]
    holder = answer.json()["holder"]
    assert 0 <= holder.pop("age") < 60
    assert holder == {
        "transaction": writer.id,
        "command": "update",
        "req_id": "r1",
        "pid": os.getpid(),
        "uid": os.getuid(),
    }
    writer.commit()
    waiting.open(zone, wait=0)
    assert waiting.commit().status == 200


# How it ends.


def test_killed_writer_leaves_what_is_really_there(follow, tmp_path):
    zone = follow.add()
    asked = json.dumps({"uuid": zone, "command": "update", "req_id": None})
    script = (
        "import socket, sys, time\n"
        "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
        "body = sys.argv[2].encode()\n"
        "s.sendall(b'POST /transactions HTTP/1.1\\r\\nContent-Length: %d\\r\\n\\r\\n%b' % (len(body), body))\n"
        "print(s.recv(12).decode(), flush=True)\n"
        "while True: time.sleep(60)\n"
    )
    path = os.path.join(follow.daemon.root, "var/run/vminfod.sock")
    writer = subprocess.Popen([sys.executable, "-c", script, path, asked], stdout=subprocess.PIPE, text=True)
    assert writer.stdout.readline() == "HTTP/1.1 201\n"
    follow.zfs("set", "quota=20G", f"zones/{zone}")
    follow.nothing_by_zfs()
    writer.kill()
    assert follow.modified(zone) == [("quota", "changed", 10, 20)]
    cause = cause_of(follow.events[-1])
    assert (cause["pid"], cause["aborted"]) == (writer.pid, True)
    writer.wait()
    writer.stdout.close()
    assert none_is_left(follow)


@pytest.mark.parametrize("how", ["close", "half"])
@pytest.mark.parametrize("moment", ["idle", "reading"])
def test_connection_that_ends_publishes_what_is_there(follow, connect, how, moment):
    zone, writer = follow.add(), connect()
    writer.open(zone)
    follow.zfs("set", "quota=20G", f"zones/{zone}")
    follow.nothing_by_zfs()
    if moment == "reading":
        follow.control.fault("zoneadm", "hold", match=zone, times=1)
        writer.ask("GET", f"/transactions/{writer.id}/vm")
        eventually("it reads", lambda: follow.control.children("zoneadm"))
    if how == "close":
        writer.sock.shutdown(2)
    else:
        writer.end_sending()
    assert follow.modified(zone) == [("quota", "changed", 10, 20)]
    assert cause_of(follow.events[-1])["aborted"] is True
    follow.control.clear_faults()
    if how == "half":
        assert [answer.status for answer in iter(writer.answer, None)] == [200] * (moment == "reading")
    assert none_is_left(follow)


def test_what_was_being_read_for_others_when_the_connection_ends_is_not_what_is_published(follow, connect):
    """It was marked by the platform's event, and would say so instead of whose change it was."""
    zone, writer = follow.add(), connect()
    follow.control.fault("zfs", "hold", match="list", times=1)
    follow.zfs("set", "recordsize=16K", f"zones/{zone}")
    eventually("the event has it read", lambda: follow.control.held("zfs"))
    writer.open(zone)
    follow.zfs("set", "quota=20G", f"zones/{zone}")
    writer.sock.shutdown(2)
    eventually("it is ending", lambda: [one["state"] for one in follow.daemon.status()["transactions"]] == ["ending"])
    follow.control.step("zfs")
    assert {"quota", "zfs_root_recsize"} <= {path for path, *_ in follow.modified(zone)}
    assert cause_of(follow.events[-1])["aborted"] is True
    assert none_is_left(follow)
    follow.nothing()


def test_end_without_changes_makes_no_event(follow, connect):
    zone, writer = follow.add(), connect()
    writer.open(zone)
    writer.sock.shutdown(2)
    assert none_is_left(follow)
    follow.nothing()


def test_connection_that_has_ended_before_its_turn_opens_nothing(follow, connect):
    zone, writer, waiting = follow.add(), connect(), connect()
    writer.open(zone)
    waiting.ask_to_open(zone)
    waiting.end_sending()
    assert waiting.heard().status in (409, 504)
    assert waiting.answer() is None
    assert len(follow.daemon.status()["transactions"]) == 1
    writer.commit()
    late = connect()
    late.ask_to_open(zone)
    late.end_sending()
    answer = late.answer()
    assert answer is None or answer.status in (201, 409)
    assert none_is_left(follow)
    follow.nothing()


def test_commit_that_was_asked_for_is_done_though_nobody_waits_for_it(follow, connect):
    zone, writer = follow.add(), connect()
    writer.open(zone)
    follow.zfs("set", "quota=20G", f"zones/{zone}")
    follow.control.fault("zoneadm", "hold", match=zone, times=1)
    writer.ask_to_commit()
    eventually("it reads", lambda: follow.control.children("zoneadm"))
    writer.sock.shutdown(2)
    eventually("the connection is gone", lambda: follow.daemon.status()["transactions"][0]["state"] == "ending")
    follow.control.clear_faults()
    assert follow.modified(zone) == [("quota", "changed", 10, 20)]
    assert "aborted" not in follow.events[-1]["cause"]


def test_past_its_limit_the_vm_is_published_with_a_warning(follow, connect):
    zone, writer = follow.add(), connect()
    writer.open(zone, command="update", limit=2)
    follow.daemon.process.send_signal(signal.SIGSTOP)  # until the change is made: it is to find it when the time is up
    follow.zfs("set", "quota=20G", f"zones/{zone}")
    follow.daemon.process.send_signal(signal.SIGCONT)
    assert follow.modified(zone) == [("quota", "changed", 10, 20)]
    cause = cause_of(follow.events[-1])
    assert (cause["transaction"], cause["expired"], "aborted" in cause) == (writer.id, True, False)
    [shown] = follow.daemon.status()["transactions"]
    assert (shown["transaction"], shown["state"]) == (writer.id, "expired")
    [warning] = [one for one in follow.daemon.logged("longer than its limit", level=40) if one["zonename"] == zone]
    assert (warning["command"], warning["writerPid"], warning["end"]) == ("update", os.getpid(), "expired")
    follow.zfs("set", "quota=30G", f"zones/{zone}")
    assert follow.modified(zone) == [("quota", "changed", 20, 30)]
    for answer in (writer.vm(), writer.commit()):
        assert (answer.status, answer.json()["ended"]) == (410, "expired")
    writer.close()
    assert none_is_left(follow)


def test_commit_that_cannot_be_read_says_why_and_releases_the_vm(follow, connect):
    zone, writer = follow.add(), connect()
    text = follow.control.read_xml(zone)
    writer.open(zone)
    follow.control.corrupt(f"/etc/zones/{zone}.xml", "<zone name=")
    answer = writer.commit()
    assert (answer.status, f"/etc/zones/{zone}.xml" in answer.json()["error"]) == (504, True)
    assert follow.daemon.vm(zone) == follow.vms[zone]
    assert zone in follow.daemon.status()["zoneErrors"]
    assert not follow.daemon.status()["transactions"]
    assert writer.commit().status == 410
    follow.control.edit_xml(zone, text.replace("Zm9v", "YmFy"))
    assert ("alias", "changed", "foo", "bar") in follow.modified(zone)
    assert follow.events[-1]["cause"]["transaction"] == writer.id


def test_commit_that_hangs_is_504_and_published_when_it_can_be_read(follow, connect):
    zone, writer = follow.add(), connect()
    writer.open(zone)
    follow.zfs("set", "quota=20G", f"zones/{zone}")
    follow.control.fault("zfs", "hold", match=zone, times=1)
    answer = writer.commit("?timeout=0.2")
    assert (answer.status, "not read within 0.2 s: " in answer.json()["error"]) == (504, True)
    assert not follow.daemon.status()["transactions"]
    assert follow.daemon.vm(zone)["quota"] == 10
    follow.control.clear_faults()
    assert follow.modified(zone) == [("quota", "changed", 10, 20)]
    assert follow.events[-1]["cause"]["transaction"] == writer.id


def test_look_ahead_that_hangs_is_504_and_the_transaction_stays_open(follow, connect):
    zone, writer = follow.add(), connect()
    writer.open(zone)
    follow.control.fault("zfs", "hold", match=zone, times=1)
    answer = writer.vm("?timeout=0.2")
    why = rf"waiting for .*{zone}, which runs .* s|it is being read, and waits for its turn"
    assert (answer.status, bool(re.search(f"not read within 0.2 s: ({why})$", answer.json()["error"]))) == (504, True)
    follow.control.clear_faults()
    assert writer.vm().status == 200
    assert writer.commit().status == 200


@pytest.mark.vms(30)
def test_many_at_once_each_end_in_one_event(alone):
    zones = [zone for zone, vm in alone.vms.items() if vm.get("quota", 0) > 1 and vm["brand"] != "bhyve"]
    assert len(zones) > 10
    writers = [Transacting(alone.daemon.root) for _ in zones]
    for writer, zone in zip(writers, zones):
        writer.open(zone)
        alone.zfs("set", "quota=500G", alone.vms[zone]["zfs_filesystem"])
        alone.zfs("set", "quota=600G", alone.vms[zone]["zfs_filesystem"])
    assert len(alone.daemon.status()["transactions"]) == len(zones)
    for number, writer in enumerate(writers):
        writer.ask_to_commit() if number % 2 else writer.sock.shutdown(2)
    seen = {}
    for _ in zones:
        event = alone.next()
        assert [change[:2] + change[3:] for change in changes(event)] == [("quota", "changed", 600)]
        seen[event["zonename"]] = event["cause"]["transaction"]
    assert seen == {zone: writer.id for writer, zone in zip(writers, zones)}
    assert none_is_left(alone)
    alone.settle()
    for writer in writers:
        writer.close()


def test_daemon_that_stops_in_the_middle_serves_what_is_there_afterwards(node):
    with RunningDaemon(node.root).start() as daemon:
        follow = Follow(node, daemon, "none")
        zone = follow.add()
        writer, waiting, committing = (Transacting(daemon.root) for _ in range(3))
        writer.open(zone)
        waiting.ask_to_open(zone)
        other = follow.add()
        committing.open(other)
        follow.zfs("set", "quota=20G", f"zones/{zone}")
        node.control.fault("zfs", "hold", match=other, times=None)
        committing.ask_to_commit()
        eventually("it reads", lambda: node.control.children("zfs"))
        assert daemon.stop() == 0
        for one in (writer, waiting, committing):
            answer = one.answer()
            assert answer is None or answer.status >= 500
            one.close()
        node.control.clear_faults()
    with RunningDaemon(node.root).start() as daemon:
        assert daemon.vm(zone)["quota"] == 20
        assert daemon.status()["transactions"] == []
