# SPDX-License-Identifier: MPL-2.0
"""`GET /vms/:uuid?fresh=true`: the barrier that a writer waits at before it says "done"."""

import os
import threading
import uuid

import pytest

from support.convergence import differences
from support.deadlines import SOON
from support.following import Follow
from support.running_daemon import RunningDaemon, eventually
from support.transacting import Transacting

pytest_plugins = ["support.followers"]

UNKNOWN = "00000000-1111-4222-8333-444444444444"


def fresh(follow, key, more="", **options):
    return follow.daemon.get(f"/vms/{key}?fresh=true{more}", **options)


def asking(follow, key, times=1):
    """So many connections by which a fresh read has been asked for; their answers are still to come."""
    request = f"GET /vms/{key}?fresh=true HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    asked = [follow.daemon.raw().send(request) for _ in range(times)]
    assert follow.daemon.get("/ping").status == 200  # whoever came before has been heard
    return asked


@pytest.mark.parametrize("value", ["true", "1"])
def test_fresh_read_sees_a_change_whose_event_was_lost_and_emits_it(follow, value):
    zone = follow.add()
    follow.lose(zone)
    follow.zfs("set", "quota=20G", f"zones/{zone}")
    follow.nothing_by_zfs()
    answer = follow.daemon.get(f"/vms/{zone}?fresh={value}")
    assert (answer.status, answer.json()["quota"]) == (200, 20)
    assert follow.modified(zone) == [("quota", "changed", 10, 20)]
    event = follow.events[-1]
    assert event["cause"] == {"source": "request"}
    assert answer.headers["etag"] == f'"{event["epoch"]}:{event["rev"]}"'
    assert int(answer.headers["x-vminfod-rev"]) == event["rev"], "the event was there before the answer"
    assert answer.json() == event["vm"]


def test_every_part_of_a_vm_is_read(follow):
    zone = follow.add(state="stopped", files={"tags": {"n": 1}})
    # A file that is not there yet would be told of by the watch that is tried again, however deaf the watcher is.
    follow.control.write_lastexited(zone, 256)
    follow.until(zone, lambda vm: vm.get("exit_status") == 1)
    path = f"{follow.vms[zone]['zonepath']}/lastexited"
    eventually("the file is watched", lambda: path in follow.daemon.status()["fswatcher"]["watching"])
    follow.settle()
    follow.deafen(zone)
    follow.control.write_config(zone, "tags", {"n": 2})
    follow.control.set_attr(zone, "alias", "YmFy")
    follow.control.write_lastexited(zone, 512)
    follow.control.drop_events(times=None, match=zone)
    follow.zfs("set", "recordsize=16K", f"zones/{zone}")
    follow.control.set_index_state(zone, "incomplete")
    follow.control.clear_event_rules()
    follow.nothing()
    vm = fresh(follow, zone).json()
    assert (vm["tags"], vm["alias"], vm["exit_status"], vm["zfs_root_recsize"], vm["zone_state"]) == (
        {"n": 2},
        "bar",
        2,
        16384,
        "incomplete",
    )
    follow.until(zone, lambda seen: seen == vm)


def test_what_has_not_changed_makes_no_event(follow):
    zone = follow.add()
    before = follow.daemon.get(f"/vms/{zone}")
    after = fresh(follow, zone)
    assert (after.body, after.headers["etag"]) == (before.body, before.headers["etag"])
    follow.nothing_by_zfs()


def test_events_that_came_before_the_request_are_in_its_answer(follow):
    """The writer's own events are still on their way when it asks."""
    zone = follow.add()
    follow.control.fault("zfs", "hold", match=f"-d 1 zones/{zone}", times=1)
    follow.zfs("set", "quota=20G", f"zones/{zone}")
    eventually("the event is being followed", lambda: follow.control.held("zfs"))
    follow.control.set_attr(zone, "alias", "YmFy")
    [asked] = asking(follow, zone)
    follow.control.step("zfs")
    vm = asked.answer().json()
    assert (vm["quota"], vm["alias"]) == (20, "bar")
    follow.until(zone, lambda seen: seen == vm)
    follow.nothing()


def test_vm_that_is_gone_is_404_and_its_delete_is_emitted(follow):
    zone = follow.add(state="configured")
    follow.lose(zone)
    follow.deafen(zone)
    follow.control.delete_zone(zone)
    follow.nothing_by_zones()
    answer = fresh(follow, zone)
    assert (answer.status, answer.body) == (404, f"VM Not Found: {zone}".encode())
    event = follow.next()
    assert (event["type"], event["zonename"], event["cause"]) == ("delete", zone, {"source": "request"})
    assert follow.daemon.vm(zone) is None


