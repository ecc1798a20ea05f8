# SPDX-License-Identifier: MPL-2.0
"""A serial queue of tasks that can be paused and run forward to a moment.

            enqueue                            enqueue (or a drop: twin, overflow)
               |                                  |
               v          pause                   v
           run list  <--------------->       paused list
               |          resume                  |
               v                                  |  fast_forward(time): those that are older
            workers  <----------------------------'

Always: a description waits at most once (with dedup), but may wait while its twin runs, which may have read the old
        state;
        while paused only what was in the run list, and what fast_forward() moves there, is run;
        a task never starts inside enqueue();
        a task that ends, however it ends, frees its worker: one that fails, one that exceeds its time limit (its
        greenlet is killed), one that raises at once;
        dump() works at any moment.
Not here: what a task does. This module knows nothing of VMs.

Greenlets: each worker is one, alive only while there is work. It runs its tasks itself, as a greenlet for each would
cost more than most of them do; with a task that is killed its worker ends, and another takes its place. The lists and
flags below belong together and are changed between two calls that can switch (a task, a callback, a join); enqueue(),
resume() and dump() never switch."""

import itertools
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Optional

import gevent
from gevent.event import Event

from vminfod.bunyan import DEBUG
from vminfod.log import Log
from vminfod.queuestatus import QueueStatus, running_task, waiting_task
from vminfod.times import duration, stamp

PAUSED_MOST = 20_000  # tasks, some 20 MB. Past it tasks are dropped and the owner has to look at everything again (L8)
KILL_GRACE = 1.0  # seconds that a killed task has for its cleanup before others go on without it


class QueueError(Exception):
    """The call does not fit the state of the queue: paused twice, resumed while running, and so on. A fault of the
    caller."""


class QueueTimeout(Exception):
    """A limit passed before the work was done; str() is the spec's text."""


class PauseTimeout(QueueTimeout):
    """pause() gave up. The queue is running again: do not resume it."""


class FastForwardTimeout(QueueTimeout):
    """fast_forward() gave up. The queue is still paused and the tasks go on running."""


class TaskTimeout(QueueTimeout):
    """A task exceeded its limit and was killed."""


class Extras(NamedTuple):
    """What a task is called with. `created_at` is when it was enqueued, in nanoseconds of the queue's clock."""

    log: Log
    created_at: int


class Task(NamedTuple):
    """`description` is for people and is the key for dropping twins. `timeout` in seconds; None is no limit."""

    description: str
    func: Callable[[Extras], object]
    timeout: Optional[float] = None


class _Job:
    """A task in the queue."""

    __slots__ = (
        *("id", "task", "log", "callback", "created_at", "started_at", "worker"),
        *("cancelled", "overdue", "ended", "error"),
    )

    def __init__(
        self, ident: str, task: Task, log: Log, callback: Optional[Callable[[], object]], created_at: int
    ) -> None:
        self.id = ident
        self.task = task
        self.log = log
        self.callback = callback
        self.created_at = created_at
        self.started_at = 0
        self.worker: Optional[gevent.Greenlet] = None  # who runs it, or did
        self.cancelled = False
        self.overdue = False
        self.ended = False  # by itself: returned or raised
        self.error: Optional[BaseException] = None


