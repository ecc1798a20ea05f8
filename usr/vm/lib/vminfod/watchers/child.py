# SPDX-License-Identifier: MPL-2.0
"""A child process that is kept running: started, listened to line by line, and started again whenever it fails.

        start()
           |
           v      a ready line
        starting ---------------> up
           ^  |                    |
      tick |  | lost               | lost        lost: it ended, was not ready in time, printed too much garbage or a
           |  v                    |                   line without an end, was stopped by a signal, or the owner
         waiting <-----------------'                   asked for a restart
                                        stop() leads to `stopped` from anywhere

Always: the daemon outlives its children: whatever a child does, it is logged, shown in status() and mended by a new
        one, after a wait that grows from 0.5 s to 30 s;
        after each ready line but that of a first try that went well, on_ready(again=True) says that something may have
        been missed; on_missed() says so when lines could not be understood;
        nothing is delivered after stop(), and every greenlet and process of a run ends with it;
        the owner's code is called in a greenlet of this module and must not block.
Not here: what a line means (on_record's matter), and what to do when something was missed.

When the daemon is killed outright nothing is left to end a child. One with a pipe to stdin sees the end of it; one
without gets SIGPIPE with its next line; on the platform the service's contract ends both."""

import errno
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Optional, TypedDict, Union

import gevent
from gevent.event import AsyncResult, Event

from vminfod import times
from vminfod.backoff import Backoff
from vminfod.log import Log
from vminfod.watchers import garbage
from vminfod.watchers.garbage import Garbage
from vminfod.watchers.lines import LINE_MOST, BadLine, OddEvent, json_objects
from vminfod.watchers.pipes import PipeLines, write_all
from vminfod.watchers.process import Process
from vminfod.watchers.window import Window

READY_WITHIN = 30.0  # seconds from the start to the ready line (OS-6054)
FIRST_WAIT, MOST_WAIT = 0.5, 30.0  # seconds before a new start
CHECK_EVERY = 1.0  # seconds. A child whose output a grandchild holds open ends without an end of file
STOPPED_CHECKS = 2  # in a row that find it stopped by a signal; one can be somebody's look with a debugger
UNFINISHED_WITHIN = 10.0  # seconds. The tools write a line at once: one that has not ended by then never will
OVERLONG_WITHIN = 60.0  # seconds for one that is longer than allowed: megabytes on a busy machine
STDERR_KEPT = 100  # lines, for /status and for debugging
STDERR_LINE_MOST = 1 << 16  # bytes
LOSSES_WINDOW = 300.0  # seconds
RENEWED_WITHIN = 5.0  # seconds that one which replaces another may take before that counts as down; it takes 10 ms
STDERR_WINDOW, STDERR_LOGGED = 60.0, 5  # seconds, and lines of stderr that are logged in them
SHOWN_MOST = 200  # characters of a line in the log

STATES = {
    "starting": {"ready": "up", "lost": "waiting", "stop": "stopped"},
    "up": {"lost": "waiting", "stop": "stopped"},
    "waiting": {"tick": "starting", "stop": "stopped"},
    "stopped": {},
}


class ChildStatus(TypedDict):
    """A member of `children` in /status (docs/http-api.md, "Status")."""

    state: str
    pid: Optional[int]
    restarts: int
    skippedLines: int
    lastError: Optional[str]
    heardAgo: Optional[str]