def test_xml_that_is_gone_is_404_too(follow):
    zone = follow.add(state="configured")
    follow.deafen(zone)
    os.unlink(follow.control.real(f"/etc/zones/{zone}.xml"))
    assert fresh(follow, zone).status == 404
    assert follow.next()["type"] == "delete"
    assert zone in follow.daemon.status()["zoneErrors"], "zoneadm still knows it: it is tried again"
    follow.control.delete_zone(zone)
    eventually("the error is forgotten", lambda: zone not in follow.daemon.status()["zoneErrors"])


@pytest.mark.parametrize("how", ["uuid", "zone name"])
def test_zone_that_is_not_known_yet_is_served_from_then_on(alone, how):
    """Its event is lost; a zone of another name can be asked for by both."""
    uuid_ = str(uuid.uuid4())
    name = uuid_ if how == "uuid" else f"db-{uuid_[:8]}"
    alone.deafen("/etc/zones")  # what is in the index and is not served is read in a while
    alone.control.drop_events(times=None, match=name)
    alone.control.add_vm(uuid=uuid_, zonename=name, state="stopped", files={"tags": {"n": 1}})
    alone.control.clear_event_rules()
    alone.nothing_by_zones()
    answer = fresh(alone, name)
    assert (answer.status, answer.json()["tags"]) == (200, {"n": 1})
    event = alone.next()
    assert (event["type"], event["zonename"], event["uuid"]) == ("create", name, uuid_)
    assert event["cause"] == {"source": "request"}
    alone.control.write_config(name, "tags", {"n": 2})
    assert alone.modified(name) == [("tags.n", "changed", 1, 2)]


def test_unknown_zone_of_another_name_is_found_by_its_uuid(alone):
    uuid_ = str(uuid.uuid4())
    name = f"db-{uuid_[:8]}"
    alone.deafen("/etc/zones")  # what is in the index and is not served is read in a while
    alone.control.drop_events(times=None, match=name)
    alone.control.add_vm(uuid=uuid_, zonename=name, state="configured")
    alone.control.clear_event_rules()
    alone.nothing_by_zones()
    answer = fresh(alone, uuid_)
    assert (answer.status, answer.json()["zonename"]) == (200, name)
    assert (alone.next()["type"], alone.events[-1]["zonename"]) == ("create", name)
    assert alone.daemon.vm(name) == alone.daemon.vm(uuid_)
    alone.control.set_index_state(name, "incomplete")
    assert ("zone_state", "changed", "configured", "incomplete") in alone.modified(name)


@pytest.mark.parametrize(
    "key",
    [
        UNKNOWN,
        UNKNOWN.upper(),
        "nobody",
        "global",
        "a%20b",
        "%00",
        "%0a",
        "a%2fb",
        "-z",
        "--",
        "%2e%2e",
        "\xe9",
        "x" * 300,
        "a:b",
        "%1b[2J",
    ],
)
def test_name_that_no_vm_has_is_404_and_leaves_nothing_behind(follow, key):
    answer = fresh(follow, key, "&timeout=60")
    assert answer.status == 404
    assert answer.body.startswith(b"VM Not Found: ")
    status = follow.daemon.status()
    assert status["zoneErrors"] == {}
    follow.settle()
    follow.nothing_by_zones()


def test_zone_that_is_no_vm_is_404(follow):
    answer = follow.node.run("zoneadm", "list", "-p", "-c")
    assert answer.returncode == 0
    assert fresh(follow, "global").status == 404


@pytest.mark.parametrize("more", ["&timeout=0.3", "&timeout=0"])
def test_reading_that_hangs_is_504_past_the_timeout_and_keeps_what_is_served(follow, more):
    zone = follow.add()
    before = follow.daemon.get(f"/vms/{zone}")
    follow.control.fault("zfs", "hold", match=zone)
    answer = fresh(follow, zone, more)
    assert answer.status == 504
    assert answer.headers["content-type"] == "application/json"
    assert b"not read within" in answer.body
    assert follow.daemon.get(f"/vms/{zone}").body == before.body
    follow.control.step("zfs")
    assert fresh(follow, zone).status == 200, "the reading went on"
    follow.settle()
    follow.nothing_by_zfs()


def test_reading_that_hangs_keeps_no_other_request_waiting(follow):
    """Others are read, changed and served meanwhile."""
    zone, other = follow.add(), follow.add()
    follow.nothing()  # a late event about one of them would take the fault, or be the next
    answers = []
    follow.control.fault("zfs", "hang", match=zone)
    waiting = threading.Thread(target=lambda: answers.append(fresh(follow, zone, "&timeout=60", within=SOON)))
    waiting.start()
    # Not before: what waits for a slot would be asked together with the other, and take the fault along.
    eventually("zfs hangs", lambda: follow.control.held("zfs"))
    follow.zfs("set", "quota=20G", f"zones/{other}")
    assert follow.modified(other) == [("quota", "changed", 10, 20)]
    assert fresh(follow, other).json()["quota"] == 20
    assert follow.daemon.get("/ping").status == 200
    assert not answers
    eventually("zfs hangs and is killed", lambda: follow.control.kill_child("zfs", match=zone))
    waiting.join(SOON)
    assert [answer.status for answer in answers] == [200], "the reading that failed was tried again"


