# SPDX-License-Identifier: MPL-2.0
"""The daemon: which rooms there are, how they are joined, and in which order they start and stop (docs/architecture.md,
"The way of the data").

              fswatcher                          built first: readings set its watches
                  |   \\
   zonewatcher  zpoolwatcher
        \\         |
         `---- sources                           a task for each event
                  |
                queue
                  |
              staleness                          which parts of which zones may be stale
                  |
               reloads <--- refresh, first load  read them anew, side by side, in threads (vmload)
                  |
                queue                            a task to apply what was read
                  |
              applying                           the one place where a reading becomes what is served
                  |
                cache                            diff, store, and in the same step
                  |
                 hub                             number, serialise once, hand out
                  |
                 api                             /vms, /vms/:uuid, /events, /status, /health, /ping

Always: the watchers are up before the first load begins, so that what changes meanwhile leaves an event behind; the
        queue keeps those events until there is something to apply them to;
        the HTTP servers open last: whoever can connect gets complete data;
        whatever is handed to a room was built before it: nothing is connected afterwards.
This module only wires."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from socket import socket

import gevent
from gevent.queue import SimpleQueue

from vminfod.bunyan import DEBUG
from vminfod.freshness.activity import Activity
from vminfod.freshness.applying import Applying
from vminfod.freshness.datasetevents import DatasetEvents
from vminfod.freshness.filewatches import FileWatches
from vminfod.freshness.firstload import FirstLoad
from vminfod.freshness.freshreads import FreshReads
from vminfod.freshness.previews import Previews
from vminfod.freshness.refresh import Refresh
from vminfod.freshness.refreshrequests import RefreshRequests
from vminfod.freshness.reloads import Reloads
from vminfod.freshness.retrying import Retrying
from vminfod.freshness.sources import Sources
from vminfod.freshness.staleness import Staleness
from vminfod.freshness.sysinfo import Sysinfo
from vminfod.freshness.sysinforeads import SysinfoReads
from vminfod.freshness.threads import Threads
from vminfod.freshness.transactions import Transactions
from vminfod.freshness.zoneindex import ZoneIndex
from vminfod.log import BunyanHandler, BunyanLog
from vminfod.meters import Meters
from vminfod.queue import Queue
from vminfod.reporting import Reporting
from vminfod.serving import listening
from vminfod.serving.api import Api
from vminfod.serving.cache import Cache
from vminfod.serving.cause import REQUEST
from vminfod.serving.holds import Holds
from vminfod.serving.httpserver import RequestShown, Server
from vminfod.serving.hub import Hub, Limits
from vminfod.serving.listening import RunFiles
from vminfod.serving.transactionroutes import TransactionRoutes
from vminfod.watchers.child import READY_WITHIN
from vminfod.watchers.fswatcher import FileEvent, FsWatcher
from vmload.loader import Loader
from vmload.loaderror import LoadError
from vmload.system import TimeLimits

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
        self._servers: list[Server] = []
        self._run_files = RunFiles(options.root)

        self._activity = Activity(log)
        self._loader = loader = Loader(options.root, log.note, options.commands)
        self._threads = threads = Threads(loader.file_reads)
        self._meters = meters = Meters()
        self._queue = queue = Queue(log=log, workers=1, dedup=True, paused=True, idle_time=_IDLE, measure=meters.task)
        self._requests = requests = RefreshRequests(log)

        # What is known, and how it goes out.
        self._hub = Hub(log, options.limits)
        self._cache = cache = Cache(self._hub, log, threads.computing, meters)

        # Which files are watched.
        file_events: SimpleQueue[FileEvent] = SimpleQueue()
        limit = options.child_limit
        files = FsWatcher(
            os.path.join(options.root, "usr/vm/sbin/fswatcher"),
            log=log,
            on_event=file_events.put,
            on_missed=requests.missed,
            ready_within=limit,
            answer_within=limit,
        )
        self._watches = watches = FileWatches(files, log)

        # What is read, and what becomes of it.
        sysinfo, dataset_events = Sysinfo(), DatasetEvents()
        self._retrying = retrying = Retrying(log)
        holds = Holds()
        applying = Applying(cache, holds, sysinfo, watches, retrying)
        self._reloads = reloads = Reloads(
            loader, cache, holds, applying, retrying, dataset_events, queue, watches, threads, log
        )
        sysinfo_reads = SysinfoReads(loader, cache, sysinfo, reloads, queue, threads)
        self._first_load = FirstLoad(loader, watches, sysinfo, reloads, threads, self._activity, log)
        self._refresh = Refresh(
            loader,
            cache,
            sysinfo,
            applying,
            reloads,
            dataset_events,
            watches,
            requests,
            queue,
            threads,
            self._activity,
            meters,
            log,
        )

        # What happens on the node.
        self._zone_index = ZoneIndex(loader, cache, reloads, retrying, threads, log)
        staleness = Staleness(cache, reloads, dataset_events, watches, requests, sysinfo_reads, self._zone_index, log)
        sysevent = os.path.join(options.root, "usr/sbin/sysevent")
        self._sources = Sources(sysevent, files, file_events, queue, staleness, requests, log, limit)

        # What clients ask for.
        self._reporting = Reporting(
            self._activity,
            loader,
            sysinfo,
            queue,
            cache,
            self._hub,
            retrying,
            reloads,
            self._refresh,
            files,
            self._sources,
            holds,
            self._servers,
            log_handler,
            threads,
            meters,
        )
        fresh_reads = FreshReads(loader, cache, holds, reloads, retrying, sysinfo_reads)
        previews = Previews(loader, cache, sysinfo, sysinfo_reads, threads)
        self._transactions = Transactions(holds, cache, queue, fresh_reads, previews, log)
        routes = TransactionRoutes(cache, self._hub, holds, self._transactions)
        self._api = Api(cache, self._hub, self._reporting, fresh_reads, routes)

    # Starting.

    def start(self) -> None:
        """Load the node and serve it. Returns when it is served; raises CannotStart."""
        self._log.info("starting", root=self._options.root, ips=self._options.ips, port=self._options.port)
        self._activity.booting()
        self._check_addresses()
        has_none = self._run_files.take()
        if has_none is not None:
            self._log.warn("serving without a Unix socket and a pid file", reason=has_none)
        self._activity.doing("starting global watchers")
        self._sources.start()
        self._watches.start()
        self._sources.wait_ready(self._options.child_limit)
        try:
            self._first_load.run()
        except LoadError as error:
            raise CannotStart(str(error)) from error
        self._activity.doing("resuming the event queue")
        self._queue.resume()
        if self._queue.overflowed:
            self._requests.request()
        self._activity.doing("starting http server")
        self._listen()
        self._activity.doing("starting refresh timers")
        self._refresh.start(self._options.refresh_interval)
        self._activity.running()
        self._log.info("ready", took=self._reporting.uptime, vms=len(self._cache), errors=len(self._retrying))

    def _check_addresses(self) -> None:
        """A port that another has is found now, not after minutes of loading."""
        for ip in self._options.ips:
            try:
                listening.bound((ip, self._options.port)).close()
            except OSError as error:
                raise CannotStart(listening.why_not(error, ip, self._options.port)) from error

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

    def _serve_on(self, sock: socket) -> None:
        ready_log = self._log_ready if self._log.writes(DEBUG) else None
        server = Server(
            sock,
            self._api,
            self._log_request,
            self._log_failure,
            ready_log,
            meters=self._meters,
            addresses=self._options.ips,
        )
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
        self._zone_index.stop()
        self._refresh.stop()
        self._transactions.stop()
        self._reloads.stop()
        self._queue.stop(timeout=1.0)
        self._hub.close()
        gevent.joinall([gevent.spawn(server.stop, timeout=2.0) for server in self._servers], timeout=3.0)
        self._loader.stop()
        self._activity.stopped()
        self._log.info("stopped", uptime=self._reporting.uptime)

    # What signals ask for, and what servers report.

    def refresh(self) -> None:
        """Read the whole node anew, soon: somebody asks for it."""
        self._log.info("a full refresh is asked for")
        self._requests.request(REQUEST)

    def _log_request(self, request: RequestShown, status: str, size: int, seconds: float) -> None:
        self._log.info("request", req=request, status=status, bytes=size, ms=round(seconds * 1000, 1))

    def _log_ready(self, request: RequestShown, status: str, size: int, seconds: float) -> None:
        """What is answered from ready bytes: tens of thousands a second, if clients want it."""
        self._log.debug("request", req=request, status=status, bytes=size, ms=round(seconds * 1000, 1))

    def _log_failure(self, error: BaseException, request: RequestShown) -> None:
        self._log.error("a request failed unexpectedly", req=request, err=error)
