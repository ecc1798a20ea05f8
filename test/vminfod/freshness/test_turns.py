# SPDX-License-Identifier: MPL-2.0
"""Long work in the loop leaves others their turn, also those who are heard of by a socket alone; and what blocks, or
takes long and cannot be done in turns, is done in threads."""

import os

import gevent
import pytest

from support.madeuptime import Clock
from vminfod.freshness import turns
from vminfod.freshness.turns import TURN, Turns
from vminfod.log import start
from vminfod.serving import jsonslices
from vminfod.serving.cause import REQUEST
from vminfod.vminfo import Options, Vminfod
from vmload.records import FileRecords, Zone, ZoneRecords

pytestmark = pytest.mark.pure


@pytest.fixture
def pipe():
    """Its two ends, and what was read of it: by who waits for it in the loop."""
    out, into = os.pipe()
    heard = []
    watcher = gevent.get_hub().loop.io(out, 1)
    watcher.start(lambda: heard.append(os.read(out, 100)))
    yield into, heard
    watcher.stop()
    watcher.close()
    os.close(out)
    os.close(into)


def test_socket_that_has_something_is_looked_at_when_a_turn_is_over(pipe, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(turns, "time", clock)
    into, heard = pipe
    work = Turns()
    for number in range(10):
        os.write(into, b"%d" % number)
        clock.now += TURN / 2
        work.next()
        assert len(heard) == number, "the turn is not over"
        for _ in range(2):  # where the processor is busy the pause may be over as soon as the socket is looked at
            clock.now += TURN
            work.next()
        assert heard[number:] == [b"%d" % number]


def test_work_that_takes_no_time_costs_no_turn(monkeypatch):
    monkeypatch.setattr(turns, "time", Clock())
    others = []
    other = gevent.spawn(others.append, "ran")
    work = Turns()
    for _ in range(1000):
        work.next()
    assert others == []
    other.join()


@pytest.fixture
def daemon(tmp_path):
    """All of it, but not started."""
    return Vminfod(Options(root=str(tmp_path)), *start("vminfod", "fatal"))


def others_run_during(work):
    """Whether the loop goes on meanwhile."""
    ran = []
    other = gevent.spawn(ran.append, True)
    work()
    went_on = bool(ran)
    other.join()
    return went_on


def test_others_have_their_turn_while_a_large_vm_is_prepared(daemon):
    def put(length):
        vm = {"zonename": "z", "uuid": "z", "tags": {"a": "x" * length}}
        records = ZoneRecords(Zone(None, "z", "installed", "/zones/z", "z", "joyent", 0), FileRecords())
        assert daemon._cache.put("z", records, vm, REQUEST).event is not None

    assert not others_run_during(lambda: put(100)), "it takes less than a switch"
    assert others_run_during(lambda: put(2 * jsonslices.HEAVY))
    assert others_run_during(lambda: put(101)), "it is compared with what is large"


@pytest.mark.parametrize("kind", ["zoneadm", "kstat", "zfs", "node"])
def test_others_have_their_turn_while_a_command_runs(daemon, kind):
    assert others_run_during(lambda: getattr(daemon._threads, kind)(os.getpid))


def test_others_have_their_turn_while_a_file_is_read(daemon):
    assert others_run_during(lambda: daemon._threads.files("zones", "a file", os.getpid))
