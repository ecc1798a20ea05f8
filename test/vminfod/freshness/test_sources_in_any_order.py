# SPDX-License-Identifier: MPL-2.0
"""Whatever happens to a zone, and however late, in whatever order or how badly its sources answer: what is promised of
reading it holds, at every moment and in the end. The platform and the time are made up, what reads and serves is
real (support/onezone.py)."""

import gevent
import pytest
from gevent.event import Event
from hypothesis import given, settings
from hypothesis import strategies as some

from support.deadlines import SOON
from support.examples import examples
from support.madeuptime import made_up_time
from support.onezone import DISKS, NAME, PATHS, TURNS, Manner, shown_versions
from support.recording_log import LEVELS
from support.zonepromises import PromisingZone
from vminfod.freshness.zonereading import ZoneReading
from vminfod.queue import Task
from vminfod.serving.cause import REFRESH, REQUEST, Cause
from vminfod.serving.holds import Transaction, Writer
from vmload import parts as part
from vmload.loaderror import CommandFailed, LoadError
from vmload.records import Zone
from vmload.zonesources import Source

pytestmark = pytest.mark.pure

OF_ZONE = frozenset({part.ZONEADM, part.ZONEXML})


class Life(PromisingZone):
    """A zone, what can happen to it, and who asks for it. A step is the name of a method, and a number that chooses."""

    def __init__(self, clock):
        super().__init__(clock)
        self.reads = self.gone_at = 0
        self.loaded = None
        self.make(0)
        self.tell(1)
        self.settle()

    # What happens on the node.

    def make(self, choice):
        if self.truth.zone is None:
            self.change(Source.ZONEADM, part.ALL, lambda number: self._made(number, choice))
        elif self.truth.xml is None:
            self.rewrite(choice)

    def _made(self, number, choice):
        self.truth.zone = Zone(None, NAME, "installed", PATHS[choice % 2], "u", "joyent", number)
        self.truth.xml = (number, DISKS[: choice % 3])
        self.truth.files = dict.fromkeys(PATHS, number)
        self.history += [(path, number) for path in PATHS]

    def delete(self, _choice):
        def do(number):
            self.truth.zone = self.truth.xml = None
            self.gone_at = number

        if self.truth.zone is not None:
            self.change(Source.ZONEADM, part.ALL, do)

    def boot_or_halt(self, choice):
        def do(number):
            is_running = self.truth.zone.state == "running" and choice % 4
            state = {"zoneid": None, "state": "installed"} if is_running else {"zoneid": number, "state": "running"}
            self.truth.zone = self.truth.zone._replace(zonedid=number, **state)

        if self.truth.zone is not None:
            self.change(Source.ZONEADM, OF_ZONE, do)

    def move(self, choice):
        def do(number):
            self.truth.zone = self.truth.zone._replace(zonepath=PATHS[choice % 2], zonedid=number)

        if self.truth.zone is not None:
            self.change(Source.ZONEADM, OF_ZONE, do)

    def rewrite(self, choice):
        def do(number):
            self.truth.xml = (number, DISKS[: choice % 3])

        if self.truth.zone is not None:
            parts = part.ALL if self.truth.xml is None else frozenset({part.ZONEXML})
            self.change(Source.XML, parts, do)

    def lose_xml(self, _choice):
        def do(number):
            self.truth.xml = None
            self.gone_at = number

        if self.truth.xml is not None:
            self.change(Source.XML, part.ALL, do)

    def write(self, choice):
        path = PATHS[choice % 2]

        def do(number):
            self.truth.files[path] = number
            self.history.append((path, number))

        self.change(Source.FILES, frozenset({part.JSON}), do)

    def exit(self, choice):
        def do(number):
            self.truth.exits[PATHS[choice % 2]] = number

        self.change(Source.FILES, frozenset({part.LAST_EXITED}), do)

    def count(self, _choice):
        def do(number):
            self.truth.statistics = number

        self.change(Source.KSTAT, frozenset({part.ZONEINFO}), do)

    def set_property(self, choice):
        self.change_dataset((*DISKS, *(path[1:] for path in PATHS))[choice % 4])

    # How sources answer, and what else can come.

    def hold(self, choice):
        self.behaves(list(Source)[choice % 5], Manner(gate=Event(), early=choice % 2 == 0))

    def fail(self, choice):
        error = CommandFailed if choice % 2 else LoadError
        self.behaves(list(Source)[choice % 5], Manner(error=error, gate=Event() if choice % 3 == 0 else None))

    def heal(self, choice):
        self.behaves(list(Source)[choice % 5], Manner(turns=choice % 4, early=choice % 2 == 0))

    def hear(self, choice):
        self.tell(choice % 3 + 1)

    def turns(self, choice):
        for _ in range(choice % 12):
            gevent.sleep(0)

    def rest(self, _choice):
        self.settle()

    def wait(self, choice):
        self.settle()
        self.clock.advance((0.5, 1.0, 1.9, 2.1, 5.0, 61.0)[choice % 6])

    def touch(self, choice):
        parts = sorted(part.ALL)
        self.reloads.mark(NAME, {parts[choice % 6], parts[choice // 6 % 6]}, cause=REFRESH)

    def ask(self, choice):
        """For a fresh read."""
        if self.transaction is None:
            self._ask_fresh(REQUEST)

    def begin(self, _choice):
        if self.transaction is None:
            self.transaction = Transaction(NAME, "u", Writer("update", None, 7, 0), 60)
            self.holds.take(self.transaction, 0)

    def commit(self, _choice):
        if self.transaction is not None and self.transaction.end is None:
            holder = self.transaction
            cause = Cause("vmadm", holder.details(), self.clock.monotonic_ns())
            holder.end = "committed"
            self._ask_fresh(cause, holder)

    def load(self, _choice):
        """A refresh reads all of it, as it is now, and compares it later."""
        records = self.truth.records()
        if records is not None and self.loaded is None:
            self.loaded = self.dataset_events.begin(), records

    def compare(self, _choice):
        """The refresh compares what it has read."""
        if self.loaded is not None:
            loaded, self.loaded = self.loaded, None
            self.queue.enqueue(Task("compare", lambda _extras: self._compare(*loaded)))

    def _compare(self, since, records):
        if self.reloads.touched_since(NAME, since):
            self.reloads.mark(NAME, cause=REFRESH)
        else:
            self.reloads.take(NAME, records, REFRESH, since)
        self.reloads.forget_before(since)
        self.dataset_events.end(since)

    def _ask_fresh(self, cause, holder=None):
        number, count = self.number, len(self.askings)
        newest = None if self.truth.vm() is None else (self.truth.zone.zonepath, self.truth.versions())

        def read():
            try:
                if holder is not None:
                    self.holds.read_for(holder, cause)
                self.reloads.read_fresh(NAME, cause, 10**6)
                self._check_fresh(newest, number)
            except LoadError as error:
                if not any(one.has_failed for one in self.askings[count:]):
                    self.broken.append(f"a fresh read gives an error from before it: {error!r}")
            finally:
                if holder is not None:
                    self.holds.release(holder)
                    self.transaction = None

        self.waiting.append(gevent.spawn(read))

    def _check_fresh(self, newest, number):
        served = self.served()
        if served is None or newest is None:
            if newest is not None and self.gone_at <= number:
                self.broken.append("a fresh read is done before what has come is shown")
            return
        path, versions = newest
        shown = shown_versions(served)
        for source in (Source.ZONEADM, Source.XML):
            if shown[source] < versions[source]:
                self.broken.append(f"a fresh read shows an older {source.name}")
        if served["zonepath"] == path and shown[Source.FILES] < versions[Source.FILES]:
            self.broken.append("a fresh read shows older FILES")
        if served["zonepath"] == path and shown[Source.ZFS] < versions[Source.ZFS]:
            self.broken.append("a fresh read shows older ZFS")
        if "init_restarts" in served and shown[Source.KSTAT] < versions[Source.KSTAT]:
            self.broken.append("a fresh read shows older KSTAT")

    # In the end.

    def check_rest(self):
        """While nothing happens nothing is done."""
        self.settle()
        before = self.reads
        for _ in range(TURNS):
            gevent.sleep(0)
        if self.reads != before:
            self.broken.append("it is busy while nothing happens")

    def check_convergence(self):
        for source in Source:
            self.behaves(source, Manner())
        self.tell(len(self.events))
        self.compare(0)
        self.settle()
        if self.transaction is not None:
            self.commit(0)
        for _ in range(8):
            self.settle()
            self.clock.advance(61)
        self.settle()
        if self.served() != self.truth.vm():
            self.broken.append(f"served is {self.served()}, true is {self.truth.vm()}")
        has_no_xml = self.truth.zone is not None and self.truth.xml is None  # it is tried again for ever
        if not has_no_xml and (self.reloads._readings or self.reloads.busy()):
            self.broken.append("it is still read")
        if self.truth.vm() is not None and len(self.retrying):
            self.broken.append("an error is left")
        if not all(greenlet.ready() for greenlet in self.waiting):
            self.broken.append("who asked for a fresh read waits for ever")
        self.broken += [record.msg for record in self.log.at(LEVELS["error"]) if "unexpectedly" in record.msg]


STEPS = [
    *("make", "delete", "boot_or_halt", "move", "rewrite", "lose_xml", "write", "exit", "count", "set_property"),
    *("hold", "hold", "hold", "fail", "fail", "heal", "heal", "hear", "hear", "hear", "turns", "turns", "rest", "rest"),
    *("wait", "wait", "wait", "touch", "ask", "begin", "commit", "load", "compare"),
]


def live(steps):
    """The promises that are broken by these steps, and then none."""
    with made_up_time() as clock:
        life = Life(clock)
        run = ZoneReading.run

        def counted(reading, **options):
            life.reads += 1
            return run(reading, **options)

        ZoneReading.run = counted
        try:
            with gevent.Timeout(SOON):
                for name, choice in steps:
                    getattr(life, name)(choice)
                    if life.broken:
                        return life.broken
                life.check_rest()
                life.check_convergence()
        finally:
            ZoneReading.run = run
            life.reloads.stop()
            life.queue.stop() if hasattr(life.queue, "stop") else None
            gevent.killall(life.waiting, block=True)
    return life.broken


@settings(max_examples=examples(400), deadline=None, database=None, derandomize=True)
@given(some.lists(some.tuples(some.sampled_from(STEPS), some.integers(0, 35)), min_size=5, max_size=40))
def test_promises_of_reading_a_zone_hold_whatever_happens(steps):
    assert live(steps) == []


def test_what_a_refresh_read_before_a_change_does_not_overwrite_it():
    assert live([("load", 0), ("write", 0), ("hear", 0), ("rest", 0), ("compare", 0)]) == []


# What broke a promise once, by what it was. The numbers choose: a source by its place, modulo five, for one.
ONCE = {
    "a change is heard of before zoneadm is asked, and after it was told what to ask": [
        *(("rewrite", 21), ("exit", 14), ("count", 16), ("hear", 32)),
        *(("boot_or_halt", 7), ("write", 28), ("touch", 21), ("hear", 31)),
    ],
    "an answer that waits for another source is asked for again: who wanted it first waits on": [
        *(("fail", 7), ("ask", 0), ("rest", 0), ("heal", 2), ("touch", 0), ("rest", 0), ("wait", 3)),
    ],
    "the same at the end of a transaction": [
        *(("begin", 0), ("fail", 1), ("commit", 0), ("rest", 0), ("heal", 1)),
        *(("write", 0), ("hear", 0), ("rest", 0), ("wait", 4)),
    ],
    "an answer that waits for another source is asked for again, and that fails": [
        *(("fail", 19), ("exit", 0), ("set_property", 2), ("hear", 1), ("rest", 0)),
        *(("fail", 17), ("write", 0), ("hear", 0), ("rest", 0)),
    ],
    "what was asked before a transaction ends fails then": [
        *(("fail", 24), ("set_property", 2), ("hear", 0), ("rest", 0), ("wait", 3), ("begin", 0), ("commit", 0)),
    ],
    "a source that was asked before all was to be read again fails": [
        *(("fail", 12), ("write", 0), ("hear", 0), ("rest", 0), ("wait", 3), ("lose_xml", 0), ("hear", 0), ("rest", 0)),
        *(("make", 0), ("ask", 0), ("rest", 0), ("heal", 2), ("rest", 0)),
    ],
    "zoneadm says that the zone is gone, from before it was made anew and held": [
        *(("delete", 3), ("hold", 0), ("hear", 9), ("turns", 29), ("make", 26), ("wait", 3), ("wait", 0), ("begin", 0)),
    ],
    "zoneadm says that the zone is gone, and all was to be read again meanwhile": [
        *(("delete", 0), ("hold", 0), ("hear", 0), ("rest", 0), ("wait", 3), ("make", 0)),
    ],
    "zoneadm says that the zone is gone, from before a fresh read": [
        *(("delete", 0), ("hold", 0), ("touch", 3), ("touch", 4), ("touch", 5), ("rest", 0)),
        *(("make", 0), ("ask", 0), ("rest", 0), ("wait", 3), ("heal", 0), ("rest", 0)),
    ],
    "the XML is back before anybody was told that it was gone": [
        *(("delete", 0), ("fail", 15), ("hear", 0), ("rest", 0), ("make", 0), ("ask", 0)),
    ],
    "the XML was asked for before it was there": [
        *(("delete", 0), ("hold", 5), ("ask", 0), ("hold", 6), ("rest", 0), ("wait", 2), ("make", 0), ("ask", 0)),
        ("wait", 2),
    ],
    "a transaction ends in vain, and the next one while the same source hangs": [
        *(("begin", 0), ("fail", 22), ("commit", 0), ("rest", 0), ("hold", 2), ("wait", 3), ("rest", 0)),
        *(("begin", 0), ("move", 1), ("commit", 0)),
    ],
    "the zone moves while one of its files cannot be read": [
        *(("exit", 0), ("hear", 0), ("rest", 0), ("fail", 7), ("write", 0), ("hear", 0), ("rest", 0)),
        *(("move", 1), ("hear", 0), ("rest", 0), ("wait", 3)),
    ],
    "the zone moves while one of its files hangs, and then cannot be read": [
        *(("exit", 0), ("hear", 0), ("rest", 0), ("fail", 12), ("write", 0), ("hear", 0), ("rest", 0), ("wait", 3)),
        *(("move", 1), ("hear", 0), ("rest", 0), ("wait", 3), ("rest", 0)),
    ],
}


@pytest.mark.parametrize("what", ONCE)
def test_what_broke_a_promise_once_breaks_none(what):
    assert live(ONCE[what]) == []
