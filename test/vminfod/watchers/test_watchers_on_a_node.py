# SPDX-License-Identifier: MPL-2.0
"""The three watchers with the tools of a mock node: what happens on the node comes out as events, whatever befalls the
tools. What an event makes stale is tested with the daemon."""

import os
import shutil
import tempfile

import gevent
import pytest

from mockcn import process
from support.deadlines import SOON
from support.recording_log import RecordingLog
from vminfod.watchers.fswatcher import FsWatcher
from vminfod.watchers.zonewatcher import zone_watcher
from vminfod.watchers.zpoolwatcher import Effect, zpool_watcher

LIMIT = SOON


@pytest.fixture(scope="module")
def small_node():
    folder = tempfile.mkdtemp(prefix="cn-")
    with process.start(os.path.join(folder, "node"), vms=12) as running:
        yield running
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def vm(small_node):
    """A new VM of the node."""
    return small_node.control.add_vm(brand="joyent")


class Watching:
    """One of the watchers, started, with what it reported."""

    def __init__(self, make, tool):
        self.events, self.missed = [], []
        self.watcher = make(tool, log=RecordingLog(), on_event=self.events.append, on_missed=self.missed.append)
        child = getattr(self.watcher, "child", self.watcher)
        child._backoff._first = child._backoff._next = 0.01
        self.watcher.start()

    def wait_for(self, condition):
        with gevent.Timeout(LIMIT):
            while not condition(self.events):
                gevent.sleep(0.005)

    def wait_missed(self):
        with gevent.Timeout(LIMIT):
            while not self.missed:
                gevent.sleep(0.005)


@pytest.fixture
def watching(small_node):
    made = []

    def make(what, tool="sysevent"):
        made.append(Watching(what, small_node.tool(tool)))
        assert made[-1].watcher.wait_ready(LIMIT)
        return made[-1]

    yield make
    for one in made:
        one.watcher.stop()
    small_node.control.clear_faults()
    small_node.control.clear_event_rules()


# --- zones ---


def test_zone_that_boots_and_halts_is_reported(small_node, vm, watching):
    zones = watching(zone_watcher)
    small_node.control.halt(vm["zonename"])
    small_node.control.boot(vm["zonename"])
    zones.wait_for(lambda events: events and events[-1].newstate == "running")
    assert {event.zonename for event in zones.events} == {vm["zonename"]}
    assert "uninitialized" in {event.newstate for event in zones.events}


def test_restart_of_a_zones_init_is_reported_with_its_count(small_node, vm, watching):
    zones = watching(zone_watcher)
    small_node.control.init_restart(vm["zonename"])
    zones.wait_for(lambda events: events)
    assert (zones.events[0].zonename, zones.events[0].restarts) == (vm["zonename"], 1)


def test_new_zone_and_deleted_zone_are_reported(small_node, watching):
    zones = watching(zone_watcher)
    added = small_node.control.add_vm(brand="joyent")
    zones.wait_for(lambda events: added["zonename"] in {event.zonename for event in events})
    zones.events.clear()
    small_node.control.remove_vm(added["zonename"])
    zones.wait_for(lambda events: any(event.newstate == "" for event in events))


def test_event_without_attributes_is_skipped(small_node, vm, watching):
    zones = watching(zone_watcher)
    small_node.control.ping()
    small_node.control.init_restart(vm["zonename"])
    zones.wait_for(lambda events: events)
    assert len(zones.events) == 1
    assert zones.missed == []


# --- datasets ---


def test_changes_of_datasets_are_reported(small_node, vm, watching):
    pools, dataset = watching(zpool_watcher), f"zones/{vm['zonename']}"
    for words in (
        ["set", "quota=11g", dataset],
        ["snapshot", f"{dataset}@s1"],
        ["rename", f"{dataset}@s1", "@s2"],
        ["rollback", f"{dataset}@s2"],
        ["inherit", "compression", dataset],
        ["destroy", f"{dataset}@s2"],
    ):
        small_node.run("zfs", *words, check=True)
    pools.wait_for(lambda events: any(event.effect is Effect.GONE for event in events))
    reported = [(event.action, event.name, event.effect) for event in pools.events]
    assert ("set", dataset, Effect.CHANGED) in reported
    assert ("snapshot", f"{dataset}@s1", Effect.NEW) in reported
    assert ("rename", f"{dataset}@s1", Effect.RENAMED) in reported
    assert ("clone swap", dataset, Effect.ROLLED_BACK) in reported
    assert ("inherit", dataset, Effect.CHANGED) in reported
    assert reported[-1] == ("destroy", f"{dataset}@s2", Effect.GONE)
    assert [event.new_name for event in pools.events if event.action == "rename"] == [f"{dataset}@s2"]
    assert all("%" not in event.name for event in pools.events)


def test_pool_that_is_exported_or_imported_is_reported_and_a_scrub_is_not(small_node, watching):
    pools = watching(zpool_watcher)
    [other] = {dataset.split("/")[0] for dataset in small_node.control.datasets()} - {"zones"}
    small_node.control.scrub(other)
    small_node.control.pool_export(other)
    small_node.control.pool_import(other)
    pools.wait_for(lambda events: "import" in {event.action for event in events})
    assert {event.pool for event in pools.events} == {other}
    assert not {event.action for event in pools.events} & {"scan setup", "scan done"}


# --- a tool goes wrong ---


