# SPDX-License-Identifier: MPL-2.0
"""One source of a zone that is being read: what is wanted of it, and what has come of that.

      plan() -> planned --ask()--> under way --hear()--> answer --taken()-->
                 ^ ^ ^                |  |                 |
                 | | '---- retry() failed'                 | fit(): older than zoneadm's record, or asked for with what
                 | '-- fit(): late, and asked for with     | no longer holds
                 |     what no longer holds (or aside)     |
                 '-----------------------------------------'

Always: one that has not answered within PATIENCE, be it that it hangs or that it fails, is late, until it has answered;
        it is asked once at a time; what is planned while it is asked is asked for after that, together with what that
        was asked for: its answer is from before;
        an answer to a question that was asked with what no longer holds is asked for again;
        if it is late and has something else to say by now, it is asked for that. zfs is asked beside what hangs, which
        stays `aside`: of a zone that has not moved it is wanted still.
Not here: when it may be asked, and when its answer is to be taken (zonereading.py); how it is asked (asking.py)."""

from __future__ import annotations

import time
from typing import NamedTuple, Optional

from vminfod.freshness.asking import Asking
from vminfod.freshness.stale import Stale, all_of
from vmload.loaderror import LoadError, ZoneGone
from vmload.records import ZoneRecords
from vmload.zonesources import Asked, Source, holds

# Seconds that a source may take before the rest of a zone is served beside it. One that is well needs milliseconds.
PATIENCE = 2.0


class Failure(NamedTuple):
    """Why a source could not say what was wanted of it."""

    want: Stale
    error: LoadError


