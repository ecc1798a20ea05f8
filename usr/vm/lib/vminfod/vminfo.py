# SPDX-License-Identifier: MPL-2.0
"""The daemon: which rooms there are, how they are joined, and in which order they start and stop (docs/architecture.md,
"The way of the data").

   zonewatcher  zpoolwatcher  fswatcher
        \\            |          /
         `---------- queue -----'            a task for each event
                      |
                  staleness                  which parts of which zones may be stale
                      |
                  reloads <---- refresh      read them anew, side by side, in threads (vmload)
                      |            |
                    queue        queue       a task to apply what was read
                      |            |
                    cache ---------'         diff, store, and in the same step
                      |
                     hub                     number, serialise once, hand out
                      |
                     api                     /vms, /vms/:uuid, /events, /status, /ping

Always: the watchers are up before the first load begins, so that what changes meanwhile leaves an event behind; the
        queue keeps those events until there is something to apply them to;
        the HTTP servers open last: whoever can connect gets complete data.
This module only wires. What it does itself is to say what the daemon is doing."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import Any, Optional

import gevent

from jsvalues import dates
from vminfod import residentsize, times
from vminfod.freshness.filewatches import Watches
from vminfod.freshness.refresh import Refresh
from vminfod.freshness.reloads import Reloads
from vminfod.freshness.sources import Sources
from vminfod.freshness.staleness import Staleness
from vminfod.freshness.sysinfo import Sysinfo
from vminfod.freshness.threads import Threads
from vminfod.freshness.turns import Turns
from vminfod.log import BunyanHandler, BunyanLog
from vminfod.queue import Queue
from vminfod.serving import listening
from vminfod.serving.api import Api
from vminfod.serving.cache import Cache
from vminfod.serving.cause import REFRESH, REQUEST, Cause
from vminfod.serving.health import STALLED, CommandFacts, Facts, Verdict, verdict
from vminfod.serving.httpserver import Server
from vminfod.serving.hub import Hub, Limits
from vminfod.serving.listening import RunFiles
from vminfod.watchers.child import READY_WITHIN
from vminfod.watchers.zonewatcher import is_zonename
from vmload.loader import Loader, NodeRecords, assemble
from vmload.loaderror import LoadError, XmlGone
from vmload.system import TimeLimits

_WATCHES_SET = 60.0  # seconds for all watches of the first load to stand
_IDLE = 1.0  # seconds without work after which the queue calls itself idle


class CannotStart(Exception):
    """The daemon cannot start; the text is one line for the operator."""


@dataclass(frozen=True)
class Options:
    """`root`: the node's root folder. `refresh_interval`: seconds."""

    root: str = "/"
    ips: list[str] = field(default_factory=lambda: ["127.0.0.1"])
    port: int = 9090
    refresh_interval: float = 300.0
    limits: Limits = field(default_factory=Limits)
    commands: TimeLimits = field(default_factory=TimeLimits)
    child_limit: float = READY_WITHIN  # seconds that a child has to get ready, and then for each answer