class Child:
    """One supervised process. See the head of the module; docs/platform.md, "Care for the tool", bugs C9, C10, H2, L2,
    OS-7310.

    `on_record(record, seen_at)` gets the JSON object that each line of its output is, and when it was read (monotonic
    ns); it returns True for the ready line, and raises BadLine for one that makes no sense.
    `on_ready(again)` follows a ready line; `again` is true if there was a try before.
    `on_lost(was_killed)`: it was up and has ended, of a kill from outside or by itself. Its last lines may not have
    been read.
    `commands`: whether send() is used; otherwise its stdin is empty."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log: Log,
        on_record: Callable[[dict[str, Any], int], Optional[bool]],
        on_ready: Callable[[bool], object],
        on_missed: Callable[[str], object],
        on_lost: Callable[[bool], object] = lambda was_killed: None,
        commands: bool = False,
        ready_within: float = READY_WITHIN,
        backoff: Optional[Backoff] = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.name = name
        self._argv = list(argv)
        self._log = log.child(child=name)
        self._on_record, self._on_ready, self._on_missed, self._on_lost = on_record, on_ready, on_missed, on_lost
        self._commands = commands
        self._ready_within = ready_within
        self._backoff = backoff or Backoff(FIRST_WAIT, MOST_WAIT)
        self._clock = clock

        self._state = "starting"  # as in STATES
        self._up = Event()  # set exactly in the state `up`
        self._stopping = Event()
        self._supervisor: Optional[gevent.Greenlet] = None
        self._process: Optional[Process] = None  # the present one; set before its greenlets start
        self._output: Optional[PipeLines] = None  # of the present process
        self._lost: AsyncResult = AsyncResult()  # why the present run ends: the first reason counts
        self._renewing = False  # that reason is renew()
        self._is_renewed = False  # the process before ended of renew(), not of a fault
        self._outgoing: deque[bytes] = deque()  # commands that the writer has not sent; of this run only
        self._to_send = Event()

        self._tries = 0
        self._last_error: Optional[str] = None
        self._stderr: deque[str] = deque(maxlen=STDERR_KEPT)
        self._down_since: Optional[int] = clock()  # None exactly in the state `up`
        self._heard_at: Optional[int] = None  # when its last good line came
        self._losses: deque[int] = deque(maxlen=100)  # when it was lost
        self._garbage = Garbage(clock)
        self._stderr_logged = Window(STDERR_WINDOW, clock)

    # --- for the owner ---

    def start(self) -> None:
        self._supervisor = self._spawn("supervisor", self._supervise)

    def wait_ready(self, timeout: Optional[float] = None) -> bool:
        """Waits for the state `up`; False if `timeout` seconds passed first. It goes on being tried."""
        return bool(self._up.wait(timeout))

    def send(self, command: bytes) -> bool:
        """Queues bytes for the child's stdin, without blocking. False if it is not up: then they are gone."""
        if self._state != "up":
            return False
        self._outgoing.append(command)
        self._to_send.set()
        return True

    def restart(self, reason: str) -> None:
        """Give up the present process for a new one."""
        if not self._lost.ready():
            self._lost.set(reason)

    def renew(self, reason: str) -> None:
        """As restart(), for a child of which nothing bad is known: it is replaced at once, and this is no loss."""
        if self._state == "up" and not self._lost.ready():
            self._renewing = True
            self._lost.set(reason)

    def stop(self, within: float = 5.0) -> None:
        """Ends the process; nothing is delivered any more. Returns when it is gone, or after `within` seconds."""
        self._go("stop")
        self._stopping.set()
        self.restart("stopped")
        if self._supervisor is not None and not self._supervisor.ready():
            self._supervisor.join(within)
            if not self._supervisor.ready():
                self._log.error("child does not end", pid=self.pid)

    @property
    def pid(self) -> Optional[int]:
        return self._process.pid if self._process is not None else None

    @property
    def running(self) -> bool:
        return self._state == "up"

    def status(self) -> ChildStatus:
        """For /status: the state, what went wrong so far, and how long ago its last good line came."""
        silent = self.silent_ns()
        return {
            "state": self._state,
            "pid": self.pid,
            "restarts": max(0, self._tries - 1),
            "skippedLines": self._garbage.count,
            "lastError": self._last_error,
            "heardAgo": None if silent is None else times.duration(silent),
        }

    def silent_ns(self) -> Optional[int]:
        """How long ago its last good line came, nanoseconds; None before the first."""
        return None if self._heard_at is None else max(0, self._clock() - self._heard_at)

    def down_seconds(self) -> Optional[float]:
        """For how long it has not been up; None if it is, or is just being renewed, as happens where all is well."""
        if self._down_since is None:
            return None
        seconds = (self._clock() - self._down_since) / 1e9
        return None if self._is_renewed and seconds < RENEWED_WITHIN else seconds

    def recent_losses(self) -> list[float]:
        """How many seconds ago it was lost, each time within the last LOSSES_WINDOW seconds, in order."""
        now = self._clock()
        return [(now - at) / 1e9 for at in self._losses if now - at < LOSSES_WINDOW * 1e9]

    def stderr(self) -> list[str]:
        """The last lines that it wrote on stderr, over all runs."""
        return list(self._stderr)

    # --- the life of a child ---

    def _go(self, event: str) -> bool:
        """Takes one step in STATES. An event that the state does not know is logged and changes nothing."""
        state = STATES[self._state].get(event)
        if state is None:
            self._log.debug("no such step", state=self._state, event=event)
            return False
        self._log.debug("state changed", old=self._state, new=state)
        self._state = state
        if state == "up":
            self._up.set()
            self._down_since = None
        else:
            self._up.clear()
            self._down_since = self._down_since or self._clock()
        return True

    def _not_up(self) -> None:
        """Called before anything that can switch greenlets: what is sent from now on would be lost."""
        if self._state in ("starting", "up"):
            self._is_renewed = self._renewing
            self._go("lost")

    def _supervise(self) -> None:
        while self._state != "stopped":
            started = self._clock()
            self._lost = AsyncResult()
            self._renewing = False
            if self._stopping.is_set():
                return
            self._tries += 1
            try:
                reason = self._run()
            except Exception as error:  # noqa: BLE001 - boundary: one run of the child; the next one follows
                self._log.error("cannot follow the child", err=error)
                reason = f"{type(error).__name__}: {error}"
            self._not_up()
            if self._state == "stopped":
                return
            if self._renewing:
                self._log.warn("replacing the child by a new one", reason=reason)
            else:
                self._wait_after_loss(reason, started)
            if self._state == "waiting":
                self._go("tick")

    def _wait_after_loss(self, reason: str, started: int) -> None:
        self._last_error = reason
        self._losses.append(self._clock())
        if self._clock() - started > self._backoff.most * 1e9:
            self._backoff.reset()
        wait = self._backoff.next()
        self._log.error("child lost, starting a new one", reason=reason, wait_s=round(wait, 2), tries=self._tries)
        self._stopping.wait(wait)

    def _run(self) -> str:
        """One process from start to end. Returns why it ended."""
        try:
            process = Process(self._argv, commands=self._commands)
        except OSError as error:
            return f"cannot start {self._argv[0]}: {error.strerror}"
        self._process = process
        self._output = PipeLines(process.stdout, clock=self._clock)
        self._outgoing.clear()
        self._log.debug("child started", pid=process.pid, argv=self._argv)
        greenlets = [
            self._spawn("stdout", self._read_stdout, self._output),
            self._spawn("stderr", self._read_stderr, PipeLines(process.stderr, STDERR_LINE_MOST)),
        ]
        if process.stdin is not None:
            greenlets.append(self._spawn("stdin", self._write_stdin, process.stdin))
        try:
            reason = self._wait_until_lost(process)
        finally:
            was_up = self.running
            self._not_up()
            gevent.killall(greenlets)
            self._process = None
            status = process.end()
            if was_up and self._state != "stopped":
                self._on_lost(process.was_killed)
        return f"{reason} ({status})"

    def _wait_until_lost(self, process: Process) -> str:
        ready_by = self._clock() + int(self._ready_within * 1e9)
        stopped = 0
        while True:
            left = (ready_by - self._clock()) / 1e9 if self._state == "starting" else CHECK_EVERY
            if left <= 0:
                return f"not ready within {self._ready_within:g} s"
            self._lost.wait(min(left, CHECK_EVERY))
            if self._lost.ready():
                return str(self._lost.get())
            if process.has_exited():
                return "it ended"
            stopped = stopped + 1 if process.is_stopped() else 0
            if stopped >= STOPPED_CHECKS:
                return "it is stopped by a signal"
            if self._output is not None and self._output.began is not None:
                within = OVERLONG_WITHIN if self._output.is_overlong else min(UNFINISHED_WITHIN, self._ready_within)
                if self._clock() - self._output.began > within * 1e9:
                    return f"a line that has not ended for {within:g} s"

    def _spawn(self, what: str, function: Callable[..., None], *args: Any) -> gevent.Greenlet:
        greenlet = gevent.Greenlet(function, *args)
        greenlet.name = f"{self.name}: {what}"
        greenlet.start()
        return greenlet

    # --- its pipes, one greenlet each ---

    def _read_stdout(self, output: PipeLines) -> None:
        too_long = 0
        while True:
            lines = self._read(output)
            if lines is None:
                self.restart("its output ended")
                return
            seen_at = self._clock()
            for line, record in zip(lines, json_objects(lines)):
                if self._state not in ("starting", "up"):
                    return
                self._deliver(line, record, seen_at)
            while too_long < output.too_long:
                too_long += 1
                self._skip(b"", BadLine(f"a line of more than {LINE_MOST} bytes"))

    def _deliver(self, line: bytes, record: Union[dict[str, Any], BadLine], seen_at: int) -> None:
        try:
            if isinstance(record, BadLine):
                raise record
            if self._on_record(record, seen_at):
                self._ready()
            self._heard_at = seen_at
        except OddEvent as error:
            self._heard_at = seen_at
            self._skip(line, error)
        except BadLine as error:
            self._skip(line, error)
        except Exception as error:  # noqa: BLE001 - boundary: one line; logged, the next one follows
            self._log.error("a line could not be handled", err=error)
            self._skip(line, BadLine(f"{type(error).__name__} while handling it"))

    def _ready(self) -> None:
        if self._state == "up":
            raise BadLine("a second ready line")
        again = self._tries > 1
        self._go("ready")
        self._log.info("child is ready", pid=self.pid, tries=self._tries)
        self._on_ready(again)

    def _skip(self, line: bytes, error: BadLine) -> None:
        what = self._garbage.add(is_odd=isinstance(error, OddEvent))
        if what.is_logged:
            self._log.warn("skipped a line", reason=str(error), line=line[:SHOWN_MOST].decode("utf-8", "replace"))
        if what.is_missed:
            self._on_missed(f"{self.name}: {error}")
        if what.is_too_much:
            self.restart(f"more than {garbage.MOST} lines of garbage in {garbage.WINDOW:g} s")

    def _read_stderr(self, stderr: PipeLines) -> None:
        while True:
            lines = self._read(stderr)
            if lines is None:
                return
            for line in lines:
                text = line[:SHOWN_MOST].decode("utf-8", "replace")
                self._stderr.append(text)
                if self._stderr_logged.count() <= STDERR_LOGGED:
                    self._log.warn("child wrote on stderr", line=text)

    def _read(self, output: PipeLines) -> Optional[list[bytes]]:
        """The next lines; None at the end."""
        try:
            return output.read()
        except OSError as error:
            self.restart(f"cannot read from it: {error.strerror}")
            return None

    def _write_stdin(self, descriptor: int) -> None:
        while True:
            self._to_send.wait()
            self._to_send.clear()
            text = b"".join(self._outgoing)
            self._outgoing.clear()
            try:
                write_all(descriptor, text)
            except OSError as error:
                if error.errno != errno.EPIPE:  # its end is noticed by its output ending
                    self.restart(f"cannot write to it: {error.strerror}")
                return
