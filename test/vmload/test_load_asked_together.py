# SPDX-License-Identifier: MPL-2.0
"""Questions about several zones that wait for a slot: which of them one command answers, what each gets, and what one
that goes wrong costs the others. The machine is a stand-in made from the real class that runs commands, so that a
command takes as long as a test wants."""

import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

import mock
import pytest

from support.deadlines import SOON
from support.running_daemon import eventually
from vmload.commands import Commands
from vmload.datasets import FIELDS
from vmload.loaderror import CommandFailed, LoadError, ZoneGone
from vmload.records import Zone, ZoneInfo
from vmload.runner import DIRECTLY, Directly
from vmload.slots import Slots
from vmload.system import KSTAT, ZONEADM, Output, System, TimeLimits
from vmload.together import MOST, MOST_ALONE

pytestmark = pytest.mark.pure

LIMIT = SOON  # seconds for what takes milliseconds
BUSY = "zones/busy"


def row(name):
    kind = "snapshot" if "@" in name else "filesystem"
    columns = dict.fromkeys(FIELDS, "-") | {"name": name, "type": kind, "mountpoint": f"/{name}"}
    return "\t".join(columns[field] for field in FIELDS) + "\n"


class Machine:
    """`asked`: the names that zfs was asked for, command by command. `zfs`, `zoneadm`, `kstat`: what each does with its
    words. A zfs that is asked for BUSY first ends when it is let(), and keeps the only slot of its pool so long."""

    def __init__(self):
        self.asked, self.ran, self._let = [], defaultdict(list), threading.Event()
        self.zfs = self.rows
        self.absent = {}  # name -> what zfs complains of it
        self.system = mock.create_autospec(System, instance=True)
        self.system.limits = TimeLimits()
        self.system.identity.return_value = None  # no libkstat
        self.system.run.side_effect = self._run
        self.commands = Commands(self.system)
        self.commands._zfs_slots["zones"] = Slots(1, patience=LIMIT)
        self._pool = ThreadPoolExecutor(2 * MOST)

    def _run(self, program, arguments, limit, *, c_locale=False, about=None):
        self.ran[program].append(arguments)
        if program == ZONEADM:
            return self.zoneadm(arguments)
        if program == KSTAT:
            return self.kstat(arguments)
        names, depth = arguments[arguments.index("-d") + 2 :], int(arguments[arguments.index("-d") + 1])
        self.asked.append((*names, depth))
        if names[0] == BUSY:
            assert self._let.wait(LIMIT)
        return self.zfs(names)

    def rows(self, names):
        complaints = "".join(f"cannot open '{name}': {self.absent[name]}\n" for name in names if name in self.absent)
        printed = "".join(row(name) for name in names if name not in self.absent)
        return Output(1 if complaints else 0, printed.encode(), complaints.encode())

    def ask(self, name, depth=1, snapshot=None):
        return self._pool.submit(self.commands.datasets, name, depth, DIRECTLY, snapshot)

    def busy(self):
        """The only slot is taken."""
        future = self.ask(BUSY)
        eventually("it has begun", lambda: self.asked[-1:] == [(BUSY, 1)])
        return future

    def waiting(self, count, pool="zones", depth=1):
        eventually("they wait", lambda: self.commands._listings_on(pool, depth).waiting() == count)

    def let(self):
        self._let.set()

    def ask_together(self, *names):
        """Asked for while the slot is taken, in this order."""
        self.busy()
        futures = []
        for count, name in enumerate(names, 1):
            futures.append(self.ask(name))
            self.waiting(count)
        self.let()
        return futures


@pytest.fixture
def machine():
    return Machine()


def listed(future):
    return list(future.result(LIMIT).datasets)


# Datasets.


def test_those_that_wait_are_asked_about_by_one_command_and_each_gets_its_own(machine):
    futures = machine.ask_together("zones/a", "zones/b", "zones/c")
    assert [listed(future) for future in futures] == [["zones/a"], ["zones/b"], ["zones/c"]]
    assert machine.asked == [(BUSY, 1), ("zones/a", "zones/b", "zones/c", 1)]