class Queue:
    """See the head of the module. Times are nanoseconds of `clock`; limits and `idle_time` are seconds.

    `on_idle()` and `on_error(error)` are called as the events of these names; they must not block."""

    def __init__(
        self,
        *,
        log: Log,
        workers: int,
        dedup: bool = False,
        paused: bool = False,
        idle_time: float = 0,
        paused_most: int = PAUSED_MOST,
        clock: Callable[[], int] = time.monotonic_ns,
        on_idle: Optional[Callable[[], object]] = None,
        on_error: Optional[Callable[[BaseException], object]] = None,
        measure: Optional[Callable[[float, float], object]] = None,
    ) -> None:
        if idle_time < 0:
            raise ValueError(f"idle_time cannot be negative: {idle_time}")
        if workers < 1:
            raise ValueError(f"a queue needs at least one worker: {workers}")
        self._log = log
        self._is_debugged = log.writes(DEBUG)  # to make a record that is not written costs as much as many a task
        self._workers_most = workers
        self._dedup = dedup
        self._idle_time = idle_time
        self._paused_most = paused_most
        self._clock = clock
        self._on_idle = on_idle
        self._on_error = on_error
        self._measure = measure
        self._ids = itertools.count(1)

        # With dedup a description is in _waiting if and only if its task is in one of the two lists. Moving a task from
        # one list to the other therefore leaves _waiting alone, and can make no twins.
        self._run_list: deque[_Job] = deque()
        self._paused_list: deque[_Job] = deque()
        self._waiting: set[str] = set()
        self._running: dict[str, _Job] = {}
        self._workers: set[gevent.Greenlet] = set()  # not more than _workers_most; none without work

        self._paused_at: Optional[int] = self._clock() if paused else None
        self._pauses = 0  # counts pauses and resumes, so that a waiting pause() notices that it was undone
        self._drained = Event()  # set exactly while nothing is in the run list and nothing runs
        self._drained.set()
        self._idle = Event()
        # Of the loop, not a greenlet: it is set and stopped with nearly each task.
        self._idle_timer = gevent.get_hub().loop.timer(idle_time, idle_time)
        if not paused:
            self._idle.set()
        self._overflowed = False
        self._stopped = False

    # --- state ---

    @property
    def paused(self) -> bool:
        return self._paused_at is not None

    @property
    def idle(self) -> bool:
        return bool(self._idle.is_set())

    @property
    def busy(self) -> bool:
        """Whether a task runs or waits for its turn, other than those that are kept back."""
        return bool(self._run_list or self._running)

    def wait_idle(self, timeout: Optional[float] = None) -> bool:
        """Waits until the queue is idle; False if `timeout` seconds passed first."""
        return bool(self._idle.wait(timeout))

    @property
    def overflowed(self) -> bool:
        """Whether tasks were dropped because too many waited. Whatever they stood for has to be read again."""
        return self._overflowed

    def take_overflow(self) -> bool:
        """The same, and forgets it: for the owner that is about to read everything again."""
        overflowed, self._overflowed = self._overflowed, False
        return overflowed

    # --- work comes in ---

    def enqueue(self, task: Task, callback: Optional[Callable[[], object]] = None) -> bool:
        """Puts the task in line. False if it was dropped: an equal one waits (with dedup), or too many wait while
        paused, or the queue was stopped. `callback()` is called when a kept task has ended, whether well or not."""
        _check(task, callback)
        if self._stopped or (self._dedup and task.description in self._waiting):
            return False
        if self.paused and len(self._paused_list) >= self._paused_most:
            if not self._overflowed:
                self._overflowed = True
                self._log.warn("too many tasks wait: dropping until the queue is resumed", limit=self._paused_most)
            return False
        ident = str(next(self._ids))
        log = self._log.child(task={"id": ident, "description": task.description})
        job = _Job(ident, task, log, callback, self._clock())
        if self._dedup:
            self._waiting.add(task.description)
        if self.paused:
            self._paused_list.append(job)
        else:
            self._not_idle()
            self._run_list.append(job)
            self._dispatch()
        return True

    # --- pause, resume, fast-forward ---

    def pause(self, timeout: Optional[float] = None) -> None:
        """From now on new tasks are kept back. Returns when what ran and waited before is done.

        QueueError if it is paused already. PauseTimeout past `timeout` seconds: then the queue is running again. Must
        not be called by a task of this queue, which would wait for itself."""
        if self.paused:
            raise QueueError("the queue is paused already")
        self._paused_at = self._clock()
        self._pauses += 1
        this_pause = self._pauses
        self._not_idle()
        done = self._drained.wait(timeout)
        if self._pauses != this_pause:
            raise QueueError("the queue was resumed while it was being paused")
        if not done:
            error = PauseTimeout("pause timeout exceeded")
            self._log.fatal(str(error), timeout=timeout, queue=self._counts())
            self.resume()
            raise error

    def resume(self) -> None:
        """Runs what was kept back, in order. With nothing to do the queue is idle at once. QueueError if it is not
        paused."""
        if not self.paused:
            raise QueueError("the queue is not paused")
        self._paused_at = None
        self._pauses += 1
        self._run_list.extend(self._paused_list)
        self._paused_list.clear()
        if self._run_list:
            self._dispatch()
        elif not self._running:
            self._become_idle()

    def fast_forward(self, until: int, timeout: Optional[float] = None) -> None:
        """Runs the tasks that were kept back up to the moment `until`, and returns when they are done; the queue stays
        paused.

        QueueError if it is not paused. FastForwardTimeout past `timeout` seconds; the tasks go on running."""
        if not self.paused:
            raise QueueError("the queue is not paused")
        moved = 0
        while self._paused_list and self._paused_list[0].created_at <= until:
            self._run_list.append(self._paused_list.popleft())
            moved += 1
        if not moved:
            return
        self._dispatch()
        if not self._drained.wait(timeout):
            error = FastForwardTimeout("fast-forward timeout exceeded")
            self._log.fatal(str(error), timeout=timeout, queue=self._counts())
            raise error

    def cancel(self, task: Task) -> None:
        """Ends `task`: kills it if it runs, passes it over if it waits. Nothing if it has ended. Its callback is called
        all the same."""
        for job in (*self._run_list, *self._paused_list, *self._running.values()):
            if job.task is task:
                job.cancelled = True
                self._kill(job)

    def stop(self, timeout: float = 5.0) -> None:
        """Drops what waits, kills what runs, takes nothing more. Returns when all greenlets are gone, or after
        `timeout` s."""
        self._stopped = True
        self._not_idle()
        self._run_list.clear()
        self._paused_list.clear()
        self._waiting.clear()
        for job in self._running.values():
            self._kill(job)
        gevent.joinall([worker for worker in self._workers if worker is not gevent.getcurrent()], timeout=timeout)

    # --- running ---

    def _dispatch(self) -> None:
        """Makes sure that enough workers are alive. They start with the next turn of the loop, never inside the
        caller."""
        self._drained.clear()
        for _ in range(min(self._workers_most - len(self._workers), len(self._run_list))):
            worker = gevent.Greenlet(self._work)
            worker.name = "queue worker"
            self._workers.add(worker)
            worker.start()

    def _work(self) -> None:
        """The greenlet of a worker, until there is no work, or a task is killed in it."""
        worker = gevent.getcurrent()
        try:
            while self._run_list and worker in self._workers:
                job = self._run_list.popleft()
                self._waiting.discard(job.task.description)
                job.started_at, job.worker = self._clock(), worker
                self._running[job.id] = job
                try:
                    self._run(job)
                finally:
                    self._end(job)
                if self._run_list:
                    gevent.sleep(0)  # the loop has its turn between two tasks
        finally:
            # No switch since the list was seen empty: a task that comes now finds a free place and starts a new worker.
            self._leave(worker)

    def _leave(self, worker: gevent.Greenlet) -> None:
        """It does no more work: another does what is left."""
        if worker in self._workers:
            self._workers.discard(worker)
            if self._run_list:
                self._dispatch()

    def _run(self, job: _Job) -> None:
        """Runs one task. Raises nothing, unless it is killed."""
        if job.cancelled:
            job.log.debug("task passed over: it was cancelled")
            return
        if self._is_debugged:
            job.log.debug("task started", waited=duration(job.started_at - job.created_at))
        limit = None if job.task.timeout is None else gevent.get_hub().loop.timer(job.task.timeout)
        if limit is not None:
            limit.start(self._overdue, job)
        try:
            job.task.func(Extras(job.log, job.created_at))
            job.ended = True
        except (Exception, gevent.Timeout) as error:  # noqa: BLE001 - boundary: the task; logged, and the worker goes on
            job.error, job.ended = error, True
        finally:
            if limit is not None:
                limit.close()
            if job.id in self._running:
                self._report(job)

    def _end(self, job: _Job) -> None:
        """A task has ended, or is given up."""
        if self._running.pop(job.id, None) is None:
            return  # it was given up before
        if job.callback is not None:
            self._contained("callback", job.callback)
        if not self._run_list and not self._running:
            self._all_done()

    def _report(self, job: _Job) -> None:
        """How a task ended: to the log, and to the owner."""
        ran = self._clock() - job.started_at
        if self._measure is not None:
            self._measure((job.started_at - job.created_at) / 1e9, ran / 1e9)
        error = job.error
        if job.overdue:
            error = TaskTimeout("timeout exceeded")  # it is logged already
        elif error is not None:
            job.log.error("task failed", err=error, took=duration(ran))
        elif not job.ended:
            error = QueueError("the task was cancelled" if job.cancelled else "the task was killed")
            if not self._stopped:
                job.log.error(str(error), took=duration(ran))
        elif self._is_debugged:
            job.log.debug("task done", took=duration(ran))
        if error is not None and self._on_error is not None and not self._stopped:
            self._contained("on_error", self._on_error, error)

    def _overdue(self, job: _Job) -> None:
        """The limit of a task has passed. Of the loop: it must not wait."""
        greenlet = gevent.Greenlet(self._end_overdue, job)
        greenlet.name = "overdue: " + job.task.description
        greenlet.start()

    def _end_overdue(self, job: _Job) -> None:
        """Kill it, and if it does not end so, go on without it and its worker."""
        if job.id not in self._running or job.worker is None:
            return
        job.overdue = True
        job.log.fatal("timeout exceeded", timeout=job.task.timeout, took=duration(self._clock() - job.started_at))
        self._kill(job)
        job.worker.join(KILL_GRACE)
        if job.id in self._running:
            job.log.fatal("the task does not end; going on without it")
            self._report(job)
            self._end(job)
            self._leave(job.worker)

    def _kill(self, job: _Job) -> None:
        """With the next turn of the loop, if it runs then: its worker may be at another by that time."""
        gevent.get_hub().loop.run_callback(self._throw, job)

    def _throw(self, job: _Job) -> None:
        if job.id in self._running and job.worker is not None:
            job.worker.throw(gevent.GreenletExit)

    def _contained(self, what: str, call: Callable[..., object], *args: object) -> None:
        """Calls back into the owner's code, whose failure must not cost the worker."""
        try:
            call(*args)
        except Exception as error:  # noqa: BLE001 - boundary: foreign code; logged, and the queue goes on
            self._log.error(f"the queue's {what} failed", err=error)

    # --- idleness ---

    def _all_done(self) -> None:
        self._drained.set()
        if self.paused or self._stopped:
            return
        if self._idle_time == 0:
            self._become_idle()
        elif not self._idle_timer.active and not self._idle.is_set():
            self._idle_timer.again(self._become_idle)  # start() would go on where it was stopped

    def _not_idle(self) -> None:
        self._idle.clear()
        self._idle_timer.stop()

    def _become_idle(self) -> None:
        self._idle_timer.stop()
        self._idle.set()
        if self._on_idle is not None:
            self._contained("on_idle", self._on_idle)

    # --- what /status shows ---

    def _counts(self) -> dict[str, int]:
        return {"running": len(self._running), "waiting": len(self._run_list), "kept_back": len(self._paused_list)}

    def dump(self) -> QueueStatus:
        """For /status."""
        now = self._clock()
        shown: QueueStatus = {
            "now": stamp(now),
            "paused": self.paused,
            "idle": self.idle,
            "vasync_queue": {
                "concurrency": self._workers_most,
                "npending": len(self._running),
                "nqueued": len(self._run_list),
                "pending": {job.id: running_task(job, now) for job in self._running.values()},
                "queued": [waiting_task(job, now) for job in self._run_list],
            },
        }
        if self._paused_at is not None:
            shown["paused_at"] = stamp(self._paused_at)
            shown["paused_ago"] = duration(now - self._paused_at)
            shown["paused_nqueued"] = len(self._paused_list)
            shown["paused_queue"] = [{"id": job.id, **waiting_task(job, now)} for job in self._paused_list]
        return shown


def _check(task: object, callback: object) -> None:
    if not isinstance(task, Task):
        raise TypeError(f"need a Task, not {type(task).__name__}")
    if not isinstance(task.description, str):
        raise TypeError("a task's description must be text")
    if not callable(task.func):
        raise TypeError(f"the function of {task.description!r} cannot be called")
    if task.timeout is not None and (isinstance(task.timeout, bool) or not isinstance(task.timeout, (int, float))):
        raise TypeError(f"the timeout of {task.description!r} must be a number of seconds")
    if callback is not None and not callable(callback):
        raise TypeError(f"the callback of {task.description!r} cannot be called")
