# SPDX-License-Identifier: MPL-2.0
"""What the daemon says about itself: the bodies of /status and /health (docs/http-api.md, "Status"). Only looks."""

from __future__ import annotations

import os
import time
from collections import Counter
from functools import partial
from typing import Optional, TypedDict

from jsvalues import dates
from vminfod import metrics, residentsize, times
from vminfod.freshness.activity import Activity
from vminfod.freshness.refresh import Refresh, RefreshEntry, RefreshError
from vminfod.freshness.reloads import Reloads
from vminfod.freshness.retrying import Retrying, ZoneErrorStatus
from vminfod.freshness.sources import Sources
from vminfod.freshness.sysinfo import Sysinfo
from vminfod.freshness.threads import Threads
from vminfod.freshness.zoneindex import ZoneIndex
from vminfod.log import BunyanHandler
from vminfod.meters import Meters
from vminfod.queue import Queue
from vminfod.queuestatus import QueueStatus
from vminfod.serving.cache import Cache
from vminfod.serving.health import STALLED, CommandFacts, Facts, Verdict, verdict
from vminfod.serving.holds import Holds, TransactionStatus
from vminfod.serving.httpserver import Server
from vminfod.serving.hub import Hub, RingStatus
from vminfod.serving.listener import ListenerStatus
from vminfod.watchers.child import ChildStatus
from vminfod.watchers.fswatcher import FsWatcher, FsWatcherDump
from vmload.loader import Loader

_NAMED = 3  # of what runs


class Memory(TypedDict):
    """Bytes."""

    rss: int


class EventsStatus(RingStatus):
    """`waitingBytes`: what the kernel has not taken yet, for all clients."""

    waitingBytes: int


class StatusBody(TypedDict, total=False):
    """The body of /status (docs/http-api.md, "Status"). All of it is there, but for `refreshLog` and `fswatcher`, which
    only /status?full has. What follows `fswatcher` is not the original's."""

    pid: int
    uptime: str
    memory: Memory
    state: str
    status: str
    numVms: int
    curDate: str
    curTime: str
    queue: QueueStatus
    lastRefresh: Optional[str]
    refreshErrors: list[RefreshError]
    eventsListeners: dict[str, ListenerStatus]
    refreshLog: list[RefreshEntry]
    fswatcher: FsWatcherDump
    events: EventsStatus
    zoneErrors: dict[str, ZoneErrorStatus]
    reloading: list[str]
    sysinfoError: Optional[str]
    children: dict[str, ChildStatus]
    connections: int
    lostLogRecords: int
    health: Verdict
    transactions: list[TransactionStatus]


class Reporting:
    """See the head of the module. `servers`: those that are open, as they come and go."""

    def __init__(
        self,
        activity: Activity,
        loader: Loader,
        sysinfo: Sysinfo,
        queue: Queue,
        cache: Cache,
        hub: Hub,
        retrying: Retrying,
        reloads: Reloads,
        refresh: Refresh,
        files: FsWatcher,
        zone_index: ZoneIndex,
        sources: Sources,
        holds: Holds,
        servers: list[Server],
        log_handler: BunyanHandler,
        threads: Threads,
        meters: Meters,
    ):
        self._started = time.monotonic_ns()
        self._activity = activity
        self._loader = loader
        self._sysinfo = sysinfo
        self._queue = queue
        self._cache = cache
        self._hub = hub
        self._retrying = retrying
        self._reloads = reloads
        self._refresh = refresh
        self._files = files
        self._zone_index = zone_index
        self._sources = sources
        self._holds = holds
        self._servers = servers
        self._log_handler = log_handler
        self._threads = threads
        self._meters = meters

    @property
    def uptime(self) -> str:
        """How long the daemon has been there, for people."""
        return times.duration(time.monotonic_ns() - self._started)

    def unreadable(self) -> list[str]:
        """The zones that exist, but could not be read so far: they are in no list."""
        failed = (name for name, error in self._retrying if self._cache.records(name) is None and error.is_of_a_vm)
        return list(dict.fromkeys([*failed, *self._reloads.new_and_late()]))

    def health(self) -> Verdict:
        """The body of /health."""
        lasting = [(name, error.is_of_a_vm) for name, error in self._retrying if error.lasts]
        facts = Facts(
            self._sources.health(),
            {*(name for name, is_of_a_vm in lasting if is_of_a_vm), *self._reloads.new_and_late()},
            {name for name, is_of_a_vm in lasting if not is_of_a_vm},
            self._commands(),
            self._hub.stalled(STALLED),
            self._refresh.failed,
            self._sysinfo.warning,
            self._zone_index.failed,
            [(str(one.writer), one.uuid, one.overdue) for one in self._holds if one.overdue],
        )
        return verdict(facts)

    def metrics(self) -> bytes:
        """The body of /metrics, written in a thread."""
        now = metrics.Now(
            self.status(False),
            Counter((str(one.vm.get("brand")), str(one.vm.get("state"))) for one in self._cache.entries()),
            time.time() - (time.monotonic_ns() - self._started) / 1e9,
            (time.monotonic_ns() - (self._refresh.last or self._started)) / 1e9,
        )
        return self._threads.computing(partial(metrics.text, self._meters, now))

    def waits_for(self) -> str:
        """What runs or is read on the node, and for how long; what the daemon is at, if that is nothing."""
        running = [f"{one.what} runs {one.seconds:.0f} s" for one in self._commands()]
        return ", ".join(running[:_NAMED]) or self._activity.status

    def _commands(self) -> list[CommandFacts]:
        commands = [CommandFacts(c.what, c.seconds, c.for_all) for c in self._loader.running()]
        reads = self._loader.file_reads.under_way()
        return commands + [CommandFacts(f"reading {what}", seconds, False) for what, seconds in reads]

    def status(self, full: bool) -> StatusBody:
        """The body of /status; what the original has not comes last."""
        now = time.monotonic_ns()
        last = self._refresh.last
        shown: StatusBody = {
            "pid": os.getpid(),
            "uptime": self.uptime,
            "memory": {"rss": residentsize.resident()},
            "state": self._activity.state,
            "status": self._activity.status,
            "numVms": len(self._cache),
            "curDate": dates.now(),
            "curTime": times.stamp(now),
            "queue": self._queue.dump(),
            "lastRefresh": None if last is None else times.duration(now - last),
            "refreshErrors": self._refresh.dump_errors(now),
            "eventsListeners": self._hub.dump(now),
        }
        if full:
            shown["refreshLog"] = self._refresh.dump_log(now)
            shown["fswatcher"] = self._files.dump()
        shown["events"] = {**self._hub.dump_ring(), "waitingBytes": self._hub.waiting.total}
        shown["zoneErrors"] = {name: error.dump(now) for name, error in self._retrying}
        shown["reloading"] = self._reloads.busy()
        shown["sysinfoError"] = self._sysinfo.warning
        shown["children"] = self._sources.status()
        shown["connections"] = sum(server.connections for server in self._servers)
        shown["lostLogRecords"] = self._log_handler.lost
        shown["health"] = self.health()
        shown["transactions"] = [transaction.dump() for transaction in self._holds]
        return shown