def test_what_lies_below_a_dataset_is_its_own_part_of_the_answer(machine):
    below = ["zones/a/data", "zones/a@vmsnap-x", "zones/b/data", "zones/b/data/deep", "zones/b@vmsnap-y"]
    machine.zfs = lambda names: Output(0, "".join(map(row, sorted([*names, *below]))).encode(), b"")
    a, b = machine.ask_together("zones/a", "zones/b")
    assert listed(a) == ["zones/a", "zones/a/data"]
    assert listed(b) == ["zones/b", "zones/b/data"]
    assert {name: [snapname for snapname, *_ in found] for name, found in b.result().snapshots.items()} == {
        "zones/b": ["vmsnap-y"]
    }
    assert a.result().mountpoints == {"/zones/a": "zones/a"}


def test_held_snapshot_is_asked_for_beside_its_dataset(machine):
    machine.busy()
    plain, held = machine.ask("zones/a"), machine.ask("zones/b", snapshot="zones/b/data@indestructible")
    machine.waiting(2)
    machine.let()
    assert plain.result(LIMIT).snapshots == {}
    assert held.result(LIMIT).snapshots == {"zones/b/data": [("indestructible", "-", "-", 0)]}
    assert len(machine.asked) == 2


def test_equal_questions_that_wait_are_one(machine):
    machine.busy()
    sharing = [machine.ask("zones/u") for _ in range(4)]
    machine.waiting(1)
    machine.let()
    assert [listed(future) for future in sharing] == [["zones/u"]] * 4
    assert 2 <= len(machine.asked) < 5  # one that came late could begin its own


def test_command_that_has_begun_answers_no_later_question(machine):
    """It may have read what was there before the change that the second one is asked for."""
    first = machine.busy()
    second = machine.ask(BUSY)
    machine.waiting(1)
    machine.let()
    assert listed(first) == listed(second) == [BUSY]
    assert machine.asked == [(BUSY, 1), (BUSY, 1)]


def test_another_pool_and_another_depth_have_commands_of_their_own(machine):
    machine.busy()
    deep, other = machine.ask("zones/a", 0), machine.ask("tank/a")
    assert listed(other) == ["tank/a"], "its pool has slots of its own"
    machine.waiting(1, depth=0)
    machine.let()
    assert listed(deep) == ["zones/a"]
    assert sorted(machine.asked) == [("tank/a", 1), ("zones/a", 0), (BUSY, 1)]


def test_one_that_is_gone_is_not_there_and_costs_no_other_command(machine):
    machine.absent["zones/b"] = "dataset does not exist"
    futures = machine.ask_together("zones/a", "zones/b", "zones/c")
    assert [listed(future) for future in futures] == [["zones/a"], [], ["zones/c"]]
    assert len(machine.asked) == 2


def test_one_that_fails_is_asked_about_again_by_itself(machine):
    machine.absent["zones/b"] = "I/O error"
    a, b, c = machine.ask_together("zones/a", "zones/b", "zones/c")
    assert (listed(a), listed(c)) == (["zones/a"], ["zones/c"])
    with pytest.raises(CommandFailed, match="zfs exited prematurely with code: 1"):
        b.result(LIMIT)
    assert machine.asked[1:] == [("zones/a", "zones/b", "zones/c", 1), ("zones/b", 1)]


@pytest.mark.parametrize("stderr", [b"", b"internal error: out of memory\n", b"cannot open 'elsewhere': no\n"])
def test_command_that_fails_as_a_whole_is_nobodys_answer(machine, stderr):
    machine.zfs = lambda names: Output(1, b"", stderr) if len(names) > 1 else machine.rows(names)
    futures = machine.ask_together("zones/a", "zones/b")
    assert [listed(future) for future in futures] == [["zones/a"], ["zones/b"]]
    assert sorted(machine.asked[2:]) == [("zones/a", 1), ("zones/b", 1)]


def test_answer_that_lacks_one_is_believed_of_none(machine):
    machine.zfs = lambda names: machine.rows(names[:-1]) if len(names) > 1 else machine.rows(names)
    futures = machine.ask_together("zones/a", "zones/b", "zones/c")
    assert [listed(future) for future in futures] == [["zones/a"], ["zones/b"], ["zones/c"]]
    assert sorted(machine.asked[2:]) == [("zones/a", 1), ("zones/b", 1), ("zones/c", 1)]


