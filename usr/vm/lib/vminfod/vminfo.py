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

import importlib
import os
from dataclasses import dataclass, field
from socket import socket
from typing import TYPE_CHECKING

import gevent
from gevent.queue import SimpleQueue

from vminfod import dependencies
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
from vminfod.freshness.replacedfiles import ReplacedFiles
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
from vminfod.serving.cache import Cache
from vminfod.serving.cause import REQUEST
from vminfod.serving.holds import Holds
from vminfod.serving.httpserver import RequestShown, Server
from vminfod.serving.hub import Hub, Limits
from vminfod.serving.listening import RunFiles
from vminfod.watchers.child import READY_WITHIN
from vminfod.watchers.fswatcher import FileEvent, FsWatcher
from vmload.loader import Loader
from vmload.loaderror import LoadError
from vmload.system import TimeLimits

if TYPE_CHECKING:
    from vminfod.serving.api import Api

_LONG_LOAD, _TOLD_AGAIN = 10.0, 60.0  # seconds until the log says what the first load waits for, and between two times
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
    """One daemon. start() it once, then stop() it. Each _wire method builds rooms out of those before it."""

    def __init__(self, options: Options, log: BunyanLog, log_handler: BunyanHandler):
        self._options = options
        self._log = log
        self._servers: list[Server] = []
        self._run_files = RunFiles(options.root)

        self._activity = Activity(log)
        self._loader = Loader(options.root, log.note, options.commands)
        self._threads = Threads(self._loader.file_reads)
        self._meters = meters = Meters()
        self._queue = Queue(log=log, workers=1, dedup=True, paused=True, idle_time=_IDLE, measure=meters.task)
        self._requests = RefreshRequests(log)
        self._wire_what_is_known()
        self._wire_reading()
        self._wire_loads_of_all()
        self._wire_sources()
        self._wire_answers(log_handler)

    def _wire_what_is_known(self) -> None:
        """And how it goes out."""
        self._hub = Hub(self._log, self._options.limits)
        self._cache = Cache(self._hub, self._log, self._threads.computing, self._meters)
        self._holds = Holds()
        self._sysinfo = Sysinfo()
        self._dataset_events = DatasetEvents()
        self._retrying = Retrying(self._log)

    def _wire_reading(self) -> None:
        """Which files are watched, what is read, and what becomes of it."""
        self._file_events: SimpleQueue[FileEvent] = SimpleQueue()
        self._files = FsWatcher(
            os.path.join(self._options.root, "usr/vm/sbin/fswatcher"),
            log=self._log,
            on_event=self._file_events.put,
            on_missed=self._requests.missed,
            ready_within=self._options.child_limit,
            answer_within=self._options.child_limit,
        )
        self._watches = FileWatches(self._files, self._log)
        self._applying = Applying(self._cache, self._holds, self._sysinfo, self._watches, self._retrying)
        self._reloads = Reloads(
            self._loader.sources,
            self._cache,
            self._holds,
            self._applying,
            self._retrying,
            self._dataset_events,
            self._queue,
            self._watches,
            self._threads,
            self._log,
        )
        self._sysinfo_reads = SysinfoReads(
            self._loader, self._cache, self._sysinfo, self._reloads, self._queue, self._threads
        )
        self._zone_index = ZoneIndex(self._loader, self._cache, self._reloads, self._retrying, self._threads, self._log)
        self._replaced_files = ReplacedFiles(
            self._loader,
            self._cache,
            self._watches,
            self._reloads,
            self._sysinfo_reads,
            self._zone_index,
            self._threads,
            self._log,
        )

    def _wire_loads_of_all(self) -> None:
        self._first_load = FirstLoad(
            self._loader, self._watches, self._sysinfo, self._reloads, self._threads, self._activity, self._log
        )
        self._refresh = Refresh(
            self._loader,
            self._cache,
            self._sysinfo,
            self._applying,
            self._reloads,
            self._dataset_events,
            self._watches,
            self._replaced_files,
            self._requests,
            self._queue,
            self._threads,
            self._activity,
            self._meters,
            self._log,
        )

    def _wire_sources(self) -> None:
        """What happens on the node."""
        staleness = Staleness(
            self._cache,
            self._reloads,
            self._dataset_events,
            self._watches,
            self._requests,
            self._sysinfo_reads,
            self._zone_index,
            self._replaced_files,
            self._log,
        )
        sysevent = os.path.join(self._options.root, "usr/sbin/sysevent")
        limit = self._options.child_limit
        self._sources = Sources(
            sysevent, self._files, self._file_events, self._queue, staleness, self._requests, self._log, limit
        )

    def _wire_answers(self, log_handler: BunyanHandler) -> None:
        """What clients ask for."""
        self._reporting = Reporting(
            self._activity,
            self._loader,
            self._sysinfo,
            self._queue,
            self._cache,
            self._hub,
            self._retrying,
            self._reloads,
            self._refresh,
            self._files,
            self._zone_index,
            self._sources,
            self._holds,
            self._servers,
            log_handler,
            self._threads,
            self._meters,
        )
        self._fresh_reads = FreshReads(
            self._loader, self._cache, self._holds, self._reloads, self._retrying, self._sysinfo_reads
        )
        previews = Previews(self._loader, self._cache, self._sysinfo, self._sysinfo_reads, self._threads, self._log)
        self._transactions = Transactions(self._holds, self._cache, self._queue, self._fresh_reads, previews, self._log)

    def _api(self) -> Api:
        from vminfod.serving.api import Api
        from vminfod.serving.transactionroutes import TransactionRoutes

        routes = TransactionRoutes(self._cache, self._hub, self._holds, self._transactions)
        return Api(self._cache, self._hub, self._reporting, self._fresh_reads, routes)

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
        imported = self._threads.beside(lambda: self._threads.computing(_import_api))
        self._watches.start()
        self._sources.wait_ready(self._options.child_limit)
        telling = gevent.spawn(self._tell_what_the_load_waits_for)
        try:
            self._first_load.run()
        except LoadError as error:
            raise CannotStart(str(error)) from error
        finally:
            telling.kill()
        self._activity.doing("resuming the event queue")
        self._queue.resume()
        if self._queue.overflowed:
            self._requests.request()
        self._activity.doing("starting http server")
        imported()
        self._listen(self._api())
        self._activity.doing("starting refresh timers")
        self._refresh.start(self._options.refresh_interval)
        self._activity.running()
        self._log.info("ready", took=self._reporting.uptime, vms=len(self._cache), errors=len(self._retrying))

    def _tell_what_the_load_waits_for(self) -> None:
        gevent.sleep(_LONG_LOAD)
        while True:
            self._log.warn("the first load takes long", reason=self._reporting.waits_for())
            gevent.sleep(_TOLD_AGAIN)

    def _check_addresses(self) -> None:
        """A port that another has is found now, not after minutes of loading."""
        for ip in self._options.ips:
            try:
                listening.bound((ip, self._options.port)).close()
            except OSError as error:
                raise CannotStart(listening.why_not(error, ip, self._options.port)) from error

    def _listen(self, api: Api) -> None:
        for ip in self._options.ips:
            try:
                self._serve_on(listening.bound((ip, self._options.port)), api)
            except OSError as error:
                raise CannotStart(listening.why_not(error, ip, self._options.port)) from error
        try:
            self._serve_on(self._run_files.listen(), api)
        except OSError as error:
            self._log.warn("not serving on the Unix socket", path=self._run_files.socket_path, reason=str(error))

    def _serve_on(self, sock: socket, api: Api) -> None:
        ready_log = self._log_ready if self._log.writes(DEBUG) else None
        server = Server(
            sock,
            api,
            self._log_request,
            self._log_failure,
            ready_log,
            meters=self._meters,
            addresses=self._options.ips,
            waiting=self._hub.waiting,
            slow_log=self._log_slow,
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
        self._replaced_files.stop()
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
        log = self._log.debug if _is_read_that_went_well(request, status) else self._log.info
        log("request", req=request, status=status, bytes=size, ms=round(seconds * 1000, 1))

    def _log_ready(self, request: RequestShown, status: str, size: int, seconds: float) -> None:
        """What is answered from ready bytes: tens of thousands a second, if clients want it."""
        self._log.debug("request", req=request, status=status, bytes=size, ms=round(seconds * 1000, 1))

    def _log_slow(self, request: RequestShown, reason: str, unsent: int) -> None:
        self._log.warn("cut a client that does not read", req=request, reason=reason, unsent=unsent)

    def _log_failure(self, error: BaseException, request: RequestShown) -> None:
        self._log.error("a request failed unexpectedly", req=request, err=error)


def _is_read_that_went_well(request: RequestShown, status: str) -> bool:
    """Monitors ask each second, and nobody wants to know. The 503 of /health is what they ask for."""
    if request.get("method") not in ("GET", "HEAD"):
        return False
    return status[:1] in ("2", "3") or (status[:3] == "503" and request["url"].partition("?")[0] == "/health")


def _import_api() -> None:
    """To import Bottle takes about as long as the node's commands: it is done in a thread, while they run. Raises
    CannotStart."""
    try:
        importlib.import_module("vminfod.serving.api")
    except ImportError as error:
        raise CannotStart(dependencies.in_words("bottle", error)) from error
