# SPDX-License-Identifier: MPL-2.0
"""The full refresh: what events lost comes right and is told of, and nothing else is disturbed by it."""

import itertools
import re
import signal
import threading

import pytest

from support.convergence import Listener, assert_converges, await_refresh, differences, refreshes, served
from support.running_daemon import RunningDaemon, eventually
from support.settling import settle

pytest_plugins = ["support.onenode"]


@pytest.fixture
def node(one_node):
    """One for all tests of this file, well again after each."""
    yield one_node
    one_node.control.clear_faults()
    one_node.control.clear_event_rules()


@pytest.fixture
def refreshing(node):
    with RunningDaemon(node.root, "--refresh-interval", "0.3").start() as running:
        yield running


@pytest.fixture
def seldom_refreshing(node):
    """There is time between two refreshes, for what must not come amid one."""
    with RunningDaemon(node.root, "--refresh-interval", "2").start() as running:
        yield running


@pytest.fixture
def loading(node, daemon):
    """A daemon in the midst of a refresh, whose load has read all datasets and is held until control.step("zfs")."""
    node.control.fault("zfs", "hold", match="-d 3", times=1, when="after")
    node.control.kill_child("sysevent", match="EC_zfs")  # its successor asks for a refresh
    eventually("the new child is up", lambda: daemon.status()["children"]["zpoolwatcher"]["state"] == "up")
    eventually("the refresh loads", lambda: daemon.status()["status"] == "fetching vm cache data")
    eventually("zfs has read all", lambda: node.control.held("zfs"))
    return daemon


def a_zone(daemon):
    return next(
        vm["uuid"]
        for vm in daemon.vms()
        if vm["brand"].startswith("joyent")
        and vm["zone_state"] == "running"
        and vm["zonepath"] == f"/zones/{vm['uuid']}"
    )


def test_lost_events_are_corrected_and_reported(node, seldom_refreshing):
    daemon, control = seldom_refreshing, node.control
    modified = a_zone(daemon)
    removed = next(vm["uuid"] for vm in daemon.vms() if vm["uuid"] == vm["zonename"] and vm["uuid"] != modified)
    listener = Listener(daemon)
    # One refresh finds all three, since a second one would only be counted in the log: it is held before it begins.
    lists = {"zfs": "-d 3", "zoneadm": "list -p -c", "kstat": "-c zone_misc"}
    await_refresh(daemon)
    daemon.process.send_signal(signal.SIGSTOP)  # so that the next one does not come between two of these
    for tool, words in lists.items():
        control.fault(tool, "hold", match=words, times=None)
    daemon.process.send_signal(signal.SIGCONT)
    eventually("the next refresh is held", lambda: all(map(control.held, lists)))
    control.drop_events(times=None)
    control.tell("fswatcher", "deaf", path="/")
    control.remove_vm(removed)
    added = control.add_vm(alias="nobody heard of it")["uuid"]
    node.run("zfs", "set", "quota=55G", f"zones/{modified}", check=True)
    for tool in lists:
        control.clear_faults(tool)
    eventually("all three are corrected", lambda: not differences(daemon))
    control.clear_event_rules()
    await_refresh(daemon)  # the one that has found them has ended

    changes = [change for entry in daemon.status()["refreshLog"] for change in entry["vmChanges"]]
    by_zone = {change["zonename"]: change for change in changes}
    assert set(by_zone) == {removed, added, modified}
    assert by_zone[removed] == {"zonename": removed, "action": "delete"}
    assert by_zone[added]["action"] in ("create", "modify")
    assert by_zone[modified]["action"] == "modify"
    [quota] = [change for change in by_zone[modified]["changes"] if change["prettyPath"] == "quota"]
    assert (quota["action"], quota["newValue"]) == ("changed", 55)
    lost = daemon.logged("lost events", level=40)
    assert {zone for record in lost for zone in record["zones"]} == {removed, added, modified}
    assert {record["level"] for record in lost} == {40}
    listener.caught_up(int(daemon.get("/ping").headers["x-vminfod-rev"]))
    assert listener.vms == served(daemon)
    listener.close()
    entry = daemon.status()["refreshLog"][0]
    assert list(entry) == ["cacheChanges", "vmChanges", "started", "ended", "took", "endedAgo"]


def test_events_of_a_refresh_say_so(node, refreshing):
    stream = refreshing.events()
    uuid = a_zone(refreshing)
    node.control.drop_events()
    node.run("zfs", "set", "quota=56G", f"zones/{uuid}", check=True)
    event = stream.until(lambda event: event["zonename"] == uuid)
    assert event["cause"] == {"source": "refresh"}
    assert [change["prettyPath"] for change in event["changes"]] == ["quota"]
    stream.close()


def test_refresh_that_finds_nothing_changes_and_logs_nothing(node, refreshing):
    before = served(refreshing)
    await_refresh(refreshing)
    await_refresh(refreshing)
    status = refreshing.status()
    assert served(refreshing) == before
    assert (status["refreshLog"], status["refreshErrors"], status["events"]["rev"]) == ([], [], 0)
    assert not refreshing.logged("lost events")