def test_one_that_hangs_costs_the_others_one_command_and_is_then_left_out(machine):
    def hangs(names):
        if "zones/b" in names:
            raise LoadError("zfs did not end", "ETIMEDOUT")
        return machine.rows(names)

    machine.zfs = hangs
    a, b, c = machine.ask_together("zones/a", "zones/b", "zones/c")
    assert (listed(a), listed(c)) == (["zones/a"], ["zones/c"])
    with pytest.raises(LoadError, match="zfs did not end"):
        b.result(LIMIT)
    del machine.asked[:]
    a, c = machine.ask("zones/a"), machine.ask("zones/c")
    with pytest.raises(LoadError, match="zfs did not end"):
        machine.ask("zones/b").result(LIMIT)
    assert (listed(a), listed(c)) == (["zones/a"], ["zones/c"])
    assert [names for names in machine.asked if "zones/b" in names] == [("zones/b", 1)]


def test_many_that_hang_take_a_bounded_number_of_threads(machine):
    """As on a sick pool: others need threads, too."""
    names = [f"zones/{number}" for number in range(MOST_ALONE + 20)]
    running, most, heal = [], [], threading.Event()

    def hangs(asked):
        if len(asked) > 1:
            raise LoadError("zfs did not end", "ETIMEDOUT")
        if asked[0].startswith("zones/") and asked != [BUSY]:
            running.append(asked)
            most.append(len(running))
            assert heal.wait(LIMIT)
            running.remove(asked)
        return machine.rows(asked)

    machine.zfs = hangs
    machine.busy()
    futures = [machine.ask(name) for name in names]
    machine.waiting(len(names))
    machine.commands._zfs_slots["zones"]._patience = 0.001  # hanging keeps no other from being asked about
    machine.let()
    eventually("as many as may hang do", lambda: len(running) == MOST_ALONE)
    assert listed(machine.ask("tank/a")) == ["tank/a"]
    heal.set()
    assert sorted(listed(future)[0] for future in futures) == sorted(names)
    assert max(most) == MOST_ALONE


def test_one_that_is_well_again_is_asked_about_with_others(machine):
    machine.absent["zones/b"] = "I/O error"
    with pytest.raises(CommandFailed):
        machine.ask("zones/b").result(LIMIT)
    machine.absent.clear()
    assert listed(machine.ask("zones/b")) == ["zones/b"]
    machine.ask_together("zones/a", "zones/b")[0].result(LIMIT)
    assert machine.asked[-1] == ("zones/a", "zones/b", 1)


def test_arguments_of_one_command_are_bounded(machine):
    names = [f"zones/{number}" for number in range(MOST + 10)]
    machine.busy()
    futures = [machine.ask(name) for name in names]
    machine.waiting(len(names))
    machine.let()
    assert sorted(listed(future)[0] for future in futures) == sorted(names)
    assert [len(asked) - 1 for asked in machine.asked] == [1, MOST, 10]


def test_all_who_share_a_question_get_its_error(machine):
    machine.absent["zones/u"] = "I/O error"
    machine.busy()
    sharing = [machine.ask("zones/u") for _ in range(3)]
    machine.waiting(1)
    machine.let()
    for future in sharing:
        with pytest.raises(CommandFailed):
            future.result(LIMIT)


# Zones and their statistics.


def zone_line(number):
    return f"{number}:zone{number}:running:/zones/zone{number}:{uuid(number)}:joyent:excl:{number}\n"


def uuid(number):
    return f"5b0e7ae8-9c1a-4b7e-8f63-{number:012d}"