class SourceReading:
    """See the head of the module. Each of the five is None if there is no such thing. `answer`: not taken yet."""

    __slots__ = ("source", "planned", "under_way", "aside", "failed", "answer", "_since")

    def __init__(self, source: Source):
        self.source = source
        self.planned: Optional[Stale] = None
        self.under_way: Optional[Asking] = None
        self.aside: Optional[Asking] = None
        self.failed: Optional[Failure] = None
        self.answer: Optional[Asking] = None
        self._since: Optional[float] = None  # when it was asked first since its last answer, monotonic seconds

    # How it stands.

    def asked(self) -> list[Asking]:
        """What it is being asked."""
        return [asking for asking in (self.under_way, self.aside) if asking is not None]

    def wants(self) -> list[Stale]:
        """All that is wanted of it, and not taken."""
        found = [asking.want for asking in (self.answer, self.under_way, self.aside) if asking is not None]
        found += [self.failed.want] if self.failed is not None else []
        return found + [self.planned] if self.planned is not None else found

    @property
    def is_asked(self) -> bool:
        return self.under_way is not None or self.aside is not None

    @property
    def is_idle(self) -> bool:
        """Whether nothing is wanted of it, but perhaps what is aside."""
        return self.planned is None and self.under_way is None and self.failed is None and self.answer is None

    @property
    def is_going(self) -> bool:
        """Whether there is more left than what has failed."""
        return self.planned is not None or self.answer is not None or self.is_asked

    @property
    def has_news(self) -> bool:
        """Whether hear() would hear anything."""
        return self.is_asked and any(asking.has_ended for asking in self.asked())

    @property
    def is_late(self) -> bool:
        return self._since is not None and time.monotonic() >= self._since + PATIENCE

    @property
    def late_at(self) -> Optional[float]:
        """From when on it is late, monotonic seconds; None if it has answered."""
        return None if self._since is None else self._since + PATIENCE

    def is_awaited(self, *, is_whole: bool, is_new: bool) -> bool:
        """Whether an answer of it is to come, and waited for: a late one too, if the zone is to be read as a whole, or
        `is_new`; what is aside only in the first case."""
        if self.planned is None and self.under_way is None and self.failed is None:
            return is_whole and self.aside is not None
        return is_whole or is_new or not self.is_late

    # What is wanted.

    def plan(self, want: Stale) -> None:
        """It is to be asked for this as well, which nobody else changes from now on."""
        if self.planned is None:
            self.planned = want
        else:
            self.planned.add_all(want)

    def retry(self) -> None:
        """It is to be asked again, if it has failed."""
        if self.failed is not None:
            failure, self.failed = self.failed, None
            self.plan(failure.want)

    def fit(self, known: ZoneRecords, old: Optional[ZoneRecords]) -> None:
        """Have asked again what no longer holds, by what is `known` now; `old` is what is served."""
        if self.source is Source.ZONEADM or self.planned is not None:
            return
        if self.failed is not None:
            self._want_what_does_not_hold(self.failed.want, old, known)
            return
        asking = self.under_way or self.answer
        was = old if asking is None else asking.known
        if was is None or was is known:
            return
        if self.under_way is not None:
            if self.is_late and not holds(self.source, was, known):
                self._leave(self.under_way, is_moved=was.zone.zonepath != known.zone.zonepath)
        elif self.answer is not None and was.zone != known.zone and not self.answer.was_late:
            self.plan(self.answer.want.of(self.source))  # it may be older than the record
        elif not holds(self.source, was, known):
            self.plan(Stale())

    def _want_what_does_not_hold(
        self, want: Stale, before: Optional[ZoneRecords], known: Optional[ZoneRecords]
    ) -> None:
        """All of it, if its last answer, in `before`, was asked for with something else: once the other sources are
        served that cannot be seen any more. What zfs says goes by the names of datasets, and is missed by these."""
        if self.source is Source.ZFS or before is None or known is None:
            return
        if not holds(self.source, before, known):
            want.add_all(all_of(None).of(self.source))

    def _leave(self, asking: Asking, *, is_moved: bool) -> None:
        """It is late, and something else is to be asked by now: nothing of what it was asked is wanted any more, but of
        zfs, unless the zone `is_moved`, in addition to that."""
        if self.source is not Source.ZFS or is_moved:
            asking.kill()
            self.plan(asking.want)
        elif self.aside is None:
            self.aside = asking
            self.plan(Stale())
        else:
            return
        self.under_way = self._since = None

    # Asking.

    def ask(self, known: Optional[ZoneRecords], old: Optional[ZoneRecords]) -> Optional[Asked]:
        """What is planned is under way: what is to be asked, with what is `known`. None: all that there is."""
        want, previous, before = self.planned or Stale(), self.answer, old
        parts, datasets = frozenset(want.parts), frozenset(want.datasets)
        if previous is not None:
            # What that was asked for it holds, and is not read again; but who asked waits on, and all of it may fail.
            previous.want.add_all(want)
            want = previous.want
            if previous.put is not None and previous.known is not None:
                before = previous.put(previous.known)
        self._want_what_does_not_hold(want, before, known)
        if self._since is None:
            self._since = time.monotonic()
        self.planned, self.answer, self.under_way = None, None, Asking(self.source, want, known)
        return None if known is None else Asked(known, before, parts, datasets)

    def hear(self) -> list[Failure]:
        """What has ended: it is an answer now, or has failed, and why. Raises ZoneGone, unless it was asked before
        something else was wanted."""
        failures: list[Failure] = []
        asking, aside = self.under_way, self.aside
        if asking is not None and asking.has_ended:
            if isinstance(asking.error, ZoneGone) and self.planned is None:
                raise asking.error
            self.under_way, asking.was_late = None, self.is_late
            if self.planned is not None:
                self.plan(asking.want)  # what is wanted since has not been asked for yet
            elif asking.error is not None:
                failures.append(self._fail(asking.want, asking.error))
            else:
                self.answer, self._since = asking, None
        if aside is not None and aside.has_ended:
            self.aside = None
            if aside.error is not None:
                failures.append(self._fail(aside.want, aside.error))
            else:
                self.plan(aside.want)  # something else was taken since
        return failures

    def _fail(self, want: Stale, error: LoadError) -> Failure:
        if self._since is None:
            self._since = time.monotonic() - PATIENCE
        failure = self.failed = Failure(want, error) if self.failed is None else Failure(self.failed.want, error)
        if failure.want is not want:  # what waits for its next try is none of this failure's
            failure.want.add_all(want)
        return Failure(want, error)

    # The end of it.

    def fail(self, error: LoadError) -> None:
        """What is planned has failed, and so has what was read."""
        answer, self.answer = self.answer, None
        if answer is not None:
            self.plan(answer.want)
        planned, self.planned = self.planned, None
        if planned is not None and self.failed is not None:
            self.failed.want.add_all(planned)
        elif planned is not None:
            self.failed = Failure(planned, error)

    def taken(self) -> None:
        """Its answer is served."""
        answer, self.answer = self.answer, None
        for question in answer.want.questions if answer is not None else ():
            question.applied(self.source)

    def forget(self) -> None:
        """Nothing is wanted of it any more."""
        self.stop()
        self.planned = self.under_way = self.aside = self.failed = self.answer = self._since = None

    def stop(self) -> None:
        """Do not wait for it any more."""
        for asking in self.asked():
            asking.kill()
