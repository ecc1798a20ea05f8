# SPDX-License-Identifier: MPL-2.0
"""Which paths does the file watcher end or hang of? Found out with processes of its own, so that the one that watches
is not harmed.

    suspects --all at once--> it lives on: none
                  |
                  '-- it ends or hangs: does it even when asked for HARMLESS? then it is the tool's fault: no verdict
                        |
                        '-- the first that was not answered for, and the others in halves, side by side, each as above,
                      down to single paths, each tried a second time

One process is asked in order: mostly the first that it leaves unanswered is guilty, and the others are not.

Always: who asks hears at once of those that are harmless, while the search for the others goes on;
        a path is found guilty only if the program twice ended or hung with just that path;
        every process that is started here is ended here, also when the greenlet that asks is killed.
Not here: who is under suspicion, and what becomes of the guilty (fswatcher.py)."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Optional

import gevent
from gevent.lock import BoundedSemaphore

from vminfod.log import Log
from vminfod.watchers.filemessages import Answer, Ready, command_line, parse_message
from vminfod.watchers.lines import BadLine, json_objects
from vminfod.watchers.pipes import PipeLines, write_all
from vminfod.watchers.process import Process

HARMLESS = "/"  # on every node, on no pool that can be sick while the daemon runs
READY_WITHIN = 10.0  # seconds
ANSWER_WITHIN = 5.0  # seconds without any answer. A stat() takes microseconds; on a pool that hangs it takes for ever
AT_ONCE = 4  # processes; a sick pool can put hundreds of paths on trial

ENDED = "it ended"
_REASON_MOST = 200  # characters
_LAST_WORDS_WITHIN = 0.1  # seconds for the rest of the stderr of one that has ended


@dataclass(frozen=True)
class Death:
    """How the program ended or that it hung, and which paths it had not answered for."""

    reason: str
    unanswered: tuple[str, ...]


Acquit = Callable[[Sequence[str]], object]


def _nothing(_paths: Sequence[str]) -> None:
    """An Acquit for who waits for the end."""


class Trial:
    """`argv`: the program to be asked, `fswatcher -r -j`. `answer_within`: seconds that the owner gives it to answer;
    here it gets ANSWER_WITHIN at most."""

    def __init__(
        self,
        argv: Sequence[str],
        log: Log,
        answer_within: float = ANSWER_WITHIN,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._argv = argv
        self._log = log
        self._answer_within = min(answer_within, ANSWER_WITHIN)
        self._clock = clock
        self._places = BoundedSemaphore(AT_ONCE)

    def guilty(self, paths: Sequence[str], stay: float, acquit: Acquit = _nothing) -> Optional[dict[str, str]]:
        """Those of `paths` that the program ends or hangs of, within `stay` seconds after having answered for all, each
        with how it ended; None if nothing can be said. `acquit` is called with others as soon as they are known to be
        harmless, though not with all of them. Blocks for some tenths of a second, and some `stay` for each halving."""
        death = self._ask(paths, stay)
        if death is None:
            return {}
        if self._ask([HARMLESS], stay) is not None:
            self._log.error("the file watcher fails whatever it is asked for", reason=death.reason)
            return None
        return self._search(paths, death, stay, acquit)

    def _search(self, asked: Sequence[str], death: Death, stay: float, acquit: Acquit) -> dict[str, str]:
        """The guilty among `asked`, with which the program has just failed like that."""
        paths = death.unanswered or tuple(asked)
        if len(paths) < len(asked):
            left = set(paths)
            acquit([path for path in asked if path not in left])
        if len(paths) > 1:
            middle = (len(paths) + 1) // 2
            pieces = [piece for piece in (paths[1:middle], paths[middle:], paths[:1]) if piece]
            searches = [gevent.spawn(self._search_piece, piece, stay, acquit) for piece in pieces]
            try:
                gevent.joinall(searches, raise_error=True)
            finally:
                gevent.killall(searches)
            return {path: reason for search in searches for path, reason in search.value.items()}
        again = self._ask(paths, stay)
        return {} if again is None else {paths[0]: again.reason}

    def _search_piece(self, paths: Sequence[str], stay: float, acquit: Acquit) -> dict[str, str]:
        death = self._ask(paths, stay)
        if death is None:
            acquit(paths)
            return {}
        return self._search(paths, death, stay, acquit)

    def _ask(self, paths: Sequence[str], stay: float) -> Optional[Death]:
        """Ask one process for all of `paths`. None if it lives on for `stay` seconds after its last answer, or did not
        even get ready: then they are not to blame."""
        with self._places:
            try:
                process = Process(self._argv, commands=True)
            except OSError as error:
                self._log.warn("no file watcher for a trial", reason=error.strerror)
                return None
            examination = _Examination(process, paths, self._clock)
            try:
                trouble = examination.run(self._answer_within, stay)
            finally:
                ending = examination.end()
        if trouble is None or not examination.is_ready:
            return None
        reason = f"{ending} {examination.last_words}".strip() if trouble == ENDED else trouble
        return Death(reason[:_REASON_MOST], tuple(examination.unanswered.values()))


class _Examination:
    """One process that is asked for `paths`. `unanswered`: those by the key of their command; `is_ready`: it has said
    so; `last_words`: the last line that it wrote on stderr."""

    def __init__(self, process: Process, paths: Sequence[str], clock: Callable[[], int]) -> None:
        self._process = process
        self._output = PipeLines(process.stdout, clock=clock)
        self._greenlets = [gevent.spawn(self._read_stderr)]
        self._commands = b"".join(command_line(key, "WATCH", path) for key, path in enumerate(paths, start=1))
        self.unanswered = dict(enumerate(paths, start=1))
        self.is_ready = False
        self.last_words = ""

    def run(self, answer_within: float, stay: float) -> Optional[str]:
        """What went wrong: ENDED, or that it hangs. None if nothing did."""
        while not self.is_ready:
            if (trouble := self._listen(READY_WITHIN)) is not None:
                return trouble
        self._greenlets.append(gevent.spawn(self._write))
        while self.unanswered:
            if (trouble := self._listen(answer_within)) is not None:
                return trouble
        return ENDED if self._listen(stay, to_the_end=True) == ENDED else None

    def _listen(self, seconds: float, to_the_end: bool = False) -> Optional[str]:
        """Take in the next piece of its output, or all of it. ENDED at its end, another text if nothing came within
        `seconds`, or the end did not."""
        with gevent.Timeout(seconds, False):
            while (lines := self._output.read()) is not None:
                self._take(lines)
                if not to_the_end:
                    return None
            return ENDED
        return f"no answer within {seconds:g} s"

    def _take(self, lines: list[bytes]) -> None:
        for record in json_objects(lines):
            if isinstance(record, BadLine):
                continue  # not the question here
            try:
                message = parse_message(record)
            except BadLine:
                continue
            if isinstance(message, Ready):
                self.is_ready = True
            elif isinstance(message, Answer):
                self.unanswered.pop(message.key, None)

    def _write(self) -> None:
        try:
            write_all(self._process.stdin or 0, self._commands)
        except OSError as error:
            self.last_words = self.last_words or f"cannot write to it: {error.strerror}"  # its output ends as well

    def _read_stderr(self) -> None:
        stderr = PipeLines(self._process.stderr)
        try:
            while (lines := stderr.read()) is not None:
                for line in lines:
                    self.last_words = line.decode("utf-8", "replace")
        except OSError as error:
            self.last_words = f"cannot read its stderr: {error.strerror}"

    def end(self) -> str:
        """End it. How it ended."""
        gevent.joinall(self._greenlets[:1], timeout=_LAST_WORDS_WITHIN if self._process.has_exited() else 0)
        gevent.killall(self._greenlets)
        return self._process.end()
