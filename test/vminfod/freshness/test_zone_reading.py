# SPDX-License-Identifier: MPL-2.0
"""Which source of a zone is asked for what, and what is to be taken of the answers: the sources are a stand-in, and who
asks them is real."""

import gevent
import mock
import pytest
from gevent.event import Event

from support.deadlines import SOON
from support.madeuptime import made_up_time
from support.recording_log import RecordingLog
from vminfod.freshness import sourcereading
from vminfod.freshness.threads import Threads
from vminfod.freshness.zonereading import ZoneReading
from vminfod.serving.cause import REFRESH, TRANSACTION, Cause
from vmload import parts as part
from vmload.filereads import FileReads
from vmload.loaderror import CommandFailed, LoadError, ZoneGone
from vmload.records import FileRecords, Zone, ZoneRecords
from vmload.zonesources import Source, ZoneSources

pytestmark = pytest.mark.pure

ZONE = Zone(1, "z", "running", "/zones/z", "z", "joyent", 0)
HALTED = ZONE._replace(zoneid=None, state="installed")
ALL = set(Source)
END = Cause(TRANSACTION)
PATIENCE = 0.1


class Reading(ZoneReading):
    """Of a zone that is served as running. `asked`: the sources, in order. A source in `held` answers once it is let;
    `zone`: what zoneadm says, or raises."""

    def __init__(self, old=None, *held):
        self.asked, self.zone = [], ZONE
        self.errors = {}  # source -> what it raises
        self.held = {source: Event() for source in held}
        sources = mock.create_autospec(ZoneSources, instance=True)
        sources.find.side_effect = lambda *_: self._answer_of(Source.ZONEADM)
        sources.ask.side_effect = lambda source, *_: self._answer_of(source)
        served = ZoneRecords(ZONE, FileRecords(xml={})) if old is None else None
        super().__init__("z", sources, Threads(FileReads(20)), RecordingLog(), lambda: served)

    def _answer_of(self, source):
        self.asked.append(source)
        if source in self.held:
            self.held[source].wait()
        if source in self.errors:
            raise self.errors[source]
        return self.zone if source is Source.ZONEADM else lambda records: records

    def read(self, parts=part.ALL):
        """The sources whose answers are to be taken then."""
        self.mark(parts, (), REFRESH)
        with gevent.Timeout(SOON):
            self.run()
        return {asking.source for asking in self.sources.answers()}


@pytest.fixture(autouse=True)
def little_patience(monkeypatch):
    monkeypatch.setattr(sourcereading, "PATIENCE", PATIENCE)


def test_each_source_is_asked_once():
    reading = Reading()
    assert reading.read() == ALL
    assert sorted(reading.asked, key=list(Source).index) == list(Source)


@pytest.mark.parametrize("late", list(Source), ids=lambda source: source.name)
def test_whatever_source_is_late_the_others_are_taken_and_it_follows(late):
    reading = Reading(None, late)
    assert reading.read() == ALL - {late}
    reading.sources.take()
    assert reading.read({part.JSON}) == ({Source.FILES} - {late})
    reading.held[late].set()
    with gevent.Timeout(SOON):
        while not reading.can_go_on:
            reading.wait(None)
        reading.sources.take()
        reading.run()
    assert late in {asking.source for asking in reading.sources.answers()}


@pytest.mark.parametrize("failing", list(Source), ids=lambda source: source.name)
def test_source_that_fails_is_given_its_time_and_then_waited_for_no_more(failing):
    reading = Reading()
    reading.errors[failing] = CommandFailed("it fails")
    reading.mark(part.ALL, (), REFRESH)
    with gevent.Timeout(SOON):
        while not reading.sources.answers():
            reading.run()
            reading.wait(None)
    assert {asking.source for asking in reading.sources.answers()} == ALL - {failing}
    assert set(reading.sources.failed) == {failing}


def test_source_that_becomes_late_right_after_the_last_look_is_waited_for_no_more():
    with made_up_time() as clock:
        reading = Reading()
        reading.errors[Source.XML] = LoadError("it fails")
        reading.mark(part.ALL, (), REFRESH)
        reading.run()
        assert reading.sources.answers() == [], "it is not late yet"
        clock.advance(PATIENCE)
        waiting = gevent.spawn(reading.wait, None)
        gevent.sleep(0)
        clock.advance(0.001)
        with gevent.Timeout(SOON):
            waiting.join()
        assert {asking.source for asking in reading.sources.answers()} == ALL - {Source.XML}


def test_what_may_be_older_than_the_record_is_asked_for_again():
    reading = Reading()
    reading.zone = HALTED
    assert reading.read() == ALL
    assert reading.asked.count(Source.ZONEADM) == 1
    assert [reading.asked.count(source) for source in Source if source is not Source.ZONEADM] == [2, 2, 2, 2]
    assert reading.sources.known().zone == HALTED


def test_after_a_zone_event_nothing_is_asked_twice():
    reading = Reading()
    reading.zone = HALTED
    assert reading.read({part.ZONEADM, part.ZONEXML}) == {Source.ZONEADM, Source.XML, Source.KSTAT}
    assert reading.asked == [Source.ZONEADM, Source.XML, Source.KSTAT], "the zoneid is another, and so the statistics"


@pytest.mark.parametrize(("cause", "asked"), [(REFRESH, [Source.ZONEADM, Source.FILES]), (END, [Source.ZONEADM])])
def test_what_is_marked_while_zoneadm_is_asked_is_read_with_it_unless_it_ends_a_transaction(cause, asked):
    reading = Reading(None, Source.ZONEADM)
    reading.mark({part.ZONEADM}, (), REFRESH)
    running = gevent.spawn(reading.run)
    with gevent.Timeout(SOON):
        while not reading.asked:
            gevent.sleep(0)
        reading.mark({part.JSON}, (), cause)
        reading.held[Source.ZONEADM].set()
        running.join()
    assert reading.asked == asked
    assert bool(reading.marked) == (cause is END), "the end of a transaction is read as a whole, by the next run"


def test_zone_that_is_gone_waits_for_none_of_its_sources():
    reading = Reading(None, Source.FILES, Source.XML, Source.ZFS, Source.KSTAT)
    reading.errors[Source.ZONEADM] = ZoneGone("no such zone")
    with pytest.raises(ZoneGone):
        reading.read()
    reading.end()
    assert not reading.is_stale


def test_of_a_zone_that_is_new_nothing_is_taken_before_all_is_known():
    reading = Reading("new", Source.FILES)
    reading.mark(part.ALL, (), REFRESH)
    running = gevent.spawn(reading.run)
    with gevent.Timeout(SOON):
        while not reading.sources.is_new_and_late:
            gevent.sleep(0.001)
        assert not running.ready() and reading.sources.answers() == []
        reading.held[Source.FILES].set()
        running.join()
    assert {asking.source for asking in reading.sources.answers()} == ALL