def test_change_during_a_refresh_is_on_the_stream_before_it_ends_and_stays(node, loading):
    """The refresh has read the older value by then."""
    uuid, other, *_ = (
        vm["uuid"]
        for vm in loading.vms()
        if vm["brand"].startswith("joyent")
        and vm["zone_state"] == "running"
        and vm["zonepath"] == f"/zones/{vm['uuid']}"
    )
    stream = loading.events()
    node.run("zfs", "set", "quota=57G", f"zones/{uuid}", check=True)
    stream.until(lambda event: event["zonename"] == uuid and event["vm"]["quota"] == 57)
    node.control.write_config(uuid, "tags", {"during": "refresh"})
    stream.until(lambda event: event["vm"]["tags"] == {"during": "refresh"})
    node.control.halt(other)
    stream.until(lambda event: event["zonename"] == other and event["vm"]["zone_state"] == "installed")
    added = node.control.add_vm(alias="came during the refresh", state="stopped")["uuid"]
    stream.until(lambda event: event["zonename"] == added)
    removed = next(vm["zonename"] for vm in loading.vms() if vm["zonename"] not in (uuid, other, added))
    node.control.remove_vm(removed)
    stream.until(lambda event: event["zonename"] == removed and event["type"] == "delete")
    status = loading.status()
    assert not refreshes(loading), "it still loads"
    assert (status["state"], status["status"], status["queue"]["paused"]) == (
        "running",
        "fetching vm cache data",
        False,
    )
    node.control.step("zfs")
    eventually("the refresh has ended", lambda: refreshes(loading))
    assert_converges(loading)
    node.control.write_config(uuid, "tags", {"all": "over"})
    seen = len(stream.seen)
    stream.until(lambda event: event["vm"]["tags"] == {"all": "over"})
    late = [
        event
        for event in stream.seen[seen:-1]
        if {change["prettyPath"] for change in event.get("changes", [])} - {"last_modified"}
    ]
    assert [event["type"] for event in late if event["zonename"] in (uuid, other, removed)] == []
    assert not loading.logged("lost events")
    stream.close()


def test_event_that_is_still_on_its_way_when_a_refresh_compares_is_not_lost(node, refreshing):
    uuid = a_zone(refreshing)
    stream = refreshing.events()
    node.control.delay_events(1.0, match=uuid)
    node.run("zfs", "set", "quota=59G", f"zones/{uuid}", check=True)
    event = stream.until(lambda event: event["zonename"] == uuid)
    assert (event["vm"]["quota"], event["cause"]["source"]) == (59, "zfs")
    await_refresh(refreshing)
    assert not refreshing.logged("lost events")
    stream.close()


def test_vm_that_comes_while_a_refresh_lists_the_zones_has_its_datasets(node, daemon):
    """The datasets were listed before it came, the zones after; nobody tells of it."""
    node.control.fault("zoneadm", "hold", match="list -p -c", times=1)
    node.control.forget_calls()
    daemon.process.send_signal(signal.SIGHUP)  # refresh
    eventually("zfs has been asked", lambda: any(call["argv"][-1] == "3" for call in node.control.calls("zfs")))
    eventually("zfs has answered", lambda: not node.control.children("zfs"))
    eventually("the zones are not listed yet", lambda: node.control.held("zoneadm"))
    node.control.drop_events(times=None)
    node.control.tell("fswatcher", "deaf", path="/")
    added = node.control.add_vm(alias="in between", state="stopped")["uuid"]
    node.control.step("zoneadm")
    vm = eventually("it is served", lambda: daemon.vm(added))
    assert vm["zfs_filesystem"] == f"zones/{added}"
    assert not differences(daemon)


def test_zone_that_is_repaired_while_a_refresh_loads_is_no_error(node, daemon):
    uuid = a_zone(daemon)
    text = node.control.read_xml(uuid)
    node.control.corrupt(f"/etc/zones/{uuid}.xml", "<zone name=")
    eventually("the error is shown", lambda: uuid in daemon.status()["zoneErrors"])
    node.control.fault("zfs", "hold", match="-d 3", times=1, when="after")
    daemon.process.send_signal(signal.SIGHUP)  # refresh
    eventually("zfs has read all", lambda: node.control.held("zfs"))
    eventually("the zones have been listed", lambda: not node.control.children("zoneadm"))
    node.control.edit_xml(uuid, text)
    assert daemon.get(f"/vms/{uuid}?fresh=true").status == 200
    failures = len(daemon.logged("cannot read a zone"))
    assert not refreshes(daemon), "it still loads"
    node.control.step("zfs")
    eventually("the refresh has ended", lambda: refreshes(daemon))
    assert uuid not in daemon.status()["zoneErrors"]
    settle(daemon)
    assert len(daemon.logged("cannot read a zone")) == failures


