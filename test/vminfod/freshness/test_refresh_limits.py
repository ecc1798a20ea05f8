# SPDX-License-Identifier: MPL-2.0
"""A refresh whose queue cannot be paused, or whose comparison takes too long: the limits are passed in milliseconds
here, the platform is a stand-in for the loader, and everything between is real."""

import gevent
import mock
import pytest
from gevent.event import Event

from support.deadlines import SOON
from support.recording_log import RecordingLog
from vminfod.freshness import refresh as refreshing
from vminfod.freshness.activity import Activity
from vminfod.freshness.applying import Applying
from vminfod.freshness.datasetevents import DatasetEvents
from vminfod.freshness.filewatches import FileWatches
from vminfod.freshness.refresh import Refresh
from vminfod.freshness.refreshrequests import RefreshRequests
from vminfod.freshness.reloads import Reloads
from vminfod.freshness.replacedfiles import ReplacedFiles
from vminfod.freshness.retrying import Retrying
from vminfod.freshness.sysinfo import Sysinfo
from vminfod.freshness.threads import Threads
from vminfod.meters import Meters
from vminfod.queue import Queue, Task
from vminfod.serving.cache import Cache
from vminfod.serving.cause import REQUEST
from vminfod.serving.holds import Holds
from vminfod.serving.hub import Hub
from vmload import parts as part
from vmload.filereads import FileReads
from vmload.loader import Loader, NodeRecords
from vmload.loaderror import LoadError
from vmload.records import FileRecords, Zone, ZoneRecords

pytestmark = pytest.mark.pure

WITHIN = SOON  # seconds for what takes milliseconds


def records(name):
    zone = Zone(None, name, "installed", f"/zones/{name}", name, "joyent", 0)
    return ZoneRecords(zone, FileRecords(xml={"brand": "joyent", "zonename": name, "nics": []}))


NODE = NodeRecords({name: records(name) for name in ("one", "two", "three")})


class Parts:
    """A refresh and what it works on. `loader` and `watches` are stand-ins, made from the real classes."""

    def __init__(self):
        log = RecordingLog()
        self.queue = Queue(log=log, workers=1, dedup=True)
        self.hub = Hub(log)
        self.cache = Cache(self.hub, log)
        self.loader = mock.create_autospec(Loader, instance=True)
        self.loader.read_all.return_value = NODE
        self.loader.read.side_effect = lambda zone, *_: NODE.zones[zone.zonename]  # new zones are read one by one
        self.watches = mock.create_autospec(FileWatches, instance=True)
        self.watches.zones.return_value = []
        self.replaced_files = mock.create_autospec(ReplacedFiles, instance=True)
        threads, sysinfo, retrying, memory = Threads(FileReads(WITHIN)), Sysinfo(), Retrying(log), DatasetEvents()
        holds = Holds()
        applying = Applying(self.cache, holds, sysinfo, self.watches, retrying)
        self.reloads = Reloads(
            self.loader, self.cache, holds, applying, retrying, memory, self.queue, self.watches, threads, log
        )
        self.activity, self.requests = Activity(log), RefreshRequests(log)
        self.activity.running()
        self.refresh = Refresh(
            self.loader,
            self.cache,
            sysinfo,
            applying,
            self.reloads,
            memory,
            self.watches,
            self.replaced_files,
            self.requests,
            self.queue,
            threads,
            self.activity,
            Meters(),
            log,
        )

    def run(self):
        with gevent.Timeout(WITHIN):
            return self.refresh.run(REQUEST)

    def settle(self):
        """Wait until the queue has nothing left to do, which it can only say while it is not paused."""
        assert self.queue.wait_idle(WITHIN)


@pytest.fixture
def parts():
    return Parts()


@pytest.fixture
def short_limits(monkeypatch):
    monkeypatch.setattr(refreshing, "_PAUSE_LIMIT", 0.05)


def test_pause_that_times_out_is_undone_once_and_the_next_refresh_works(parts, short_limits, monkeypatch):
    busy = Event()
    parts.queue.enqueue(Task("never ends", lambda extras: busy.wait()))
    assert parts.run() is False
    assert parts.refresh.failed == "pause timeout exceeded"
    assert not parts.queue.paused
    assert (parts.activity.state, parts.activity.status) == ("running", "working")
    assert list(parts.cache) == []

    busy.set()
    parts.settle()
    monkeypatch.setattr(refreshing, "_PAUSE_LIMIT", WITHIN)
    assert parts.run() is True
    assert parts.refresh.failed is None
    assert list(parts.cache) == ["one", "two", "three"]