@pytest.mark.parametrize("kind", ["fail", "garbage", "die"])
def test_watcher_whose_tool_goes_wrong_at_the_start_gets_ready_later(small_node, vm, kind):
    small_node.control.fault("sysevent", kind, **({"bytes": "\x00garbage\n", "exit": 1} if kind == "garbage" else {}))
    zones = Watching(zone_watcher, small_node.tool("sysevent"))
    try:
        assert zones.watcher.wait_ready(LIMIT)
        zones.wait_missed()
        small_node.control.init_restart(vm["zonename"])
        zones.wait_for(lambda events: events)
    finally:
        zones.watcher.stop()


def test_killed_sysevent_is_replaced_and_the_owner_hears_of_it(small_node, vm, watching):
    zones = watching(zone_watcher)
    assert small_node.control.kill_child("sysevent") == [zones.watcher.pid]
    zones.wait_missed()
    small_node.control.init_restart(vm["zonename"])
    zones.wait_for(lambda events: events)
    assert zones.watcher.status()["restarts"] == 1


def test_garbled_line_in_between_is_skipped_and_the_owner_hears_of_it(small_node, vm, watching):
    zones = watching(zone_watcher)
    small_node.control.raw_line('{"date":"2026-03-13T12:\n')
    small_node.control.init_restart(vm["zonename"])
    zones.wait_for(lambda events: events)
    assert zones.missed == ["zone watcher: no JSON"]


# --- files ---


def test_zone_xml_that_is_edited_is_reported(small_node, vm, watching):
    files, path = watching(FsWatcher, "fswatcher"), f"/etc/zones/{vm['zonename']}.xml"
    files.watcher.watch(path)
    assert files.watcher.wait_answered(LIMIT)
    small_node.control.set_attr(vm["zonename"], "alias", "new-alias")
    files.wait_for(lambda events: events)
    assert (files.events[0].path, files.events[0].kind) == (path, "change")


def test_rollback_replaces_files_without_an_event_and_a_new_watch_finds_them(small_node, vm, watching):
    files, zonename = watching(FsWatcher, "fswatcher"), vm["zonename"]
    path = f"/zones/{zonename}/config/tags.json"
    small_node.control.write_config(zonename, "tags", {"a": 1})
    small_node.run("zfs", "snapshot", f"zones/{zonename}@before", check=True)
    files.watcher.watch(path)
    assert files.watcher.wait_answered(LIMIT)
    small_node.run("zfs", "rollback", f"zones/{zonename}@before", check=True)
    files.watcher.unwatch(path)
    files.watcher.watch(path)
    assert files.watcher.wait_answered(LIMIT)
    assert files.events == []
    small_node.control.write_config(zonename, "tags", {"a": 2})
    files.wait_for(lambda events: events)
    assert files.events[0].kind == "change"


def test_path_that_the_child_refuses_is_watched_when_it_no_longer_does(small_node, vm, watching):
    small_node.control.fault("fswatcher", "refuse", path=vm["zonename"])
    files, path = watching(FsWatcher, "fswatcher"), f"/etc/zones/{vm['zonename']}.xml"
    files.watcher.watch(path)
    files.watcher.watch("/tmp/.sysinfo.json")
    assert files.watcher.wait_answered(LIMIT)
    assert (files.watcher.watching, files.watcher.not_yet_watching) == (["/tmp/.sysinfo.json"], [path])
    small_node.control.kill_child("fswatcher")
    files.wait_for(lambda _events: files.watcher.watching == [path, "/tmp/.sysinfo.json"])


def test_deaf_fswatcher_tells_nothing_of_the_paths_concerned(small_node, vm, watching):
    files, deaf = watching(FsWatcher, "fswatcher"), f"/etc/zones/{vm['zonename']}.xml"
    other = small_node.control.add_vm(brand="joyent")["zonename"]
    for path in (deaf, f"/etc/zones/{other}.xml"):
        files.watcher.watch(path)
    assert files.watcher.wait_answered(LIMIT)
    assert small_node.control.tell("fswatcher", "deaf", path=vm["zonename"]) == 1
    small_node.control.set_attr(vm["zonename"], "alias", "unheard")
    small_node.control.set_attr(other, "alias", "heard")
    files.wait_for(lambda events: events)
    assert {event.path for event in files.events} == {f"/etc/zones/{other}.xml"}


def test_watch_that_is_lost_tells_nothing_until_it_is_set_anew(small_node, vm, watching):
    files, path = watching(FsWatcher, "fswatcher"), f"/etc/zones/{vm['zonename']}.xml"
    files.watcher.watch(path)
    files.watcher.watch("/tmp/.sysinfo.json")
    assert files.watcher.wait_answered(LIMIT)
    assert small_node.control.tell("fswatcher", "lost", path=vm["zonename"]) == 1
    small_node.control.set_attr(vm["zonename"], "alias", "unheard")
    small_node.control.write_sysinfo(small_node.control.sysinfo())  # the mark behind it
    files.wait_for(lambda events: events)
    assert {event.path for event in files.events} == {"/tmp/.sysinfo.json"}
    files.watcher.unwatch(path)
    files.watcher.watch(path)
    assert files.watcher.wait_answered(LIMIT)
    small_node.control.set_attr(vm["zonename"], "alias", "heard")
    files.wait_for(lambda events: any(event.path == path for event in events))


def test_fswatcher_that_stops_answering_is_replaced(small_node, watching):
    def make(tool, **options):
        return FsWatcher(tool, answer_within=2, **options)

    files = watching(make, "fswatcher")
    small_node.control.tell("fswatcher", "hang")
    files.watcher.watch("/tmp/.sysinfo.json")
    files.wait_missed()
    files.wait_for(lambda _events: files.watcher.watching == ["/tmp/.sysinfo.json"])
    assert "timeout exceeded" in files.watcher.status()["lastError"]
