# SPDX-License-Identifier: MPL-2.0
"""Which parts of which zones may be stale, and the greenlets that read them anew.

      mark() -> waiting -> reading -> applying -> fresh          one greenlet for each zone that is not fresh
                   ^          |           |
                   |          v error     | marked meanwhile
                   +--- backing off <-----+

While a transaction holds a VM its zone stays in `waiting`, whatever is marked; to end it the whole zone is read.

Always: a zone is read by one greenlet at a time, and what is marked while it reads is read again: the reading may have
        seen the old state. While zfs hangs the rest is read beside it, and served ahead of it;
        reading happens outside the queue, so that a command that hangs for one zone keeps no other from being read;
        what was read is applied by a task on the queue, the only writer of the cache;
        what could not be applied because a transaction holds the VM is read again, and whoever waits for it waits on.
Not here: which event makes what stale (staleness.py), what becomes of a reading (applying.py), when one that failed is
tried again (retrying.py)."""

from __future__ import annotations

import time
from collections.abc import Collection
from functools import partial
from typing import Optional

import gevent

from vminfod import times
from vminfod.freshness import onqueue
from vminfod.freshness.applying import Applied, Applying, Found
from vminfod.freshness.datasetevents import DatasetEvents
from vminfod.freshness.filewatches import FileWatches, watched_for
from vminfod.freshness.retrying import Retrying
from vminfod.freshness.stale import Question, Stale
from vminfod.freshness.threads import Threads
from vminfod.log import Log
from vminfod.queue import Queue
from vminfod.serving.cache import Cache
from vminfod.serving.cause import REFRESH, Cause
from vminfod.serving.holds import Holds
from vmload import parts as part
from vmload.loader import Identities, Loader, Look
from vmload.loaderror import LoadError, XmlGone, ZoneGone
from vmload.records import Zone, ZoneRecords
from vmload.used import used_by

# Turns of the loop that a reading lets the queue have before it begins. A change makes several events mostly, such as
# of a file and of its folder, and an event needs two turns: so one reading serves all. Not more: a task can take long.
_TURNS = 8

# Seconds that zfs may take before the rest of a zone is served ahead of it, and between two looks whether there is more
# to serve. A list of one VM takes some ten milliseconds.
_PATIENCE = 2.0


class NotInTime(Exception):
    """The zone has not been read so soon."""


class _NotWatched(LoadError):
    """The zone was dropped, or its watches were, while it was read ahead."""