class Tools(Machine):
    """zoneadm and kstat know these zones. One command at a time; the first is held until it is let()."""

    def __init__(self, *numbers):
        super().__init__()
        self.numbers, self.listed, self._held = numbers, numbers, threading.Event()
        for together in (self.commands._zones, self.commands._zoneinfos):
            together._slots = Slots(1, patience=LIMIT)

    def zoneadm(self, words):
        if "busy" in words:
            assert self._let.wait(LIMIT)
        if words == ["list", "-p", "-c"]:
            return Output(
                0, ("0:global:running:/::liveimg:shared:0\n" + "".join(map(zone_line, self.listed))).encode(), b""
            )
        lines = [zone_line(number) for number in self.numbers if f"zone{number}" in words or uuid(number) in words]
        if lines or "busy" in words:
            return Output(0, (lines or [zone_line(99)])[0].encode(), b"")
        return Output(1, b"", b"zoneadm: No such zone configured\n")

    def kstat(self, words):
        wanted = [int(words[words.index("-i") + 1])] if "-i" in words else self.listed
        if wanted == [99]:
            assert self._let.wait(LIMIT)
        return Output(
            0, "".join(f"zones:{n}:x:zonename\t{uuid(n)}\nzones:{n}:x:init_pid\t{n}\n" for n in wanted).encode(), b""
        )

    def find_together(self, *keys):
        self._pool.submit(self.commands.zone, "busy", DIRECTLY)
        eventually("it has begun", lambda: self.ran[ZONEADM])
        futures = [self._pool.submit(self.commands.zone, key, DIRECTLY) for key in keys]
        eventually("they wait", lambda: self.commands._zones.waiting() == len(keys))
        self.let()
        return futures

    def statistics_together(self, *numbers):
        zones = [Zone(number, uuid(number), "running", "/", uuid(number), "joyent", 0) for number in (99, *numbers)]
        self._pool.submit(self.commands.zoneinfo, zones[0], DIRECTLY)
        eventually("it has begun", lambda: self.ran[KSTAT])
        futures = [self._pool.submit(self.commands.zoneinfo, zone, DIRECTLY) for zone in zones[1:]]
        eventually("they wait", lambda: self.commands._zoneinfos.waiting() == len(numbers))
        self.let()
        return [future.result(LIMIT) for future in futures]


def test_many_zones_are_found_in_one_list_of_all_by_name_and_by_uuid():
    tools = Tools(1, 2, 3)
    found = [future.result(LIMIT).zoneid for future in tools.find_together("zone1", uuid(2), "zone3")]
    assert found == [1, 2, 3]
    assert tools.ran[ZONEADM][1:] == [["list", "-p", "-c"]]


def test_zone_that_the_list_of_all_lacks_is_gone_only_if_zoneadm_says_so_of_it():
    tools = Tools(1, 2, 3)
    tools.listed = [1]
    there, lacking, gone = tools.find_together("zone1", "zone2", "zone4")
    assert (there.result(LIMIT).zoneid, lacking.result(LIMIT).zoneid) == (1, 2)
    with pytest.raises(ZoneGone):
        gone.result(LIMIT)


def test_few_zones_of_many_are_asked_about_one_by_one():
    tools = Tools(*range(1, 50))
    tools.commands.zones()
    del tools.ran[ZONEADM][:]
    for future in tools.find_together("zone1", "zone2", "zone3"):
        future.result(LIMIT)
    assert ["list", "-p", "-c"] not in tools.ran[ZONEADM]
    assert len(tools.ran[ZONEADM]) == 4


def test_statistics_of_many_zones_are_printed_by_one_command():
    tools = Tools(1, 2, 3)
    assert tools.statistics_together(1, 2) == [ZoneInfo(None, "1"), ZoneInfo(None, "2")]
    assert len(tools.ran[KSTAT]) == 2


def test_zone_without_statistics_among_those_of_all_is_asked_for_itself():
    tools = Tools(1, 2, 3)
    tools.listed = [1]
    assert tools.statistics_together(1, 2) == [ZoneInfo(None, "1"), ZoneInfo(None, "2")]
    assert [words[-1] for words in tools.ran[KSTAT]] == ["99", "zone_misc", "2"]


# Who leads.


class WokenLate(Directly):
    """Who waits for what another thread sets has much else to do: it goes on when it is woken."""

    def __init__(self):
        self.wake = threading.Event()

    def result(self, future):
        assert self.wake.wait(LIMIT)
        return future.result()


def ask_one_after_the_other(tools, *questions):
    """What becomes of each question, a zone and how who asks waits: all wait behind a command that has begun."""
    tools._pool.submit(tools.commands.zone, "busy", DIRECTLY)
    eventually("it has begun", lambda: len(tools.ran[ZONEADM]) == 2)
    futures = []
    for count, (key, runner) in enumerate(questions, 1):
        futures.append(tools._pool.submit(tools.commands.zone, key, runner))
        eventually("it waits", lambda count=count: tools.commands._zones.waiting() == count)
    return futures


