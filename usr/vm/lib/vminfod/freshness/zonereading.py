# SPDX-License-Identifier: MPL-2.0
"""One zone that is being read: what each of its sources is asked, and has answered.

      mark() -> marked -> planned -> under way -> answered -> taken        each source by itself
                  ^         ^            v error      |
                  |         '- retry() failed         | older than zoneadm's record, or asked for with other files
                  '-------- put_back()   ^------------'

Always: one rule for all sources: one that has not answered within PATIENCE, be it that it hangs or that it fails, is
        late, and what the others say is taken beside what it said last. It is waited for no more until it has
        answered, and that is taken when it comes;
        a source is asked once at a time; what is marked while it is asked is asked for after that;
        an answer to a question that was asked with what no longer holds is not taken, but asked for again. So nothing
        is shown beside a state that is older than it, but for what is late;
        an answer, an error and an end are of what was asked before them: who came since waits on, and what was marked
        since is asked for;
        a source that is late and meanwhile has something else to say, such as zfs of a new disk, is asked for that;
        of a zone that is not served yet nothing is taken before all is known, and none is late for who wants the whole.
One greenlet reads; any may mark. Not here: how a source is asked (asking.py), what becomes of the answers, and when
what failed is tried again (reloads.py)."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from functools import reduce
from typing import NamedTuple, Optional

import gevent
from gevent.event import Event as Flag

from vminfod.freshness.asking import Asker, Asking, Looks, no_look
from vminfod.freshness.stale import Stale, all_of, leading
from vminfod.freshness.threads import Threads
from vminfod.log import Log
from vminfod.serving.cause import Cause
from vmload import parts as part
from vmload.loaderror import LoadError, XmlGone, ZoneGone
from vmload.records import ZoneRecords
from vmload.zonesources import Asked, Source, ZoneSources, holds, nothing_of, sources_of

# Seconds that a source may take before the rest of a zone is served beside it. One that is well needs milliseconds.
PATIENCE = 2.0


class Failure(NamedTuple):
    """Why a source could not say what was wanted of it."""

    want: Stale
    error: LoadError


class ZoneReading:
    """See the head of the module. `old`: gives what is served of the zone now. `looks`: how the files of a source are
    looked at, and watched, when they are read."""

    def __init__(
        self,
        zonename: str,
        sources: ZoneSources,
        threads: Threads,
        log: Log,
        old: Callable[[], Optional[ZoneRecords]],
        looks: Looks = no_look,
    ):
        self._asker = Asker(zonename, sources, threads, log, looks)
        self._old = old
        self.marked = Stale()
        self.failed: dict[Source, Failure] = {}
        self._planned: dict[Source, Stale] = {}
        self._under_way: dict[Source, Asking] = {}
        self._aside: dict[Source, Asking] = {}  # late, while the source is asked for something else
        self._answers: dict[Source, Asking] = {}  # not taken yet
        self._new_failures: list[Failure] = []
        self._refused_for: Optional[LoadError] = None
        self._since: dict[Source, float] = {}  # when each was asked first that has not answered since, monotonic
        self._is_beside = False  # whether zoneadm is not waited for before the others are asked
        self._is_whole = False
        self._news = Flag()

    # Marking.

    def mark(self, parts: Collection[str], datasets: Collection[str], cause: Optional[Cause]) -> None:
        """`parts` are stale, and what zfs says of `datasets`."""
        self.marked.add(parts, datasets, cause)
        self._news.set()

    def fails(self, parts: Collection[str], datasets: Collection[str]) -> bool:
        """Whether a source of these has failed, and waits for its next try."""
        return any(source in self.failed for source in sources_of(parts, datasets, None))

    def retry(self) -> None:
        """Ask those again that have failed."""
        failed, self.failed = self.failed, {}
        for source, failure in failed.items():
            self._plan(source, failure.want)

    # How it stands.

    @property
    def is_stale(self) -> bool:
        """Whether there is anything left to do, now or later."""
        return bool(self.marked or self.failed or self.is_going)

    @property
    def is_going(self) -> bool:
        """Whether there is more left than what has failed."""
        return bool(self._planned or self._under_way or self._aside or self._answers or self._next())

    @property
    def can_go_on(self) -> bool:
        """Whether there is something to do now."""
        return bool(self._next()) or any(asking.has_ended for asking in self._asked())

    @property
    def cause(self) -> Optional[Cause]:
        """Why it is read: the end of a transaction, or else the first reason."""
        return cause_of(self._wants())

    @property
    def is_new_and_late(self) -> bool:
        """Whether the zone exists, and is not served as one of its sources does not answer."""
        return self._old() is None and Source.ZONEADM in self._answers and any(map(self._is_slow, self._since))

    @property
    def xml_gone(self) -> Optional[XmlGone]:
        """That the zone has no XML, if that is news, and zoneadm not about to say whether it is there at all."""
        gone, told = self._xml_gone, self.failed.get(Source.ZONEADM)
        has_told = not self._is_awaited(Source.ZONEADM) or (told is not None and told.error is gone)
        return gone if has_told else None

    def known(self) -> Optional[ZoneRecords]:
        """The zone by all that is known; None if that is nothing."""
        records, told = self._old(), self._answers.get(Source.ZONEADM)
        if records is None and told is not None and told.zone is not None:
            records = nothing_of(told.zone)
        for asking in self._answers.values():
            if records is not None and asking.put is not None:
                records = asking.put(records)
        return records

    def answers(self) -> list[Asking]:
        """Those that are to be taken now: none as long as another source is awaited, be it to be tried again."""
        return [] if any(map(self._is_awaited, Source)) else list(self._answers.values())

    def new_failures(self) -> list[Failure]:
        """Those since the last call."""
        found, self._new_failures = self._new_failures, []
        return found

    # Reading.

    def run(self, *, is_whole: bool = False) -> None:
        """Ask what is marked, until each source has answered, has failed, or is late, which none is for the end of a
        transaction, or if it `is_whole`. Raises ZoneGone."""
        self._is_whole = is_whole or any(want.ends_transaction for want in self._wants())
        self._plan_marked()
        while True:
            self._hear()
            self._begin()
            if not any(self._is_awaited(asking.source) for asking in self._asked()):
                break
            self.wait(None)
        if self.failed and self._old() is None:
            # Which of the events that come before the next try are about it, nobody can tell.
            self._fail_all(next(iter(self.failed.values())).error)

    def wait(self, until: Optional[float]) -> None:
        """For anything that happens; not longer than `until` (monotonic seconds), nor until one more is late."""
        moments = [at + PATIENCE for source, at in self._since.items() if not self._is_slow(source)]
        moments += [] if until is None else [until]
        # A turn of the loop at least: what has come while all else was busy is not late.
        self._news.wait(max(0.001, min(moments) - time.monotonic()) if moments else None)
        self._news.clear()

    def take(self, askings: Iterable[Asking]) -> None:
        """Their answers are served."""
        for asking in askings:
            del self._answers[asking.source]
            for question in asking.want.questions:
                question.applied(asking.source)

    def refuse(self, error: LoadError) -> None:
        """What was read cannot be served: all of the zone is to be read again."""
        self._refused_for = error
        for source in Source:
            # What zoneadm is being asked is all that it can be asked; what is marked since is not for this question.
            if source is not Source.ZONEADM or source not in self._under_way:
                self._plan(source, all_of(None).of(source))
        self._fail_all(error)
        for failure in self.failed.values():
            failure.want.hear(error, but=self.marked.questions)

    def put_back(self) -> None:
        """It is as if nothing had been read: all of it is marked."""
        for want in self._end():
            self.marked.add_all(want)

    def end(self) -> None:
        """The zone is no more: who waits for what was asked has an answer. Who came since waits for all of it."""
        for want in self._end():
            want.hear(None, but=self.marked.questions)
        if self.marked.questions:
            self.marked.add(part.ALL, (), None)

    def stop(self) -> None:
        """Wait for no source any more."""
        gevent.killall([asking.greenlet for asking in self._asked()], block=False)

    # Planning.

    def _next(self) -> list[Source]:
        """The sources that are marked and can be planned: an answer that is still to come is taken first."""
        if not self.marked:
            return []
        sources = sources_of(self.marked.parts, self.marked.datasets, self._old())
        free = (source for source in sources if source not in self.failed)
        asked = {asking.source for asking in self._asked()}
        return [source for source in free if self._is_whole or source not in asked]

    def _plan_marked(self) -> None:
        if self._xml_gone is not None and self.marked.of(Source.XML):
            self._plan(Source.XML, self.failed.pop(Source.XML).want)  # it may be back, before anybody was told
        for source, failure in self.failed.items():
            failure.want.add_all(self.marked.of(source))
        self.marked = self.marked.without(self.failed)
        sources, cause = self._next(), self.marked.cause
        for source in sources:
            self._plan(source, self.marked.of(source))
        self.marked = self.marked.without(sources)
        if self._old() is None and self._planned:
            for source in Source:
                if source not in {*self._planned, *self._under_way, *self._answers, *self.failed}:
                    self._plan(source, all_of(cause).of(source))
        self._is_beside = Source.ZFS in self._planned and part.DATASETS in self._planned[Source.ZFS].parts

    def _plan(self, source: Source, want: Stale) -> None:
        planned = self._planned.setdefault(source, Stale())
        planned.add_all(want)

    def _plan_what_does_not_hold(self) -> None:
        """By what is known now."""
        known, old = self.known(), self._old()
        if known is None:
            return
        for source in Source:
            asking = self._under_way.get(source, self._answers.get(source))
            was = old if asking is None else asking.known
            if was is None or source in {Source.ZONEADM, *self._planned}:
                continue
            if source in self.failed:
                _want_what_does_not_hold(self.failed[source].want, source, old, known)
                continue
            if asking is not None and source in self._under_way:
                if self._is_slow(source) and not holds(source, was, known):
                    self._leave(asking, is_moved=was.zone.zonepath != known.zone.zonepath)
            elif asking is not None and was.zone != known.zone and not asking.was_late:
                self._plan(source, asking.want)  # it may be older than the record
            elif not holds(source, was, known):
                self._plan(source, Stale())

    def _leave(self, asking: Asking, *, is_moved: bool) -> None:
        """It is late, and something else is to be asked by now: nothing of what it was asked is wanted any more, but of
        zfs, unless the zone `is_moved`, in addition to that."""
        source, want = asking.source, asking.want
        if source is Source.ZFS and not is_moved:
            if source in self._aside:
                return
            self._aside[source], want = asking, Stale()
        elif asking.greenlet is not None:
            asking.greenlet.kill(block=False)
        del self._under_way[source], self._since[source]
        self._plan(source, want)

    # Asking.

    def _begin(self) -> None:
        for source in Source:
            if source in self._planned and source not in self._under_way and self._may_begin(source):
                self._ask(source, self._planned.pop(source))

    def _may_begin(self, source: Source) -> bool:
        """zoneadm first, as the state is mostly another; beside the others if all of a zone is read, whose record is
        known. What zfs is asked for is in the XML of a zone that is new."""
        if source is Source.ZONEADM:
            return True
        if self.known() is None or (self._is_awaited(Source.ZONEADM) and not self._is_beside):
            return False
        if source in self._aside and self._planned[source]:
            return False  # it would hang as well
        return source is not Source.ZFS or self._old() is not None or not self._is_awaited(Source.XML)

    def _ask(self, source: Source, want: Stale) -> None:
        known, before = self.known(), self._old()
        parts, datasets, previous = set(want.parts), set(want.datasets), self._answers.pop(source, None)
        if previous is not None:
            # What that was asked for it holds, and is not read again; but who asked waits on, and all of it may fail.
            previous.want.add_all(want)
            want = previous.want
            if previous.put is not None and previous.known is not None:
                before = previous.put(previous.known)
        _want_what_does_not_hold(want, source, before, known)
        self._since.setdefault(source, time.monotonic())
        asked = None if known is None else Asked(known, before, parts, datasets)
        asking = self._under_way[source] = Asking(source, want, known)
        self._asker.ask(asking, asked, self._news.set)

    def _hear(self) -> None:
        """Those that have ended. Raises ZoneGone."""
        for asking in self._asked():
            if isinstance(asking.error, ZoneGone) and asking.source not in self._planned:
                raise asking.error
            if asking.has_ended:
                self._hear_of(asking)
        self._plan_what_does_not_hold()

    def _hear_of(self, asking: Asking) -> None:
        source = asking.source
        is_aside = self._aside.get(source) is asking
        del (self._aside if is_aside else self._under_way)[source]
        asking.was_late = is_aside or self._is_slow(source)
        if not is_aside and source in self._planned:  # what is wanted since has not been asked for yet
            self._plan(source, asking.want)
        elif asking.error is not None:
            self._since.setdefault(source, time.monotonic() - PATIENCE)
            self._fail(source, asking.want, asking.error)
        elif is_aside:  # something else was taken since
            self._plan(source, asking.want)
        else:
            self._since.pop(source, None)
            self._answers[source] = asking

    @property
    def _xml_gone(self) -> Optional[XmlGone]:
        """That the zone has no XML, if nothing has come of that yet."""
        failure = self.failed.get(Source.XML)
        error = None if failure is None else failure.error
        return error if isinstance(error, XmlGone) and error is not self._refused_for else None

    def _fail(self, source: Source, want: Stale, error: LoadError) -> None:
        self._new_failures.append(Failure(want, error))
        if source in self.failed:  # what waits for its next try is none of this failure's
            self.failed[source].want.add_all(want)
            want = self.failed[source].want
        self.failed[source] = Failure(want, error)

    def _fail_all(self, error: LoadError) -> None:
        """What was read, too."""
        for source in Source:
            asking = self._answers.pop(source, None)
            if asking is not None:
                self._plan(source, asking.want)
            if source in self._planned:
                self.failed.setdefault(source, Failure(Stale(), error)).want.add_all(self._planned.pop(source))

    def _end(self) -> list[Stale]:
        """What was wanted, all of it, which is now forgotten."""
        marked, self.marked = self.marked, Stale()
        wants = self._wants()
        self.stop()
        self.marked = marked
        for each in (self.failed, self._planned, self._under_way, self._aside, self._answers, self._since):
            each.clear()
        return wants

    # One source.

    def _wants(self) -> list[Stale]:
        askings = (*self._answers.values(), *self._asked())
        failed = (failure.want for failure in self.failed.values())
        return [*(asking.want for asking in askings), *failed, *self._planned.values(), self.marked]

    def _asked(self) -> list[Asking]:
        return [*self._under_way.values(), *self._aside.values()]

    def _is_slow(self, source: Source) -> bool:
        return source in self._since and time.monotonic() >= self._since[source] + PATIENCE

    def _is_awaited(self, source: Source) -> bool:
        """Whether an answer of it is to come, and waited for."""
        if source in self._aside and self._is_whole:
            return True
        is_to_come = source in self._planned or source in self._under_way or source in self.failed
        return is_to_come and (self._is_whole or not self._is_slow(source) or self._old() is None)


def cause_of(wants: Iterable[Stale]) -> Optional[Cause]:
    """The one of their causes that counts."""
    return reduce(leading, (want.cause for want in wants), None)


def _want_what_does_not_hold(
    want: Stale, source: Source, before: Optional[ZoneRecords], known: Optional[ZoneRecords]
) -> None:
    """All of the source, if its last answer, in `before`, was asked for with something else: once the others are served
    that cannot be seen any more. What zfs says goes by the names of datasets, and is missed by these."""
    if source is Source.ZFS or before is None or known is None:
        return
    if not holds(source, before, known):
        want.add_all(all_of(None).of(source))
