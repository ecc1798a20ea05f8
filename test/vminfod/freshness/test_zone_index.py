# SPDX-License-Identifier: MPL-2.0
"""Every change of the index of zones is looked at, also one that comes while it is read, or that cannot be read."""

from types import SimpleNamespace

import gevent
import pytest

from support.deadlines import SOON
from support.recording_log import RecordingLog
from vminfod.freshness import zoneindex
from vminfod.freshness.zoneindex import ZoneIndex
from vminfod.serving.cause import Cause
from vmload.loaderror import LoadError

pytestmark = pytest.mark.pure

CHANGE = Cause("file", {"path": "/etc/zones"})


class Index:
    """The index, in which `names` are; `on_read` is called at the end of each reading, and may raise."""

    def __init__(self, monkeypatch):
        monkeypatch.setattr(zoneindex, "_HEAD_START", 0.001)
        self.names, self.marked, self.on_read = set(), [], lambda: None
        nobody = SimpleNamespace(records=lambda name: None, get=lambda name: None)
        self.looks = ZoneIndex(
            SimpleNamespace(zones_of_index=None),
            nobody,
            SimpleNamespace(busy=list, mark=lambda name, parts, cause: self.marked.append(name)),
            nobody,
            SimpleNamespace(files=lambda pool, what, step: self.read()),
            RecordingLog(),
        )

    def read(self):
        names = frozenset(self.names)
        self.on_read()
        return names

    def wait_marked(self, names):
        with gevent.Timeout(SOON):
            while sorted(self.marked) != names:
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