def test_tasks_kept_back_by_a_pause_that_times_out_run(parts, short_limits):
    busy, ran = Event(), []
    parts.queue.enqueue(Task("never ends", lambda extras: busy.wait()))
    refresh = gevent.spawn(parts.run)
    while not parts.queue.paused:
        gevent.sleep(0)
    parts.queue.enqueue(Task("kept back", lambda extras: ran.append("kept back")))
    refresh.join(WITHIN)
    busy.set()
    parts.settle()
    assert ran == ["kept back"]


def test_comparison_that_takes_too_long_is_given_up_before_the_queue_goes_on(parts, monkeypatch):
    """Else it would go on beside newer events, and put back what it loaded before they came."""
    monkeypatch.setattr(refreshing, "_PAUSE_LIMIT", 2.0)  # it must get as far as the second zone within that
    reached, gate, after = Event(), Event(), []

    def hang_at_the_second(zone):
        if zone.zonename == "two":
            reached.set()
            gate.wait()

    parts.watches.covers.side_effect = hang_at_the_second
    assert parts.run() is False
    assert reached.is_set()
    assert parts.refresh.failed == "fast-forward timeout exceeded"
    assert not parts.queue.paused
    parts.queue.enqueue(Task("newer event", lambda extras: after.append(list(parts.cache))))
    with gevent.Timeout(WITHIN):
        while not after:
            gevent.sleep(0.001)
    assert after == [["one"]]
    gate.set()
    parts.settle()
    assert list(parts.cache) == ["one"]

    parts.watches.covers.side_effect = None
    monkeypatch.setattr(refreshing, "_PAUSE_LIMIT", WITHIN)
    assert parts.run() is True
    assert list(parts.cache) == ["one", "two", "three"]


def test_comparison_that_has_not_begun_when_it_is_given_up_never_does(parts, monkeypatch):
    """What was kept back before it took all the time."""
    gate = Event()
    monkeypatch.setattr(refreshing, "_PAUSE_LIMIT", 0.3)
    real_pause = parts.queue.pause

    def pause_and_keep_one_back(timeout=None):
        real_pause(timeout)
        parts.queue.enqueue(Task("slow", lambda extras: gate.wait()))

    monkeypatch.setattr(parts.queue, "pause", pause_and_keep_one_back)
    assert parts.run() is False
    gate.set()
    parts.settle()
    assert list(parts.cache) == []


def test_refresh_that_was_asked_for_and_fails_comes_again_before_it_is_due(parts, monkeypatch):
    monkeypatch.setattr(refreshing, "_FIRST_RETRY", 0.001)
    monkeypatch.setattr(refreshing, "_LEAST_BETWEEN", 0.001)
    parts.loader.read_all.side_effect = [LoadError("zfs fails"), LoadError("zfs fails"), NODE]
    parts.requests.request(REQUEST)
    parts.refresh.start(3600)
    with gevent.Timeout(WITHIN):
        while parts.refresh.failed is not None or not parts.cache:
            gevent.sleep(0.001)
    parts.refresh.stop()
    assert list(parts.cache) == ["one", "two", "three"]


def test_zone_whose_files_were_not_watched_is_read_again(parts):
    """They may have changed since they were read: what is watched from now on does not report that."""
    parts.watches.covers.side_effect = lambda zone: zone.zonename != "two"
    with mock.patch.object(parts.reloads, "mark") as mark:
        assert parts.run() is True
    mark.assert_called_once_with("two", part.OF_FILES, cause=REQUEST)


def test_comparison_that_fails_is_a_failed_refresh(parts):
    parts.watches.covers.side_effect = KeyError("a fault of ours")
    assert parts.run() is False
    assert parts.refresh.failed == "the comparison with what is served failed: see the log"
    assert not parts.queue.paused
    parts.watches.covers.side_effect = None
    assert parts.run() is True
    assert list(parts.cache) == ["one", "two", "three"]