def test_vm_that_could_never_be_read_ends_with_a_delete(node):
    uuid = node.control.add_vm(alias="broken", state="stopped")["uuid"]
    node.control.corrupt(f"/etc/zones/{uuid}.xml", "<zone name=")
    with RunningDaemon(node.root).start() as daemon:
        stream = daemon.events()
        assert uuid in stream.ready["unreadable"]
        node.control.delete_zone(uuid)
        event = stream.until(lambda event: event["zonename"] == uuid)
        assert (event["type"], event["uuid"], "last" in event) == ("delete", uuid, False)
        eventually("the error is forgotten", lambda: uuid not in daemon.status()["zoneErrors"])
        stream.close()


def test_refresh_of_a_busy_node_is_not_put_off(node):
    with RunningDaemon(node.root, "--refresh-interval", "0.5").start() as daemon:
        enough = threading.Event()

        def change_on():
            for seed in itertools.count(8):
                if enough.is_set():
                    return
                node.control.churn(50, seed=seed, pause=0.005, kinds=["alias", "config", "zfs_set", "snapshot"])

        busy = threading.Thread(target=change_on)
        busy.start()
        try:
            await_refresh(daemon)
            await_refresh(daemon)
            assert busy.is_alive(), "the node was busy all the time"
        finally:
            enough.set()
            busy.join()
        assert_converges(daemon)
        assert not daemon.logged("lost events"), "what is touched meanwhile is read again, not compared"


def test_queue_is_paused_only_around_the_comparison(node, refreshing):
    await_refresh(refreshing)
    states = [(record["state"], record["status"]) for record in refreshing.logged("status") if "oldStatus" in record]
    start = states.index(("running", "fetching vm cache data"))
    one = states[start : start + 6]
    shapes = [(state, re.sub(r"\\d+", "N", status)) for state, status in one]
    assert shapes[0] == ("running", "fetching vm cache data")
    assert [state for state, _ in shapes[1:5]] == ["paused"] * 4
    assert shapes[1][1] == "pausing the event queue"
    assert re.fullmatch(r"fast-forwarding the queue to \[\d+,\d+\]", one[2][1])
    assert [status for _, status in one[3:]] == ["comparing vmobj sets", "synchronizing data", "working"]
    assert one[5][0] == "running"


def test_time_of_the_last_refresh_is_shown(node, refreshing):
    await_refresh(refreshing)
    status = refreshing.status()
    assert re.fullmatch(r"\d+\.\d{9}s \(.+\)", status["lastRefresh"])
    settle(refreshing)


def test_failed_refresh_that_was_asked_for_is_tried_again_before_the_next_is_due(node, daemon):
    """The daemon's next refresh would come after 300 s; a child died, so that something was missed."""
    node.control.fault("kstat", "fail", match="-c zone_misc", times=None)
    uuid = a_zone(daemon)
    node.control.drop_events()
    node.run("zfs", "set", "quota=58G", f"zones/{uuid}", check=True)
    node.control.kill_child("sysevent", match="EC_zfs")
    eventually("it has failed", lambda: daemon.logged("the refresh failed"))
    assert daemon.vm(uuid)["quota"] != 58
    node.control.clear_faults()
    eventually("and then succeeded", lambda: daemon.vm(uuid)["quota"] == 58)
    assert daemon.status()["refreshErrors"]


def test_watches_that_missed_a_change_are_set_anew(node, daemon):
    """Lost watches report nothing; a refresh finds what they missed, and the next change is reported again."""
    uuid = a_zone(daemon)
    stream = daemon.events()
    node.control.write_config(uuid, "tags", {"change": "reported"})
    stream.until(lambda event: event["zonename"] == uuid and event["vm"]["tags"] == {"change": "reported"})
    assert node.control.tell("fswatcher", "lost", path=uuid) == 1
    settle(daemon)  # it has done so
    node.control.write_config(uuid, "tags", {"change": "missed"}, in_place=True)
    settle(daemon)
    assert daemon.vm(uuid)["tags"] == {"change": "reported"}
    daemon.process.send_signal(signal.SIGHUP)  # a refresh that begins behind all this
    event = stream.until(lambda event: event["zonename"] == uuid and event["vm"]["tags"] == {"change": "missed"})
    assert event["cause"] == {"source": "request"}
    settle(daemon)
    node.control.write_config(uuid, "tags", {"change": "reported again"}, in_place=True)
    event = stream.until(
        lambda event: event["zonename"] == uuid and event["vm"]["tags"] == {"change": "reported again"}
    )
    assert event["cause"]["source"] == "file"
    stream.close()


def test_watches_of_a_zone_that_is_no_more_are_dropped(node, refreshing):
    uuid = a_zone(refreshing)
    node.control.drop_events(times=None)
    node.control.tell("fswatcher", "deaf", path="/")
    node.control.remove_vm(uuid)
    eventually("it is gone", lambda: refreshing.vm(uuid) is None)
    await_refresh(refreshing)

    def watched():
        watcher = refreshing.status()["fswatcher"]
        return [path for path in watcher["watching"] + watcher["not_yet_watching"] if uuid in path]

    eventually("its files are watched no more", lambda: not watched())
