# SPDX-License-Identifier: MPL-2.0
"""File events: the client of the `fswatcher` child, which is asked for each path (docs/platform.md, "File watcher").

One wanted path, from watch() to unwatch():

        asked --answer SUCCESS--> watching --final event--> asked
          |  ^                                               (the child has dropped it: ask at once)
    FAIL  |  | every 0.2 s, 10 tries in all; then every 10 s, with all others;
          v  | where its folder is watched: when that reports something
        missing

A path that may end or hang the child is held back meanwhile (suspicion.py).

Always: commands are written at once and answered whenever (in the original 5,000 round trips made a third of the
        start);
        of several commands for one path only the answer to the last one counts, so that the last request wins (R1);
        watch() and unwatch() can be called at any time, any number of times, and never wait; a path that the child
        could misread is refused alone (A10, C11): it is logged and listed as not watched;
        a path that the child ends or hangs of is not asked for, so that the others stay watched (C11); it is listed as
        not watched, and in the quarantine that /status and the verdict show;
        a path that is watched again after a break yields a `create` event, as what happened meanwhile is unknown (S9);
        after a restart of the child all paths are watched anew before the owner hears that events were missed;
        a child that leaves a command unanswered too long is replaced; one that has said nothing for SILENT is given a
        command.
Not here: what a file means, and whether it still exists: `delete` is what the child said, and a stat() says more
(OS-7368)."""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Optional, TypedDict

import gevent
from gevent.event import Event

from vminfod.log import Log
from vminfod.times import pair
from vminfod.watchers.child import READY_WITHIN, Child, ChildStatus
from vminfod.watchers.filemessages import (
    Answer,
    ChildError,
    FileChange,
    Ready,
    command_line,
    parse_message,
    unwatchable,
)
from vminfod.watchers.latency import Latency
from vminfod.watchers.lines import OddEvent
from vminfod.watchers.missing import Missing, folder_of
from vminfod.watchers.quarantine import QuarantinedPath
from vminfod.watchers.suspicion import Suspicion
from vminfod.watchers.trial import Trial
from vminfod.watchers.window import Window

PROGRAM_VARIABLE = "FSWATCHER_CMD"  # in the environment: another program to run
ARGUMENTS = ("-r", "-j")

ANSWER_WITHIN = 30.0  # seconds. A child that does not answer does not watch either (H2)
LAST_KEY = 2**32 - 1  # then from 1 again; 0 is the child's own
LOOK_EVERY = 0.1  # seconds between looks at what is to be tried again, and at what is unanswered
SLOW_WINDOW = 60.0  # seconds with at most one line about slow messages
SILENT = 30.0  # seconds. A child that is up and has said nothing for so long is asked for something, to see it answer


@dataclass(frozen=True)
class FileEvent:
    """`kind`: change, delete, create (watched again after a break; was missing before), event (none of these).

    `flags`: the platform's words, such as FILE_MODIFIED; none for a `create`. `seen_at`: monotonic nanoseconds, by the
    child's clock, which is ours too."""

    path: str
    kind: str
    flags: tuple[str, ...]
    seen_at: int


class FsWatcherStatus(ChildStatus):
    """`quarantine`: the wanted paths that the child is not asked for."""

    quarantine: list[QuarantinedPath]


class FsWatcherDump(FsWatcherStatus):
    """The member `fswatcher` of /status?full (docs/http-api.md, "Status")."""

    message_delays: dict[str, float]
    watching: list[str]
    not_yet_watching: list[str]
    pending_actions: dict[str, "PendingAction"]
    watcher_pid: Optional[int]
    running: bool
    slow_messages: int
    stderr: list[str]


class PendingAction(TypedDict):
    """A command that is not answered: when it was sent, [seconds, nanoseconds], and its words."""

    started: list[int]
    cmd: str


class _Path:
    """A path that is wanted, or was until its last command is answered."""

    __slots__ = ("path", "wanted", "key", "watching", "tries", "report", "since")

    def __init__(self, path: str) -> None:
        self.path = path
        self.wanted = True
        self.key: Optional[int] = None  # of its last command, until that is answered
        self.watching = False
        self.tries = 0  # since it was last watched
        self.report = False  # that it is watched, when it is
        # Monotonic ns: since when no child has answered for it, however many were asked. None: one has.
        self.since: Optional[int] = None


