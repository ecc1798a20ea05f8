# SPDX-License-Identifier: MPL-2.0
"""The queue while it runs: order, twins, failures, time limits, idleness."""

import gevent
import pytest
from gevent.event import Event

from support.deadlines import SOON
from support.recording_log import RecordingLog
from vminfod.queue import Queue, Task, TaskTimeout

pytestmark = pytest.mark.pure

LIMIT = SOON


class Steps:
    """Tasks that note their start and end in `seen`, and wait at a gate if one is given."""

    def __init__(self):
        self.seen = []

    def task(self, name, gate=None, timeout=None):
        def func(_extras):
            self.seen.append(name)
            if gate is not None:
                assert gate.wait(LIMIT)
                self.seen.append(name + " done")

        return Task(name, func, timeout)


@pytest.fixture
def steps():
    return Steps()


@pytest.fixture
def log():
    return RecordingLog()


@pytest.fixture
def make(log):
    made = []

    def make_queue(**options):
        queue = Queue(log=log, **{"workers": 1, "dedup": True, **options})
        made.append(queue)
        return queue

    yield make_queue
    for queue in made:
        queue.stop()


def wait_until(condition):
    with gevent.Timeout(LIMIT):
        while not condition():
            gevent.sleep(0.001)


def test_tasks_run_in_the_order_in_which_they_came(make, steps):
    queue = make()
    for name in ("a", "b", "c"):
        assert queue.enqueue(steps.task(name)) is True
    assert queue.wait_idle(LIMIT)
    assert steps.seen == ["a", "b", "c"]


def test_task_never_starts_inside_enqueue(make, steps):
    queue = make()
    queue.enqueue(steps.task("a"))
    assert steps.seen == []
    assert queue.wait_idle(LIMIT)
    assert steps.seen == ["a"]


def test_one_worker_runs_one_task_at_a_time(make, steps):
    queue, gate = make(), Event()
    queue.enqueue(steps.task("a", gate))
    queue.enqueue(steps.task("b", gate))
    wait_until(lambda: steps.seen)
    gevent.idle()
    assert steps.seen == ["a"]
    gate.set()
    assert queue.wait_idle(LIMIT)
    assert steps.seen == ["a", "a done", "b", "b done"]


def test_two_workers_run_two_tasks_at_once_and_no_third(make, steps):
    queue, gate = make(workers=2), Event()
    for name in ("a", "b", "c"):
        queue.enqueue(steps.task(name, gate))
    wait_until(lambda: len(steps.seen) == 2)
    gevent.idle()
    assert steps.seen == ["a", "b"]
    gate.set()
    assert queue.wait_idle(LIMIT)
    assert sorted(steps.seen) == ["a", "a done", "b", "b done", "c", "c done"]


def test_twin_of_a_waiting_task_is_dropped(make, steps):
    queue, gate = make(), Event()
    queue.enqueue(steps.task("x", gate))
    wait_until(lambda: steps.seen == ["x"])
    assert queue.enqueue(steps.task("y")) is True
    assert queue.enqueue(steps.task("y")) is False
    gate.set()
    assert queue.wait_idle(LIMIT)
    assert steps.seen == ["x", "x done", "y"]


def test_event_that_arrives_while_its_twin_runs_is_kept_once(make, steps):
    queue, gate = make(), Event()
    queue.enqueue(steps.task("x", gate))
    wait_until(lambda: steps.seen == ["x"])
    assert [queue.enqueue(steps.task(name)) for name in ("y", "x", "y", "x")] == [True, True, False, False]
    gate.set()
    assert queue.wait_idle(LIMIT)
    assert steps.seen == ["x", "x done", "y", "x"]


def test_twins_are_dropped_while_paused(make, steps):
    queue = make(paused=True)
    assert [queue.enqueue(steps.task(name)) for name in ("x", "x", "y")] == [True, False, True]
    queue.resume()
    assert queue.wait_idle(LIMIT)
    assert steps.seen == ["x", "y"]


