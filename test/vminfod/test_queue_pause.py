# SPDX-License-Identifier: MPL-2.0
"""The queue paused, run forward, resumed, dumped."""

import json

import gevent
import pytest
from gevent.event import Event

from support.deadlines import SOON
from support.recording_log import RecordingLog
from vminfod.queue import FastForwardTimeout, PauseTimeout, Queue, QueueError, Task

pytestmark = pytest.mark.pure

LIMIT = SOON
SECOND = 1_000_000_000


class Clock:
    """Moves only when told to, in seconds."""

    def __init__(self, now=0.0):
        self.now = now

    def __call__(self):
        return int(self.now * SECOND)


class House:
    """A queue with a clock, and the names of the tasks that started."""

    def __init__(self, **options):
        self.clock = Clock()
        self.log = RecordingLog()
        self.idles = []
        self.seen = []
        self.queue = Queue(
            log=self.log,
            clock=self.clock,
            on_idle=lambda: self.idles.append(list(self.seen)),
            **{"workers": 1, "dedup": True, **options},
        )

    def add(self, name, at=None, gate=None):
        if at is not None:
            self.clock.now = at

        def func(_extras):
            self.seen.append(name)
            if gate is not None:
                assert gate.wait(LIMIT)

        return self.queue.enqueue(Task(name, func))

    def wait_for(self, names):
        with gevent.Timeout(LIMIT):
            while self.seen != names:
                gevent.sleep(0.001)


@pytest.fixture
def house():
    made = []

    def make(**options):
        made.append(House(**options))
        return made[-1]

    yield make
    for one in made:
        one.queue.stop()


def test_pause_of_a_queue_without_work_returns_at_once_and_ends_idleness(house):
    h = house()
    h.queue.pause(timeout=0)
    assert h.queue.paused
    assert not h.queue.idle


def test_pause_returns_when_running_and_waiting_tasks_are_done_and_keeps_back_new_ones(house):
    h, gate = house(), Event()
    h.add("runs", gate=gate)
    h.add("waits")
    h.wait_for(["runs"])
    pausing = gevent.spawn(h.queue.pause, LIMIT)
    gevent.idle()
    assert h.queue.paused
    assert not pausing.ready()
    h.add("new")
    gate.set()
    pausing.get(timeout=LIMIT)
    gevent.idle()
    assert h.seen == ["runs", "waits"]
    assert h.idles == []


def test_twin_of_a_task_that_still_waits_to_run_is_dropped_while_pausing(house):
    h, gate = house(), Event()
    h.add("runs", gate=gate)
    h.add("waits")
    h.wait_for(["runs"])
    pausing = gevent.spawn(h.queue.pause, LIMIT)
    gevent.idle()
    assert h.add("waits") is False
    assert h.add("runs") is True
    gate.set()
    pausing.get(timeout=LIMIT)


@pytest.mark.parametrize(
    ("paused", "call"),
    [
        (True, lambda queue: queue.pause()),
        (False, lambda queue: queue.resume()),
        (False, lambda queue: queue.fast_forward(0)),
    ],
)
def test_call_that_does_not_fit_the_state_is_an_error_and_changes_nothing(house, paused, call):
    h = house(paused=paused)
    with pytest.raises(QueueError):
        call(h.queue)
    assert h.queue.paused is paused


def test_pause_that_times_out_leaves_the_queue_running_and_raises(house):
    h, gate = house(), Event()
    h.add("slow", gate=gate)
    h.wait_for(["slow"])
    with pytest.raises(PauseTimeout, match="^pause timeout exceeded$"):
        h.queue.pause(timeout=0.02)
    assert not h.queue.paused
    assert h.idles == []
    assert not h.queue.idle
    assert len(h.log.at(60)) == 1
    h.add("next")
    gate.set()
    assert h.queue.wait_idle(LIMIT)
    assert h.seen == ["slow", "next"]
    assert h.idles == [["slow", "next"]]