class Reloads:
    """See the head of the module."""

    def __init__(
        self,
        loader: Loader,
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
        self._loader = loader
        self._cache = cache
        self._holds = holds
        self._applying = applying
        self._retrying = retrying
        self._dataset_events = dataset_events
        self._queue = queue
        self._watches = watches
        self._threads = threads
        self._log = log
        # A zone is in _stale exactly as long as its greenlet is in _greenlets.
        self._stale: dict[str, Stale] = {}
        self._greenlets: dict[str, gevent.Greenlet] = {}
        self._touched_at: dict[str, int] = {}  # monotonic ns of the last mark or reading; see forget_before()
        self._stopped = False

    # Marking.

    def mark(
        self, zonename: str, parts: Collection[str] = part.ALL, datasets: Collection[str] = (), *, cause: Cause
    ) -> None:
        """`parts` of the zone may be stale, and what zfs says of `datasets`. Returns at once."""
        self._touched_at[zonename] = time.monotonic_ns()
        self._entry(zonename).add(parts, datasets, cause)
        self._retrying.wake(zonename)
        self._start(zonename)

    def read_fresh(self, zonename: str, cause: Cause, timeout: float) -> None:
        """Read all of the zone and apply it. Raises the LoadError of a reading that began after the call, or NotInTime
        after `timeout` seconds."""
        question = Question()
        self._entry(zonename).questions.append(question)
        self.mark(zonename, cause=cause)
        question.answer.wait(timeout)
        if not question.answer.ready():
            raise NotInTime
        error: Optional[LoadError] = question.answer.get()
        if error is not None:
            raise error

    def busy(self) -> list[str]:
        """The zones that are not fresh, but for those that wait for the end of a transaction."""
        return [zonename for zonename in self._stale if self._holds.is_readable(zonename)]

    def touched_since(self, zonename: str, moment: int) -> bool:
        """Whether what a load that began at `moment` (monotonic ns) says of the zone may be older than what we have, or
        will have soon: at the end of a transaction all of the VM is read."""
        if zonename in self._stale or self._holds.holder(zonename) is not None:
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

    def take(self, asked: str, found: Found, cause: Optional[Cause], since: int) -> Applied:
        """Apply what a reading that began at `since` (monotonic ns) found of the zone that was `asked` for; read it
        again if it cannot be applied, or if events about datasets came meanwhile that it was not known to use."""
        zonename = found.zone.zonename if isinstance(found, ZoneRecords) else asked
        old = self._cache.records(zonename)
        applied = self._applying.apply(asked, found, cause)
        if applied.is_kept_back:
            self.mark(zonename, cause=cause or REFRESH)
        elif applied.error is not None:
            self._retry(asked)
        elif isinstance(found, ZoneRecords):
            new = found.datasets.keys() - (old.datasets.keys() if old is not None else ())
            for dataset, why in self._dataset_events.since(since, new):
                self.mark(zonename, (), {dataset}, cause=why)
        return applied

    def _retry(self, zonename: str) -> None:
        """Its own greenlet knows what to read again; where another load failed, that is all of the zone."""
        if zonename not in self._greenlets:
            self._entry(zonename).add(part.ALL, (), None)
            self._start(zonename, waits_first=True)

    # Reading.

    def _entry(self, zonename: str) -> Stale:
        return self._stale.setdefault(zonename, Stale())

    def _start(self, zonename: str, *, waits_first: bool = False) -> None:
        if zonename not in self._greenlets and not self._stopped:
            greenlet = gevent.Greenlet(self._make_fresh, zonename, waits_first)
            greenlet.name = f"reload of {zonename}"
            self._greenlets[zonename] = greenlet
            greenlet.start()

    def _make_fresh(self, zonename: str, waits_first: bool) -> None:
        """Read and apply until nothing of the zone is stale. The greenlet of that zone."""
        try:
            if waits_first:
                self._retrying.wait(zonename)
            while self._stale[zonename]:
                self._let_others_mark()
                while self._holds.keeps_back(zonename, self._stale[zonename].cause):
                    self._holds.wait_for_news(zonename)
                stale, self._stale[zonename] = self._stale[zonename], Stale()
                applied = self._read_patiently(zonename, stale)
                if applied.is_kept_back:
                    self._put_back(zonename, stale)
                    continue
                stale.answer(applied.error)
                if applied.error is not None:
                    self._back_off(zonename, stale)
        finally:
            # No switch between the last look at _stale and here: a mark that comes now starts a new greenlet.
            del self._stale[zonename], self._greenlets[zonename]

    def _let_others_mark(self) -> None:
        """Let the tasks of events that have come with the one that began this run first."""
        for _ in range(_TURNS):
            if not self._queue.busy:
                return
            gevent.sleep(0)

    def _back_off(self, zonename: str, failed: Stale) -> None:
        """What could not be read is stale again, together with what was marked meanwhile."""
        is_marked = bool(self._stale[zonename]) or bool(failed.questions)
        self._put_back(zonename, failed)
        self._retrying.wait(zonename, is_marked=is_marked)

    def _put_back(self, zonename: str, stale: Stale) -> None:
        """It is stale again. What was served ahead of the reading that is over says nothing of the next."""
        again = Stale()
        for one in (stale, self._stale[zonename]):
            again.add_all(one)
        self._stale[zonename] = again

    def _read_patiently(self, zonename: str, stale: Stale) -> Applied:
        """As _read_and_take(). While zfs hangs, the rest of the zone is served beside what zfs said before."""
        if not stale.needs_zfs or self._cache.records(zonename) is None:
            return self._read_and_take(zonename, stale)
        reading = gevent.spawn(self._read_and_take, zonename, stale)
        reading.name = f"reading of {zonename}"
        served_at: Optional[int] = None  # of the marks
        try:
            while not reading.ready():
                reading.join(_PATIENCE)
                touched_at = self._touched_at.get(zonename)
                if not reading.ready() and touched_at != served_at and not self._zoneadm_runs(zonename):
                    served_at = touched_at
                    self._take_ahead(zonename, stale)
            applied: Applied = reading.get()
            return applied
        finally:
            reading.kill(block=False)

    def _zoneadm_runs(self, zonename: str) -> bool:
        """Whether zoneadm is being asked about the zone. Where it hangs another that is asked the same would, too."""
        return any(one.words[0] == "zoneadm" and zonename in one.words for one in self._loader.running())

    def _take_ahead(self, zonename: str, hanging: Stale) -> None:
        """Serve what can be read of the zone without zfs, unless the reading that hangs has been taken by then. Nothing
        is fresh by that: all that was marked is read again after it."""
        newer = self._stale[zonename]
        parts = (hanging.parts | newer.parts) - {part.DATASETS}
        is_one = hanging.ends_transaction or newer.ends_transaction or not self._holds.is_readable(zonename)
        if not parts or is_one:
            return
        started, cause = time.monotonic_ns(), newer.cause or hanging.cause or REFRESH
        found = self._read(zonename, Stale(parts))
        if isinstance(found, LoadError) and not isinstance(found, (ZoneGone, XmlGone)):
            return  # who reads all of the zone comes upon it, too

        def take() -> Applied:
            if hanging.is_taken:
                return Applied()
            known = self._retrying.get(zonename)
            applied = self.take(zonename, found, cause, started)
            if known is not None and isinstance(found, ZoneRecords):
                self._retrying.still(zonename, known)
            hanging.ahead = hanging.ahead or not applied.is_kept_back
            return applied

        what = f"refresh {zonename} - [{', '.join(sorted(parts))}] ahead of zfs"
        try:
            onqueue.run(self._queue, what, take)
        except Exception as unexpected:  # noqa: BLE001 boundary: the queue has logged it; all of the zone is read again
            self._log.debug("what was read could not be served ahead of zfs", zonename=zonename, err=unexpected)

    def _take_behind(self, zonename: str, found: Found, cause: Cause, since: int, stale: Stale) -> Applied:
        """take() of a reading of which something may have been served ahead: of it only what zfs says is news. If what
        is served by now uses other datasets, all is read once more."""
        stale.is_taken = True
        if stale.ahead and isinstance(found, ZoneRecords):
            served = self._cache.records(zonename)
            joined = None if served is None else served._replace(datasets=found.datasets)
            if joined is None or used_by(joined) != used_by(found):
                self._entry(zonename).add_all(stale)
                stale.questions = []
                return Applied()
            found = joined
        return self.take(zonename, found, cause, since)

    def _read_and_take(self, zonename: str, stale: Stale) -> Applied:
        """Read what is stale and apply it."""
        cause = stale.cause or REFRESH
        with self._dataset_events.reading() as started:
            found = self._read(zonename, stale)
            if isinstance(found, LoadError) and not isinstance(found, (ZoneGone, XmlGone)):
                return self._applying.apply(zonename, found, cause)  # which changes nothing that is served
            if not isinstance(found, XmlGone):
                self._touched_at[zonename] = time.monotonic_ns()
            what = f"refresh {zonename} - [{', '.join(sorted(stale.parts | stale.datasets))}]"
            description = f"delete {zonename}" if isinstance(found, LoadError) else what
            try:
                applied = onqueue.run(
                    self._queue, description, lambda: self._take_behind(zonename, found, cause, started, stale)
                )
            except Exception as unexpected:  # noqa: BLE001 boundary: the queue has logged it; this zone is tried again
                failure = LoadError(f"what was read could not be applied: {unexpected}", "INTERNAL")
                return self._applying.apply(zonename, failure, cause)
        if applied.error is None and not applied.is_kept_back:
            took = times.duration(time.monotonic_ns() - started)
            self._log.debug("zone is fresh", zonename=zonename, parts=sorted(stale.parts), took=took)
        return applied

    def _read(self, zonename: str, stale: Stale) -> Found:
        """What is stale of the zone, read anew."""
        try:
            old = self._cache.records(zonename)
            if old is not None and part.ZONEADM not in stale.parts:
                return self._read_of(old.zone, old, stale)
            if old is not None and part.DATASETS in stale.parts and self._watches.covers(old.zone):
                return self._read_all_beside(old, stale)
            return self._read_of(self._loader.find(zonename, self._threads), old, stale)
        except LoadError as error:
            return error
        except Exception as error:  # noqa: BLE001 boundary: a fault of ours in one zone's reading must not stop the rest
            self._log.error("reading a zone failed unexpectedly", zonename=zonename, err=error)
            return LoadError(f"{type(error).__name__}: {error}", "INTERNAL")

    def _read_of(self, zone: Zone, old: Optional[ZoneRecords], stale: Stale, *, is_ahead: bool = False) -> ZoneRecords:
        """What is stale of the zone whose record is known. `is_ahead`: it may be gone, and dropped meanwhile; then
        nothing of it is watched anew."""
        parts, look = stale.parts, None
        if not part.OF_FILES.isdisjoint(parts) or not self._watches.covers(zone):
            if not self._watches.covers(zone):  # before any of its files is read
                self._watch(zone, is_ahead, self._loader.identities(zone, watched_for(zone), self._threads))
            look = Look(watched_for(zone), partial(self._watch, zone, is_ahead))
        return self._loader.read(zone, self._threads, old, parts, stale.datasets, look)

    def _watch(self, zone: Zone, is_ahead: bool, seen: Identities) -> bool:
        """Watch the files of the zone, of which these were `seen`; whether they were watched already, so that a change
        since they were read is reported. What comes while a folder is watched anew is seen by one look more."""
        if is_ahead and not self._watches.covers(zone):
            raise _NotWatched(f"the files of zone {zone.zonename} are watched no more")
        return not self._watches.set(zone, seen)

    def _read_all_beside(self, old: ZoneRecords, stale: Stale) -> ZoneRecords:
        """zoneadm beside all the rest, read where it was before. If zoneadm gives another record it is read once more:
        nothing that is shown beside a state may be older than that."""
        ahead = self._threads.beside(lambda: self._read_of(old.zone, old, stale, is_ahead=True))
        zone = self._loader.find(old.zone.zonename, self._threads)  # if it is gone the rest is not waited for
        if zone == old.zone:
            try:
                return ahead()
            except _NotWatched:
                self._log.debug("watched no more while it was read: reading it again", zonename=zone.zonename)
        return self._read_of(zone, old, stale)
