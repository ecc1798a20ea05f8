# SPDX-License-Identifier: MPL-2.0
"""Which zfs events are passed over before they become tasks: just those of which nothing would be read.

What is expected is worked out from the names alone, and from what the rules mark when they are given every event."""

from __future__ import annotations

import json

import pytest
from gevent.queue import SimpleQueue
from hypothesis import given, settings
from hypothesis import strategies as st

from support.deadlines import SOON
from support.examples import examples
from support.recording_log import RecordingLog
from support.said import said
from vminfod.freshness.datasetevents import DatasetEvents
from vminfod.freshness.sources import Sources
from vminfod.freshness.staleness import Staleness
from vminfod.queue import Queue
from vminfod.serving.cache import Cache
from vminfod.serving.cause import REQUEST, Cause
from vminfod.serving.hub import Hub, Limits
from vminfod.watchers.zpoolwatcher import ZfsEvent, parse_zfs_event, plain_dataset
from vmload.datasets import Datasets
from vmload.records import FileRecords, Zone, ZoneRecords

pytestmark = pytest.mark.pure

ACTIONS = ["create", "clone", "snapshot", "set", "inherit", "hold", "finish receiving", "rename", "promote"]
ACTIONS += ["clone swap", "destroy", "receive", "something new"]
SNAPSHOTS = ["", "@vmsnap-monday", "@indestructible", "@backup-1", "@"]


class QuietLog(RecordingLog):
    """At the level at which a daemon usually logs: with a debug log no event is passed over by its name."""

    def writes(self, level):
        return level > 20


class Marks:
    """Stands for all that the rules tell what is to be read: zones, everything, files without their watches."""

    def __init__(self):
        self.marks = []

    def mark(self, zonename, parts=("all",), datasets=(), *, cause):
        self.marks.append((zonename, sorted(parts), sorted(datasets)))

    def request(self, cause):
        self.marks.append("everything")

    def missed(self, reason):
        self.marks.append(reason)

    def drop(self, zonename):
        self.marks.append(("not watched", zonename))


def rules_of(vms):
    """The rules for a node with `vms`, the marks that they make, and the events that they remember."""
    log, marks, remembered = RecordingLog(), Marks(), DatasetEvents()
    cache = Cache(Hub(log, Limits(ring_events=1)), log)
    for name, records in vms.items():
        cache.put(name, records, {"zonename": name, "uuid": name}, REQUEST)
    return Staleness(cache, marks, remembered, marks, marks, None, None, None, log), marks, remembered


def vm(name, *, delegated=(), disks=(), root=None):
    """What was read of a VM; `root`: the dataset that is mounted at its zonepath, if it is not called like it."""
    xml = {"datasets": list(delegated), "disks": [{"path": f"/dev/zvol/rdsk/{disk}"} for disk in disks]}
    zone = Zone(None, name, "installed", f"/zones/{name}", name, "joyent", 0)
    listed = {parent: Datasets() for parent in (f"zones/{name}", *delegated, *disks)}
    if root is not None:
        there = {"mountpoint": zone.zonepath}
        listed[root] = Datasets(datasets={root: there}, mountpoints={zone.zonepath: root})
    return ZoneRecords(zone, FileRecords(xml=xml), None, listed)


def line(dataset, action, text=" "):
    data = {"pool_name": "zones", "history_internal_name": action, "history_dsname": dataset}
    data.update(history_internal_str=text, history_time=1767225600)
    record = {"date": "2026-03-13T12:01:57.000Z", "type": "event", "class": "EC_zfs", "data": data}
    return json.dumps({**record, "subclass": "ESC_ZFS_history_event"}).encode()