def test_dropped_task_does_not_block_its_description_for_ever(make, steps):
    queue = make()
    for _ in range(3):
        assert queue.enqueue(steps.task("x")) is True
        assert queue.enqueue(steps.task("x")) is False
        assert queue.wait_idle(LIMIT)
    assert steps.seen == ["x", "x", "x"]


def test_without_dedup_twins_are_kept(make, steps):
    queue = make(dedup=False)
    assert [queue.enqueue(steps.task("x")) for _ in range(2)] == [True, True]
    assert queue.wait_idle(LIMIT)
    assert steps.seen == ["x", "x"]


@pytest.mark.parametrize(
    "bad",
    [
        None,
        "text",
        Task(7, print),
        Task("x", "no function"),
        Task("x", print, "60"),
        Task("x", print, True),
    ],
)
def test_task_of_the_wrong_shape_is_an_error_at_the_call(make, bad):
    with pytest.raises(TypeError):
        make().enqueue(bad)


def test_callback_that_cannot_be_called_is_an_error_at_the_call(make, steps):
    with pytest.raises(TypeError):
        make().enqueue(steps.task("x"), "callback")


@pytest.mark.parametrize("options", [{"idle_time": -1}, {"workers": 0}])
def test_queue_with_impossible_options_is_refused(make, options):
    with pytest.raises(ValueError, match="idle_time|worker"):
        make(**options)


def test_task_gets_a_log_that_names_it(make, log):
    queue = make()
    queue.enqueue(Task("look at z1", lambda extras: extras.log.info("looking")))
    assert queue.wait_idle(LIMIT)
    [record] = [record for record in log.records if record.msg == "looking"]
    assert record.fields["task"]["description"] == "look at z1"


def test_callback_comes_after_the_task_and_gets_no_argument(make, steps):
    queue = make()
    queue.enqueue(steps.task("a"), lambda *args: steps.seen.append(("callback", args)))
    assert queue.wait_idle(LIMIT)
    assert steps.seen == ["a", ("callback", ())]


def test_callback_that_fails_costs_nothing_but_a_log_line(make, steps, log):
    queue = make()
    queue.enqueue(steps.task("a"), lambda: 1 / 0)
    queue.enqueue(steps.task("b"))
    assert queue.wait_idle(LIMIT)
    assert steps.seen == ["a", "b"]
    assert [record.msg for record in log.at(50)] == ["the queue's callback failed"]


def test_task_that_raises_at_once_counts_as_failed_and_the_next_one_runs(make, steps, log):
    errors, ended = [], []
    queue = make(on_error=errors.append)
    queue.enqueue(Task("bad", lambda _extras: {}["missing"]), lambda: ended.append("bad"))
    queue.enqueue(steps.task("good"))
    assert queue.wait_idle(LIMIT)
    assert steps.seen == ["good"]
    assert ended == ["bad"]
    assert [type(error) for error in errors] == [KeyError]
    [record] = log.at(50)
    assert record.fields["task"]["description"] == "bad"


def test_task_past_its_limit_is_killed_and_frees_the_worker(make, steps, log):
    errors, cleaned = [], []

    def endless(_extras):
        try:
            Event().wait()
        finally:
            cleaned.append(True)

    queue = make(on_error=errors.append)
    queue.enqueue(Task("endless", endless, 0.02), lambda: steps.seen.append("endless ended"))
    queue.enqueue(steps.task("next"))
    assert queue.wait_idle(LIMIT)
    assert steps.seen == ["endless ended", "next"]
    assert cleaned == [True]
    assert [(type(error), str(error)) for error in errors] == [(TaskTimeout, "timeout exceeded")]
    [record] = log.at(60)
    assert record.fields["task"]["description"] == "endless"


def test_task_that_refuses_to_die_frees_the_worker_too(make, steps, monkeypatch):
    monkeypatch.setattr("vminfod.queue.KILL_GRACE", 0.02)
    release = Event()

    def stubborn(_extras):
        while not release.is_set():
            try:
                release.wait()
            except gevent.GreenletExit:
                steps.seen.append("would not die")

    queue = make()
    queue.enqueue(Task("stubborn", stubborn, 0.02))
    queue.enqueue(steps.task("next"))
    assert queue.wait_idle(LIMIT)
    assert steps.seen == ["would not die", "next"]
    release.set()