def test_who_takes_the_lead_from_one_that_is_late_does_not_hang_of_anothers_question():
    tools, late, heal = Tools(*range(1, 50)), WokenLate(), threading.Event()
    tools.commands.zones()
    answer = tools.zoneadm

    def hangs_for_zone3(words):
        assert "zone3" not in words or heal.wait(LIMIT)
        return answer(words)

    tools.zoneadm = hangs_for_zone3
    futures = ask_one_after_the_other(tools, ("zone1", DIRECTLY), ("zone2", late), ("zone3", DIRECTLY))
    tools.let()
    assert futures[0].result(LIMIT).zoneid == 1
    eventually("the next is to lead", lambda: tools.commands._zones.waiting() == 1)
    assert tools._pool.submit(tools.commands.zone, "zone4", DIRECTLY).result(LIMIT).zoneid == 4
    heal.set()
    late.wake.set()
    assert [future.result(LIMIT).zoneid for future in futures[1:]] == [2, 3]


# Who is stopped while it waits.


class Stopped(BaseException):
    """Who waits is stopped, as a greenlet is that is killed."""


class StoppedWhileItWaits(Directly):
    """Who waits for what another thread sets is stopped, as soon as it is told."""

    def __init__(self):
        self.stop, self.waits = threading.Event(), threading.Event()

    def result(self, future):
        self.waits.set()
        assert self.stop.wait(LIMIT)
        if not future.done():
            raise Stopped
        return future.result()


class StoppedWhileItLeads(Directly):
    """Who has the lead is stopped before it has a thread."""

    def __init__(self):
        self.stop = threading.Event()

    def zoneadm(self, step):
        assert self.stop.wait(LIMIT)
        raise Stopped


def test_who_is_stopped_while_it_leads_keeps_nobody_from_an_answer():
    tools, stopped = Tools(*range(1, 50)), StoppedWhileItLeads()
    first = tools._pool.submit(tools.commands.zone, "zone1", stopped)
    eventually("it leads", lambda: tools.commands._zones.waiting() == 1)
    second = tools._pool.submit(tools.commands.zone, "zone2", DIRECTLY)
    eventually("another waits behind it", lambda: tools.commands._zones.waiting() == 2)
    stopped.stop.set()
    with pytest.raises(Stopped):
        first.result(LIMIT)
    assert second.result(LIMIT).zoneid == 2


def test_who_is_stopped_while_it_waits_keeps_nobody_from_an_answer():
    """Few of many zones are asked about one by one: who waited longest is the next to lead."""
    tools, stopped = Tools(*range(1, 50)), StoppedWhileItWaits()
    tools.commands.zones()
    futures = ask_one_after_the_other(tools, ("zone1", DIRECTLY), ("zone2", stopped), ("zone3", DIRECTLY))
    assert stopped.waits.wait(LIMIT)
    stopped.stop.set()
    with pytest.raises(Stopped):
        futures[1].result(LIMIT)
    tools.let()
    assert [futures[0].result(LIMIT).zoneid, futures[2].result(LIMIT).zoneid] == [1, 3]


def test_who_is_stopped_while_it_waits_for_its_turn_alone_leaves_that_to_others(machine):
    names = [f"zones/{number}" for number in range(MOST_ALONE)]
    running, heal = [], threading.Event()

    def hangs(asked):
        if asked != [BUSY]:
            running.append(asked)
            assert heal.wait(LIMIT)
        return machine.rows(asked)

    together = machine.commands._listings_on("zones", 1)
    together._failed.update((name,) for name in [*names, "zones/stopped"])
    machine.commands._zfs_slots["zones"]._patience = 0.001
    machine.zfs = hangs
    futures = [machine.ask(name) for name in names]
    eventually("as many as may hang do", lambda: len(running) == MOST_ALONE)
    stopped = StoppedWhileItWaits()
    gone = machine._pool.submit(machine.commands.datasets, "zones/stopped", 1, stopped)
    assert stopped.waits.wait(LIMIT)
    stopped.stop.set()
    with pytest.raises(Stopped):
        gone.result(LIMIT)
    heal.set()
    assert [listed(future) for future in futures] == [[name] for name in names]
    together._failed.update((name,) for name in names)
    heal.clear()
    del running[:]
    again = [machine.ask(name) for name in names]
    eventually("as many as before have their turn", lambda: len(running) == MOST_ALONE)
    heal.set()
    assert [listed(future) for future in again] == [[name] for name in names]
