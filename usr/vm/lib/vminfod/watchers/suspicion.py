# SPDX-License-Identifier: MPL-2.0
"""Which paths the file watcher's child is not asked for, since it may end or hang of them (bug C11).

        asked --the child ends or hangs--> on trial --harmless--> asked
                                              |                     ^
                                              '--> in quarantine ---'  a later try, apart, went well

Suspects are the paths that were asked for and not answered for when the child was lost, unless it was killed from
outside, for the first time. If it twice ends by itself
within SHORT_LIFE of its start, and no such path is guilty, all paths are suspects: a path can end it long after it was
asked for. Those are not held back: the child goes on watching them during that trial.

Always: a suspect that is known to be harmless is held back no more, though the trial of the others goes on;
        a path that is held back is on trial because it was not answered for, or in quarantine;
        the quarantine outlives the child, and paths that are not wanted for a while: they may be wanted again;
        what is in quarantine is tried one after the other, but for what is hastened, which is tried together.
Not here: how a trial is made (trial.py), commands and answers (fswatcher.py)."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Optional, Protocol

import gevent

from vminfod.log import Log
from vminfod.watchers.quarantine import Quarantine, QuarantinedPath
from vminfod.watchers.trial import Acquit, Trial

KILLS = 2  # in a row, while it was asked for something: then that is suspect, too
SHORT_LIFE = 30.0  # seconds; a child that lives longer may have been ended by anything
SHORT_LIVES = 2  # in a row, ended by itself without a guilty path among the unanswered ones, that put all on trial
LEAST_STAY = 0.2  # seconds for which a process on trial has to live on after its answers; else twice its short life
ACQUITTED_MOST = 3  # acquittals in a row of the path that stood first when the child ended by itself: then it is guilty


class Asker(Protocol):
    """Who asks the child."""

    def wanted(self) -> list[str]:
        """All paths that are to be watched, held back or not."""
        ...

    def withdraw(self, path: str) -> None:
        """The path is held back from now on: no longer to be watched by the child, if it is."""
        ...

    def release(self, paths: Sequence[str]) -> None:
        """The paths are held back no more: to be asked for, those that are wanted."""
        ...


class Suspicion:
    """See the head of the module."""

    def __init__(self, asker: Asker, trial: Trial, log: Log, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._asker = asker
        self._trial = trial
        self._log = log
        self._clock = clock
        self._suspects: set[str] = set()
        self._quarantine = Quarantine()
        self._up_since = clock()
        self._kills = 0  # of the child, from outside while it was asked for something, in a row
        self._short_lives = 0  # of the child, in a row and unexplained
        self._all_on_trial = False
        self._acquittals: dict[str, int] = {}  # of paths that stood first, since their last answer
        self._retrying: Optional[gevent.Greenlet] = None  # tries paths of the quarantine again
        self._trials: list[gevent.Greenlet] = []

    # --- for the owner ---

    def holds_back(self, path: str) -> bool:
        """Whether the child must not be asked for the path."""
        return path in self._suspects or path in self._quarantine

    @property
    def undecided(self) -> bool:
        """Whether paths are held back only until their trial has ended."""
        return bool(self._suspects)

    def quarantined(self, paths: Iterable[str]) -> list[str]:
        """Those of `paths` that are in quarantine."""
        return sorted(path for path in paths if path in self._quarantine)

    def shown(self, paths: Iterable[str]) -> list[QuarantinedPath]:
        """Those for /status."""
        now = self._clock()
        return [self._quarantine.shown(path, now) for path in self.quarantined(paths)]

    def wanted_anew(self, path: str) -> None:
        """It was not wanted for a while: it may be another file now."""
        self._quarantine.hasten(path)

    def answers_again(self, path: str) -> None:
        """Somebody else could not get at it, and can now."""
        self._quarantine.hasten_around(path)

    def answered(self, path: str) -> None:
        """The child has answered for the path, and lives."""
        self._acquittals.pop(path, None)

    def child_is_up(self) -> None:
        self._up_since = self._clock()

    def child_is_lost(self, asked: Sequence[str], was_killed: bool) -> None:
        """It had not answered for `asked`, in this order. `was_killed`: from outside, as it did neither end by itself
        nor hang."""
        self._kills = self._kills + 1 if was_killed and asked else 0
        if was_killed and self._kills < KILLS:
            return
        self._suspects.update(asked)
        lived = (self._clock() - self._up_since) / 1e9
        self._trials = [one for one in self._trials if not one.ready()]
        self._trials.append(_spawn("trial", self._look_for_guilty, asked, lived, was_killed))

    def look(self) -> None:
        """To be called now and then: starts to try the paths of the quarantine that are due."""
        if self._retrying is not None and not self._retrying.ready():
            return
        due = self._quarantine.take_due(self._clock())
        if not due:
            return
        wanted = set(self._asker.wanted()).intersection(due)
        for path in due:
            if path not in wanted:
                self._quarantine.lift(path)
        if wanted:
            self._retrying = _spawn("quarantine", self._retry, sorted(wanted))

    def stop(self, within: float) -> None:
        """End all trials, with their processes."""
        gevent.killall([*self._trials, *([self._retrying] if self._retrying is not None else [])], timeout=within)

    # --- greenlets ---

    def _look_for_guilty(self, asked: Sequence[str], lived: float, was_killed: bool) -> None:
        guilty = self._try(asked, LEAST_STAY, self._acquit)
        left = [path for path in asked if path in self._suspects]
        if asked and not guilty and not was_killed:
            self._count_acquittal(asked[0])
        self._acquit(left)
        if was_killed:
            return
        self._short_lives = 0 if guilty or lived > SHORT_LIFE else self._short_lives + 1
        if self._short_lives >= SHORT_LIVES and not self._all_on_trial:
            self._try_all(max(LEAST_STAY, 2 * lived))

    def _acquit(self, paths: Sequence[str]) -> None:
        """Those are on trial no more."""
        self._suspects.difference_update(paths)
        self._asker.release(paths)

    def _count_acquittal(self, path: str) -> None:
        """The child answers in the order of its commands: a path that is first again and again ends it, whatever a
        process on trial does."""
        self._acquittals[path] = self._acquittals.get(path, 0) + 1
        if self._acquittals[path] >= ACQUITTED_MOST:
            del self._acquittals[path]
            self._condemn(path, "it ended again and again when asked for this path", LEAST_STAY)

    def _try_all(self, stay: float) -> None:
        self._all_on_trial = True
        try:
            paths = [path for path in self._asker.wanted() if path not in self._quarantine]
            self._try(paths, stay, lambda _: None)  # nothing is held back
        finally:
            self._all_on_trial, self._short_lives = False, 0

    def _try(self, paths: Sequence[str], stay: float, acquit: Acquit) -> bool:
        """Put `paths` on trial, and the guilty in quarantine. Whether there are any."""
        guilty = (self._trial.guilty(paths, stay, acquit) if paths else None) or {}
        for path, reason in guilty.items():
            self._condemn(path, reason, stay)
        return bool(guilty)

    def _condemn(self, path: str, reason: str, stay: float) -> None:
        self._log.error(
            "the file watcher ends or hangs of this path: not watched until a later try goes well",
            path=path,
            reason=reason,
        )
        self._quarantine.add(path, reason, stay, self._clock())
        self._asker.withdraw(path)

    def _retry(self, paths: Sequence[str]) -> None:
        stay = {path: self._quarantine.stay(path) for path in paths}
        guilty = self._trial.guilty(paths, max(stay.values()))
        for path in paths:
            if guilty is None:
                self._quarantine.postpone(path, self._clock())
            elif path in guilty:
                self._quarantine.add(path, guilty[path], stay[path], self._clock())
            else:
                self._log.info("the file watcher no longer ends or hangs of this path: watching it", path=path)
                self._quarantine.lift(path)
        self._asker.release([path for path in paths if path not in self._quarantine])


def _spawn(what: str, function: Callable[..., None], *args: object) -> gevent.Greenlet:
    greenlet = gevent.Greenlet(function, *args)
    greenlet.name = "fswatcher: " + what
    greenlet.start()
    return greenlet