def test_task_kept_back_during_a_pause_that_times_out_runs(house):
    h, gate = house(), Event()
    h.add("slow", gate=gate)
    h.wait_for(["slow"])
    gevent.spawn_later(0.01, h.add, "meanwhile")
    with pytest.raises(PauseTimeout):
        h.queue.pause(timeout=0.05)
    gate.set()
    assert h.queue.wait_idle(LIMIT)
    assert h.seen == ["slow", "meanwhile"]


def test_pause_that_somebody_else_undoes_is_an_error_and_not_resumed_again(house):
    h, gate = house(), Event()
    h.add("slow", gate=gate)
    h.wait_for(["slow"])
    pausing = gevent.spawn(h.queue.pause, 0.05)
    gevent.idle()
    h.queue.resume()
    pausing_again = gevent.spawn(h.queue.pause, LIMIT)
    with pytest.raises(QueueError, match="the queue was resumed while it was being paused"):
        pausing.get(timeout=LIMIT)
    assert h.queue.paused, "by who came since"
    gate.set()
    pausing_again.get(timeout=LIMIT)
    assert h.queue.paused


def test_resume_without_tasks_is_idle_at_once_despite_the_delay(house):
    h = house(paused=True, idle_time=3600)
    h.queue.resume()
    assert h.queue.idle
    assert h.idles == [[]]


def test_resume_with_tasks_is_idle_only_when_they_are_done(house):
    h = house(paused=True)
    h.add("a")
    h.queue.resume()
    assert not h.queue.idle
    assert h.queue.wait_idle(LIMIT)
    assert h.idles == [["a"]]


def test_resume_while_a_task_runs_is_not_idle(house):
    h, gate = house(), Event()
    h.add("slow", gate=gate)
    h.wait_for(["slow"])
    pausing = gevent.spawn(h.queue.pause, LIMIT)
    gevent.idle()
    h.queue.resume()
    assert not h.queue.idle
    gate.set()
    assert h.queue.wait_idle(LIMIT)
    with pytest.raises(QueueError):
        pausing.get(timeout=LIMIT)


def test_last_task_that_ends_while_paused_does_not_make_idle(house):
    h = house(paused=True)
    h.add("a", at=1)
    h.queue.fast_forward(1 * SECOND, timeout=LIMIT)
    gevent.idle()
    assert h.seen == ["a"]
    assert not h.queue.idle
    assert h.idles == []


def test_pause_during_the_idle_delay_ends_it(house):
    h = house(idle_time=0.02)
    h.add("a")
    h.wait_for(["a"])
    h.queue.pause(timeout=LIMIT)
    gevent.sleep(0.05)  # longer than the delay: this is the case, not a wait for something
    assert h.idles == []


def test_fast_forward_runs_what_is_old_enough_and_keeps_the_rest(house):
    h = house(paused=True)
    for at, name in ((1, "a"), (2, "b"), (5, "c")):
        h.add(name, at=at)
    h.queue.fast_forward(2 * SECOND, timeout=LIMIT)
    assert h.seen == ["a", "b"]
    assert h.queue.paused
    h.queue.resume()
    assert h.queue.wait_idle(LIMIT)
    assert h.seen == ["a", "b", "c"]


def test_fast_forward_with_nothing_old_enough_returns_at_once(house):
    h = house(paused=True)
    h.add("a", at=3)
    h.queue.fast_forward(2 * SECOND, timeout=0)
    gevent.idle()
    assert h.seen == []


def test_task_that_a_fast_forwarded_task_enqueues_is_kept_back(house):
    h = house(paused=True)

    def first(_extras):
        h.seen.append("first")
        h.add("second")

    h.queue.enqueue(Task("first", first))
    h.queue.fast_forward(9 * SECOND, timeout=LIMIT)
    gevent.idle()
    assert h.seen == ["first"]
    h.queue.resume()
    assert h.queue.wait_idle(LIMIT)
    assert h.seen == ["first", "second"]


