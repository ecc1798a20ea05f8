# SPDX-License-Identifier: MPL-2.0
"""Revisions: each event has a number, each answer tells where it stands, and a listener can go on where it was cut."""

import json
import uuid

import pytest

from support.following import Follow
from support.running_daemon import RunningDaemon, eventually

pytest_plugins = ["support.followers"]


def mark(event):
    return f"{event['epoch']}:{event['rev']}"


def seven_changes(follow):
    """Events of all types, taken."""
    zone = follow.add(state="stopped")
    for number in range(3):
        follow.control.write_config(zone, "tags", {"n": number})
        follow.until(zone, lambda vm, n=number: vm["tags"] == {"n": n})
    follow.settle()
    follow.control.remove_vm(zone)
    follow.until(zone, lambda vm: not vm)


def test_each_event_adds_one_for_every_listener_alike(follow):
    other = follow.daemon.events()
    seven_changes(follow)
    assert [event["rev"] for event in follow.events] == [
        follow.stream.ready["rev"] + number for number in range(1, len(follow.events) + 1)
    ]
    assert {event["epoch"] for event in follow.events} == {follow.stream.ready["epoch"]}
    assert [other.next() for _ in follow.events] == follow.events
    other.close()


@pytest.mark.parametrize("path", ["/ping", "/status", "/vms", "/vms/nobody", "/nowhere", "/events?types=bogus"])
def test_every_answer_says_where_it_stands(follow, path):
    follow.nothing_by_zfs()
    headers = follow.daemon.get(path).headers
    assert (headers["x-vminfod-epoch"], headers["x-vminfod-rev"]) == (
        follow.events[-1]["epoch"],
        str(follow.events[-1]["rev"]),
    )


def test_each_run_of_the_daemon_has_its_own_epoch_and_counts_from_none(node):
    epochs = set()
    for _ in range(2):
        with RunningDaemon(node.root).start() as daemon:
            ready = daemon.events("?vms=false").ready
            assert ready["rev"] == 0
            epochs.add(ready["epoch"])
    assert len(epochs) == 2


# ETag


def test_etag_of_the_list_changes_with_each_event_and_that_of_a_vm_with_its_own(follow):
    one, other = follow.add(), follow.add()

    def tags():
        paths = ["/vms", f"/vms/{one}", f"/vms/{other}"]
        return [follow.daemon.get(path).headers["etag"] for path in paths]

    before = tags()
    follow.zfs("set", "quota=20G", f"zones/{one}")
    follow.modified(one)
    after = tags()
    assert (after[0] != before[0], after[1] != before[1], after[2] != before[2]) == (True, True, False)
    assert after[0] == after[1] == f'"{mark(follow.events[-1])}"'
    for path, tag in zip(["/vms", f"/vms/{one}", f"/vms/{other}"], after):
        assert follow.daemon.get(path, {"If-None-Match": tag}).status == 304
    assert follow.daemon.get("/vms", {"If-None-Match": before[0]}).status == 200
    assert follow.daemon.get(f"/vms/{one}", {"If-None-Match": before[1]}).json()["quota"] == 20


# Resume.


