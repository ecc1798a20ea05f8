# SPDX-License-Identifier: MPL-2.0
"""What is read alone because the first load lacks it, and what becomes of that. The node is a stand-in that says what a
test wants of each zone."""

from types import SimpleNamespace

import gevent
import pytest
from gevent.event import Event

from support.deadlines import SOON
from support.recording_log import RecordingLog
from vminfod.freshness import doubts
from vminfod.freshness.doubts import Doubts
from vmload import parts as part
from vmload.datasets import Datasets
from vmload.loader import NodeRecords
from vmload.loaderror import LoadError, ZoneGone
from vmload.records import FileRecords, Zone, ZoneInfo, ZoneRecords

pytestmark = pytest.mark.pure

A, B, C = (f"5b0e7ae8-9c1a-4b7e-8f63-00000000000{digit}" for digit in "abc")


def whole(name, *, datasets=True, statistics=True, snapshots=0):
    root = f"zones/{name}"
    rows = {root: {"name": root, "mountpoint": "/" + root}} if datasets else {}
    listed = Datasets(rows, {"/" + root: root} if datasets else {}, {root: [("s", 1, 1, 1)] * snapshots})
    zone = Zone(7, name, "running", "/" + root, name, "joyent", 1)
    return ZoneRecords(zone, FileRecords(xml={}), ZoneInfo("1", "2", "0") if statistics else None, {root: listed})


class Node:
    """`zones`: name -> the records of a reading of just that zone, the error that it raises, or "hangs". `index`: the
    VMs of the index, or an error. `asked`: (zone, parts that were read), in order; `watched` before."""

    def __init__(self, zones, index=()):
        self.zones, self.index, self.asked, self.watched = zones, index, [], []
        self.log = RecordingLog()
        sources = SimpleNamespace(index=self.names_in_index, find=self.find)
        loader = SimpleNamespace(sources=sources, read=self.read)
        watches = SimpleNamespace(set=lambda zone, seen: self.watched.append(zone.zonename))
        self.doubts = Doubts(loader, watches, SimpleNamespace(), self.log)

    def put_right(self, *loaded, listed=(), **errors):
        node = NodeRecords({records.zone.zonename: records for records in loaded}, errors)
        with gevent.Timeout(SOON):
            return self.doubts.put_right(node, listed)

    def names_in_index(self, _runner):
        if isinstance(self.index, LoadError):
            raise self.index
        return {name: name for name in self.index} | {"buildbox": None}  # and one that is no VM

    def find(self, name, runner):
        return self._said(name).zone

    def read(self, zone, runner, old=None, parts=part.ALL):
        self.asked.append((zone.zonename, set(parts)))
        return self._said(zone.zonename)

    def _said(self, name):
        said = self.zones[name]
        if said == "hangs":
            Event().wait()
        if isinstance(said, Exception):
            raise said
        return said


def test_load_that_lacks_nothing_is_taken_as_it_is():
    node = Node({}, index=[A, B])
    found = node.put_right(whole(A), **{B: LoadError("no")})
    assert (found.zones, list(found.errors), node.asked, node.log.records) == ({A: whole(A)}, [B], [], [])


def test_zones_that_only_the_index_or_an_earlier_list_names_are_watched_and_read():
    node = Node({A: whole(A), B: whole(B)}, index=[C, A])
    found = node.put_right(whole(C), listed=[B, C])
    assert found.zones == {name: whole(name) for name in (A, B, C)} and found.errors == {}
    assert sorted(node.asked) == [(A, set(part.ALL)), (B, set(part.ALL))] and sorted(node.watched) == [A, B]


def test_zone_that_is_gone_or_cannot_be_read_is_an_error():
    gone, trouble = ZoneGone("no such zone"), LoadError("no memory")
    found = Node({A: gone, B: trouble}, index=[B]).put_right(listed=[A])
    assert (found.zones, found.errors) == ({}, {A: gone, B: trouble})


def test_what_one_lacks_is_read_and_no_more():
    node = Node({A: whole(A), B: whole(B)})
    found = node.put_right(whole(A, statistics=False), whole(B), whole(C))
    assert found.zones == {name: whole(name) for name in (A, B, C)}
    assert node.asked == [(A, {part.ZONEINFO})]


def test_what_lacks_in_a_reading_of_just_the_zone_too_is_believed():
    node = Node({A: whole(A, datasets=False)})
    found = node.put_right(whole(A, datasets=False), whole(B))
    assert found.zones == {A: whole(A, datasets=False), B: whole(B)}
    assert node.asked == [(A, {part.DATASETS})]


def test_list_of_datasets_that_is_shown_to_be_short_is_believed_for_no_zone():
    node = Node({A: whole(A), B: whole(B, snapshots=2)})
    found = node.put_right(whole(A, datasets=False), whole(B, snapshots=1))
    assert found.zones == {A: whole(A), B: whole(B, snapshots=2)}
    assert node.asked == [(A, {part.DATASETS}), (B, {part.DATASETS})]


def test_vm_that_lacks_something_and_cannot_be_read_alone_is_not_served_without_it():
    trouble = LoadError("no memory")
    found = Node({A: trouble}).put_right(whole(A, datasets=False), whole(B))
    assert (found.zones, found.errors) == ({B: whole(B)}, {A: trouble})


def test_start_does_not_wait_for_ever(monkeypatch):
    monkeypatch.setattr(doubts, "_WITHIN", 0.05)
    found = Node({A: "hangs", B: "hangs"}, index=[A]).put_right(whole(B, statistics=False))
    assert found.zones == {} and {name: error.code for name, error in found.errors.items()} == {
        A: "ETIMEDOUT",
        B: "ETIMEDOUT",
    }


def test_index_that_cannot_be_read_costs_its_word_only():
    node = Node({A: whole(A)}, index=LoadError("EIO: i/o error", "EIO"))
    assert node.put_right(whole(B), listed=[A]).zones == {A: whole(A), B: whole(B)}


def test_fault_of_ours_in_one_zone_costs_only_that():
    found = Node({A: RuntimeError("ours"), B: whole(B)}, index=[A, B]).put_right()
    assert found.zones == {B: whole(B)} and found.errors[A].code == "INTERNAL"
