# SPDX-License-Identifier: MPL-2.0
"""The full refresh: loads the node anew beside the running daemon and corrects what events missed.

      due (timer, or asked for) -> load all, events go on -> pause the queue, run it forward -> compare -> resume

Always: events are applied while the refresh loads; the queue is paused only around the comparison, which is a task on
        it like any other writer;
        a zone that was touched since the load began is read again rather than overwritten with older data;
        what the load does not have any more is asked for by itself (secondlook.py): only zoneadm's word about just that
        zone deletes it;
        a load that fails, or one broken zone in it, changes nothing else; the queue is resumed exactly once (C1);
        a refresh never waits for the node to be idle;
        before what differs is compared, the events about it have had time to come: the others were lost;
        after each, also where it found no difference, every watch is of what is at its path (replacedfiles.py)."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Optional, TypedDict

import gevent
from gevent.event import Event as Flag

from vminfod import times
from vminfod.backoff import Backoff
from vminfod.diff import Change
from vminfod.freshness.activity import Activity
from vminfod.freshness.applying import Applied, Applying
from vminfod.freshness.datasetevents import DatasetEvents
from vminfod.freshness.filewatches import FileWatches
from vminfod.freshness.refreshrequests import RefreshRequests
from vminfod.freshness.reloads import Reloads
from vminfod.freshness.replacedfiles import ReplacedFiles
from vminfod.freshness.secondlook import SecondLook
from vminfod.freshness.sysinfo import Sysinfo
from vminfod.freshness.threads import Threads
from vminfod.freshness.turns import Turns
from vminfod.log import Log
from vminfod.meters import Meters
from vminfod.queue import Extras, PauseTimeout, Queue, QueueTimeout, Task
from vminfod.serving.cache import Cache
from vminfod.serving.cause import REFRESH, Cause
from vmload import parts as part
from vmload.loader import Loader, NodeRecords
from vmload.loaderror import LoadError, ZoneGone

_KEPT = 5  # newest entries of the refresh log and of the refresh errors
_PAUSE_LIMIT = 300.0  # seconds, as for fast-forward
_TASK_LIMIT = 290.0

# A refresh asked for by events that concern all VMs (a property set on the pool) comes at once, but not more often
# than this many seconds, or than those that come without being asked for.
_LEAST_BETWEEN = 2.0

# Seconds that events about what a refresh saw have to arrive before they count as lost, and between two looks whether
# they have.
_ON_THE_WAY = 2.0
_LOOK_EVERY = 0.05

# Seconds until one that failed is tried again, then twice as long each time.
_FIRST_RETRY = 2.0


class RefreshError(TypedDict):
    """A member of `refreshErrors` in /status (docs/http-api.md, "Status")."""

    err: str
    time: str
    ago: str


class VmChange(TypedDict, total=False):
    """What a refresh changed of one VM; `changes` of a modify only."""

    zonename: str
    action: str
    changes: list[Change]


class RefreshEntry(TypedDict):
    """A member of `refreshLog` in /status?full."""

    cacheChanges: list[Change]
    vmChanges: list[VmChange]
    started: str
    ended: str
    took: str
    endedAgo: str


@dataclass
class _LogEntry:
    """One refresh that found differences."""

    cache_changes: list[Change]
    vm_changes: list[VmChange]
    started: int
    ended: int = 0

    def add(self, zonename: str, applied: Applied) -> None:
        """What became of one zone."""
        if applied.event == "modify":
            self.vm_changes.append({"zonename": zonename, "action": "modify", "changes": applied.changes})
            self.cache_changes += applied.changes
        elif applied.event is not None:
            self.vm_changes.append({"zonename": zonename, "action": applied.event})

    def dump(self, now: int) -> RefreshEntry:
        return {
            "cacheChanges": self.cache_changes,
            "vmChanges": self.vm_changes,
            "started": times.stamp(self.started),
            "ended": times.stamp(self.ended),
            "took": times.duration(self.ended - self.started),
            "endedAgo": times.duration(now - self.ended),
        }


class Refresh:
    """See the head of the module."""

    def __init__(
        self,
        loader: Loader,
        cache: Cache,
        sysinfo: Sysinfo,
        applying: Applying,
        reloads: Reloads,
        dataset_events: DatasetEvents,
        watches: FileWatches,
        replaced_files: ReplacedFiles,
        requests: RefreshRequests,
        queue: Queue,
        threads: Threads,
        activity: Activity,
        meters: Meters,
        log: Log,
    ):
        self._meters = meters
        self._loader = loader
        self._cache = cache
        self._sysinfo = sysinfo
        self._applying = applying
        self._reloads = reloads
        self._dataset_events = dataset_events
        self._watches = watches
        self._replaced_files = replaced_files
        self._requests = requests
        self._queue = queue
        self._threads = threads
        self._activity = activity
        self._log = log
        self.last: Optional[int] = None  # monotonic ns of the end of the last refresh, or of the first load
        self.failed: Optional[str] = None  # why the last one failed
        self._greenlet: Optional[gevent.Greenlet] = None
        self._second_look = SecondLook(loader, cache, reloads, watches, threads, log)
        self._errors: deque[tuple[int, str]] = deque(maxlen=_KEPT)
        self._entries: deque[_LogEntry] = deque(maxlen=_KEPT)

    def start(self, interval: float) -> None:
        """Refresh from now on; the first load has just ended."""
        self.last = time.monotonic_ns()
        self._greenlet = gevent.spawn(self._run_forever, interval)
        self._greenlet.name = "full refresh"

    def stop(self) -> None:
        """Refresh no more. One that is under way changes nothing any more."""
        if self._greenlet is not None:
            self._greenlet.kill(timeout=1.0)

    def _run_forever(self, interval: float) -> None:
        """Refresh every `interval` seconds after the end of the last, and whenever one is asked for. One that was asked
        for and failed is tried again sooner."""
        backoff = Backoff(_FIRST_RETRY, interval)
        wait = interval
        failed: Optional[Cause] = None  # of the last one, if that is to be made up for
        while True:
            cause = self._requests.wait(wait) or failed
            if self.run(cause):
                backoff.reset()
                wait, failed = interval, None
            else:
                wait, failed = min(backoff.next(), interval), cause or REFRESH
            gevent.sleep(min(_LEAST_BETWEEN, interval))

    def run(self, cause: Optional[Cause]) -> bool:
        """One refresh, with all its errors contained. `cause`: why it was asked for; None: it was due.

        False if it failed although something is known to be stale: the next one must not be long in coming."""
        is_done = self._run(cause)
        try:
            self._replaced_files.look_everywhere(cause or REFRESH)  # whatever became of it: that needs files alone
        except Exception as error:  # noqa: BLE001 boundary: as for the refresh
            self._fail(error)
        return is_done

    def _run(self, cause: Optional[Cause]) -> bool:
        started = time.monotonic_ns()
        done = overflowed = False
        self._log.info("full refresh starts", cause=cause.shown(started) if cause else {"source": "timer"})
        try:
            self._activity.doing("fetching vm cache data")
            overflowed = self._queue.take_overflow()
            with self._dataset_events.reading():
                node = self._threads.node(self._loader.read_all)
                gone = self._second_look.gone(node, started)
                node = self._second_look.put_right(node, started)
                if cause is None:
                    self._await_events(node, gone, started)
                self._compare_paused(node, gone, started, cause)
            done = True
            self.failed = None
            self._meters.refreshes.add((time.monotonic_ns() - started) / 1e9)
            if overflowed:
                self._log.warn("events were dropped because too many waited; the refresh has made up for it")
        except (LoadError, QueueTimeout) as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 boundary: the next refresh may do better, the daemon goes on
            self._fail(error)
        finally:
            self.last = time.monotonic_ns()
            self._reloads.forget_before(started)
            self._activity.doing("working")
            if self._queue.overflowed:
                self._requests.request()
        self._log.info("full refresh ended", took=times.duration(self.last - started))
        return done or (cause is None and not overflowed)

    def _await_events(self, node: NodeRecords, gone: list[str], started: int) -> None:
        """Give the events about what the load saw some time to come. Only a difference about which none has come by
        then was lost; a zone that is touched meanwhile is read again anyway."""
        until = time.monotonic() + _ON_THE_WAY
        turns = Turns()
        differ = list(gone)
        for zonename, records in node.zones.items():
            turns.next()
            if not self._reloads.touched_since(zonename, started) and self._applying.would_change(zonename, records):
                differ.append(zonename)
        while time.monotonic() < until:
            differ = [zonename for zonename in differ if not self._reloads.touched_since(zonename, started)]
            if not differ:
                return
            gevent.sleep(_LOOK_EVERY)

    def _fail(self, error: Exception) -> None:
        self.failed = str(error)
        self._meters.refreshes_failed += 1
        self._errors.append((time.monotonic_ns(), self.failed))
        self._log.error("the refresh failed", err=error)

    def _compare_paused(self, node: NodeRecords, gone: list[str], started: int, cause: Optional[Cause]) -> None:
        """Compare what was loaded since `started` with what is served, in a task of its own on the paused queue."""
        self._activity.doing("pausing the event queue", paused=True)
        try:
            self._queue.pause(_PAUSE_LIMIT)
        except PauseTimeout:
            raise  # the queue runs again already: not to be resumed (C1)
        except BaseException:
            if self._queue.paused:
                self._queue.resume()
            raise
        try:
            compared = Flag()

            def compare(extras: Extras) -> None:
                self._synchronize(node, gone, started, cause, extras)
                compared.set()

            task = Task("full refresh", compare, _TASK_LIMIT)
            if not self._queue.enqueue(task):
                raise LoadError("too many events wait: the refresh cannot be compared")
            now = time.monotonic_ns()
            seconds, nanoseconds = divmod(now, 10**9)
            self._activity.doing(f"fast-forwarding the queue to [{seconds},{nanoseconds}]", paused=True)
            try:
                self._queue.fast_forward(now, _PAUSE_LIMIT)
            except QueueTimeout:
                self._queue.cancel(task)  # first of all: what it still has to apply grows older than what comes (R5)
                raise
            if not compared.is_set():
                raise LoadError("the comparison with what is served failed: see the log")
        finally:
            self._log.info("resuming the event queue")
            self._queue.resume()

    def _synchronize(
        self, node: NodeRecords, gone: list[str], started: int, cause: Optional[Cause], extras: Extras
    ) -> None:
        """The task: correct what differs, ask for a reading where the load's word is not enough."""
        self._activity.doing("comparing vmobj sets", paused=True)
        self._sysinfo.take(node.sysinfo, started)
        entry = _LogEntry([], [], started)
        turns = Turns()
        for zonename, records in node.zones.items():
            turns.next()
            if self._reloads.touched_since(zonename, started):
                self._reloads.mark(zonename, cause=cause or REFRESH)
                continue
            is_followed = self._watches.covers(records.zone)
            old = self._cache.records(zonename)
            applied = self._reloads.take(zonename, records, cause or REFRESH, started)
            entry.add(zonename, applied)
            is_news = applied.event == "modify" and old is not None and old.files != records.files
            if is_news or not is_followed:
                # No event reported it, or would report a change since: the reading sets the watches anew.
                self._watches.drop(zonename)
                self._reloads.mark(zonename, part.OF_FILES, cause=cause or REFRESH)
        self._activity.doing("synchronizing data", paused=True)
        for zonename, error in node.errors.items():
            if self._reloads.touched_since(zonename, started):
                self._reloads.mark(zonename, cause=cause or REFRESH)  # it may have been repaired since
            else:
                self._reloads.take(zonename, error, cause or REFRESH, started)
        for zonename in gone:
            if not self._reloads.touched_since(zonename, started):
                no_more = ZoneGone(f"zone {zonename} is no more")
                entry.add(zonename, self._reloads.take(zonename, no_more, cause or REFRESH, started))
        self._drop_stale_watches(node, started, extras.log)
        entry.ended = time.monotonic_ns()
        if entry.vm_changes:
            self._entries.append(entry)
            if cause is None:
                self._meters.refreshes_found.update(change["action"] for change in entry.vm_changes)
                extras.log.warn(
                    "lost events: the refresh found differences",
                    zones=[change["zonename"] for change in entry.vm_changes],
                )

    def _drop_stale_watches(self, node: NodeRecords, started: int, log: Log) -> None:
        """Those of zones that no longer exist, whether or not their files were ever there (L4)."""
        for zonename in self._watches.zones():
            is_known = zonename in node.zones or zonename in node.errors or self._cache.records(zonename) is not None
            if not is_known and not self._reloads.touched_since(zonename, started):
                log.error("dropping the watches of a zone that is no more", zonename=zonename)
                self._watches.drop(zonename)

    def dump_errors(self, now: int) -> list[RefreshError]:
        """For /status: the newest failures."""
        return [{"err": text, "time": times.stamp(at), "ago": times.duration(now - at)} for at, text in self._errors]

    def dump_log(self, now: int) -> list[RefreshEntry]:
        """For /status?full: the newest refreshes that found differences."""
        return [entry.dump(now) for entry in self._entries]
