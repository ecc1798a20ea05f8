# SPDX-License-Identifier: MPL-2.0
"""The client library on the real daemon, while VMs change and the daemon and the network do their worst."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
from datetime import timezone

import pytest

import vminfod
from support.callers_log import callers_log, failures_of
from support.examples import more
from support.following import Follow
from support.relay import Relay
from support.running_daemon import CHECKOUT, SOON, RunningDaemon, eventually
from support.settling import settle
from vminfod.client import (
    HTTPStatusError,
    Stopped,
    VminfodClient,
    VminfodError,
    VminfodEventStream,
    VminfodTimeout,
    VminfodWatcher,
)
from vminfod.clients import watcher as watcher_module

pytest_plugins = ["support.followers"]

LIB = os.path.dirname(os.path.dirname(vminfod.__file__))


class Kept:
    """A watcher that is checked at each of its events: they follow from the list before, and the mirror shows them.

    `events`: all of them. `errors`: codes or texts of what went wrong. `pictures`: how often /vms was at just the
    revision of an event and could be compared."""

    def __init__(self, port, daemon=None, **options):
        self.daemon = daemon
        self.log = callers_log()
        self.vms = {}
        self.told = None  # as `vms`, set when the callback is through
        self.events, self.errors, self.pictures = [], [], 0
        self._has_watcher = threading.Event()  # callbacks can come before the constructor gives it
        self.watcher = VminfodWatcher(
            "kept",
            port=port,
            log=self.log,
            **options,
            callbacks={
                "ready": self._ready,
                "event": self._take,
                "error": lambda error: self.errors.append(error.code),
            },
        )
        self._has_watcher.set()

    def _ready(self, event):
        assert self._has_watcher.wait(SOON)
        self.vms = dict(event["vms"])
        self._compare(event)
        self.told = dict(self.vms)

    def _take(self, event):
        zonename = event["zonename"]
        assert (zonename in self.vms) == (event["type"] != "create"), event["type"]
        if event["type"] == "delete":
            assert event["last"] == self.vms.pop(zonename)
        else:
            self.vms[zonename] = event["vm"]
        assert self.watcher.vms() == self.vms
        assert self.watcher.vm(zonename) == self.vms.get(zonename)
        self._compare(event)
        self.events.append(event)
        self.told = dict(self.vms)

    def _compare(self, event):
        if self.daemon is not None and "rev" in event:
            answer = self.daemon.get("/vms")
            if int(answer.headers["x-vminfod-rev"]) == event["rev"]:
                assert answer.json() == list(self.watcher.vms().values())
                self.pictures += 1

    def catch_up(self, daemon):
        """Wait until the mirror is where `daemon` is, and compare."""
        answer = daemon.get("/vms")
        headers = answer.headers
        self.watcher.wait_for_rev(int(headers["x-vminfod-rev"]), SOON, epoch=headers["x-vminfod-epoch"])
        ready = self.watcher.wait_ready(SOON)
        assert (ready["epoch"], ready["rev"]) == (headers["x-vminfod-epoch"], int(headers["x-vminfod-rev"]))
        assert list(ready["vms"].values()) == answer.json()
        # The mirror is ahead of the callbacks by one event.
        eventually("the callbacks are through", lambda: self.told == self.watcher.vms() or failures_of(self.log))
        assert failures_of(self.log) == []

    def revs(self):
        return [event["rev"] for event in self.events]

    def __enter__(self):
        eventually("it is ready", lambda: self.told is not None or failures_of(self.log))
        return self

    def __exit__(self, *_):
        self.watcher.stop()


@pytest.fixture
def quick_backoff(monkeypatch):
    monkeypatch.setattr(watcher_module, "BACKOFF_FIRST", 0.01)
    monkeypatch.setattr(watcher_module, "BACKOFF_MOST", 0.05)


def of_zone(tool, events):
    return [event for event in events if event["zonename"] == tool]


def listeners(daemon):
    return len(daemon.status(full=False)["eventsListeners"])


def threads():
    return {thread for thread in threading.enumerate() if thread.name.startswith("vminfod")}


def sockets():
    names = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    links = [os.readlink(name) for name in names if os.path.islink(name)]
    return sorted(link for link in links if link.startswith("socket:"))


# -- VminfodClient -----------------------------------------------------------------------------------------------------


def test_client_gives_what_the_daemon_serves(quiet_daemon: RunningDaemon):
    with VminfodClient("asker", port=quiet_daemon.port, timeout=SOON) as client:
        assert client.ping() == {"ping": "pong"}
        vms = client.vms()
        assert vms == quiet_daemon.vms()
        assert [client.vm(vm["zonename"]) for vm in vms] == vms
        assert client.vms({"nothing": "known"}) == []
        assert client.status().keys() == quiet_daemon.status(full=False).keys()
        assert client.status(full=True).keys() == quiet_daemon.status(full=True).keys()
        assert client.get("/vms/" + vms[0]["zonename"]) == vms[0]
        for unknown in ("no-such-zone", "a/b c\u2603", "%2e%2e", "..", ""):
            with pytest.raises(HTTPStatusError) as caught:
                client.vm(unknown)
            assert (caught.value.code, str(caught.value)) == (404, "bad statusCode: 404")


def test_daemon_that_stands_still_costs_a_client_its_timeout_and_no_more(daemon: RunningDaemon):
    client = VminfodClient("asker", port=daemon.port, timeout=0.1)
    os.kill(daemon.process.pid, signal.SIGSTOP)
    try:
        with pytest.raises(VminfodTimeout) as caught:
            client.vms()
        assert (caught.value.code, str(caught.value)) == ("ETIMEOUT", "GET /vms timeout exceeded")
        stream = VminfodEventStream("listener", port=daemon.port, ready_timeout=0.1)
        with pytest.raises(VminfodTimeout, match=r"ready timeout \(100ms\) exceeded .client \"listener\""):
            stream.wait_ready(SOON)
    finally:
        os.kill(daemon.process.pid, signal.SIGCONT)
    eventually("the daemon goes on", daemon.answers)
    assert VminfodClient("asker", port=daemon.port, timeout=SOON).vms() == daemon.vms()


# -- VminfodEventStream ------------------------------------------------------------------------------------------------


def test_stream_gives_ready_apart_and_then_each_event_once_in_order(follow: Follow):
    zonename = follow.add(alias="streamed", quota=10)
    with VminfodEventStream("listener", port=follow.daemon.port, parse_ready=True) as stream:
        ready = stream.wait_ready(SOON)
        assert ready["vms"] == follow.vms
        assert ready["date"].tzinfo is timezone.utc
        assert stream.read_nowait() is None
        with pytest.raises(VminfodTimeout):
            stream.read(0.01)
        expected = []
        for quota in range(11, 16):
            follow.zfs("set", f"quota={quota}g", f"zones/{zonename}")
            expected.append(follow.next())
        got = list(itertools.islice(stream, len(expected)))
    dates = [event["date"].isoformat(timespec="milliseconds").replace("+00:00", "Z") for event in got]
    assert [{**event, "date": date} for event, date in zip(got, dates)] == expected
    assert list(stream) == []  # stopped


def test_watch_made_before_the_act_sees_its_event_and_leaves_it_to_others(follow: Follow):
    zonename = follow.add(alias="watched", quota=10)
    with VminfodEventStream("actor", port=follow.daemon.port) as stream:
        stream.wait_ready(SOON)
        called = []
        wanted = {"zonename": zonename, "vm": {"quota": 20}}
        first = stream.watch_for_event(wanted, timeout=SOON, callback=lambda *got: called.append(got))
        second = stream.watch_for_changes(
            {"uuid": zonename},
            [
                {"path": ["quota"], "action": "changed", "oldValue": 10},
                [{"path": ["tags", "x"], "action": "added"}, {"path": ["tags", None], "newValue": {"deep": 1}}],
            ],
            timeout=SOON,
            catch_errors=True,
        )
        never = stream.watch_for_event({"zonename": zonename, "type": "delete"})
        assert not first.done
        follow.zfs("set", "quota=20g", f"zones/{zonename}")
        event = first.wait(SOON)
        assert (event["type"], event["vm"]["quota"]) == ("modify", 20)
        assert not second.done
        follow.control.write_config(zonename, "tags", {"y": {"deep": 1, "more": 2}})
        closing = second.wait(SOON)
        assert closing["vm"]["tags"] == {"y": {"deep": 1, "more": 2}}
        assert not never.done
        assert [stream.read(SOON), stream.read(SOON)] == [event, closing]
        eventually("the callback is called", lambda: called == [(None, event)])
        never.cancel(value="enough")
        assert never.wait() == "enough"
        # What came before a watch counts, unless a fresh start is asked for.
        follow.zfs("set", "quota=30g", f"zones/{zonename}")
        wanted["vm"]["quota"] = 30
        assert stream.watch_for_event(wanted).wait(SOON)["rev"] == closing["rev"] + 1
        assert stream.watch_for_event(wanted).wait(SOON)["rev"] == closing["rev"] + 1
        with pytest.raises(VminfodTimeout, match='vminfod watchForEvent "actor" timeout exceeded'):
            stream.watch_for_event(wanted, start_fresh=True, timeout=0.05).wait(SOON)


def test_watch_with_teardown_takes_its_stream_off_the_daemon(follow: Follow):
    zonename = follow.add(alias="once", quota=10)
    before, idle = listeners(follow.daemon), threads()
    stream = VminfodEventStream("once", port=follow.daemon.port)
    stream.wait_ready(SOON)
    watch = stream.watch_for_changes({}, [{"path": ["quota"], "newValue": 20}], teardown=True, timeout=SOON)
    follow.zfs("set", "quota=20g", f"zones/{zonename}")
    assert watch.wait(SOON)["zonename"] == zonename
    with pytest.raises(Stopped):
        stream.read(SOON)
    eventually("nobody listens any more", lambda: listeners(follow.daemon) == before)
    eventually("its threads are gone", lambda: threads() == idle)


@pytest.mark.parametrize("number", [signal.SIGKILL, *more(signal.SIGTERM)])
def test_daemon_that_goes_is_one_error_for_who_asked_for_it(daemon: RunningDaemon, number):
    stream = VminfodEventStream("mourner", port=daemon.port)
    stream.wait_ready(SOON)
    asked = stream.watch_for_event({"type": "never"}, catch_errors=True)
    other = stream.watch_for_event({"type": "never"})
    daemon.stop(number)
    with pytest.raises(VminfodError, match="ended prematurely|ECONNRESET") as caught:
        asked.wait(SOON)
    assert 'client "mourner"' in str(caught.value)
    assert not other.done
    for _ in range(3):
        with pytest.raises(VminfodError) as again:
            stream.read(SOON)
        assert again.value is caught.value
    daemon.start()
    stream.start()  # on the same port
    stream.wait_ready(SOON)
    assert not other.done
    stream.stop()
    with pytest.raises(Stopped):
        other.wait(SOON)


def test_error_that_is_asked_for_again_and_again_does_not_grow(daemon: RunningDaemon):
    stream = VminfodEventStream("poller", port=daemon.port)
    stream.wait_ready(SOON)
    daemon.stop()

    def depth():
        with pytest.raises(VminfodError) as caught:
            stream.read(SOON)
        return len(list(caught.traceback))

    assert depth() == depth() == depth()


def test_stop_after_a_failure_takes_what_was_not_read(follow: Follow):
    zonename = follow.add(alias="unread", quota=10)
    with Relay(follow.daemon.port) as relay, VminfodEventStream("late", port=relay.port) as stream:
        stream.wait_ready(SOON)
        watch = stream.watch_for_event({"zonename": zonename})
        failed = stream.watch_for_event({"type": "never"}, catch_errors=True)
        follow.zfs("set", "quota=20g", f"zones/{zonename}")
        watch.wait(SOON)
        relay.cut()
        with pytest.raises(VminfodError):
            failed.wait(SOON)
        stream.stop()
        with pytest.raises(VminfodError, match="ECONNRESET|ended prematurely"):
            stream.read_nowait()


def test_selected_events_and_heartbeats(follow: Follow):
    zonename, other = follow.add(alias="chosen", quota=10), follow.add(alias="other", quota=10)
    query = {"uuid": zonename, "types": "modify", "fields": "quota", "vms": False}
    with (
        VminfodEventStream("picky", port=follow.daemon.port, query=query) as picky,
        VminfodEventStream("patient", port=follow.daemon.port, query={"vms": False, "heartbeat": 0.1}) as patient,
    ):
        assert "vms" not in picky.wait_ready(SOON)
        ready = patient.wait_ready(SOON)
        beat = patient.read(SOON)
        assert (beat["type"], beat["epoch"], beat["rev"]) == ("heartbeat", ready["epoch"], ready["rev"])
        assert beat["date"] >= ready["date"]
        # Each is an event of its own: what follows at once can come in the same one.
        follow.zfs("set", "quota=20g", f"zones/{other}")
        follow.modified(other)
        follow.control.write_config(zonename, "tags", {"a": 1})
        follow.modified(zonename)
        follow.zfs("set", "quota=20g", f"zones/{zonename}")
        follow.modified(zonename)
        event = picky.read(SOON)
        assert [change["path"] for change in event["changes"]] == [["quota"]]
        assert picky.read_nowait() is None
        while (last := patient.read(SOON))["type"] == "heartbeat":
            assert last["rev"] == ready["rev"]
        assert last["rev"] == ready["rev"] + 1


# -- VminfodWatcher ----------------------------------------------------------------------------------------------------


def test_mirror_is_what_is_served_at_every_event(node, daemon: RunningDaemon):
    with Kept(daemon.port, daemon) as kept:
        node.control.churn(60, seed=7, pause=0.01)
        follow_to = daemon.get("/vms").headers["x-vminfod-rev"]
        kept.watcher.wait_for_rev(int(follow_to), SOON)
        node.control.churn(40, seed=8)
        settle(daemon)
        kept.catch_up(daemon)
        assert kept.revs() == list(range(1, len(kept.events) + 1))
        assert kept.pictures  # how many depends on how busy the machine is
        assert kept.errors == []


def test_restart_of_the_daemon_is_made_up_for_by_ordinary_events(shared_node, quick_backoff):
    control = shared_node.control
    stays, changes, goes = (
        control.add_vm(alias=alias, quota=10, state="installed")["zonename"] for alias in ("stays", "changes", "goes")
    )
    daemon = RunningDaemon(shared_node.root).start()
    try:
        with Kept(daemon.port, daemon) as kept:
            for number in (signal.SIGKILL, signal.SIGTERM):
                old, before = kept.watcher.wait_ready()["epoch"], len(kept.events)
                daemon.stop(number)
                shared_node.run("zfs", "set", f"quota={20 + number}g", f"zones/{changes}", check=True)
                control.remove_vm(goes)
                comes = control.add_vm(alias="comes", state="installed")["zonename"]
                assert kept.watcher.vm(goes) is not None  # an old mirror is better than none
                daemon.start()
                kept.catch_up(daemon)
                told = [(event["type"], event["zonename"]) for event in kept.events[before:] if "rev" not in event]
                assert told == [("delete", goes), ("modify", changes), ("create", comes)]
                modify = next(event for event in kept.events[before:] if event["zonename"] == changes)
                paths = [change["path"] for change in modify["changes"] if change["path"] != ["last_modified"]]
                assert paths == [["quota"]]
                assert modify["vm"] == daemon.vm(changes)
                kept.watcher.wait_for_rev(10**9, SOON, epoch=old)  # that run is over
                shared_node.run("zfs", "set", f"quota={40 + number}g", f"zones/{stays}", check=True)
                eventually("a new run is followed", lambda n=number: kept.watcher.vm(stays)["quota"] == 40 + n)
                kept.catch_up(daemon)
                goes = comes
        assert len(kept.errors) >= 2
    finally:
        daemon.stop()


def test_zone_that_a_new_run_of_the_daemon_cannot_read_is_kept_and_made_once(shared_node, quick_backoff):
    """Neither delete when the daemon starts without it, nor create when it can be read again."""
    control = shared_node.control
    sick, well = (control.add_vm(alias=alias, quota=10, state="installed")["zonename"] for alias in ("sick", "well"))
    daemon = RunningDaemon(shared_node.root).start()
    try:
        with Kept(daemon.port) as kept:
            kept.catch_up(daemon)
            xml, before = control.read_xml(sick), dict(kept.watcher.vm(sick))
            daemon.stop(signal.SIGKILL)
            control.edit_xml(sick, "<zone")
            daemon.start()
            answer = daemon.get("/vms")
            assert answer.headers["x-vminfod-unreadable"] == sick
            assert sick not in [vm["zonename"] for vm in answer.json()]
            shared_node.run("zfs", "set", "quota=11g", f"zones/{well}", check=True)
            eventually("the new run is followed", lambda: kept.watcher.vm(well)["quota"] == 11)
            assert kept.watcher.wait_ready(SOON)["unreadable"] == [sick]
            assert kept.watcher.vm(sick) == before
            assert about(sick, kept) == []
            listed = daemon.tool("vmadm", "list", "-H", "-o", "uuid")
            assert sick in listed.stderr and "not complete" in listed.stderr and sick not in listed.stdout

            control.edit_xml(sick, xml)
            eventually("it can be read again", lambda: daemon.vm(sick))
            shared_node.run("zfs", "set", "quota=12g", f"zones/{well}", check=True)
            eventually("the mark has come", lambda: kept.watcher.vm(well)["quota"] == 12)
            assert "x-vminfod-unreadable" not in daemon.get("/vms").headers
            assert "unreadable" not in kept.watcher.wait_ready(SOON)
            assert set(about(sick, kept)) <= {"modify"}  # its file is newer
            assert kept.watcher.vm(sick) == daemon.vm(sick)
            assert failures_of(kept.log) == []
    finally:
        daemon.stop()
        control.edit_xml(sick, xml)


def about(zonename, kept):
    return [event["type"] for event in kept.events if event["zonename"] == zonename]


def test_revision_of_a_run_that_the_mirror_does_not_know_yet_is_waited_for(shared_node, monkeypatch):
    """Revisions start anew with each run: 0 of the new one must not be taken for a revision of the old one."""
    monkeypatch.setattr(watcher_module, "BACKOFF_FIRST", 0.5)
    daemon = RunningDaemon(shared_node.root).start()
    try:
        with Kept(daemon.port) as kept:
            daemon.stop(signal.SIGKILL)
            comes = shared_node.control.add_vm(alias="meanwhile", state="installed")["zonename"]
            daemon.start()
            headers = daemon.get("/vms").headers
            kept.watcher.wait_for_rev(int(headers["x-vminfod-rev"]), SOON, epoch=headers["x-vminfod-epoch"])
            assert kept.watcher.vm(comes) == daemon.vm(comes)
    finally:
        daemon.stop()


@pytest.mark.vms(30)
def test_cut_connections_are_resumed_without_gap_or_repetition(alone: Follow, quick_backoff):
    """Cut twice before the list is complete, then at random places: within a line, a chunk, a character."""
    chance = random.Random(5)
    size = len(json.dumps(alone.stream.ready["vms"]))
    cuts = [500, size // 2, size + 20_000, *[chance.randrange(600, 30_000) for _ in range(8)]]
    with Relay(alone.daemon.port, cuts) as relay, Kept(relay.port, alone.daemon) as kept:
        alone.control.churn(80, seed=11)
        alone.settle()
        kept.catch_up(alone.daemon)
        for _ in range(3):
            relay.cut()
            alone.control.churn(5, seed=12, kinds=["zfs_set", "config"])
            alone.settle()
            kept.catch_up(alone.daemon)
        assert kept.revs() == list(range(kept.revs()[0], kept.revs()[-1] + 1))
        assert len(kept.errors) >= len(cuts)
        resumed = [line for line in relay.requests if "since=" in line]
        assert len(resumed) > 5
        assert {line.split("since=")[1].split(":")[0] for line in resumed} == {kept.watcher.wait_ready()["epoch"]}


def test_daemon_that_is_stopped_for_a_while_is_waited_for(follow: Follow):
    zonename = follow.add(alias="patient", quota=10)
    with Kept(follow.daemon.port) as kept:
        os.kill(follow.daemon.process.pid, signal.SIGSTOP)
        try:
            follow.zfs("set", "quota=20g", f"zones/{zonename}")
            with pytest.raises(VminfodTimeout):
                kept.watcher.wait_for_rev(10**9, 0.05)
            assert kept.watcher.vm(zonename)["quota"] == 10
        finally:
            os.kill(follow.daemon.process.pid, signal.SIGCONT)
        eventually("the change comes", lambda: kept.watcher.vm(zonename)["quota"] == 20)
        assert follow.modified(zonename) == [("quota", "changed", 10, 20)]
        kept.catch_up(follow.daemon)
        assert kept.errors == []


def test_connection_that_goes_silent_is_left_and_resumed(follow: Follow, quick_backoff, monkeypatch):
    monkeypatch.setattr(watcher_module, "HEARTBEAT", 0.1)
    monkeypatch.setattr(watcher_module, "SILENCE", 1.0)
    zonename = follow.add(alias="silent", quota=10)
    with Relay(follow.daemon.port) as relay, Kept(relay.port) as kept:
        relay.mute()
        follow.zfs("set", "quota=20g", f"zones/{zonename}")
        event = follow.next()
        eventually("the silence is noticed", lambda: "ETIMEOUT" in kept.errors)
        relay.unmute()
        kept.watcher.wait_for_rev(event["rev"], SOON)
        kept.catch_up(follow.daemon)
        assert len(of_zone(zonename, kept.events)) == 1
        assert "since=" in relay.requests[-1]


def test_watcher_that_is_cut_for_being_slow_resumes_where_it_was(shared_node, quick_backoff):
    """Its callback stands still until the daemon has lost patience; then it goes on without a gap."""
    zonename = shared_node.control.add_vm(alias="large", state="installed")["zonename"]
    with RunningDaemon(shared_node.root, "--listener-backlog-bytes", str(1 << 20)).start() as daemon:
        go, standing = threading.Event(), threading.Event()

        def stand_still(event):
            standing.set()
            go.wait(SOON)

        with Kept(daemon.port) as kept:
            kept.watcher.on("modify", stand_still)
            try:
                for number in range(100):  # 2 MB each: what buffers of sockets hold is soon used up
                    size = {"number": number, "large": "x" * (1 << 20)}
                    shared_node.control.write_config(zonename, "metadata", {"customer_metadata": size})
                    eventually("it is read", lambda n=number: number_of(daemon, zonename) == n)
                    if daemon.status(full=False)["events"]["slowListenersCut"]:
                        break
                assert standing.is_set()
                assert kept.watcher.vm(zonename)["customer_metadata"]["number"] == 0
            finally:
                go.set()
            kept.catch_up(daemon)
        assert daemon.logged("cut a listener that does not read")
        assert len(kept.errors) == 1
        revs = kept.revs()
        assert revs == list(range(revs[0], revs[0] + len(revs)))
        numbers = [event["vm"]["customer_metadata"]["number"] for event in of_zone(zonename, kept.events)]
        assert numbers == list(range(number + 1))


def number_of(daemon, zonename):
    return VminfodClient(port=daemon.port, timeout=SOON).vm(zonename)["customer_metadata"].get("number")


def test_wait_for_rev_ends_when_the_mirror_shows_it(follow: Follow):
    zonename = follow.add(alias="awaited", quota=10)
    with Kept(follow.daemon.port) as kept, VminfodEventStream("actor", port=follow.daemon.port) as stream:
        rev = stream.wait_ready(SOON)["rev"]
        kept.watcher.wait_for_rev(rev, SOON)
        with pytest.raises(VminfodTimeout, match=f"revision {rev + 1} timeout exceeded"):
            kept.watcher.wait_for_rev(rev + 1, 0.02)
        done = threading.Thread(target=kept.watcher.wait_for_rev, args=[rev + 1, SOON])
        done.start()
        watch = stream.watch_for_event({"vm": {"quota": 20}}, timeout=SOON)
        follow.zfs("set", "quota=20g", f"zones/{zonename}")
        event = watch.wait(SOON)
        kept.watcher.wait_for_rev(event["rev"], SOON, epoch=event["epoch"])
        assert kept.watcher.vm(zonename) == event["vm"]
        done.join(SOON)
        assert not done.is_alive()
    with pytest.raises(Stopped):
        kept.watcher.wait_for_rev(rev + 9, SOON)


def test_callbacks_that_raise_anything_do_no_harm(follow: Follow):
    zonename = follow.add(alias="raised", quota=10)
    after = []

    def ends_the_program(event):
        sys.exit("not from here")

    def raises(event):
        raise KeyError(event["type"])

    with Kept(follow.daemon.port) as kept:
        for callback in (raises, ends_the_program, lambda event: after.append(event["rev"])):
            kept.watcher.on("modify", callback)
        for quota in (20, 30):
            follow.zfs("set", f"quota={quota}g", f"zones/{zonename}")
            follow.next()
        eventually("both are told", lambda: len(after) == 2)
        assert [msg for msg, _ in failures_of(kept.log)] == ["callback failed"] * 4
        assert "SystemExit: not from here" in failures_of(kept.log)[1][1]["err"]
        assert kept.watcher.vm(zonename)["quota"] == 30
    with VminfodEventStream("raiser", port=follow.daemon.port, log=(log := callers_log())) as stream:
        stream.wait_ready(SOON)
        watch = stream.watch_for_event({"vm": {"quota": 40}}, callback=lambda err, event: sys.exit())
        follow.zfs("set", "quota=40g", f"zones/{zonename}")
        watch.wait(SOON)
        follow.next()
        follow.zfs("set", "quota=50g", f"zones/{zonename}")
        assert [stream.read(SOON)["vm"]["quota"] for _ in range(2)] == [40, 50]
        assert [msg for msg, _ in failures_of(log)] == ["callback of a watch failed"]


def test_nothing_is_left_of_what_was_stopped(follow: Follow, quick_backoff):
    port = follow.daemon.port
    idle, open_ones, before = threads(), sockets(), listeners(follow.daemon)
    for _ in range(10):
        with VminfodWatcher("brief", port=port) as watcher, VminfodEventStream("brief", port=port) as stream:
            watch = stream.watch_for_event({"type": "never"}, timeout=3600)
            watcher.wait_ready(SOON)
            stream.wait_ready(SOON)
        with pytest.raises(Stopped):
            watch.wait(SOON)
        VminfodWatcher("briefer", port=port).stop()  # most of these before they are connected
        VminfodEventStream("briefer", port=port).stop()
        with VminfodWatcher("lost", port=1) as watcher, pytest.raises(VminfodTimeout):
            watcher.wait_ready(0.01)
        with VminfodWatcher("lost", port=1, reconnect=False) as watcher, pytest.raises(VminfodError):
            watcher.wait_ready(SOON)
    eventually("all threads are gone", lambda: threads() == idle)
    eventually("all sockets are closed", lambda: len(sockets()) <= len(open_ones))
    eventually("nobody listens any more", lambda: listeners(follow.daemon) == before)
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]


@pytest.mark.parametrize("limit", [float("inf"), 1e12])
def test_endless_limits_are_none(follow: Follow, limit):
    assert VminfodClient(port=follow.daemon.port, timeout=limit).ping() == {"ping": "pong"}
    with VminfodEventStream("endless", port=follow.daemon.port, ready_timeout=limit) as stream:
        stream.wait_ready(SOON)
        watch = stream.watch_for_event({"type": "never"}, timeout=limit)
        assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
        watch.cancel()


def test_agent_whose_folder_is_gone_still_names_itself(quiet_daemon: RunningDaemon, tmp_path):
    program = (
        "import os, sys; os.rmdir(os.getcwd()); from vminfod.client import VminfodClient; "
        f"print(VminfodClient('orphan', port={quiet_daemon.port}, timeout=120).ping())"
    )
    folder = tmp_path / "gone"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": LIB},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=SOON,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "{'ping': 'pong'}\n", "")


def test_what_cannot_be_called_is_refused_as_callback(quiet_daemon: RunningDaemon):
    with VminfodWatcher("refusing", port=quiet_daemon.port) as watcher, pytest.raises(TypeError):
        watcher.on("event", "print")
    with pytest.raises(TypeError):
        VminfodWatcher("refusing", port=quiet_daemon.port, callbacks={"event": None})


def test_host_process_ends_though_its_watcher_was_never_stopped(quiet_daemon: RunningDaemon):
    port = quiet_daemon.port
    program = (
        f"from vminfod.client import VminfodEventStream, VminfodWatcher; watcher = VminfodWatcher(port={port}); "
        f"print(len(watcher.wait_ready(120)['vms'])); VminfodEventStream(port={port}).wait_ready(120)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": LIB},
        capture_output=True,
        text=True,
        timeout=SOON,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "30\n", "")


# -- Under gevent ------------------------------------------------------------------------------------------------------

GREEN = """
from gevent import monkey
monkey.patch_all()
import gevent, os, sys
from mockcn.control import Control
from vminfod.client import Stopped, VminfodClient, VminfodEventStream, VminfodTimeout, VminfodWatcher