def test_time_that_a_task_waits_in_line_does_not_count_against_its_limit(make, steps):
    errors, gate = [], Event()
    queue = make(on_error=errors.append)
    queue.enqueue(steps.task("slow", gate))
    queue.enqueue(steps.task("quick", timeout=0.05))
    gevent.sleep(0.1)  # longer than the second one's limit: this is the case, not a wait for something
    gate.set()
    assert queue.wait_idle(LIMIT)
    assert steps.seen == ["slow", "slow done", "quick"]
    assert errors == []


def test_task_may_enqueue_more_also_its_own_twin(make, steps):
    queue = make()

    def again(_extras):
        steps.seen.append("again")
        if len(steps.seen) < 3:
            queue.enqueue(Task("again", again))

    queue.enqueue(Task("again", again))
    wait_until(lambda: len(steps.seen) == 3)
    assert queue.wait_idle(LIMIT)


def test_new_queue_is_idle_without_an_event(make):
    happened = []
    assert make(on_idle=lambda: happened.append(1)).idle
    assert not make(paused=True, on_idle=lambda: happened.append(1)).idle
    gevent.idle()
    assert happened == []


def test_queue_is_idle_once_when_all_work_is_done(make, steps):
    happened = []
    queue = make(on_idle=lambda: happened.append(list(steps.seen)))
    queue.enqueue(steps.task("a"))
    queue.enqueue(steps.task("b"))
    assert not queue.idle
    assert queue.wait_idle(LIMIT)
    assert happened == [["a", "b"]]


def test_idle_delay_is_whole_after_every_task(make, steps):
    delay, ended_at, idle_at, now = 0.05, [], [], gevent.get_hub().loop.now  # what the delay is counted by
    queue = make(idle_time=delay, on_idle=lambda: idle_at.append(now()))
    for name in ("a", "b"):
        queue.enqueue(steps.task(name), lambda: ended_at.append(now()))
        assert queue.wait_idle(LIMIT)
    assert [idle - end > delay - 0.001 for idle, end in zip(idle_at, ended_at)] == [True, True]


def test_task_that_comes_during_the_idle_delay_starts_it_anew(make, steps):
    happened = []
    queue = make(idle_time=1.0, on_idle=lambda: happened.append(list(steps.seen)))  # long, for a busy machine
    queue.enqueue(steps.task("a"))
    wait_until(lambda: steps.seen == ["a"])
    gevent.idle()
    assert not queue.idle
    queue.enqueue(steps.task("b"))
    assert queue.wait_idle(LIMIT)
    assert happened == [["a", "b"]]


def test_idle_listener_may_enqueue(make, steps):
    queue = make()

    def more():
        if steps.seen == ["a"]:
            queue.enqueue(steps.task("b"))

    queue._on_idle = more
    queue.enqueue(steps.task("a"))
    wait_until(lambda: steps.seen == ["a", "b"])
    assert queue.wait_idle(LIMIT)


def test_stopped_queue_kills_what_runs_and_takes_nothing_more(make, steps):
    queue, killed = make(), []

    def endless(_extras):
        steps.seen.append("endless")
        try:
            Event().wait()
        finally:
            killed.append(True)

    queue.enqueue(Task("endless", endless))
    queue.enqueue(steps.task("waiting"))
    wait_until(lambda: steps.seen == ["endless"])
    queue.stop()
    assert killed == [True]
    assert queue.enqueue(steps.task("late")) is False
    gevent.idle()
    assert steps.seen == ["endless"]


def test_thousands_of_waiting_tasks_run_in_order(make, steps):
    queue = make(paused=True)
    names = [f"task {number}" for number in range(5000)]
    for name in names + names:
        queue.enqueue(steps.task(name))
    queue.resume()
    assert queue.wait_idle(LIMIT)
    assert steps.seen == names