class FsWatcher:
    """See the head of the module. `program`: the child's with its path; FSWATCHER_CMD overrides it."""

    def __init__(
        self,
        program: str,
        *,
        log: Log,
        on_event: Callable[[FileEvent], object],
        on_missed: Callable[[str], object],
        ready_within: float = READY_WITHIN,
        answer_within: float = ANSWER_WITHIN,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._log = log.child(component="fswatcher")
        self._on_event = on_event
        self._on_missed = on_missed
        self._answer_within = answer_within
        self._clock = clock
        argv = [os.environ.get(PROGRAM_VARIABLE) or program, *ARGUMENTS]
        self.child = Child(
            "fswatcher",
            argv,
            log=log,
            commands=True,
            on_record=self._on_record,
            on_ready=self._on_ready,
            on_missed=on_missed,
            on_lost=self._on_lost,
            ready_within=ready_within,
        )

        # Every wanted path is in here, and those whose UNWATCH is under way. While the child is up, a path is in
        # _missing exactly if it is wanted, not watched, not held back, and no command for it is unanswered.
        self._paths: dict[str, _Path] = {}
        self._missing = Missing(clock())
        self._refused: set[str] = set()
        self._commands: dict[int, tuple[_Path, str, int]] = {}  # key: path, command, when; in the order of sending
        self._answered = Event()  # set exactly while _commands is empty and nothing is undecided
        self._answered.set()
        self._next_key = 1
        self._last_event_path: Optional[str] = None
        self._hangs = False  # the child did not answer in time, and is being replaced for that
        self._greenlets: list[gevent.Greenlet] = []

        self._suspicion = Suspicion(self, Trial(argv, self._log, answer_within, clock), self._log, clock)

        self._latency = Latency()
        self._slow_logged = Window(SLOW_WINDOW, clock)

    # --- for the owner ---

    def start(self) -> None:
        self.child.start()
        self._spawn("retries", self._look_after)

    def stop(self, within: float = 5.0) -> None:
        """No event is delivered any more."""
        gevent.killall(self._greenlets, timeout=within)
        self._suspicion.stop(within)
        self.child.stop(within)

    def wait_ready(self, timeout: Optional[float] = None) -> bool:
        """Waits until the child takes commands; False if `timeout` seconds passed first."""
        return self.child.wait_ready(timeout)

    def wait_answered(self, timeout: Optional[float] = None) -> bool:
        """Waits until no command is unanswered, and no path on trial for that: what can be watched is watched. False
        if it is not so in time, or if the child is not up."""
        return self.child.running and bool(self._answered.wait(timeout)) and self.child.running

    def report_late(self, paths: Iterable[str]) -> None:
        """Their owner does not wait for them, or no longer: those not watched yet are reported when they are."""
        for path in paths:
            known = self._paths.get(path)
            if known is not None and known.wanted and known.key is not None:
                known.report = True

    def watch(self, path: str) -> None:
        """Report what happens to `path` from now on, or from when it appears."""
        reason = unwatchable(path)
        if reason is not None:
            if path not in self._refused:
                self._refused.add(path)
                self._log.error("cannot watch this path", path=path, reason=reason)
            return
        known = self._paths.get(path)
        if known is not None and known.wanted:
            return
        # Anew also while its UNWATCH is under way: the answer to that belongs to the old one.
        self._paths[path] = _Path(path)
        self._suspicion.wanted_anew(path)
        self._ask(self._paths[path])

    def unwatch(self, path: str) -> None:
        """Report nothing about `path` any more."""
        self._refused.discard(path)
        known = self._paths.get(path)
        if known is None or not known.wanted:
            return
        known.wanted = False
        if known.watching or known.key is not None:
            self._send(known, "UNWATCH")
        if known.key is None:
            del self._paths[path]
        self._missing.discard(path)
        self._try_in(path)

    def answers_again(self, path: str) -> None:
        """What is at `path`, or in it, could not be read for a while, or took long, and can be now: what the child
        ended or hung of there is tried at once."""
        self._suspicion.answers_again(path)

    @property
    def watching(self) -> list[str]:
        return sorted(known.path for known in self._paths.values() if self._is_watched(known))

    @property
    def not_yet_watching(self) -> list[str]:
        """Those that are wanted but not watched: missing, asked for, on trial, in quarantine, or refused."""
        missing = [known.path for known in self._paths.values() if known.wanted and not self._is_watched(known)]
        return sorted([*missing, *self._refused])

    def _is_watched(self, known: _Path) -> bool:
        return known.wanted and known.watching and self.child.running

    @property
    def quarantined(self) -> list[str]:
        """Those of which the child ends or hangs."""
        return self._suspicion.quarantined(self.wanted())

    def unanswered(self) -> list[tuple[str, float]]:
        """The wanted paths for which no child has answered, and for how many seconds, the longest first: it hangs, or
        did, and they are held back until it is known of which. Not those in quarantine."""
        now = self._clock()
        waiting = {one.path: (now - one.since) / 1e9 for one in self._paths.values() if one.wanted and one.since}
        for path in self._suspicion.quarantined(waiting):
            del waiting[path]
        return sorted(waiting.items(), key=lambda one: -one[1])

    def dump(self) -> FsWatcherDump:
        """The member `fswatcher` of /status?full (docs/http-api.md, "Status", docs/platform.md, "File watcher"), and
        how the child fares."""
        return {
            "message_delays": self._latency.means(),
            "watching": self.watching,
            "not_yet_watching": self.not_yet_watching,
            "pending_actions": {
                str(key): {"started": pair(sent_at), "cmd": f"{key} {command} {known.path}"}
                for key, (known, command, sent_at) in self._commands.items()
            },
            "watcher_pid": self.child.pid,
            "running": self.child.running,
            "slow_messages": self._latency.slow,
            "stderr": self.child.stderr(),
            **self.status(),
        }

    def status(self) -> FsWatcherStatus:
        """As Child.status(), and the paths in quarantine."""
        return {**self.child.status(), "quarantine": self._suspicion.shown(self.wanted())}

    # --- commands ---

    def _ask(self, known: _Path) -> None:
        """Has the path watched, if the child is up and the path not held back. If not, that is done when it is so."""
        self._missing.discard(known.path)
        if known.since is None:
            known.since = self._clock()
        if self._suspicion.holds_back(known.path):
            known.key = None
            return
        known.tries += 1
        self._send(known, "WATCH")

    def _send(self, known: _Path, command: str) -> None:
        key = self._next_key
        while key in self._commands:
            key = 1 if key == LAST_KEY else key + 1
        if not self.child.send(command_line(key, command, known.path)):
            known.key = None
            return
        self._next_key = 1 if key == LAST_KEY else key + 1
        known.key = key
        self._commands[key] = (known, command, self._clock())
        self._note_answered()

    def _take_answer(self, answer: Answer) -> None:
        known, command, _ = self._commands.pop(answer.key, (None, "", 0))
        self._note_answered()
        if known is None:
            raise OddEvent("an answer to no command")
        if known.key != answer.key:
            return  # another command for the same path is under way, and counts
        known.key = known.since = None
        self._suspicion.answered(known.path)
        if not known.wanted:
            if self._paths.get(known.path) is known:
                del self._paths[known.path]
            return
        if answer.success:
            self._stands(known)
        else:
            self._is_missing(known)

    def _stands(self, known: _Path) -> None:
        report, known.watching, known.tries, known.report = known.report, True, 0, False
        self._try_in(known.path)
        if report:
            self._on_event(FileEvent(known.path, "create", (), self._clock()))

    def _is_missing(self, known: _Path) -> None:
        known.watching, known.report = False, True
        folder = folder_of(known.path)
        if self._will_report(folder):
            self._missing.add_in(folder, known.path)
        else:
            self._missing.add(known.path, known.tries, self._clock())

    def _will_report(self, folder: str) -> bool:
        """Whether it is noticed when something appears in that folder: it is watched, or waits itself for the one that
        it is in."""
        known = self._paths.get(folder)
        if known is None or not known.wanted:
            return False
        return known.watching or self._missing.waits_in(folder_of(folder), folder)

    def _try_in(self, folder: str) -> None:
        """Something happened in the folder, or to it: what is missing there may have come, or would not be noticed."""
        for path in self._missing.due_in(folder):
            self._missing.add(path, 0, self._clock())

    def _look_after(self) -> None:
        """A greenlet: asks again for what is missing, tries the quarantine, and sees to the time limit of answers."""
        while True:
            gevent.sleep(LOOK_EVERY)
            now = self._clock()
            for path in self._missing.due(now) if self.child.running else ():
                self._ask(self._paths[path])
            self._check_answers(now)
            self._suspicion.look()

    def _check_answers(self, now: int) -> None:
        if not self.child.running:
            return
        for known, command, sent_at in self._commands.values():  # the oldest one is first
            if now - sent_at > self._answer_within * 1e9:
                error = f"{command} {known.path}: timeout exceeded"
                self._log.error(
                    "the child does not answer, replacing it",
                    error=error,
                    code="ETIMEOUT",
                    timeout_s=self._answer_within,
                )
                self._hangs = True
                self.child.restart(error)
            return
        if (self.child.silent_ns() or 0) > SILENT * 1e9:
            watched = next((known for known in self._paths.values() if known.wanted and known.watching), None)
            if watched is not None:
                self._send(watched, "WATCH")  # it answers that it watches already

    def _forget_commands(self) -> None:
        self._commands.clear()
        self._note_answered()

    def _note_answered(self) -> None:
        if self._commands or self._suspicion.undecided:
            self._answered.clear()
        else:
            self._answered.set()

    # --- what the child says ---

    def _on_record(self, record: dict[str, Any], seen_at: int) -> bool:
        message = parse_message(record)
        delay = (seen_at - message.time) / 1e6
        if self._latency.add(delay) and self._slow_logged.count() == 1:
            self._log.warn("file messages are slow", delay_ms=round(delay, 1), slow_messages=self._latency.slow)
        if isinstance(message, Answer):
            self._take_answer(message)
        elif isinstance(message, FileChange):
            self._take_change(message, seen_at)
        elif isinstance(message, ChildError):
            self._take_error(message)
        return isinstance(message, Ready)

    def _take_change(self, change: FileChange, seen_at: int) -> None:
        known = self._paths.get(change.path)
        if known is None or not known.wanted:
            self._log.debug("event for a path that is not wanted", pathname=change.path)
            return
        self._last_event_path = change.path
        event = FileEvent(change.path, change.kind, change.changes, min(change.time, seen_at))
        if change.final:
            known.watching, known.report, known.tries = False, True, 0
            if change.kind_was_forced:
                self._log.warn("watch ended without a deletion", pathname=change.path, changes=list(change.changes))
            if known.key is None:  # else a command is under way that the child reads after having dropped the path
                self._ask(known)
        self._try_in(change.path)
        self._on_event(event)

    def _take_error(self, error: ChildError) -> None:
        """The child could not do something. It does not say for which path (bug C9)."""
        self._log.warn("the child reports an error", code=error.code, key=error.key, error=error.message)
        if error.code == ChildError.CANNOT_ASSOCIATE:
            # The event before was about that path, if the child does one thing at a time. Asking again for one that is
            # watched does no harm.
            known = self._paths.get(self._last_event_path or "")
            if known is not None and known.wanted:
                known.watching, known.report, known.tries = False, True, 0
                self._ask(known)
        elif error.key in self._commands:
            self._take_answer(Answer(error.time, error.key, success=False))

    def _on_ready(self, again: bool) -> None:
        """A new child: it watches nothing yet."""
        self._suspicion.child_is_up()
        self._forget_commands()
        self._missing.clear()
        for known in list(self._paths.values()):
            known.key, known.watching = None, False
            if known.wanted:
                known.tries = 0
                self._ask(known)
            else:
                del self._paths[known.path]
        if again:
            self._spawn("after restart", self._report_restart)

    def _report_restart(self) -> None:
        self.wait_answered(self._answer_within)
        self._on_missed("fswatcher: started again")

    # --- paths that the child may end or hang of ---

    def _on_lost(self, was_killed: bool) -> None:
        asked = [
            known.path
            for key, (known, command, _) in self._commands.items()
            if command == "WATCH" and known.wanted and known.key == key
        ]
        self._suspicion.child_is_lost(asked, was_killed and not self._hangs)
        self._hangs = False
        self._forget_commands()

    def wanted(self) -> list[str]:
        """As Asker says."""
        return [known.path for known in self._paths.values() if known.wanted]

    def withdraw(self, path: str) -> None:
        """As Asker says."""
        known = self._paths.get(path)
        if known is not None and known.wanted and (known.watching or known.key is not None) and self.child.running:
            self.unwatch(path)
            self._paths[path] = _Path(path)

    def release(self, paths: Sequence[str]) -> None:
        """As Asker says. What happened to them meanwhile is unknown: each is reported when it is watched."""
        for path in paths:
            known = self._paths.get(path)
            if known is not None and known.wanted and not known.watching and known.key is None:
                known.report = True
                if self.child.running:
                    self._ask(known)
        self._note_answered()

    def _spawn(self, what: str, function: Callable[[], None]) -> None:
        greenlet = gevent.Greenlet(function)
        greenlet.name = "fswatcher: " + what
        self._greenlets = [one for one in self._greenlets if not one.ready()] + [greenlet]
        greenlet.start()