class Vminfod:
    """One daemon. start() it once, then stop() it."""

    def __init__(self, options: Options, log: BunyanLog, log_handler: BunyanHandler):
        self._options = options
        self._log = log
        self._log_handler = log_handler
        self._started = time.monotonic_ns()
        self._state = "stopped"
        self._status = "initialized"
        self._servers: list[Server] = []
        self._refresher: Optional[gevent.Greenlet] = None
        self._run_files = RunFiles(options.root)

        self._threads = Threads()
        self._loader = Loader(options.root, log.note, options.commands)
        self._sysinfo = Sysinfo()
        self._queue = Queue(log=log, workers=1, dedup=True, paused=True, idle_time=_IDLE)
        self._hub = Hub(log, options.limits)
        self._cache = Cache(self._hub, log)
        self._sources = Sources(options.root, self._queue, log, options.child_limit)
        self._watches = Watches(self._sources.files, log)
        self._reloads = Reloads(
            self._loader, self._cache, self._sysinfo, self._queue, self._watches, self._threads, log
        )
        self._refresh = Refresh(
            self._loader,
            self._cache,
            self._sysinfo,
            self._reloads,
            self._watches,
            self._queue,
            self._threads,
            self._set_status,
            log,
        )
        self._staleness = Staleness(
            self._cache, self._reloads, self._watches, self._refresh.request, self._reread_sysinfo, log
        )
        self._sources.connect(self._staleness, self._refresh.request)
        self._api = Api(self._cache, self._hub, self)

    # Starting.

    def start(self) -> None:
        """Load the node and serve it. Returns when it is served; raises CannotStart."""
        self._log.info("starting", root=self._options.root, ips=self._options.ips, port=self._options.port)
        self._state = "booting"
        self._check_addresses()
        has_none = self._run_files.take()
        if has_none is not None:
            self._log.warn("serving without a Unix socket and a pid file", reason=has_none)
        self._set_status("starting global watchers")
        self._sources.start()
        self._watches.start()
        self._sources.wait_ready(self._options.child_limit)
        self._set_status("starting vm watchers")
        listed = self._set_first_watches()
        self._set_status("setting initial cache data")
        node = self._load_first()
        self._set_status("setting initial vmobjs data")
        self._serve_first(node, listed)
        self._refresh.last = time.monotonic_ns()
        self._set_status("resuming the event queue")
        self._queue.resume()
        if self._queue.overflowed:
            self._refresh.request()
        self._set_status("starting http server")
        self._listen()
        self._set_status("starting refresh timers")
        self._refresher = gevent.spawn(self._refresh.run_forever, self._options.refresh_interval)
        self._refresher.name = "full refresh"
        self._state = "running"
        self._set_status("working")
        took = times.duration(time.monotonic_ns() - self._started)
        self._log.info("ready", took=took, vms=len(self._cache), errors=len(self._reloads.errors))

    def _check_addresses(self) -> None:
        """A port that another has is found now, not after minutes of loading."""
        for ip in self._options.ips:
            try:
                listening.bound((ip, self._options.port)).close()
            except OSError as error:
                raise CannotStart(listening.why_not(error, ip, self._options.port)) from error

    def _set_first_watches(self) -> list[str]:
        """The names of the zones whose files are watched from now on."""
        try:
            zones = self._threads.zoneadm(self._loader.zones)
        except LoadError as error:
            raise CannotStart(f"cannot list the zones: {error}") from error
        for zone in zones:
            self._watches.want(zone)
        if not self._sources.files.wait_answered(_WATCHES_SET):
            self._log.error("the file watcher does not answer: changes of files will be seen late")
        return [zone.zonename for zone in zones]

    def _load_first(self) -> NodeRecords:
        try:
            return self._threads.node(self._loader.read_all)
        except LoadError as error:
            raise CannotStart(f"cannot load the node: {error}") from error

    def _serve_first(self, node: NodeRecords, listed: list[str]) -> None:
        self._sysinfo.take(node.sysinfo, self._started)
        if node.sysinfo.warning is not None:
            self._log.error("the load was not complete", warning=node.sysinfo.warning)
        for zonename, records in node.zones.items():
            self._watches.want(records.zone)  # one that appeared since the watches were set (S10)
            try:
                self._cache.first(zonename, records, assemble(records, self._sysinfo.value))
            except LoadError as error:
                self._reloads.fail(zonename, error)
        for zonename, reason in node.errors.items():
            self._reloads.fail(zonename, reason)
        for zonename in listed:
            if zonename not in node.zones and zonename not in node.errors:
                self._reloads.mark(zonename, cause=REFRESH)  # gone since it was watched, or the load's list was short

    def _listen(self) -> None:
        for ip in self._options.ips:
            try:
                self._serve_on(listening.bound((ip, self._options.port)))
            except OSError as error:
                raise CannotStart(listening.why_not(error, ip, self._options.port)) from error
        try:
            self._serve_on(self._run_files.listen())
        except OSError as error:
            self._log.warn("not serving on the Unix socket", path=self._run_files.socket_path, reason=str(error))

    def _serve_on(self, sock: Any) -> None:
        server = Server(sock, self._api, self._log_request, self._log_failure)
        server.start()
        self._servers.append(server)

    # Stopping.

    def stop(self) -> None:
        """End everything, in a few seconds at most: no new connections, event sources with their children, the
        refresh, the queue, then the listeners."""
        self._log.info("stopping")
        for server in self._servers:
            server.close()
        self._run_files.release()
        self._sources.stop()
        if self._refresher is not None:
            self._refresher.kill(timeout=1.0)
        self._reloads.stop()
        self._queue.stop(timeout=1.0)
        self._hub.close()
        gevent.joinall([gevent.spawn(server.stop, timeout=2.0) for server in self._servers], timeout=3.0)
        self._loader.stop()
        self._state, self._status = "stopped", "initialized"
        self._log.info("stopped", uptime=times.duration(time.monotonic_ns() - self._started))

    # What requests, signals and events ask for.

    def refresh(self) -> None:
        """Read the whole node anew, soon: somebody asks for it."""
        self._log.info("a full refresh is asked for")
        self._refresh.request(REQUEST)

    def read_fresh(self, key: str, timeout: float) -> Optional[str]:
        """Read the VM with this zone name or uuid anew. Why that took more than `timeout` seconds; else None."""
        zonename = self._cache.zonename(key) or key
        if not is_zonename(zonename):
            return None  # it cannot exist, and what anybody writes into a URL is not for zoneadm
        if self._reloads.read_fresh(zonename, REQUEST, timeout):
            return None
        return self._why_stale(zonename)

    def _why_stale(self, zonename: str) -> str:
        """Why the zone has not been read: its error, or the command that is waited for."""
        now = time.monotonic_ns()
        error = self._reloads.errors.get(zonename)
        if error is not None:
            since = (now - error.since) / 1e9
            return f"it cannot be read since {since:.0f} s ({error.tries} tries): {error.error}"
        records = self._cache.records(zonename)
        about = (
            {zonename} if records is None else {zonename, records.zone.zonepath.lstrip("/"), str(records.zone.zoneid)}
        )
        commands = self._loader.running()
        for command in [c for c in commands if about & set(c.words)] or commands:
            return f"waiting for {command.what}, which runs {command.seconds:.1f} s"
        return "it is being read, and waits for its turn"

    def _reread_sysinfo(self, cause: Cause) -> None:
        """The sysinfo file changed. Runs in a task on the queue."""
        began = time.monotonic_ns()
        if not self._sysinfo.take(self._threads.files(self._loader.read_sysinfo), began):
            return
        turns = Turns()
        for zonename in list(self._cache):
            turns.next()
            records = self._cache.records(zonename)
            if records is None:
                continue
            try:
                self._cache.put(zonename, records, assemble(records, self._sysinfo.value), cause)
            except LoadError as error:
                self._reloads.fail(zonename, error)

    # Telling.

    def _set_status(self, status: str, paused: bool = False) -> None:
        state = self._state
        if self._state in ("running", "paused"):
            state = "paused" if paused else "running"
        if (state, status) != (self._state, self._status):
            self._log.debug("status", oldState=self._state, state=state, oldStatus=self._status, status=status)
        self._state, self._status = state, status

    def unreadable(self) -> list[str]:
        """The zones that exist, but could not be read so far: they are in no list."""
        return [
            name
            for name, error in self._reloads.errors.items()
            if self._cache.records(name) is None and not isinstance(error.error, XmlGone)
        ]

    def health(self) -> Verdict:
        """The body of /health."""
        facts = Facts(
            self._sources.health(),
            [name for name, error in self._reloads.errors.items() if error.lasts],
            [CommandFacts(c.what, c.seconds, c.for_all) for c in self._loader.running()],
            self._hub.stalled(STALLED),
            self._refresh.failed,
            self._sysinfo.warning,
        )
        return verdict(facts)

    def status(self, full: bool) -> dict[str, Any]:
        """The body of /status; what the original has not comes last."""
        now = time.monotonic_ns()
        last = self._refresh.last
        shown: dict[str, Any] = {
            "pid": os.getpid(),
            "uptime": times.duration(now - self._started),
            "memory": {"rss": residentsize.resident()},
            "state": self._state,
            "status": self._status,
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
            shown["fswatcher"] = self._sources.files.dump()
        shown["events"] = {**self._hub.dump_ring(), "waitingBytes": self._hub.waiting_bytes}
        shown["zoneErrors"] = {name: error.dump(now) for name, error in self._reloads.errors.items()}
        shown["reloading"] = self._reloads.busy()
        shown["sysinfoError"] = self._sysinfo.warning
        shown["children"] = self._sources.status()
        shown["connections"] = sum(server.connections for server in self._servers)
        shown["lostLogRecords"] = self._log_handler.lost
        shown["health"] = self.health()
        return shown

    def _log_request(self, request: dict[str, Any], status: str, size: int, seconds: float) -> None:
        self._log.info("request", req=request, status=status, bytes=size, ms=round(seconds * 1000, 1))

    def _log_failure(self, error: BaseException, request: dict[str, Any]) -> None:
        self._log.error("a request failed unexpectedly", req=request, err=error)
