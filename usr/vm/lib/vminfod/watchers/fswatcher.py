# SPDX-License-Identifier: MPL-2.0
"""File events: the client of the `fswatcher` child, which is told what to watch (docs/platform.md, "File watcher").

One wanted path, from watch() to unwatch():

        asked --answer SUCCESS--> watching --final event--> asked
          |  ^                                               (the child has dropped it: ask at once)
    FAIL  |  | every 0.2 s, 10 tries in all; then every 10 s, with all others
          v  |
        missing

Always: commands are written at once and answered whenever (in the original 5,000 round trips made a third of the
        start);
        of several commands for one path only the answer to the last one counts, so that the last request wins (R1);
        watch() and unwatch() can be called at any time, any number of times, and never wait; a path that the child
        could misread is refused alone (A10, C11): it is logged and listed as not watched;
        a path that is watched again after a break yields a `create` event, as what happened meanwhile is unknown (S9);
        after a restart of the child all paths are watched anew before the owner hears that events were missed;
        a child that leaves a command unanswered too long is replaced.
Not here: what a file means, and whether it still exists: `delete` is what the child said, a stat() tells more
(OS-7368)."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Optional

import gevent
from gevent.event import Event

from vminfod.log import Log
from vminfod.times import pair
from vminfod.watchers.child import READY_WITHIN, Child
from vminfod.watchers.delays import Delays
from vminfod.watchers.filemessages import (
    Answer,
    ChildError,
    FileChange,
    Ready,
    command_line,
    parse_message,
    unwatchable,
)
from vminfod.watchers.lines import OddEvent
from vminfod.watchers.retries import Retries
from vminfod.watchers.window import Window

PROGRAM_VARIABLE = "FSWATCHER_CMD"  # in the environment: another program to run
ARGUMENTS = ("-r", "-j")

ANSWER_WITHIN = 30.0  # seconds. A child that does not answer does not watch either (H2)
LAST_KEY = 2**32 - 1  # then from 1 again; 0 is the child's own
LOOK_EVERY = 0.1  # seconds between looks at what is to be tried again, and at what is unanswered
SLOW_WINDOW = 60.0  # seconds with at most one line about slow messages


@dataclass(frozen=True)
class FileEvent:
    """`kind`: change, delete, create (watched again after a break; was missing before), event (none of these).

    `flags`: the platform's words, such as FILE_MODIFIED; none for a `create`. `seen_at`: monotonic nanoseconds, by the
    child's clock, which is ours too."""

    path: str
    kind: str
    flags: tuple[str, ...]
    seen_at: int