def test_fast_forward_that_times_out_leaves_the_tasks_running_and_the_queue_paused(house):
    h, gate = house(paused=True), Event()
    h.add("slow", gate=gate)
    h.add("next")
    with pytest.raises(FastForwardTimeout, match="^fast-forward timeout exceeded$"):
        h.queue.fast_forward(0, timeout=0.02)
    assert h.queue.paused
    gate.set()
    h.wait_for(["slow", "next"])


def test_too_many_tasks_kept_back_are_dropped_and_reported_once(house):
    h = house(paused=True, paused_most=2)
    assert [h.add(name) for name in ("a", "b", "c", "d")] == [True, True, False, False]
    assert h.queue.overflowed
    assert len(h.log.at(40)) == 1
    assert h.queue.take_overflow() is True
    assert h.queue.take_overflow() is False
    h.queue.resume()
    assert h.queue.wait_idle(LIMIT)
    assert h.seen == ["a", "b"]
    assert h.add("c") is True


def test_dump_shows_running_waiting_and_kept_back_tasks_with_their_times(house):
    h, gate = house(), Event()
    h.add("t1", at=49, gate=gate)
    h.clock.now = 49.5
    h.wait_for(["t1"])
    h.add("t2", at=49.25)
    h.clock.now = 49.75
    pausing = gevent.spawn(h.queue.pause, LIMIT)
    gevent.idle()
    h.add("t3", at=49.875)
    h.clock.now = 50
    dump = h.queue.dump()
    [running_id] = dump["vasync_queue"]["pending"]
    [kept_back] = dump["paused_queue"]
    assert kept_back["id"] != running_id
    assert dump == {
        "now": "50.000000000",
        "paused": True,
        "idle": False,
        "vasync_queue": {
            "concurrency": 1,
            "npending": 1,
            "nqueued": 1,
            "pending": {
                running_id: {
                    "description": "t1",
                    "created_at": "49.000000000",
                    "started_at": "49.500000000",
                    "created_ago": "1.000000000s (1s)",
                    "started_ago": "0.500000000s (500ms)",
                    "start_latency": "0.500000000s (500ms)",
                }
            },
            "queued": [{"description": "t2", "created_at": "49.250000000", "created_ago": "0.750000000s (750ms)"}],
        },
        "paused_at": "49.750000000",
        "paused_ago": "0.250000000s (250ms)",
        "paused_nqueued": 1,
        "paused_queue": [
            {
                "id": kept_back["id"],
                "description": "t3",
                "created_at": "49.875000000",
                "created_ago": "0.125000000s (125ms)",
            }
        ],
    }
    assert list(dump) == [
        "now",
        "paused",
        "idle",
        "vasync_queue",
        "paused_at",
        "paused_ago",
        "paused_nqueued",
        "paused_queue",
    ]
    gate.set()
    pausing.get(timeout=LIMIT)


def test_dump_of_a_running_queue_has_no_paused_members(house):
    h = house()
    assert h.queue.dump() == {
        "now": "0.000000000",
        "paused": False,
        "idle": True,
        "vasync_queue": {"concurrency": 1, "npending": 0, "nqueued": 0, "pending": {}, "queued": []},
    }


def test_dump_works_at_each_moment_of_a_task(house):
    h = house()
    dumps = []

    def func(_extras):
        dumps.append(h.queue.dump())

    h.queue.enqueue(Task("t", func), lambda: dumps.append(h.queue.dump()))
    dumps.append(h.queue.dump())
    gevent.sleep(0)  # the worker has taken the task, which has not begun
    dumps.append(h.queue.dump())
    assert h.queue.wait_idle(LIMIT)
    dumps.append(h.queue.dump())
    counts = [(d["vasync_queue"]["npending"], d["vasync_queue"]["nqueued"]) for d in dumps]
    assert counts[0] == (0, 1)
    assert counts[-1] == (0, 0)
    assert (1, 0) in counts
    json.dumps(dumps)
