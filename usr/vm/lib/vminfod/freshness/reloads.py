# SPDX-License-Identifier: MPL-2.0
"""Which parts of which zones may be stale, and the greenlets that read them anew.

      mark() -> waiting -> reading -> applying -> fresh          one greenlet for each zone that is not fresh
                   ^          |           |
                   |          v error     | marked meanwhile, or one of its sources is late
                   +--- backing off <-----+

While a transaction holds a VM its zone stays in `waiting`, whatever is marked; to end it the whole zone is read.

Always: a zone is read by one greenlet at a time, and what is marked while it reads is read again: the reading may have
        seen the old state;
        reading happens outside the queue, so that a command that hangs for one zone keeps no other from being read;
        what was read is applied by a task on the queue, the only writer of the cache;
        what could not be applied because a transaction holds the VM is read again, and whoever waits for it waits on.
Not here: which event makes what stale (staleness.py), how a zone's sources are read, and what is shown while one hangs
(zonereading.py), what becomes of a reading (applying.py), when one that failed is tried again (retrying.py)."""

from __future__ import annotations

import time
from collections.abc import Collection
from functools import partial
from typing import Optional

import gevent

from vminfod import times
from vminfod.bunyan import DEBUG
from vminfod.freshness import onqueue
from vminfod.freshness.applying import Applied, Applying, Found
from vminfod.freshness.datasetevents import DatasetEvents
from vminfod.freshness.filewatches import FileWatches
from vminfod.freshness.retrying import Retrying
from vminfod.freshness.stale import Question, cause_of
from vminfod.freshness.threads import Threads
from vminfod.freshness.zonereading import ZoneReading
from vminfod.log import Log
from vminfod.queue import Queue
from vminfod.serving.cache import Cache
from vminfod.serving.cause import REFRESH, Cause
from vminfod.serving.holds import Holds
from vmload import parts as part
from vmload.loaderror import LoadError, XmlGone, ZoneGone
from vmload.records import ZoneRecords
from vmload.zonesources import ZoneSources

# Turns of the loop that a reading lets the queue have before it begins. A change makes several events mostly, such as
# of a file and of its folder, and an event needs two turns: so one reading serves all. Not more: a task can take long.
_TURNS = 8


class NotInTime(Exception):
    """The zone has not been read so soon."""


