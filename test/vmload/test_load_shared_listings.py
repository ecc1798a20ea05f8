# SPDX-License-Identifier: MPL-2.0
"""Listings of zfs that several loads ask for at once: who shares one, and what each gets. The machine is a stand-in
made from the real class that runs commands, so that a listing takes as long as a test wants."""

import threading
from concurrent.futures import ThreadPoolExecutor

import mock
import pytest

from support.running_daemon import eventually
from vmload.datasets import FIELDS
from vmload.loaderror import LoadError
from vmload.reader import Reader
from vmload.slots import Slots
from vmload.system import ZFS, Output, System, TimeLimits

pytestmark = pytest.mark.pure

LIMIT = 20  # seconds for what takes milliseconds


def row(name):
    columns = dict.fromkeys(FIELDS, "-") | {"name": name, "type": "filesystem", "mountpoint": f"/{name}"}
    return "\t".join(columns[field] for field in FIELDS) + "\n"


class Machine:
    """`asked`: what zfs was asked for, in the order in which it was begun. A listing ends when its turn is let()."""

    def __init__(self, failing=()):
        self.asked, self._turns, self._failing = [], {}, failing
        self.system = mock.create_autospec(System, instance=True)
        self.system.limits = TimeLimits()
        self.system.run.side_effect = self._run
        self.reader = Reader(self.system)
        self.reader._slots[ZFS] = Slots(1, patience=LIMIT)  # one at a time, so that the second has to wait
        self._pool = ThreadPoolExecutor(8)

    def _run(self, program, arguments, limit, *, c_locale=False):
        name, depth = arguments[-1], arguments[arguments.index("-d") + 1]
        self.asked.append((name, int(depth)))
        assert self._turn(name).wait(LIMIT)
        if name in self._failing:
            raise LoadError("zfs did not end", "ETIMEDOUT")
        return Output(0, row(name).encode(), b"")

    def _turn(self, name):
        return self._turns.setdefault(name, threading.Event())

    def let(self, *names):
        for name in names:
            self._turn(name).set()

    def ask(self, name, depth=1):
        return self._pool.submit(self.reader.datasets, name, depth)

    def begun(self, *asked):
        eventually(f"{asked} have begun", lambda: self.asked == list(asked))

    def waiting(self, count):
        eventually("they wait", lambda: len(self.reader._zfs_waiting) == count)


def listed(future):
    return list(future.result(LIMIT).datasets)


def test_all_who_share_a_listing_get_all_of_it():
    machine = Machine()
    first = machine.ask("zones/busy")
    machine.begun(("zones/busy", 1))
    sharing = [machine.ask("zones/u") for _ in range(4)]
    machine.waiting(1)
    machine.let("zones/busy", "zones/u")
    assert [listed(future) for future in sharing] == [["zones/u"]] * 4
    assert listed(first) == ["zones/busy"]
    assert machine.asked.count(("zones/u", 1)) <= 2  # one that came late could begin its own
    assert len(machine.asked) < 5


def test_listing_of_another_dataset_or_depth_is_another_one():
    machine = Machine()
    machine.ask("zones/busy")
    machine.begun(("zones/busy", 1))
    others = [machine.ask("zones/a"), machine.ask("zones/b"), machine.ask("zones/a", 2)]
    machine.waiting(3)
    machine.let("zones/busy", "zones/a", "zones/b")
    assert [listed(future) for future in others] == [["zones/a"], ["zones/b"], ["zones/a"]]
    assert sorted(machine.asked) == [("zones/a", 1), ("zones/a", 2), ("zones/b", 1), ("zones/busy", 1)]


def test_listing_that_has_begun_is_not_shared():
    """It may have read what was there before the change that the second one is asked for."""
    machine = Machine()
    first = machine.ask("zones/u")
    machine.begun(("zones/u", 1))
    second = machine.ask("zones/u")
    machine.waiting(1)
    machine.let("zones/u")
    assert listed(first) == listed(second) == ["zones/u"]
    assert machine.asked == [("zones/u", 1), ("zones/u", 1)]


def test_all_who_share_a_listing_get_its_error():
    machine = Machine(failing={"zones/u"})
    machine.ask("zones/busy")
    machine.begun(("zones/busy", 1))
    sharing = [machine.ask("zones/u") for _ in range(3)]
    machine.waiting(1)
    machine.let("zones/busy", "zones/u")
    for future in sharing:
        with pytest.raises(LoadError, match="zfs did not end"):
            future.result(LIMIT)
