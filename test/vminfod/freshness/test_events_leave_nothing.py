# SPDX-License-Identifier: MPL-2.0
"""Of an event that was handled nothing is kept, whatever its source: the lines are those of the platform, from there to
the rules all is real."""

import gc
import json
import tracemalloc

import pytest
from gevent.queue import SimpleQueue

from support.deadlines import SOON
from support.recording_log import RecordingLog
from support.said import said
from vminfod.freshness.datasetevents import DatasetEvents
from vminfod.freshness.sources import Sources
from vminfod.queue import Queue
from vminfod.serving.cause import Cause
from vminfod.watchers.fswatcher import FileEvent

pytestmark = pytest.mark.pure

FEW, MANY = 100, 1000  # events
GROWTH_MOST = 100_000  # bytes; what each event says is more than 500


class Rules:
    """Have nothing to do, and are told of everything."""

    def __init__(self):
        self.heard = 0

    def is_foreign(self, dataset):
        return False

    def passes_over(self, event, cause):
        return False

    def zone_event(self, event, cause):
        self.heard += 1

    def dataset_event(self, event, cause):
        self.heard += 1

    def file_event(self, path, *, is_gone, is_replaced, cause):
        self.heard += 1


class Told:
    """The sources of a daemon, to which a test says what the platform says."""

    def __init__(self):
        self.log, self.rules, self.files = RecordingLog(), Rules(), SimpleQueue()
        self.queue = Queue(log=self.log, workers=1, dedup=True)
        self.sources = Sources("sysevent", None, self.files, self.queue, self.rules, self, self.log)

    def missed(self, reason):
        raise AssertionError(f"a line made no sense: {reason}")

    def zone(self, number):
        data = {"zonename": f"zone{number}", "newstate": f"{number}-" + "x" * 500, "oldstate": "", "zoneid": "7"}
        self._say(self.sources._zones, "status", "change", {**data, "when": str(number)})

    def zfs(self, number):
        data = {"pool_name": "zones", "history_dsname": f"zones/{number}", "history_internal_name": "set"}
        data |= {"history_internal_str": f"quota={number}" + "0" * 500, "history_time": 1_700_000_000}
        self._say(self.sources._pools, "EC_zfs", "ESC_ZFS_history_event", data)

    def file(self, number):
        self.sources._file_event(FileEvent(f"/zones/{number}/" + "x" * 500, "change", ("FILE_MODIFIED",), number))

    def _say(self, child, kind, subclass, data):
        record = {
            "type": "event",
            "date": "2026-03-01T10:00:00.000Z",
            "class": kind,
            "subclass": subclass,
            "data": data,
        }
        line = json.dumps(record).encode()
        child._deliver(line, said(line), 0)


@pytest.mark.parametrize("source", ["zone", "zfs", "file"])
def test_event_that_was_handled_leaves_nothing_behind(source):
    told = Told()
    say = getattr(told, source)
    held = []

    def run(numbers):
        for number in numbers:
            say(number)
            if number % 100 == 0:
                assert told.queue.wait_idle(SOON)
                told.log.records.clear()
        assert told.queue.wait_idle(SOON)
        told.log.records.clear()
        gc.collect()
        held.append(tracemalloc.get_traced_memory()[0])

    tracemalloc.start()
    try:
        run(range(1, FEW + 1))
        run(range(FEW + 1, MANY + 1))
    finally:
        tracemalloc.stop()
    assert told.rules.heard == MANY
    assert held[1] - held[0] < GROWTH_MOST


def test_events_that_were_remembered_for_readings_go_with_them():
    memory, held = DatasetEvents(), []
    tracemalloc.start()
    try:
        for number in range(MANY):
            with memory.reading() as started:
                dataset = f"zones/{number}/" + "x" * 200
                memory.add(dataset, Cause("zfs", {"dataset": dataset, "action": "set"}, number))
                assert len(memory.since(started, {dataset})) == 1
            if number == FEW:
                gc.collect()
                held.append(tracemalloc.get_traced_memory()[0])
        gc.collect()
        held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert held[1] - held[0] < GROWTH_MOST
