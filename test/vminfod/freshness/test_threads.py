# SPDX-License-Identifier: MPL-2.0
"""Reads of files share the trips of a thread; those that hang cost who waits for them a while, and nobody else."""

import threading
import time
from functools import partial

import gevent
import pytest

from support.deadlines import SOON
from support.running_daemon import eventually
from vminfod.freshness import trips
from vminfod.freshness.threads import Threads
from vmload import filereads
from vmload.filereads import FileReads
from vmload.loaderror import LoadError


@pytest.fixture
def heal():
    flag = threading.Event()
    yield flag
    flag.set()


def test_read_that_hangs_is_an_error_after_its_time_and_not_begun_again_beside_itself(heal):
    runs = Threads(FileReads(1.0))  # what is well needs less, also where all are busy
    with pytest.raises(LoadError, match="the files of U could not be read within 1 s") as caught:
        runs.files("sick", "the files of U", lambda: heal.wait(SOON))
    assert caught.value.code == "ETIMEDOUT"
    with pytest.raises(LoadError, match="the files of U hangs since it was read before") as caught:
        runs.files("sick", "the files of U", lambda: 1)
    assert caught.value.code == "EBUSY"
    assert runs.files("sick", "the files of V", lambda: 2) == 2


def test_pool_on_which_all_threads_hang_keeps_no_other_waiting(heal, monkeypatch):
    monkeypatch.setattr(filereads, "MOST", 2)
    runs = Threads(FileReads(1.0))
    for number in range(2):
        with pytest.raises(LoadError):
            runs.files("sick", f"file {number}", lambda: heal.wait(SOON))
    assert runs.files("well", "another", lambda: "read") == "read"


def test_read_is_begun_again_when_the_one_that_hung_has_ended():
    runs, flag, ended = Threads(FileReads(0.05)), threading.Event(), threading.Event()

    def hang():
        flag.wait(SOON)
        ended.set()

    with pytest.raises(LoadError):
        runs.files("sick", "x", hang)
    flag.set()
    ended.wait(SOON)
    until_read(runs)


def until_read(runs):
    until = time.monotonic() + SOON
    while True:
        try:
            assert runs.files("sick", "x", lambda: 1) == 1
            return
        except LoadError:
            assert time.monotonic() < until, "it is never read again"
            gevent.sleep(0.01)


def test_what_hangs_for_a_greenlet_is_not_begun_for_a_thread_either(heal):
    reads = FileReads(1.0)  # what is well needs less, also where all are busy
    with pytest.raises(LoadError):
        Threads(reads).files("sick", "x", lambda: heal.wait(SOON))
    with pytest.raises(LoadError, match="x hangs since it was read before"):
        reads.run("sick", "x", lambda: 1)
    assert reads.run("well", "y", lambda: 1) == Threads(reads).files("well", "z", lambda: 1) == 1


def test_reads_run_one_after_the_other_whatever_pool_they_are_of(monkeypatch):
    monkeypatch.setattr(trips, "TURN", SOON)
    runs, order, one_at_a_time = Threads(FileReads(SOON)), [], threading.Lock()

    def read(number):
        assert one_at_a_time.acquire(blocking=False)
        order.append(number)
        one_at_a_time.release()
        return number

    pools = ["zones", "etc"]
    reading = [gevent.spawn(runs.files, pools[at % 2], f"file {at}", partial(read, at)) for at in range(30)]
    assert [one.get(timeout=SOON) for one in reading] == list(range(30))
    assert [at for at in order if at % 2] == list(range(1, 30, 2))
    assert [at for at in order if not at % 2] == list(range(0, 30, 2))


def test_pool_of_which_many_reads_wait_leaves_those_of_others_their_turn(monkeypatch):
    monkeypatch.setattr(trips, "TURN", SOON)
    runs, order = Threads(FileReads(SOON)), []
    many = [gevent.spawn(runs.files, "zones", f"file {at}", partial(order.append, "zones")) for at in range(100)]
    one = gevent.spawn(runs.files, "etc", "another", partial(order.append, "etc"))
    gevent.joinall([*many, one], timeout=SOON, raise_error=True)
    assert order.index("etc") < 20


def test_what_has_been_read_beside_what_hangs_is_told_while_that_hangs(heal):
    runs = Threads(FileReads(SOON))
    before = gevent.spawn(runs.files, "sick", "before", lambda: "read")
    hanging = gevent.spawn(runs.files, "sick", "between", lambda: heal.wait(SOON))
    after = gevent.spawn(runs.files, "sick", "after", lambda: "read")
    assert (before.get(timeout=SOON), after.get(timeout=SOON)) == ("read", "read")
    assert not heal.is_set()
    heal.set()
    assert hanging.get(timeout=SOON)


def test_reads_that_hang_keep_the_next_of_their_pool_waiting_for_moments_only(heal):
    runs = Threads(FileReads(SOON))
    for number in range(20):
        gevent.spawn(runs.files, "sick", f"file {number}", lambda: heal.wait(SOON))
    gevent.sleep(0)
    assert runs.files("sick", "another", lambda: "read") == "read"
    assert not heal.is_set()