class _Path:
    """A path that is wanted, or was until its last command is answered."""

    __slots__ = ("path", "wanted", "key", "watching", "tries", "tell")

    def __init__(self, path: str) -> None:
        self.path = path
        self.wanted = True
        self.key: Optional[int] = None  # of its last command, until that is answered
        self.watching = False
        self.tries = 0  # since it was last watched
        self.tell = False  # that it is watched, when it is


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
            on_line=self._on_line,
            on_ready=self._on_ready,
            on_missed=on_missed,
            ready_within=ready_within,
        )

        # Every wanted path is in here, and those whose UNWATCH is under way. While the child is up, a path is in
        # _retries exactly if it is wanted, not watched, and no command for it is unanswered.
        self._paths: dict[str, _Path] = {}
        self._retries = Retries(clock())
        self._refused: set[str] = set()
        self._commands: dict[int, tuple[_Path, str, int]] = {}  # key: path, command, when; in the order of sending
        self._answered = Event()  # set exactly while _commands is empty
        self._answered.set()
        self._next_key = 1
        self._last_event_path: Optional[str] = None
        self._greenlets: list[gevent.Greenlet] = []

        self._delays = Delays()
        self._slow_logged = Window(SLOW_WINDOW, clock)

    # --- for the owner ---

    def start(self) -> None:
        self.child.start()
        self._spawn("retries", self._look_after)

    def stop(self, within: float = 5.0) -> None:
        """No event is delivered any more."""
        gevent.killall(self._greenlets, timeout=within)
        self.child.stop(within)

    def wait_ready(self, timeout: Optional[float] = None) -> bool:
        """Waits until the child takes commands; False if `timeout` seconds passed first."""
        return self.child.wait_ready(timeout)

    def wait_answered(self, timeout: Optional[float] = None) -> bool:
        """Waits until no command is unanswered: what can be watched is watched. False if it is not so in time, or if
        the child is not up."""
        return self.child.running and bool(self._answered.wait(timeout)) and self.child.running

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
        self._retries.discard(path)

    @property
    def watching(self) -> list[str]:
        return sorted(known.path for known in self._paths.values() if self._is_watched(known))

    @property
    def not_yet_watching(self) -> list[str]:
        """Those that are wanted but not watched: missing, asked for, or refused."""
        missing = [known.path for known in self._paths.values() if known.wanted and not self._is_watched(known)]
        return sorted([*missing, *self._refused])

    def _is_watched(self, known: _Path) -> bool:
        return known.wanted and known.watching and self.child.running

    def dump(self) -> dict[str, Any]:
        """The member `fswatcher` of /status?full (docs/http-api.md, "Status", docs/platform.md, "File watcher"), and
        how the child fares."""
        return {
            "message_delays": self._delays.means(),
            "watching": self.watching,
            "not_yet_watching": self.not_yet_watching,
            "pending_actions": {
                str(key): {"started": pair(sent_at), "cmd": f"{key} {command} {known.path}"}
                for key, (known, command, sent_at) in self._commands.items()
            },
            "watcher_pid": self.child.pid,
            "running": self.child.running,
            "slow_messages": self._delays.slow,
            "stderr": self.child.stderr(),
            **self.status(),
        }

    def status(self) -> dict[str, Any]:
        """State, restarts and last error of the child, as Child.status()."""
        return self.child.status()

    # --- commands ---

    def _ask(self, known: _Path) -> None:
        """Has the path watched, if the child is up. If not, that is done when it is."""
        self._retries.discard(known.path)
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
        self._answered.clear()

    def _take_answer(self, answer: Answer) -> None:
        known, command, _ = self._commands.pop(answer.key, (None, "", 0))
        if not self._commands:
            self._answered.set()
        if known is None:
            raise OddEvent("an answer that nobody waits for")
        if known.key != answer.key:
            return  # another command for the same path is under way, and counts
        known.key = None
        if not known.wanted:
            if self._paths.get(known.path) is known:
                del self._paths[known.path]
            return
        if answer.success:
            self._stands(known)
        else:
            self._missing(known)

    def _stands(self, known: _Path) -> None:
        tell, known.watching, known.tries, known.tell = known.tell, True, 0, False
        if tell:
            self._on_event(FileEvent(known.path, "create", (), self._clock()))

    def _missing(self, known: _Path) -> None:
        known.watching, known.tell = False, True
        self._retries.add(known.path, known.tries, self._clock())

    def _look_after(self) -> None:
        """A greenlet: asks again for what is missing, and sees to the time limit of answers."""
        while True:
            gevent.sleep(LOOK_EVERY)
            now = self._clock()
            for path in self._retries.due(now) if self.child.running else ():
                self._ask(self._paths[path])
            self._check_answers(now)

    def _check_answers(self, now: int) -> None:
        for known, command, sent_at in self._commands.values():  # the oldest one is first
            if now - sent_at > self._answer_within * 1e9:
                error = f"{command} {known.path}: timeout exceeded"
                self._log.error(
                    "the child does not answer, replacing it",
                    error=error,
                    code="ETIMEOUT",
                    timeout_s=self._answer_within,
                )
                self._forget_commands()
                self.child.restart(error)
            return

    def _forget_commands(self) -> None:
        self._commands.clear()
        self._answered.set()

    # --- what the child says ---

    def _on_line(self, line: bytes, seen_at: int) -> bool:
        message = parse_message(line)
        delay = (seen_at - message.time) / 1e6
        if self._delays.add(delay) and self._slow_logged.count() == 1:
            self._log.warn("file messages are slow", delay_ms=round(delay, 1), slow_messages=self._delays.slow)
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
            known.watching, known.tell, known.tries = False, True, 0
            if change.kind_was_forced:
                self._log.warn("watch ended without a deletion", pathname=change.path, changes=list(change.changes))
            if known.key is None:  # else a command is under way that the child reads after having dropped the path
                self._ask(known)
        self._on_event(event)

    def _take_error(self, error: ChildError) -> None:
        """The child could not do something. It does not say for which path (bug C9)."""
        self._log.warn("the child reports an error", code=error.code, key=error.key, error=error.message)
        if error.code == ChildError.CANNOT_ASSOCIATE:
            # The event before was about that path, if the child does one thing at a time. Asking again for one that is
            # watched does no harm.
            known = self._paths.get(self._last_event_path or "")
            if known is not None and known.wanted:
                known.watching, known.tell, known.tries = False, True, 0
                self._ask(known)
        elif error.key in self._commands:
            self._take_answer(Answer(error.time, error.key, success=False))

    def _on_ready(self, again: bool) -> None:
        """A new child: it watches nothing yet."""
        self._forget_commands()
        self._retries.clear()
        for known in list(self._paths.values()):
            known.key, known.watching = None, False
            if known.wanted:
                known.tries = 0
                self._ask(known)
            else:
                del self._paths[known.path]
        if again:
            self._spawn("after restart", self._tell_of_restart)

    def _tell_of_restart(self) -> None:
        self.wait_answered(self._answer_within)
        self._on_missed("fswatcher: started again")

    def _spawn(self, what: str, function: Callable[[], None]) -> None:
        greenlet = gevent.Greenlet(function)
        greenlet.name = "fswatcher: " + what
        self._greenlets = [one for one in self._greenlets if not one.ready()] + [greenlet]
        greenlet.start()