def test_reading_that_fails_for_good_is_504_and_says_why_in_status(follow):
    zone = follow.add()
    follow.control.fault("zfs", "fail", match=zone, stderr="internal error\n", times=None)
    assert fresh(follow, zone, "&timeout=0.2").status == 504
    eventually("the error is shown", lambda: zone in follow.daemon.status()["zoneErrors"])
    assert follow.daemon.get(f"/vms/{zone}").status == 200
    follow.control.clear_faults("zfs")
    assert fresh(follow, zone).status == 200
    eventually("the error is forgotten", lambda: zone not in follow.daemon.status()["zoneErrors"])


def test_broken_vm_is_answered_with_its_reason_by_the_first_reading_after_the_question(follow):
    zone = follow.add()
    text = follow.control.read_xml(zone)
    follow.control.corrupt(f"/etc/zones/{zone}.xml", "<zone name=")
    eventually("it is tried again and again", lambda: tries(follow, zone) > 2)
    answer = fresh(follow, zone, "&timeout=600")
    reason = f"VM cannot be read: /etc/zones/{zone}.xml: unclosed token"
    assert (answer.status, answer.body.decode()) == (504, reason)
    assert follow.daemon.vm(zone) == follow.vms[zone]
    follow.control.edit_xml(zone, text.replace("Zm9v", "YmFy"))
    assert fresh(follow, zone).json()["alias"] == "bar"
    follow.until(zone, lambda vm: vm["alias"] == "bar")


def tries(follow, zone):
    return follow.daemon.status()["zoneErrors"].get(zone, {"tries": 0})["tries"]


def test_sysinfo_is_read_too_and_reaches_every_vm(alone):
    zone = alone.add()
    alone.deafen("/tmp/.sysinfo.json")
    alone.control.write_sysinfo({**alone.control.sysinfo(), "Datacenter Name": "moved-in-silence"})
    alone.nothing_by_files()
    assert fresh(alone, zone).json()["datacenter_name"] == "moved-in-silence"
    assert not differences(alone.daemon)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "ENOENT: no such file or directory, open '/tmp/.sysinfo.json'"), ('{"UUID": "44', None), ("[]", None)],
    ids=["not there", "cut", "no object"],
)
def test_broken_sysinfo_is_the_answer_like_any_other_source(alone, content, reason):
    zone, before = alone.add(), alone.control.sysinfo()
    path = alone.control.real("/tmp/.sysinfo.json")
    os.unlink(path)
    if content is not None:
        with open(path, "w", encoding="ascii") as file:
            file.write(content)
    answer = fresh(alone, zone)
    assert answer.status == 504
    assert answer.body.decode().startswith(f"VM cannot be read: sysinfo: {reason or ''}")
    assert answer.body.decode().endswith(alone.daemon.status()["sysinfoError"]), "with its reason"
    assert alone.daemon.vm(zone) == alone.vms[zone], "what was known is served on"
    alone.zfs("set", "quota=20G", f"zones/{zone}")
    alone.until(zone, lambda vm: vm["quota"] == 20)
    assert fresh(alone, UNKNOWN).status == 404, "what is not there needs no sysinfo"
    writer = Transacting(alone.node.root)
    writer.open(zone)
    alone.zfs("set", "quota=30G", f"zones/{zone}")
    assert writer.commit().status == 200, "a writer has changed nothing of it"
    assert alone.daemon.vm(zone)["quota"] == 30
    writer.close()
    alone.control.write_sysinfo(before)
    assert fresh(alone, zone).json()["server_uuid"] == before["UUID"]


def test_many_who_ask_at_once_are_all_answered_and_share_the_reading(follow):
    zone = follow.add()
    follow.control.fault("zfs", "hold", match=zone, times=1)
    follow.control.forget_calls()
    askers = asking(follow, zone, 20)
    eventually("it is being read", lambda: follow.control.held("zfs"))
    follow.control.step("zfs")
    assert [asker.answer().status for asker in askers] == [200] * 20
    assert len(follow.listed()) < 20
    follow.nothing_by_zfs()


