# SPDX-License-Identifier: MPL-2.0
"""The file watcher may have given up what could not be read: it hears when that is read again, once. The platform and
the time are made up, what reads is real (support/onezone.py)."""

import pytest
from gevent.event import Event

from support.madeuptime import made_up_time
from support.onezone import NAME, PATHS, Manner, OneZone
from vminfod.freshness.sourcereading import PATIENCE
from vminfod.queue import Task
from vminfod.serving.cause import REFRESH
from vmload.loaderror import CommandFailed, LoadError
from vmload.records import Zone
from vmload.zonesources import Source

pytestmark = pytest.mark.pure

of_files = pytest.mark.parametrize("source", [Source.XML, Source.FILES], ids=lambda source: source.name)


class ServedZone(OneZone):
    """An installed zone that is served."""

    def __init__(self, clock):
        super().__init__(clock)
        self.truth.zone = Zone(None, NAME, "installed", PATHS[0], "u", "joyent", 1)
        self.truth.xml = (1, ())
        self.read(*Source)
        assert self.served() is not None

    def read(self, *sources):
        parts = frozenset().union(*(source.value for source in sources))
        self.change(sources[0], parts, lambda number: None)
        self.tell(1)
        self.settle()

    def pass_time(self, seconds):
        self.clock.advance(seconds)
        self.settle()

    def told(self):
        """What the watcher was told since it was asked last: of these sources."""
        found = set().union(*self.again)
        self.again.clear()
        return found & {Source.XML, Source.FILES}


@pytest.fixture
def zone():
    with made_up_time() as clock:
        made = ServedZone(clock)
        made.told()
        yield made
        made.reloads.stop()
        assert not made.broken


@of_files
def test_files_that_hung(zone, source):
    zone.behaves(source, Manner(gate=Event()))
    zone.read(source)
    zone.pass_time(PATIENCE + 1)
    assert zone.told() == set()
    zone.behaves(source, Manner())
    zone.settle()
    assert zone.told() == {source}


@of_files
def test_files_that_could_not_be_read(zone, source):
    zone.behaves(source, Manner(error=CommandFailed))
    zone.read(source)
    zone.pass_time(60)
    assert zone.told() == set()
    zone.behaves(source, Manner())
    zone.pass_time(120)
    assert source in zone.told()


def test_files_that_could_not_be_read_while_something_else_still_cannot(zone):
    for source in (Source.FILES, Source.ZFS):
        zone.behaves(source, Manner(error=CommandFailed))
    zone.read(Source.FILES, Source.ZFS)
    zone.pass_time(60)
    zone.behaves(Source.FILES, Manner())
    zone.pass_time(120)
    assert (zone.told(), zone.retrying.get(NAME) is None) == ({Source.FILES}, False)


def test_zone_that_a_load_of_all_could_not_read(zone):
    def fail(_extras):
        zone.reloads.take(NAME, LoadError("its files hang", "ETIMEDOUT"), REFRESH, zone.clock.monotonic_ns())

    zone.queue.enqueue(Task("full refresh", fail))
    zone.settle()
    assert (zone.told(), zone.retrying.get(NAME) is None) == (set(), False)
    zone.pass_time(120)
    assert zone.told() == {Source.XML, Source.FILES}


@of_files
def test_files_that_are_read_as_ever_are_not_worth_a_word(zone, source):
    for _ in range(3):
        zone.read(source)
        zone.pass_time(10)
    zone.read(*Source)
    assert zone.told() == set()
