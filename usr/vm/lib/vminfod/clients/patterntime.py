# SPDX-License-Identifier: MPL-2.0
"""A regular expression of a user's, matched within a limit of processor time.

A pattern such as `(a+)+$` can take longer than the universe lasts, and Python's `re` has no limit of its own. A timer
of this process's processor time interrupts it: not of the clock, for a busy machine must refuse no honest pattern.
Signals reach the main thread only. In other threads of a program that uses the library a child process does the
matching, some 30 ms, and the limit is that child's."""

from __future__ import annotations

from vminfod.clients.failures import BadPattern
from vminfod.clients.jstranslate import searcher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn, Optional

LIMIT = 2.0  # seconds of processor time for all texts together: 1,000 VMs take some milliseconds
CHILD_LIMIT = 60.0  # seconds of the clock, for a child on a machine that has no time for it

TOO_SLOW = "PatternTooSlow"
CHILD = """
import json, sys
sys.path.insert(0, sys.argv[1])
from vminfod.clients.patterntime import BadPattern, PatternTooSlow, matches
pattern, texts = json.load(sys.stdin)
try:
    answer = matches(pattern, texts)
except BadPattern as error:
    answer = [type(error).__name__, str(error)]
json.dump(answer, sys.stdout)
"""


class PatternTooSlow(BadPattern):
    """The pattern was not done with the texts within LIMIT."""

    def __init__(self) -> None:
        super().__init__(f"it takes more than {LIMIT:g} s of processor time, write it without repeats within repeats")


def matches(pattern: str, texts: list[str]) -> list[bool]:
    """For each text, whether `pattern` is found anywhere in it, ignoring case. Raises BadPattern."""
    import signal

    armed = True

    def stop(signum: int, frame: Optional[FrameType]) -> None:
        if armed:
            raise PatternTooSlow

    try:
        before = signal.signal(signal.SIGVTALRM, stop)
    except ValueError:  # this is not the main thread
        return _matches_in_child(pattern, texts)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, LIMIT)
        search = searcher(pattern)
        found = [search(text) for text in texts]
        armed = False
        return found
    finally:
        armed = False
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _matches_in_child(pattern: str, texts: list[str]) -> list[bool]:
    import json
    import os
    import subprocess
    import sys

    library = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    try:
        done = subprocess.run(
            [sys.executable, "-IS", "-c", CHILD, library],
            input=json.dumps([pattern, texts]).encode(),
            capture_output=True,
            timeout=CHILD_LIMIT,
            check=True,
        )
    except subprocess.TimeoutExpired as error:
        raise PatternTooSlow from error
    except (OSError, subprocess.CalledProcessError) as error:
        raise BadPattern(f"the process that should match it failed: {error}") from error
    answer = json.loads(done.stdout)
    if answer and isinstance(answer[0], str):
        _raise_named(*answer)
    return list(answer)


def _raise_named(kind: str, text: str) -> NoReturn:
    raise PatternTooSlow if kind == TOO_SLOW else BadPattern(text)
