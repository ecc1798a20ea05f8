# SPDX-License-Identifier: MPL-2.0
"""What /status shows of a queue and its tasks (docs/http-api.md, "Status"). Pure."""

from typing import Protocol, TypedDict

from vminfod.times import duration, stamp


class ShownTask(Protocol):
    """The part of a task that is shown."""

    @property
    def description(self) -> str: ...


class ShownJob(Protocol):
    """A task in the queue; times are nanoseconds of its clock."""

    @property
    def task(self) -> ShownTask: ...

    @property
    def created_at(self) -> int: ...

    @property
    def started_at(self) -> int: ...


class WaitingTask(TypedDict):
    """A task that waits, in /status."""

    description: str
    created_at: str
    created_ago: str


class KeptTask(WaitingTask):
    """One that is kept back while the queue is paused."""

    id: str


class RunningTask(WaitingTask):
    """One that runs. `start_latency`: how long it waited."""

    started_at: str
    started_ago: str
    start_latency: str


class Workers(TypedDict):
    """The part of the queue that runs, under the name that the original's has."""

    concurrency: int
    npending: int
    nqueued: int
    pending: dict[str, RunningTask]
    queued: list[WaitingTask]


class QueueStatus(TypedDict, total=False):
    """The queue in /status (docs/http-api.md, "Status"); the four paused_* members exist only while it is paused."""

    now: str
    paused: bool
    idle: bool
    vasync_queue: Workers
    paused_at: str
    paused_ago: str
    paused_nqueued: int
    paused_queue: list[KeptTask]


def waiting_task(job: ShownJob, now: int) -> WaitingTask:
    """One that waits."""
    return {
        "description": job.task.description,
        "created_at": stamp(job.created_at),
        "created_ago": duration(now - job.created_at),
    }


def running_task(job: ShownJob, now: int) -> RunningTask:
    """One that runs."""
    return {
        "description": job.task.description,
        "created_at": stamp(job.created_at),
        "started_at": stamp(job.started_at),
        "created_ago": duration(now - job.created_at),
        "started_ago": duration(now - job.started_at),
        "start_latency": duration(job.started_at - job.created_at),
    }