def test_resume_gives_every_event_after_the_revision_and_then_new_ones(follow):
    seven_changes(follow)
    everything = list(follow.events)
    for position in (0, 1, len(everything) // 2, len(everything) - 1):
        stream = follow.daemon.events(f"?since={mark(everything[position])}")
        assert list(stream.ready) == ["type", "date", "uuid", "epoch", "rev"]
        assert stream.ready["rev"] == everything[-1]["rev"]
        assert [stream.next() for _ in everything[position + 1 :]] == everything[position + 1 :]
        stream.close()
    stream = follow.daemon.events(f"?since={mark(everything[-1])}&vms=true")
    assert "vms" not in stream.ready
    follow.nothing_by_zfs()
    assert stream.next() == follow.events[-1]
    stream.close()


def test_resume_from_ready_itself(follow):
    seven_changes(follow)
    stream = follow.daemon.events(f"?since={mark(follow.stream.ready)}")
    assert [stream.next() for _ in follow.events] == follow.events
    stream.close()


def test_resume_with_a_selection_gives_what_the_selection_wants(follow):
    seven_changes(follow)
    stream = follow.daemon.events(f"?since={mark(follow.stream.ready)}&types=delete")
    assert stream.next() == follow.events[-1]
    assert follow.events[-1]["type"] == "delete"
    stream.close()


@pytest.mark.parametrize("since", ["{other}:0", "{other}:{rev}", "{epoch}:{later}", ":{rev}"])
def test_resume_from_an_unknown_revision_is_gone_and_says_so(follow, since):
    ready = follow.daemon.events("?vms=false").ready
    since = since.format(other=uuid.uuid4(), epoch=ready["epoch"], rev=ready["rev"], later=ready["rev"] + 1)
    answer = follow.daemon.get(f"/events?since={since}")
    assert answer.status == 410
    body = answer.json()
    assert body["since"] == since
    assert (body["epoch"], body["rev"]) == (ready["epoch"], ready["rev"])
    assert "read the list anew" in body["error"]


@pytest.mark.more
@pytest.mark.long
def test_events_that_are_too_old_are_gone_and_those_kept_can_be_had(node):
    """The ring is bounded in bytes too: here a few events of a very large VM fill it."""
    with RunningDaemon(node.root).start() as daemon:
        zone = node.control.add_vm(state="configured")["zonename"]
        size = 3 << 20
        eventually("the VM is served", lambda: daemon.vm(zone))
        big = daemon.events("?vms=false&heartbeat=60")
        node.control.set_attr(zone, "hostname", "x")
        seen = big.until(lambda event: event["vm"].get("hostname") == "x")
        for number in range(7):  # 9 MiB each: the whole VM, the old value and the new one
            node.control.set_attr(zone, "hostname", f"{number}-" + "x" * size)
            seen = big.until(lambda event, n=number: event["vm"]["hostname"].startswith(f"{n}-"))
        ring = daemon.status()["events"]
        assert ring["rev"] == seen["rev"]
        assert 0 < ring["oldestRev"] <= ring["rev"]
        assert ring["ringBytes"] <= 32 << 20
        gone = daemon.get(f"/events?since={ring['epoch']}:{ring['oldestRev'] - 2}")
        assert gone.status == 410
        assert gone.json()["oldestRev"] == ring["oldestRev"]
        kept = daemon.events(f"?since={ring['epoch']}:{ring['oldestRev'] - 1}")
        assert [kept.next()["rev"] for _ in range(ring["ringEvents"])] == list(
            range(ring["oldestRev"], ring["rev"] + 1)
        )
        for stream in (big, kept):
            stream.close()


def test_listener_that_was_cut_for_not_reading_goes_on_without_a_gap(node):
    with RunningDaemon(node.root, "--listener-backlog-events", "5").start() as daemon:
        witness = next(vm["zonename"] for vm in daemon.vms() if vm["zonename"] == vm["uuid"])
        follow = Follow(node, daemon, witness)
        sleeper = daemon.raw().send(b"GET /events?vms=false HTTP/1.1\r\n\r\n")
        sleeper.head()
        ready = json.loads(sleeper.chunk())
        # Large events, so that the sockets' own buffers are full before long.
        names = 0
        while not daemon.status()["events"]["slowListenersCut"]:
            names += 1
            assert names < 100, "a listener that does not read is cut"
            node.control.set_attr(witness, "hostname", f"{names}-" + "x" * (1 << 20))
            follow.until(witness, lambda vm, n=names: vm.get("hostname", "").startswith(f"{n}-"))
        [cut] = daemon.logged("cut a listener that does not read", level=40)
        assert cut["listener"] == ready["uuid"]
        eventually("it is gone", lambda: ready["uuid"] not in daemon.status()["eventsListeners"])
        rest = b""
        with pytest.raises((OSError, ValueError)):
            while piece := sleeper.chunk():
                rest += piece
            raise ConnectionError("the end of the body: nothing more comes")
        lines = rest.split(b"\n")[:-1]  # whole lines only
        last = json.loads(lines[-1]) if lines else ready
        resumed = daemon.events(f"?since={last['epoch']}:{last['rev']}")
        missed = [event for event in follow.events if event["rev"] > last["rev"]]
        assert missed
        assert [resumed.next() for _ in missed] == missed
        for stream in (sleeper, resumed, follow):
            stream.close()