port, root, zonename = int(sys.argv[1]), sys.argv[2], sys.argv[3]
ticks = []
def tick():
    while True:
        ticks.append(1)
        gevent.sleep(0.001)
gevent.spawn(tick)

client = VminfodClient("green", port=port, timeout=120)
vms = {vm["zonename"]: vm for vm in client.vms()}
heard = []
with VminfodWatcher("green", port=port, callbacks={"event": heard.append}) as watcher:
    with VminfodEventStream("green", port=port, parse_ready=True) as stream:
        assert watcher.wait_ready(120)["vms"] == stream.wait_ready(120)["vms"] == vms
        for turn in range(5):
            watch = stream.watch_for_event({"vm": {"tags": {"turn": turn}}}, timeout=120)
            acting = gevent.spawn(Control(root).write_config, zonename, "tags", {"turn": turn})
            event = watch.wait(120)
            acting.get()
            watcher.wait_for_rev(event["rev"], 20, epoch=event["epoch"])
            assert watcher.vm(zonename) == event["vm"]
        seen = len(ticks)
        try:
            stream.watch_for_event({"type": "never"}, timeout=0.05).wait(120)
        except VminfodTimeout:
            assert len(ticks) > seen
        def wait():
            try:
                watcher.wait_for_rev(10**9)
            except Stopped:
                return "stopped"
        waiting = gevent.spawn(wait)
        gevent.sleep(0)
assert waiting.get(timeout=120) == "stopped"
print([event["vm"]["tags"]["turn"] for event in heard])
"""


def test_everything_works_under_monkey_patching_and_lets_others_run(follow: Follow):
    zonename = follow.add(alias="green")
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([LIB, CHECKOUT])}
    done = subprocess.run(
        [sys.executable, "-c", GREEN, str(follow.daemon.port), follow.node.root, zonename],
        env=environ,
        capture_output=True,
        text=True,
        timeout=SOON * 2,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "[0, 1, 2, 3, 4]\n"), done.stderr
    assert json.loads(done.stderr)["msg"] == 'vminfod watchForEvent "green" timeout exceeded'
