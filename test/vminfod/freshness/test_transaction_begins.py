# SPDX-License-Identifier: MPL-2.0
"""A transaction begins when nothing of its VM is still being published, and not at all where the daemon stops."""

from unittest import mock

import gevent
import pytest
from gevent.event import Event as Flag

from support.deadlines import SOON
from support.recording_log import RecordingLog
from vminfod.freshness.freshreads import FreshReads
from vminfod.freshness.previews import Previews
from vminfod.freshness.transactions import Transactions
from vminfod.queue import Queue, Task
from vminfod.serving.cache import Cache
from vminfod.serving.holds import End, Holds, Stopping, Transaction, Writer

pytestmark = pytest.mark.pure

WITHIN = SOON  # seconds


class Parts:
    """Transactions on a real queue, with nothing to read."""

    def __init__(self):
        log = RecordingLog()
        self.queue, self.holds = Queue(log=log, workers=1, dedup=True), Holds()
        cache = mock.create_autospec(Cache, instance=True)
        self.reads = mock.create_autospec(FreshReads, instance=True)
        self.reads.read.return_value = None
        previews = mock.create_autospec(Previews, instance=True)
        self.transactions = Transactions(self.holds, cache, self.queue, self.reads, previews, log)

    def opening(self, one):
        greenlet = gevent.spawn(self.transactions.open, one, WITHIN)
        gevent.sleep(0)
        return greenlet


def wanted():
    return Transaction("z", "z", Writer("update", None, 7, 0), 60)


def test_what_is_being_applied_is_published_first():
    parts, one = Parts(), wanted()
    began, goes_on = Flag(), Flag()

    def apply(_extras):
        began.set()
        goes_on.wait(WITHIN)

    parts.queue.enqueue(Task("refresh z", apply))
    assert began.wait(WITHIN)
    opening = parts.opening(one)
    gevent.sleep(0)
    assert not opening.ready() and parts.holds.holder("z") is one, "what comes next is kept back already"
    goes_on.set()
    assert opening.get(timeout=WITHIN) is True
    one.finish(End.COMMITTED)
    assert one.over.wait(WITHIN)
    [call] = parts.reads.read.mock_calls
    assert call.args[0] == "z" and call.args[2].details["transaction"] == one.id


def test_fault_of_ours_at_the_end_lets_the_vm_go():
    parts, one = Parts(), wanted()
    parts.reads.read.side_effect = RuntimeError("it fails")
    assert parts.opening(one).get(timeout=WITHIN) is True
    one.finish(End.COMMITTED)
    assert one.over.wait(WITHIN)
    assert "it fails" in one.why_not and parts.holds.holder("z") is None


def test_daemon_that_stops_opens_none_and_answers_who_commits():
    parts, one, waiting, late = Parts(), wanted(), wanted(), wanted()
    going_on = Flag()
    parts.reads.read.side_effect = lambda *_: going_on.wait(WITHIN)
    assert parts.opening(one).get(timeout=WITHIN) is True
    queued = parts.opening(waiting)
    one.finish(End.COMMITTED)
    parts.transactions.stop()
    assert one.over.wait(WITHIN) and one.why_not == "the daemon stops"
    for greenlet in (queued, parts.opening(late)):
        greenlet.join(WITHIN)
        assert isinstance(greenlet.exception, Stopping)
    assert parts.holds.holder("z") is None