@pytest.mark.parametrize("value", ["false", "0", ""])
def test_not_fresh_reads_nothing(follow, value):
    zone = follow.add()
    follow.nothing()  # what was told of its making has been read
    follow.control.forget_calls()
    assert follow.daemon.get(f"/vms/{zone}?fresh={value}").json() == follow.vms[zone]
    assert follow.daemon.get(f"/vms/{UNKNOWN}?fresh={value}").status == 404
    assert follow.asked_about(zone) == follow.asked_about(UNKNOWN) == []


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("fresh=yes", "fresh"),
        ("fresh=TRUE", "fresh"),
        ("fresh=true&timeout=", "timeout"),
        ("fresh=true&timeout=-1", "timeout"),
        ("fresh=true&timeout=soon", "timeout"),
        ("fresh=true&timeout=nan", "timeout"),
        ("fresh=true&timeout=inf", "timeout"),
        ("fresh=true&timeout=601", "timeout"),
    ],
)
def test_value_that_makes_no_sense_is_refused_by_name(follow, query, name):
    follow.settle()
    follow.control.forget_calls()
    answer = follow.daemon.get(f"/vms/{follow.witness}?{query}")
    assert answer.status == 400
    assert answer.json()["error"].startswith(f"bad value for {name}: ")
    assert follow.asked_about(follow.witness) == []


def test_daemon_that_stops_leaves_no_request_waiting(node):
    with RunningDaemon(node.root).start() as daemon:
        follow = Follow(node, daemon, "none")
        zone = follow.add()
        node.control.fault("zfs", "hang", match=zone)
        connection = daemon.raw().send(f"GET /vms/{zone}?fresh=true HTTP/1.1\r\n\r\n".encode())
        eventually("zfs hangs", lambda: zone in daemon.status()["reloading"])
        assert daemon.stop() == 0
        answer = connection.answer()
        assert answer is None or answer.status >= 500
        connection.close()


@pytest.mark.parametrize("is_there", [True, False])
def test_other_requests_that_are_answered_meanwhile_change_nothing_in_the_answer(follow, is_there):
    zone = follow.add() if is_there else str(uuid.uuid4())
    follow.control.fault("zoneadm", "hold", match=zone, times=1)
    answers = []
    asking = threading.Thread(target=lambda: answers.append(fresh(follow, zone)))
    asking.start()
    eventually("zoneadm is asked", lambda: follow.control.children("zoneadm"))
    assert follow.daemon.get("/vms/other", {"If-None-Match": "*"}).status == 404
    follow.control.clear_faults()
    asking.join(SOON)
    if is_there:
        assert (answers[0].status, answers[0].json()["uuid"]) == (200, zone)
    else:
        assert (answers[0].status, answers[0].body.decode()) == (404, f"VM Not Found: {zone}")


def test_tools_are_asked_side_by_side_about_a_vm_that_is_known(follow):
    """Each is held until all have begun."""
    zone = follow.add(state="running", delegated=True)
    tools = ("zoneadm", "zfs")
    follow.lose(zone)
    for tool in tools:
        follow.control.fault(tool, "hold", match=zone, times=1)
    follow.control.forget_calls()
    answers = []
    asking = threading.Thread(target=lambda: answers.append(fresh(follow, zone)))
    asking.start()
    eventually("both have begun", lambda: all(follow.control.children(tool) for tool in tools))
    follow.control.clear_faults()
    asking.join(SOON)
    assert [answer.status for answer in answers] == [200]
    assert len(follow.listed()) == 1


def test_zone_that_zoneadm_knows_no_more_is_dropped_while_zfs_hangs(follow):
    zone = follow.add(state="installed", delegated=True)
    follow.control.fault("zfs", "hold", match=zone, times=None)
    follow.control.drop_events(times=None)
    follow.deafen(zone)
    follow.node.run("zoneadm", "-z", zone, "uninstall", "-F")
    follow.node.run("zonecfg", "-z", zone, "delete", "-F", check=True)
    assert fresh(follow, zone).status == 404
    follow.control.clear_faults()
    follow.control.clear_event_rules()
    follow.until(zone, lambda vm: not vm)
    watching = follow.daemon.status
    eventually("it is watched no more", lambda: zone not in str(watching()["fswatcher"]["watching"]))


def test_zone_whose_state_changes_while_it_is_read_is_shown_with_what_was_read_after_that(follow):
    zone = follow.add(state="stopped")
    follow.lose(zone)
    follow.deafen(zone)
    follow.control.fault("zoneadm", "hold", match=zone, times=1)
    follow.control.forget_calls()
    answers = []
    asking = threading.Thread(target=lambda: answers.append(fresh(follow, zone)))
    asking.start()
    eventually("zfs has been asked", lambda: follow.listed())
    follow.control.write_lastexited(zone, 512)
    follow.control.set_index_state(zone, "incomplete")
    follow.control.clear_faults()
    asking.join(SOON)
    vm = answers[0].json()
    assert (vm["zone_state"], vm["exit_status"]) == ("incomplete", 2)
    follow.control.clear_event_rules()
    follow.until(zone, lambda vm: vm["zone_state"] == "incomplete")