pools = st.sampled_from(["zones", "tank"])
parts = st.sampled_from(["a", "b", "data", "disk0", "%recv", "ab"])
datasets = st.builds(lambda pool, below: "/".join([pool, *below]), pools, st.lists(parts, max_size=3))
own = datasets.filter(lambda name: "%" not in name and "/" in name)
nodes = st.fixed_dictionaries(
    {},
    optional={
        name: st.builds(
            lambda name, delegated, disks, root: vm(name, delegated=delegated, disks=disks, root=root),
            st.just(name),
            st.lists(own, max_size=2, unique=True),
            st.lists(own, max_size=2, unique=True),
            st.none() | own,
        )
        for name in ("a", "b", "ab")
    },
)
texts = st.builds("-> {}{}".format, datasets, st.sampled_from(SNAPSHOTS)) | st.sampled_from(
    [" ", "quota=1", "mountpoint=/zones/a", "mountpoint=/zones/new", "canmount=on", "-> @vmsnap-new"]
)
lines = st.builds(
    lambda dataset, snapshot, action, text: line(dataset + snapshot, action, text),
    datasets,
    st.sampled_from(SNAPSHOTS[:4]),
    st.sampled_from(ACTIONS),
    texts,
)


def thorough(test):
    return settings(max_examples=examples(100), deadline=None, database=None, derandomize=True)(test)


def events_of(lines):
    parsed = [parse_zfs_event(said(line), 0) for line in lines]
    return [event for event in parsed if isinstance(event, ZfsEvent)]


def related(name, other):
    """Whether they are the same dataset, or one lies below the other."""
    return f"{name}/".startswith(f"{other}/") or f"{other}/".startswith(f"{name}/")


def cause_of(event):
    return Cause("zfs", {"dataset": event.name, "action": event.action}, 0)


def followed(rules, marks, lines, log):
    """What is marked when the zpool watcher prints these lines."""
    queue = Queue(log=RecordingLog(), workers=1)
    sources = Sources("sysevent", None, SimpleQueue(), queue, rules, marks, log)
    for line in lines:
        sources._pools._deliver(line, said(line), 0)
    assert queue.wait_idle(SOON)
    assert log.at(50) == []
    return marks.marks


@thorough
@given(nodes, st.lists(lines, max_size=15))
def test_what_is_marked_is_the_same_as_if_every_event_were_a_task(vms, lines):
    all_rules, all_marks, _ = rules_of(vms)
    for event in events_of(lines):
        all_rules.dataset_event(event, cause_of(event))
    rules, marks, _ = rules_of(vms)
    assert followed(rules, marks, lines, QuietLog()) == all_marks.marks


@pytest.mark.parametrize("log", [QuietLog(), RecordingLog()], ids=["at info", "at debug"])
def test_while_the_queue_is_paused_every_event_waits(log):
    """Whoever paused it may be about to make known whose datasets these are."""
    rules, marks, _ = rules_of({})
    queue = Queue(log=RecordingLog(), workers=1, paused=True)
    sources = Sources("sysevent", None, SimpleQueue(), queue, rules, marks, log)
    for number in range(3):
        foreign = line(f"backup/{number}", "set", "quota=1")
        sources._pools._deliver(foreign, said(foreign), 0)
    assert queue.dump()["paused_nqueued"] == 3


@thorough
@given(lines)
def test_plain_dataset_is_the_only_one_that_its_event_is_about(line):
    dataset, events = plain_dataset(said(line)), events_of([line])
    if dataset is None:
        return
    [event] = events
    assert [name for name, _ in event.touched] == [dataset]
    assert event.action != "promote"
    assert event.detail[0] != "mountpoint"


@pytest.mark.parametrize("action", ["create", "set", "snapshot", "hold", "destroy", "finish receiving"])
@pytest.mark.parametrize("snapshot", ["", "@daily-1"])
def test_events_that_come_in_storms_are_plain(action, snapshot):
    assert plain_dataset(said(line(f"backup/a{snapshot}", action, "quota=1"))) == "backup/a"