class Reloads:
    """See the head of the module."""

    def __init__(
        self,
        sources: ZoneSources,
        cache: Cache,
        holds: Holds,
        applying: Applying,
        retrying: Retrying,
        dataset_events: DatasetEvents,
        queue: Queue,
        watches: FileWatches,
        threads: Threads,
        log: Log,
    ):
        self._sources = sources
        self._cache = cache
        self._holds = holds
        self._applying = applying
        self._retrying = retrying
        self._dataset_events = dataset_events
        self._queue = queue
        self._watches = watches
        self._threads = threads
        self._log = log
        # A zone is in _readings exactly as long as its greenlet is in _greenlets.
        self._readings: dict[str, ZoneReading] = {}
        self._greenlets: dict[str, gevent.Greenlet] = {}
        self._touched_at: dict[str, int] = {}  # monotonic ns of the last mark or reading; see forget_before()
        self._stopped = False

    # Marking.

    def mark(
        self, zonename: str, parts: Collection[str] = part.ALL, datasets: Collection[str] = (), *, cause: Cause
    ) -> None:
        """`parts` of the zone may be stale, and what zfs says of `datasets`. Returns at once."""
        self._touched_at[zonename] = time.monotonic_ns()
        reading = self._reading(zonename)
        reading.mark(parts, datasets, cause)
        if reading.fails(parts, datasets):
            self._retrying.wake(zonename)
        self._start(zonename)

    def read_fresh(self, zonename: str, cause: Cause, timeout: float) -> None:
        """Read all of the zone and apply it. Raises the LoadError of a reading that began after the call, or NotInTime
        after `timeout` seconds."""
        question = Question()
        self._reading(zonename).marked.questions.append(question)
        self.mark(zonename, cause=cause)
        question.answer.wait(timeout)
        if not question.answer.ready():
            raise NotInTime
        error: Optional[LoadError] = question.answer.get()
        if error is not None:
            raise error

    def busy(self) -> list[str]:
        """The zones that are not fresh, but for those that wait for the end of a transaction."""
        return [zonename for zonename in self._readings if self._holds.is_readable(zonename)]

    def new_and_late(self) -> list[str]:
        """The zones that exist, and are not served yet as something of them takes long to be read."""
        return [zonename for zonename, reading in self._readings.items() if reading.sources.is_new_and_late]

    def touched_since(self, zonename: str, moment: int) -> bool:
        """Whether what a load that began at `moment` (monotonic ns) says of the zone may be older than what we have, or
        will have soon: at the end of a transaction all of the VM is read."""
        if zonename in self._readings or self._holds.holder(zonename) is not None:
            return True
        return self._touched_at.get(zonename, -1) >= moment

    def forget_before(self, moment: int) -> None:
        """No load that began before `moment` will be compared any more."""
        self._touched_at = {zonename: at for zonename, at in self._touched_at.items() if at >= moment}

    def stop(self) -> None:
        """End all greenlets. What they read is lost with the cache."""
        self._stopped = True
        gevent.killall(list(self._greenlets.values()), block=False)

    # Taking in what was read. On the queue.

    def take(self, asked: str, found: Found, cause: Optional[Cause], since: int, *, is_whole: bool = True) -> Applied:
        """Apply what a reading that began at `since` (monotonic ns) found of the zone that was `asked` for; read it
        again if it cannot be applied, or if events about datasets came meanwhile that it was not known to use.
        `is_whole`: none of its sources fails."""
        zonename = found.zone.zonename if isinstance(found, ZoneRecords) else asked
        old = self._cache.records(zonename)
        applied = self._applying.apply(asked, found, cause, is_whole=is_whole)
        if applied.is_kept_back:
            self.mark(zonename, cause=cause or REFRESH)
        elif applied.error is not None:
            self._retry(asked, applied.error)
        elif isinstance(found, ZoneRecords):
            new = found.datasets.keys() - (old.datasets.keys() if old is not None else ())
            for dataset, why in self._dataset_events.since(since, new):
                self.mark(zonename, (), {dataset}, cause=why)
        return applied

    def _retry(self, zonename: str, error: LoadError) -> None:
        """Its own greenlet knows what to read again; where another load failed, that is all of the zone."""
        if zonename not in self._greenlets:
            self._reading(zonename).refuse(error)
            self._start(zonename)

    # Reading.

    def _reading(self, zonename: str) -> ZoneReading:
        reading = self._readings.get(zonename)
        if reading is None:
            old, looks = partial(self._cache.records, zonename), self._watches.look
            reading = ZoneReading(zonename, self._sources, self._threads, self._log, old, looks)
            self._readings[zonename] = reading
        return reading

    def _start(self, zonename: str) -> None:
        if zonename not in self._greenlets and not self._stopped:
            greenlet = gevent.Greenlet(self._make_fresh, zonename, self._readings[zonename])
            greenlet.name = f"reload of {zonename}"
            self._greenlets[zonename] = greenlet
            greenlet.start()

    def _make_fresh(self, zonename: str, reading: ZoneReading) -> None:
        """Read and apply until nothing of the zone is stale. The greenlet of that zone."""
        started: Optional[int] = None  # since when events about datasets are remembered for it
        try:
            while reading.is_stale:
                if self._waits(zonename, reading):
                    continue
                self._let_others_mark()
                while self._holds.keeps_back(zonename, reading.cause):
                    self._holds.wait_for_news(zonename)
                if started is None:
                    started = self._dataset_events.begin()
                self._read_and_take(zonename, reading, started)
                if not reading.is_going:
                    self._dataset_events.end(started)
                    started = None
        finally:
            if started is not None:
                self._dataset_events.end(started)
            reading.sources.stop()
            # No switch between the last look at the reading and here: a mark that comes now starts a new greenlet.
            del self._readings[zonename], self._greenlets[zonename]

    def _waits(self, zonename: str, reading: ZoneReading) -> bool:
        """Wait if there is nothing to do now; whether that is so. What has failed is tried again when it is time."""
        if reading.can_go_on or reading.sources.answers():
            return False
        due = self._retrying.due(zonename) if reading.sources.failed else None
        if due is not None and due <= time.monotonic():
            reading.sources.retry()
            return False
        reading.wait(due)
        return True

    def _let_others_mark(self) -> None:
        """Let the tasks of events that have come with the one that began this run first."""
        for _ in range(_TURNS):
            if not self._queue.busy:
                return
            gevent.sleep(0)

    def _read_and_take(self, zonename: str, reading: ZoneReading, since: int) -> None:
        """Read what is stale, as far as it can be read soon, and apply it."""
        try:
            reading.run()
        except ZoneGone as gone:
            if self._apply(zonename, reading, gone, reading.cause, since, f"delete {zonename}"):
                reading.end()
            return
        self._hear_failures(zonename, reading)
        xml_gone, answers, found = reading.sources.news_of_no_xml(), reading.sources.answers(), reading.sources.known()
        if xml_gone is not None:
            self._apply(zonename, reading, xml_gone, reading.cause, since, f"refresh {zonename} - without XML")
        elif answers and found is not None:
            wants = [asking.want for asking in answers]
            what = ", ".join(sorted(set().union(*(want.parts | want.datasets for want in wants))))
            if self._apply(zonename, reading, found, cause_of(wants), since, f"refresh {zonename} - [{what}]"):
                reading.sources.take()
                self._watches.answers_again(found.zone, {one.source for one in answers if one.was_late})
                if self._log.writes(DEBUG):
                    took = times.duration(time.monotonic_ns() - since)
                    how_far = "zone is fresh" if not reading.is_stale else "zone is fresh in part"
                    self._log.debug(how_far, zonename=zonename, parts=what, took=took)

    def _hear_failures(self, zonename: str, reading: ZoneReading) -> None:
        """Who asked for what failed hears of it, and so does whoever tries it again."""
        for want, error in reading.new_failures():
            if isinstance(error, XmlGone) or self._applying.apply(zonename, error, want.cause).is_kept_back:
                continue  # the one is no fault, and not of the VM that is held
            want.hear(error)
            if want.questions:
                self._retrying.wake(zonename)

    def _apply(
        self, zonename: str, reading: ZoneReading, found: Found, cause: Optional[Cause], since: int, description: str
    ) -> bool:
        """take() as a task on the queue, and whether that is done. If not, all of the zone is to be read again."""
        why, is_whole = cause or REFRESH, not reading.sources.failed
        if not isinstance(found, XmlGone):
            self._touched_at[zonename] = time.monotonic_ns()
        try:
            applied = onqueue.run(
                self._queue, description, lambda: self.take(zonename, found, why, since, is_whole=is_whole)
            )
        except Exception as unexpected:  # noqa: BLE001 boundary: the queue has logged it; this zone is tried again
            failure = LoadError(f"what was read could not be applied: {unexpected}", "INTERNAL")
            applied = self._applying.apply(zonename, failure, why)
        if applied.is_kept_back:
            reading.put_back()
        elif applied.error is not None:
            reading.refuse(applied.error)
        return not applied.is_kept_back and applied.error is None
