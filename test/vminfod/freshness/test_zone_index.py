# SPDX-License-Identifier: MPL-2.0
"""Every change of the index of zones is looked at, also one that comes while it is read, or that cannot be read; and
just those zones are asked for of which nothing was known."""

from types import SimpleNamespace

import gevent
import pytest

from support.deadlines import SOON
from support.recording_log import RecordingLog
from vminfod.freshness import zoneindex
from vminfod.freshness.zoneindex import ZoneIndex
from vminfod.serving.cause import Cause
from vmload import parts as part
from vmload.loaderror import LoadError

pytestmark = pytest.mark.pure

CHANGE = Cause("file", {"path": "/etc/zones"})


class Index:
    """The index, in which `names` are; `on_read` is called at the end of each reading, and may raise. Zones that are
    `served`, `failing` or `busy`. `marked`: (zone, parts), in order."""

    def __init__(self, monkeypatch):
        monkeypatch.setattr(zoneindex, "_HEAD_START", 0.001)
        self.names, self.marked, self.on_read = set(), [], lambda: None
        self.served, self.failing, self.busy = set(), set(), set()
        self.looks = ZoneIndex(
            SimpleNamespace(sources=SimpleNamespace(index=lambda _runner: self.read())),
            SimpleNamespace(records=lambda name: "records" if name in self.served else None),
            SimpleNamespace(busy=lambda: list(self.busy), mark=self.mark),
            SimpleNamespace(get=lambda name: "error" if name in self.failing else None),
            SimpleNamespace(),
            RecordingLog(),
        )

    def mark(self, name, parts, *, cause):
        assert cause == CHANGE
        self.marked.append((name, set(parts)))

    def look(self, *names):
        """The zones that are asked for, and for what, when just these are in the index by now."""
        self.names, self.marked = set(names), []
        self.looks.changed(CHANGE)
        with gevent.Timeout(SOON):
            self.looks._looking.join()
        return dict(self.marked)

    def read(self):
        names = frozenset(self.names)
        self.on_read()
        return names

    def wait_marked(self, names):
        with gevent.Timeout(SOON):
            while sorted(name for name, _ in self.marked) != names:
                gevent.sleep(0.001)


@pytest.fixture
def index(monkeypatch):
    made = Index(monkeypatch)
    yield made
    made.looks.stop()


def test_index_that_cannot_be_read_once_is_read_again_without_another_change(index):
    failures = [LoadError("EIO: i/o error", "EIO")]

    def fail_once():
        if failures:
            raise failures.pop()

    index.names, index.on_read = {"a"}, fail_once
    index.looks.changed(CHANGE)
    index.wait_marked(["a"])


def test_change_that_comes_while_the_index_is_read_is_looked_at_as_well(index):
    changes = ["b"]

    def change_once():
        if changes:
            index.names.add(changes.pop())
            index.looks.changed(CHANGE)

    index.names, index.on_read = {"a"}, change_once
    index.looks.changed(CHANGE)
    index.wait_marked(["a", "b"])


def test_just_those_zones_are_asked_for_of_which_nothing_is_known(index):
    index.served, index.failing = {"served"}, {"failing"}
    assert index.look("served", "new", "failing", "another") == {"new": set(part.ALL), "another": set(part.ALL)}


def test_of_one_that_is_being_read_only_its_state_is_asked(index):
    index.busy = {"new"}
    assert index.look("new", "other") == {"new": {part.ZONEADM}, "other": set(part.ALL)}


def test_name_of_no_vm_is_asked_for_once_while_it_is_there_and_again_when_it_is_back(index):
    assert index.look("no-vm") == {"no-vm": set(part.ALL)}
    assert index.look("no-vm", "more") == {"more": set(part.ALL)}
    assert index.look("more") == {}
    assert index.look("no-vm", "more") == {"no-vm": set(part.ALL)}


def test_vm_that_was_served_meanwhile_is_asked_for_when_it_is_known_no_more(index):
    """It was taken from the node and made anew, and the zone events of both were lost."""
    assert index.look("vm") == {"vm": set(part.ALL)}
    index.served = {"vm"}
    assert index.look("vm") == {}
    index.served = set()
    assert index.look("vm") == {"vm": set(part.ALL)}