@pytest.mark.parametrize(
    "member, value",
    [
        ("date", "2026-13-13T12:01:57.000Z"),
        ("date", None),
        ("type", "ready"),
        ("class", "EC_zone"),
        ("subclass", 7),
        ("data", None),
        ("data", []),
        ("pool_name", ""),
        ("pool_name", 7),
        ("history_time", True),
        ("history_time", "1"),
        ("history_dsname", None),
        ("history_dsname", ["a"]),
        ("history_dsname", ""),
        ("history_dsname", "@a"),
        ("history_dsname", "backup/a@"),
        ("history_dsname", "backup/a@b@c"),
        ("history_internal_name", ["set"]),
        ("history_internal_name", "something new"),
        ("history_internal_str", 7),
    ],
)
def test_line_that_is_not_in_good_order_is_not_plain(member, value):
    """All that parse_zfs_event() would skip or wonder at is left to it."""
    record = said(line("backup/a", "set", "quota=1"))
    inner = record if member in record else record["data"]
    assert plain_dataset(record) == "backup/a"
    inner[member] = value
    assert plain_dataset(record) is None
    del inner[member]
    assert plain_dataset(record) is None


@thorough
@given(nodes, lines)
def test_event_is_passed_over_by_its_names(vms, line):
    """Names that have nothing to do with one another are passed over, a name that a VM uses is not."""
    rules, marks, _ = rules_of(vms)
    used = {name for records in vms.values() for name in records.datasets}
    for event in events_of([line]):
        named = [event.dataset] + ([event.renamed_to[0]] if event.renamed_to else [])
        is_far = not any(related(name, user) for name in named for user in used)
        can_be_anywhere = event.action == "promote" or event.detail[0] == "mountpoint"
        if is_far:
            assert all(map(rules.is_foreign, named)), "not even an event is made of it"
        if is_far and not can_be_anywhere:
            assert rules.passes_over(event, cause_of(event))
        if can_be_anywhere or (event.dataset in used and event.snapshot is None):
            assert not rules.passes_over(event, cause_of(event))


@thorough
@given(nodes, nodes, lines)
def test_event_that_comes_while_a_zone_is_read_is_remembered_for_the_datasets_that_it_turns_out_to_use(
    vms, later, line
):
    """Whose datasets are these? Of a VM that only the reading that is under way will make known, maybe."""
    rules, marks, remembered = rules_of(vms)
    known = {name for records in vms.values() for name in records.datasets}
    with remembered.reading() as started:
        for event in events_of([line]):
            assert not rules.is_foreign(event.dataset)
            is_passed_over = rules.passes_over(event, cause_of(event))
            is_far = not any(related(name, user) for name, _ in event.touched for user in known)
            can_be_anywhere = event.action == "promote" or event.detail[0] == "mountpoint"
            assert is_passed_over == (is_far and not can_be_anywhere)
            if is_passed_over:
                parents = {name for records in later.values() for name in records.datasets} - known
                concerned = {name for name, _ in event.touched if any(related(name, user) for user in parents)}
                assert {name for name, _ in remembered.since(started, parents)} == concerned
    assert marks.marks == []


@pytest.mark.parametrize(
    ("dataset", "action", "text", "is_passed_over"),
    [
        ("zones", "set", "compression=on", False),  # inherited by all
        ("zones@daily", "snapshot", " ", True),
        ("zones/a", "set", "quota=1", False),
        ("zones/a@backup", "snapshot", " ", True),
        ("zones/a@backup", "destroy", " ", False),  # what it held is the next one's, and its size may show
        ("zones/a@vmsnap-1", "snapshot", " ", False),
        ("zones/a/%recv", "finish receiving", " ", False),
        ("zones/a/data/docker/17", "set", "quota=1", True),
        ("tank/disk", "set", "volsize=1", False),
        ("tank/disk@backup", "snapshot", " ", False),  # takes its space
        ("tank", "rename", "-> tank2", False),
        ("backup/a", "rename", "-> zones/a", False),
        ("backup/a", "rename", "-> backup/b", True),
        ("backup/a", "promote", " ", False),
        ("backup/a", "set", "mountpoint=/zones/a", False),
        ("backup/a", "set", "quota=1", True),
        ("zones/ab", "set", "quota=1", True),
        ("moved/root", "set", "quota=1", False),
    ],
)
def test_event_of_each_kind(dataset, action, text, is_passed_over):
    records = vm("a", delegated=["zones/a/data"], disks=["tank/disk"], root="moved/root")
    rules, _, _ = rules_of({"a": records})
    [event] = events_of([line(dataset, action, text)])
    assert rules.passes_over(event, cause_of(event)) is is_passed_over


