# SPDX-License-Identifier: MPL-2.0
"""Where events come from: the three watchers, and the task on the queue that each event becomes.

Always: a task's description is its key: an event whose like waits already adds nothing and is dropped, one whose like
        is running is kept;
        whatever a watcher may have missed (its child died, lines made no sense) ends in a full refresh;
        a sysevent that is silent while the others speak is replaced, which ends in one as well.
The file watcher is built before what its events make stale: readings set its watches. So its events come through a
queue of their own, which never holds any for longer than it takes to make tasks of them.
Not here: what a line means (zonewatcher, zpoolwatcher, fswatcher), what an event makes stale (staleness)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Optional, Union

import gevent
from gevent.queue import SimpleQueue

from vminfod.bunyan import DEBUG
from vminfod.freshness.refreshrequests import RefreshRequests
from vminfod.freshness.staleness import Staleness
from vminfod.log import Log
from vminfod.queue import Queue, Task
from vminfod.serving.cause import Cause, CauseDetails, moment_of
from vminfod.serving.health import ChildFacts
from vminfod.watchers.child import READY_WITHIN, Child, ChildStatus
from vminfod.watchers.fswatcher import FileEvent, FsWatcher
from vminfod.watchers.silence import Silence
from vminfod.watchers.zonewatcher import ZoneEvent, zone_watcher
from vminfod.watchers.zpoolwatcher import PoolEvent, ZfsEvent, zpool_watcher
from vmload.reader import SYSINFO

_TASK_LIMIT = 60.0  # seconds; a task only decides, so that one that takes this long is stuck


class Sources:
    """The watchers of one node. `files` is the file watcher, which puts its events into `file_events`."""

    def __init__(
        self,
        sysevent: str,
        files: FsWatcher,
        file_events: SimpleQueue[FileEvent],
        queue: Queue,
        staleness: Staleness,
        refreshes: RefreshRequests,
        log: Log,
        limit: float = READY_WITHIN,
    ):
        """`sysevent`: the program. `limit`: seconds that a child has to get ready."""
        self._files = files
        self._file_events = file_events
        self._queue = queue
        self._staleness = staleness
        self._log = log
        self._logs_events = log.writes(DEBUG)
        self._translator: Optional[gevent.Greenlet] = None
        common: dict[str, Any] = {"log": log, "on_missed": refreshes.missed, "ready_within": limit}
        self._zones = zone_watcher(sysevent, on_event=self._zone_event, **common)
        self._pools = zpool_watcher(
            sysevent, on_event=self._zfs_event, passes_over=self._passes_over_zfs_event, **common
        )
        # The file watcher is not followed: it is given commands, and has to answer.
        self._silent_after = 2 * limit
        self._silence = Silence(("zonewatcher", "zpoolwatcher"), time.monotonic_ns(), self._silent_after)

    def start(self) -> None:
        """Start the children, all at once; see wait_ready()."""
        self._translator = gevent.spawn(self._take_file_events)
        self._translator.name = "file events"
        for watcher in self._named().values():
            watcher.start()

    def wait_ready(self, within: float) -> None:
        """Give all children `within` seconds to get ready. One that does not is tried on, and the daemon starts
        without it: full refreshes make up for it."""
        until = time.monotonic() + within
        for name, watcher in self._named().items():
            if not watcher.wait_ready(max(0.0, until - time.monotonic())):
                self._log.error("a watcher is not ready: going on without it", child=name, waited_s=within)

    def stop(self) -> None:
        """End the children, all at once."""
        gevent.joinall([gevent.spawn(watcher.stop) for watcher in self._named().values()], timeout=6.0)
        if self._translator is not None:
            self._translator.kill(block=False)

    def status(self) -> dict[str, ChildStatus]:
        """For /status: how each child does."""
        return {name: watcher.status() for name, watcher in self._named().items()}

    def health(self) -> dict[str, ChildFacts]:
        """For /health: which children are down, and which are lost again and again."""
        facts = {
            name: ChildFacts(child.down_seconds(), child.recent_losses()) for name, child in self._children().items()
        }
        facts["fswatcher"] = replace(
            facts["fswatcher"], quarantined=self._files.quarantined, unanswered=self._files.unanswered()
        )
        return facts

    def _children(self) -> dict[str, Child]:
        return {"zonewatcher": self._zones, "zpoolwatcher": self._pools, "fswatcher": self._files.child}

    def _named(self) -> dict[str, Union[Child, FsWatcher]]:
        return {"zonewatcher": self._zones, "zpoolwatcher": self._pools, "fswatcher": self._files}

    def _heard(self, name: str, at: int) -> None:
        """A source spoke. Those that have been silent too long beside it are replaced by new ones."""
        for silent in self._silence.heard(name, at):
            child = self._children()[silent]
            seconds = (child.silent_ns() or 0) / 1e9
            if seconds >= self._silent_after:
                child.renew(f"it was silent for {seconds:.0f} s while others spoke")

    def _zone_event(self, event: ZoneEvent) -> None:
        self._heard("zonewatcher", event.seen_at)
        details: CauseDetails = {"state": event.newstate} if event.restarts is None else {"restarts": event.restarts}
        cause = Cause("zone", details, moment_of(event.date_ms, event.seen_at))
        self._log.debug("zone event", zonename=event.zonename, oldstate=event.oldstate, **details)
        self._enqueue(f"handle zone event - zonename: {event.zonename}", lambda rules: rules.zone_event(event, cause))

    def _passes_over_zfs_event(self, dataset: str, seen_at: int) -> bool:
        """A node can have a storm of events of datasets that no VM has: of such a one no event is made, if nobody
        wants to see it in the log."""
        # While the queue is paused others may be about to come to be known: those wait like all else.
        if self._logs_events or self._queue.paused or not self._staleness.is_foreign(dataset):
            return False  # _zfs_event() is told of it
        self._heard("zpoolwatcher", seen_at)
        return True

    def _zfs_event(self, event: Union[ZfsEvent, PoolEvent]) -> None:
        self._heard("zpoolwatcher", event.seen_at)
        if isinstance(event, PoolEvent):
            moment = moment_of(event.date_ms, event.seen_at)
            cause = Cause("zfs", {"pool": event.pool, "action": event.action}, moment)
            self._enqueue(f"handle pool event - pool: {event.pool}", lambda rules: rules.pool_event(event, cause))
            return
        dataset = event.name
        self._log.debug("zfs event", dsname=dataset, action=event.action, property=event.detail[0][:100])
        cause = Cause("zfs", {"dataset": dataset, "action": event.action}, moment_of(event.date_ms, event.seen_at))
        # Told by all that is known of the event: to find it out by a task costs more.
        if not self._queue.paused and self._staleness.passes_over(event, cause):
            return
        description = f"handle zfs event - dsname: {dataset} action: {event.effect.value}"
        if event.new_name is not None:
            description += f" to: {event.new_name}"
        self._enqueue(description, lambda rules: rules.dataset_event(event, cause))

    def _take_file_events(self) -> None:
        for event in self._file_events:
            self._file_event(event)

    def _file_event(self, event: FileEvent) -> None:
        self._heard("fswatcher", time.monotonic_ns())
        flags = ",".join(event.flags) or event.kind
        cause = Cause("file", {"path": event.path}, event.seen_at)
        self._log.debug("file event", pathname=event.path, changes=flags)
        what = "sysinfo" if event.path == SYSINFO else "zonexml" if event.path.endswith(".xml") else "zone file"
        self._enqueue(
            f"handle {what} fs change - pathname: {event.path} ({flags})",
            lambda rules: rules.file_event(
                event.path, is_gone=event.kind == "delete", is_replaced="FILE_RENAME_TO" in event.flags, cause=cause
            ),
        )

    def _enqueue(self, description: str, rule: Callable[[Staleness], None]) -> None:
        self._queue.enqueue(Task(description, lambda _extras: rule(self._staleness), timeout=_TASK_LIMIT))