def test_many_reads_at_once_wait_for_their_turn_and_none_fails():
    runs = Threads(FileReads(SOON))
    numbers = range(3 * filereads.MOST)
    reading = [gevent.spawn(runs.files, "zones", f"file {number}", partial(int, number)) for number in numbers]
    assert [one.get(timeout=SOON) for one in reading] == list(numbers)


def test_reads_that_wait_while_all_threads_of_their_pool_hang_begin_when_one_is_free(heal, monkeypatch):
    monkeypatch.setattr(filereads, "MOST", 2)
    runs, both_hang = Threads(FileReads(SOON)), threading.Barrier(3)

    def hang():
        both_hang.wait(SOON)
        heal.wait(SOON)

    hanging = [gevent.spawn(runs.files, "sick", f"file {number}", hang) for number in range(2)]
    waiting = gevent.spawn(runs.files, "sick", "another", lambda: "read")
    gevent.sleep(0)
    runs.computing(lambda: both_hang.wait(SOON))
    with pytest.raises(LoadError, match="2 reads on sick hang: one more is not read"):
        runs.files("sick", "one more", lambda: "read")
    assert not waiting.ready()
    heal.set()
    assert waiting.get(timeout=SOON) == "read"
    gevent.joinall(hanging, timeout=SOON, raise_error=True)


def test_reads_of_all_pools_wait_while_the_system_has_no_thread_for_them(monkeypatch):
    refused, start = [], threading.Thread.start

    def start_later(thread):
        if len(refused) < 3:
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_later)
    runs, read = Threads(FileReads(SOON)), []
    reading = [gevent.spawn(runs.files, f"pool {at}", f"file {at}", partial(read.append, at)) for at in range(3)]
    gevent.joinall(reading, timeout=SOON, raise_error=True)
    assert (len(refused), read) == (3, [0, 1, 2])


def test_threads_of_reads_that_hung_end_with_them(heal):
    before = set(threading.enumerate())
    runs = Threads(FileReads(SOON))
    hanging = [gevent.spawn(runs.files, "sick", f"file {at}", partial(heal.wait, SOON)) for at in range(10)]
    assert runs.files("well", "file", lambda: "read") == "read"
    heal.set()
    gevent.joinall(hanging, timeout=SOON, raise_error=True)
    eventually("one is left for the next", lambda: len(set(threading.enumerate()) - before) <= 1)


def test_read_of_a_well_pool_has_its_turn_among_those_of_a_sick_one(heal):
    runs, began = Threads(FileReads(SOON)), []

    def hang():
        began.append("sick")
        heal.wait(SOON)

    hanging = [gevent.spawn(runs.files, "sick", f"file {at}", hang) for at in range(100)]
    gevent.spawn(runs.files, "well", "file", partial(began.append, "well")).get(timeout=SOON)
    before = began.index("well")
    heal.set()
    gevent.joinall(hanging, timeout=SOON, raise_error=True)
    assert before < 10


@pytest.mark.parametrize("takes", [0.5, 1.5])  # of the time that a trip may take
def test_read_of_a_well_pool_has_its_turn_while_those_of_a_slow_one_keep_coming(takes):
    runs, began, ends = Threads(FileReads(SOON)), [], threading.Event()

    def slow():
        began.append("slow")
        time.sleep(takes * trips.TURN)  # how long it takes is the case

    def zone(at):
        for again in range(40):
            if not ends.is_set():
                runs.files("slow", f"file {at} {again}", slow)

    zones = [gevent.spawn(zone, at) for at in range(50)]
    gevent.sleep(0)
    gevent.spawn(runs.files, "well", "file", partial(began.append, "well")).get(timeout=SOON)
    before = began.index("well")
    ends.set()
    gevent.joinall(zones, timeout=SOON, raise_error=True)
    assert before < 10


def test_stop_ends_the_greenlet_that_waits(heal):
    reads = FileReads(SOON)
    waiting = gevent.spawn(Threads(reads).files, "sick", "x", lambda: heal.wait(SOON))
    gevent.sleep(0)
    reads.stop()
    with pytest.raises(LoadError, match="the daemon stops"):
        waiting.get(timeout=SOON)


def test_what_a_read_raises_is_raised_to_who_waits():
    with pytest.raises(KeyError):
        Threads(FileReads(SOON)).files("zones", "x", lambda: {}["nothing"])


def test_one_that_hangs_after_another_was_healed_keeps_nobody_waiting_either(monkeypatch):
    monkeypatch.setattr(filereads, "MOST", 2)
    runs, heals = Threads(FileReads(SOON)), [threading.Event() for _ in range(3)]
    hanging = [gevent.spawn(runs.files, "sick", f"file {at}", partial(heals[at].wait, SOON)) for at in range(3)]
    waiting = gevent.spawn(runs.files, "sick", "another", lambda: "read")
    gevent.sleep(0)
    heals[0].set()
    hanging[0].get(timeout=SOON)
    assert not waiting.ready()
    heals[1].set()
    assert waiting.get(timeout=SOON) == "read"
    heals[2].set()
    gevent.joinall(hanging, timeout=SOON, raise_error=True)