MOUNTED = ["json_objects", "last_exited", "zonexml_objects"]  # what is read where something else may be mounted now


@pytest.mark.parametrize(
    ("dataset", "action", "text", "marked"),
    [
        ("zones/a", "set", "quota=1", [("a", [], ["zones/a"])]),
        ("zones/b", "inherit", "quota", [("b", [], ["zones/b"])]),
        ("zones/a@vmsnap-1", "snapshot", " ", [("a", [], ["zones/a"])]),
        ("tank/delegated", "set", "recordsize=1", [("a", [], ["tank/delegated"])]),
        ("zones/a/data", "snapshot", " ", [("a", [], ["zones/a/data"])]),
        ("tank/disk", "set", "volsize=1", [("a", [], ["tank/disk"])]),
        ("tank/disk", "set", "mountpoint=none", [("a", MOUNTED, ["tank/disk"])]),
        ("moved/root", "set", "quota=1", [("a", [], ["moved/root"])]),
        ("zones/b", "destroy", " ", [("b", MOUNTED, ["zones/b"])]),
        ("zones/a", "rename", "-> backup/a", [("a", MOUNTED, ["zones/a"])]),
        ("backup/b", "rename", "-> zones/b", [("b", MOUNTED, ["zones/b"])]),
        ("zones/a", "rename", "-> zones/b", [("a", MOUNTED, ["zones/a"]), ("b", MOUNTED, ["zones/b"])]),
        ("backup/b", "set", "mountpoint=/zones/b", [("b", ["all"], [])]),
        ("zones", "set", "compression=on", ["everything"]),
        ("tank", "inherit", "compression", ["everything"]),
        ("backup/a", "promote", " ", ["everything"]),
        ("zones/a/data/docker/17", "set", "quota=1", []),
        ("zones/ab", "set", "quota=1", []),
        ("zones@daily", "snapshot", " ", []),
        ("backup", "set", "quota=1", []),
    ],
)
def test_what_an_event_makes_stale_is_that_dataset_of_those_who_use_it(dataset, action, text, marked):
    node = {"a": vm("a", delegated=["tank/delegated"], disks=["tank/disk"], root="moved/root"), "b": vm("b")}
    rules, marks, _ = rules_of(node)
    [event] = events_of([line(dataset, action, text)])
    rules.dataset_event(event, cause_of(event))
    assert marks.marks == marked


def test_storm_of_what_no_vm_has_makes_no_task():
    rules, marks, _ = rules_of({"a": vm("a")})
    queue = Queue(log=RecordingLog(), workers=1)
    sources = Sources("sysevent", None, SimpleQueue(), queue, rules, marks, QuietLog())

    def tell(dataset, action):
        told = line(dataset, action)
        sources._pools._deliver(told, said(told), 0)

    for number in range(10):
        tell("tank/backup/a/%recv", "receive")
        tell(f"tank/backup/a@{number}", "snapshot")
        tell("zones/a/data/docker", "set")
        tell(f"zones/a/data/docker@{number}", "destroy")
        tell("tank/backup/a", "rename")
    assert not queue.busy
    tell("zones/a", "set")
    assert queue.busy, "as with any other"
    assert queue.wait_idle(SOON)
    assert marks.marks == [("a", [], ["zones/a"])]


def test_dataset_of_a_vm_that_came_or_went_is_judged_as_it_is_now():
    log, marks = RecordingLog(), Marks()
    cache = Cache(Hub(log, Limits(ring_events=1)), log)
    rules = Staleness(cache, marks, DatasetEvents(), marks, marks, None, None, None, log)
    [event] = events_of([line("tank/disk", "set", "volsize=1")])
    assert rules.passes_over(event, cause_of(event))
    cache.put("a", vm("a", disks=["tank/disk"]), {"zonename": "a", "uuid": "a"}, REQUEST)
    assert not rules.passes_over(event, cause_of(event))
    cache.put("a", vm("a"), {"zonename": "a", "uuid": "a"}, REQUEST)
    assert rules.passes_over(event, cause_of(event))
