# SPDX-License-Identifier: MPL-2.0
"""Which parts of which zones may be stale, and the greenlets that read them anew.

      mark() -> waiting -> reading -> applying -> fresh          one greenlet for each zone that is not fresh
                   ^          |           |
                   |          v error     | marked meanwhile
                   +--- backing off <-----+

Always: a zone is read by one greenlet at a time, and what is marked while it reads is read again: the reading may have
        seen the old state;
        reading happens outside the queue, so that a command that hangs for one zone keeps nobody else from being read;
        an event about a dataset that comes before it is known which zone uses it, because that one is just being read,
        is remembered until that reading is applied;
        what was read is applied by a task on the queue, the only writer of the cache;
        what cannot be read leaves the old object served, an entry in `errors`, and a try again later.
        A zone is dropped only when zoneadm says that it does not exist, or its XML is gone.
Not here: which event makes what stale (staleness.py)."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, Optional

import gevent
from gevent.event import Event as Flag

from vminfod import times
from vminfod.freshness.filewatches import Watches
from vminfod.freshness.sysinfo import Sysinfo
from vminfod.freshness.threads import Threads
from vminfod.log import Log
from vminfod.queue import Extras, Queue, Task
from vminfod.serving.cache import Cache
from vminfod.serving.cause import REFRESH, Cause
from vmload import parts as part
from vmload.datasets import covers
from vmload.loader import Loader, assemble
from vmload.loaderror import LoadError, XmlGone, ZoneGone
from vmload.records import ZoneRecords

# Seconds until a zone that could not be read is tried again; doubled each time, with jitter.
_FIRST_RETRY = 1.0
_LAST_RETRY = 60.0
_LASTING = 3  # failures in a row, some seconds

# Events about datasets that are remembered while zones are read, some hundred bytes each.
_EVENTS_MOST = 5000


@dataclass
class _Stale:
    """What is to be read of one zone. `cause` is the first that came; `waiters` are told when it is applied."""

    parts: set[str] = field(default_factory=set)
    datasets: set[str] = field(default_factory=set)
    cause: Optional[Cause] = None
    waiters: list[Flag] = field(default_factory=list)

    def add(self, parts: Iterable[str], datasets: Iterable[str], cause: Optional[Cause]) -> None:
        self.parts.update(parts)
        self.datasets.update(datasets)
        self.cause = self.cause or cause

    def __bool__(self) -> bool:
        return bool(self.parts or self.datasets)


@dataclass
class ZoneError:
    """Why a zone could not be read. `since`: monotonic nanoseconds of the first failure in a row."""

    error: LoadError
    since: int
    tries: int = 1

    @property
    def lasts(self) -> bool:
        """Whether it is a fault, and not just a zone that is being made or unmade."""
        return not isinstance(self.error, XmlGone) or self.tries >= _LASTING

    def dump(self, now: int) -> dict[str, Any]:
        """For /status."""
        return {
            "err": str(self.error),
            "code": self.error.code,
            "tries": self.tries,
            "since": times.stamp(self.since),
            "ago": times.duration(now - self.since),
        }


class Reloads:
    """See the head of the module."""

    def __init__(
        self,
        loader: Loader,
        cache: Cache,
        sysinfo: Sysinfo,
        queue: Queue,
        watches: Watches,
        threads: Threads,
        log: Log,
    ):
        self._loader = loader
        self._cache = cache
        self._sysinfo = sysinfo
        self._queue = queue
        self._watches = watches
        self._threads = threads
        self._log = log
        self.errors: dict[str, ZoneError] = {}
        # A zone is in _stale exactly as long as its greenlet is in _greenlets.
        self._stale: dict[str, _Stale] = {}
        self._greenlets: dict[str, gevent.Greenlet] = {}
        self._wake: dict[str, Flag] = {}  # ends the backing off of a zone that is marked again
        self._touched_at: dict[str, int] = {}  # monotonic ns of the last mark or reading; see forget_before()
        # The readings under way, zone -> monotonic ns of its start, and the events about datasets since the oldest of
        # them began: none while there is no reading.
        self._reading: dict[str, int] = {}
        self._dataset_events: deque[tuple[int, str, Cause]] = deque(maxlen=_EVENTS_MOST)
        self._stopped = False

    def mark(
        self, zonename: str, parts: Collection[str] = part.ALL, datasets: Collection[str] = (), *, cause: Cause
    ) -> None:
        """`parts` of the zone may be stale, and what zfs tells of `datasets`. Returns at once."""
        self._mark(zonename, parts, datasets, cause, None)

    def read_fresh(self, zonename: str, cause: Cause, timeout: float) -> bool:
        """Read all of the zone and apply it; False if that took more than `timeout` seconds."""
        done = Flag()
        self._mark(zonename, part.ALL, (), cause, done)
        try:
            return bool(done.wait(timeout))
        finally:
            done.set()  # nobody waits any more: not to be kept for as long as the zone cannot be read

    def dataset_event(self, dataset: str, cause: Cause) -> None:
        """Something happened to `dataset`, whoever uses it."""
        if self._reading:
            self._dataset_events.append((time.monotonic_ns(), dataset, cause))

    def fail(self, zonename: str, error: LoadError) -> None:
        """A load of all could not read the zone: try again later."""
        self._remember(zonename, error)
        stale = self._entry(zonename)
        stale.add(part.ALL, (), None)
        self._start(zonename, first_delay=_delay(self.errors[zonename].tries))

    def busy(self) -> list[str]:
        """The zones that are not fresh."""
        return list(self._stale)

    def touched_since(self, zonename: str, moment: int) -> bool:
        """Whether what a load that began at `moment` (monotonic ns) says of the zone may be older than what we have, or
        will have soon."""
        return zonename in self._stale or self._touched_at.get(zonename, -1) >= moment

    def forget_before(self, moment: int) -> None:
        """No load that began before `moment` will be compared any more."""
        self._touched_at = {zonename: at for zonename, at in self._touched_at.items() if at >= moment}

    def stop(self) -> None:
        """End all greenlets. What they read is lost with the cache."""
        self._stopped = True
        gevent.killall(list(self._greenlets.values()), block=False)

    def _mark(
        self,
        zonename: str,
        parts: Collection[str],
        datasets: Collection[str],
        cause: Optional[Cause],
        waiter: Optional[Flag],
    ) -> None:
        self._touched_at[zonename] = time.monotonic_ns()
        stale = self._entry(zonename)
        stale.add(parts, datasets, cause)
        if waiter is not None:
            stale.waiters.append(waiter)
        if zonename in self._wake:
            self._wake[zonename].set()
        self._start(zonename)

    def _entry(self, zonename: str) -> _Stale:
        return self._stale.setdefault(zonename, _Stale())

    def _start(self, zonename: str, first_delay: float = 0.0) -> None:
        if zonename not in self._greenlets and not self._stopped:
            greenlet = gevent.Greenlet(self._make_fresh, zonename, first_delay)
            greenlet.name = f"reload of {zonename}"
            self._greenlets[zonename] = greenlet
            greenlet.start()

    def _make_fresh(self, zonename: str, first_delay: float) -> None:
        """Read and apply until nothing of the zone is stale. The greenlet of that zone."""
        try:
            if first_delay:
                self._back_off(zonename, first_delay)
            while self._stale[zonename]:
                stale, self._stale[zonename] = self._stale[zonename], _Stale()
                error = self._once(zonename, stale)
                if error is None:
                    _tell(stale.waiters)
                    continue
                self._remember(zonename, error)
                newer = self._stale[zonename]
                stale.add(newer.parts, newer.datasets, newer.cause)
                stale.waiters = [waiter for waiter in stale.waiters + newer.waiters if not waiter.is_set()]
                self._stale[zonename] = stale
                self._back_off(zonename, _delay(self.errors[zonename].tries))
        finally:
            # No switch between the last look at _stale and here: a mark that comes now starts a new greenlet.
            del self._stale[zonename], self._greenlets[zonename]

    def _once(self, zonename: str, stale: _Stale) -> Optional[LoadError]:
        """Read what is stale and apply it. The error if that failed, else None."""
        self._reading[zonename] = started = time.monotonic_ns()
        try:
            return self._read_and_apply(zonename, stale, started)
        finally:
            del self._reading[zonename]
            oldest = min(self._reading.values(), default=None)
            while self._dataset_events and (oldest is None or self._dataset_events[0][0] < oldest):
                self._dataset_events.popleft()

    def _read_and_apply(self, zonename: str, stale: _Stale, started: int) -> Optional[LoadError]:
        try:
            records = self._read(zonename, stale)
        except ZoneGone:
            records = None
        except XmlGone as error:
            # Not served, which is what a fresh read wants to know; its files stay watched, and it is tried again.
            self._apply(f"delete {zonename}", lambda extras: self._cache.drop(zonename, _cause(stale)))
            _tell(stale.waiters)
            return error
        except LoadError as error:
            return error
        except Exception as error:  # noqa: BLE001 boundary: a fault of ours in one zone's reading must not stop the rest
            self._log.error("reading a zone failed unexpectedly", zonename=zonename, err=error)
            return LoadError(f"{type(error).__name__}: {error}", "INTERNAL")
        self._touched_at[zonename] = time.monotonic_ns()
        outcome: list[Optional[LoadError]] = [LoadError("what was read could not be applied: see the log", "INTERNAL")]
        if records is None:

            def drop(extras: Extras) -> None:
                self._gone(zonename, _cause(stale))
                outcome[0] = None

            self._apply(f"delete {zonename}", drop)
        else:
            found = records

            def serve(extras: Extras) -> None:
                outcome[0] = self._serve(zonename, found, _cause(stale), started)

            self._apply(f"refresh {zonename} - [{', '.join(sorted(stale.parts | stale.datasets))}]", serve)
        if outcome[0] is None:
            self.errors.pop(zonename, None)
            took = times.duration(time.monotonic_ns() - started)
            self._log.debug("zone is fresh", zonename=zonename, parts=sorted(stale.parts), took=took)
        return outcome[0]

    def _read(self, zonename: str, stale: _Stale) -> Optional[ZoneRecords]:
        """What is stale of the zone, read anew; None if it is no VM. Raises LoadError."""
        old = self._cache.records(zonename)
        known = old is not None and part.ZONEADM not in stale.parts
        zone = old.zone if old is not None and known else self._loader.find(zonename, self._threads)
        if zone is None:
            return None
        self._watches.set(zone)  # before any of its files is read
        return self._loader.read(zone, self._threads, old, stale.parts, stale.datasets)

    def _apply(self, description: str, func: Any) -> None:
        """Run `func` as a task on the queue, and wait until it has run."""
        done = Flag()
        while not self._queue.enqueue(Task(description, func, timeout=60.0), done.set):
            # Its twin waits, or the paused queue is full: what was read is not lost, it only waits for a place.
            gevent.sleep(0.1)
        done.wait()

    def _gone(self, zonename: str, cause: Cause) -> None:
        self._watches.drop(zonename)
        self._cache.drop(zonename, cause)

    def _serve(self, asked: str, records: ZoneRecords, cause: Cause, started: int) -> Optional[LoadError]:
        """Serve what a reading that began at `started` gave. `asked` is what zoneadm was asked for: that can be a uuid
        too, of a zone that has another name."""
        zonename = records.zone.zonename
        try:
            vm = assemble(records, self._sysinfo.value)
        except LoadError as error:
            return error
        old = self._cache.records(zonename)
        self._cache.put(zonename, records, vm, cause)
        if asked != zonename:
            self._gone(asked, cause)
        self._mark_changed_meanwhile(records, old, started)
        return None

    def _mark_changed_meanwhile(self, records: ZoneRecords, old: Optional[ZoneRecords], started: int) -> None:
        """Datasets that the zone was not known to use when their events came, after its reading had begun."""
        new = records.datasets.keys() - (old.datasets.keys() if old is not None else ())
        zonename = records.zone.zonename
        if new and len(self._dataset_events) == _EVENTS_MOST:
            self.mark(zonename, {part.DATASETS}, cause=REFRESH)  # the oldest events may be forgotten
        for at, dataset, cause in self._dataset_events:
            if at >= started and any(covers(dataset, parent) or covers(parent, dataset) for parent in new):
                self.mark(zonename, (), {dataset}, cause=cause)

    def _remember(self, zonename: str, error: LoadError) -> None:
        known = self.errors.get(zonename)
        if known is None:
            self.errors[zonename] = ZoneError(error, time.monotonic_ns())
        else:
            known.error, known.tries = error, known.tries + 1
        tries = self.errors[zonename].tries
        # Loud once, then quiet: it is in /status, and tried for ever. A zone without XML is mostly being made or unmade
        # just now, and no trouble unless it stays so.
        is_loud = tries == (_LASTING if isinstance(error, XmlGone) else 1)
        (self._log.error if is_loud else self._log.debug)(
            "cannot read a zone: trying again", zonename=zonename, err=error, tries=tries
        )

    def _back_off(self, zonename: str, seconds: float) -> None:
        """Wait, but no longer than a moment once the zone is marked again."""
        wake = self._wake[zonename] = Flag()
        try:
            gevent.sleep(min(seconds, _FIRST_RETRY) / 2)
            wake.wait(seconds)
        finally:
            del self._wake[zonename]


def _cause(stale: _Stale) -> Cause:
    return stale.cause or Cause("refresh")


def _tell(waiters: list[Flag]) -> None:
    for waiter in waiters:
        waiter.set()
    waiters.clear()


def _delay(tries: int) -> float:
    most: float = min(_LAST_RETRY, _FIRST_RETRY * 2.0 ** min(tries - 1, 10))
    return most * random.uniform(0.75, 1.0)
