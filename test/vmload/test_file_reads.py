# SPDX-License-Identifier: MPL-2.0
"""Reads of files that hang: they cost their zone, after a time, and nobody else. The hanging is stood in for, so that
this runs anywhere; faults/test_hanging_files.py has files that really hang."""

import threading
from unittest.mock import patch

import pytest

from support.deadlines import SOON
from support.handmade_node import HandmadeNode, uuid
from vmload import filereads, readsinarow
from vmload.filereads import FileReads
from vmload.loader import Loader
from vmload.loaderror import LoadError
from vmload.reader import Reader
from vmload.readsinarow import ReadsInARow
from vmload.system import TimeLimits

SICK = [uuid(n) for n in range(20)]
WELL = [uuid(n) for n in range(100, 103)]


@pytest.fixture
def node(tmp_path):
    """Zones on two pools."""
    made = HandmadeNode(tmp_path)
    made.dataset("sick")
    for key in SICK:
        made.zone(key, zonepath=f"/sick/{key}")
    for key in WELL:
        made.zone(key)
    return made


@pytest.fixture
def hanging():
    """The configuration of zones on the pool `sick` is read for ever, until the flag is set."""
    heal, real = threading.Event(), Reader.config

    def config(self, zone, below):
        if zone.zonepath.startswith("/sick/"):
            heal.wait(SOON)
        return real(self, zone, below)

    with patch.object(Reader, "config", autospec=True, side_effect=config):
        yield heal
        heal.set()


def test_load_of_all_goes_round_the_zones_of_a_sick_pool(node, hanging):
    loader = Loader(str(node.root), limits=TimeLimits(one=3.0))
    loaded = loader.read_all()
    assert sorted(loaded.zones) == sorted(WELL)
    assert {name: error.code for name, error in loaded.errors.items()} == dict.fromkeys(SICK, "ETIMEDOUT")
    again = loader.read_all()
    assert {error.code for error in again.errors.values()} == {"EBUSY"}, "what hangs is not asked for beside it"
    assert sorted(again.zones) == sorted(WELL)
    hanging.set()
    assert sorted(ends_well(loader)) == sorted([*SICK, *WELL])


def ends_well(loader):
    for thread in threading.enumerate():
        if thread.name.startswith("read "):
            thread.join(SOON)
    return loader.read_all().zones


@pytest.mark.pure
def test_what_hangs_on_a_pool_is_bounded_and_others_are_read(monkeypatch):
    monkeypatch.setattr(filereads, "MOST", 3)
    reads, heal = FileReads(0.7), threading.Event()  # what is well needs less, also where all are busy
    for number in range(3):
        with pytest.raises(LoadError) as caught:
            reads.run("sick", f"file {number}", lambda: heal.wait(SOON))
        assert caught.value.code == "ETIMEDOUT"
    with pytest.raises(LoadError, match="3 reads on sick hang") as caught:
        reads.run("sick", "another", lambda: 1)
    assert caught.value.code == "EBUSY"
    assert reads.run("well", "one", lambda: 1) == 1
    heal.set()


@pytest.mark.pure
def test_reads_in_a_row_share_a_thread_and_go_round_what_hangs(monkeypatch):
    monkeypatch.setattr(readsinarow, "PATIENCE", 0.7)  # what is well needs less, also where all are busy
    heal, threads = threading.Event(), {}

    def read(what):
        threads[what] = threading.current_thread()
        if what == "hangs":
            heal.wait(SOON)
        return what.upper()

    wanted = [(what, lambda what=what: read(what)) for what in ("a", "b", "hangs", "c", "d")]
    values, errors = ReadsInARow(FileReads(2.0), "zones", wanted).run()
    assert values == {"a": "A", "b": "B", "c": "C", "d": "D"}
    assert {what: error.code for what, error in errors.items()} == {"hangs": "ETIMEDOUT"}
    assert threads["a"] is threads["b"] is threads["hangs"]
    assert threads["c"] is threads["d"] is not threads["a"], "the rest is read beside what hangs"
    heal.set()
    threads["hangs"].join(SOON)
    assert not threads["hangs"].is_alive(), "a thread that was left behind reads nothing more"
    assert "hangs" not in values, "who asked has had the answer"


@pytest.mark.pure
def test_reads_in_a_row_that_are_refused_or_fail_cost_themselves():
    reads, heal = FileReads(0.7), threading.Event()
    with pytest.raises(LoadError):
        reads.run("zones", "sick", lambda: heal.wait(SOON))
    wanted = [("sick", lambda: 1), ("odd", lambda: {}["nothing"]), ("well", lambda: 2)]
    values, errors = ReadsInARow(reads, "zones", wanted).run()
    assert values == {"well": 2} and set(errors) == {"sick", "odd"}
    assert errors["sick"].code == "EBUSY" and isinstance(errors["odd"], KeyError)
    heal.set()


@pytest.mark.pure
def test_stop_ends_reads_in_a_row():
    reads, heal, begun = FileReads(60.0), threading.Event(), threading.Event()

    def hang():
        begun.set()
        heal.wait(SOON)

    def stop():
        begun.wait(SOON)
        reads.stop()
        heal.set()

    threading.Thread(target=stop).start()
    values, errors = ReadsInARow(reads, "zones", [("first", hang), ("second", lambda: 1)]).run()
    assert values == {}
    assert {what: str(error) for what, error in errors.items()} == dict.fromkeys(
        ("first", "second"), "the daemon stops"
    )


@pytest.mark.pure
def test_what_a_read_raises_is_raised_to_who_waits():
    with pytest.raises(KeyError):
        FileReads(5.0).run("zones", "x", lambda: {}["nothing"])


@pytest.mark.pure
def test_stop_ends_who_waits_and_lets_nobody_begin():
    reads, heal = FileReads(60.0), threading.Event()
    read = reads.start("zones", "x", lambda: heal.wait(SOON))
    reads.stop()
    with pytest.raises(LoadError, match="the daemon stops"):
        read.result()
    with pytest.raises(LoadError, match="the daemon stops"):
        reads.start("zones", "y", lambda: 1)
    heal.set()
