# SPDX-License-Identifier: MPL-2.0
"""One zone that is being read: which of its sources is asked for what is marked, and what of their answers is taken.

      mark() -> marked -> each source by itself (sourcereading.py) -> answers() -> take()
                  ^                    |
                  '---- put_back() ----'

Always: one rule for all sources: what the others say is taken beside what a late one said last. It is waited for no
        more until it has answered, and that is taken when it comes;
        what is marked while a source is asked is asked for after that;
        nothing is shown beside a state that is older than it, but for what is late;
        an answer, an error and an end are of what was asked before them: who came since waits on, and what was marked
        since is asked for;
        of a zone that is not served yet nothing is taken before all is known, and none is late for who wants the whole.
One greenlet reads; any may mark. Not here: what becomes of the answers, and when what failed is tried again
(reloads.py)."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Optional

from gevent.event import Event as Flag

from vminfod.freshness.asking import Asker, Looks, no_look
from vminfod.freshness.fivesources import FiveSources
from vminfod.freshness.sourcereading import Failure, SourceReading
from vminfod.freshness.stale import Stale, all_of, cause_of
from vminfod.freshness.threads import Threads
from vminfod.log import Log
from vminfod.serving.cause import Cause
from vmload import parts as part
from vmload.loaderror import LoadError
from vmload.records import ZoneRecords
from vmload.zonesources import Source, ZoneSources, sources_of


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
        self.sources = FiveSources(old)
        self.marked = Stale()
        self._asker = Asker(zonename, sources, threads, log, looks)
        self._old = old
        self._new_failures: list[Failure] = []
        self._is_beside = False  # whether zoneadm is not waited for before the others are asked
        self._news = Flag()

    # Marking.

    def mark(self, parts: Collection[str], datasets: Collection[str], cause: Optional[Cause]) -> None:
        """`parts` are stale, and what zfs says of `datasets`."""
        self.marked.add(parts, datasets, cause)
        self._news.set()

    def fails(self, parts: Collection[str], datasets: Collection[str]) -> bool:
        """Whether a source of these has failed, and waits for its next try."""
        failed = self.sources.failed
        return bool(failed) and not failed.keys().isdisjoint(sources_of(parts, datasets, None))

    # How it stands.

    @property
    def is_stale(self) -> bool:
        """Whether there is anything left to do, now or later."""
        return bool(self.marked or self.sources.failed or self.sources.is_going)

    @property
    def is_going(self) -> bool:
        """Whether there is more left than what has failed."""
        return self.sources.is_going or bool(self._next(self.sources.each))

    @property
    def can_go_on(self) -> bool:
        """Whether there is something to do now."""
        return self.sources.has_news or bool(self._next(self.sources.each))

    @property
    def cause(self) -> Optional[Cause]:
        """Why it is read: the end of a transaction, or else the first reason."""
        return cause_of(self._wants())

    def _wants(self) -> list[Stale]:
        """All that is wanted of the zone."""
        return [*self.sources.wants(), self.marked]

    def new_failures(self) -> list[Failure]:
        """Those since the last call."""
        found, self._new_failures = self._new_failures, []
        return found

    # Reading.

    def run(self, *, is_whole: bool = False) -> None:
        """Ask what is marked, until each source has answered, has failed, or is late, which none is for the end of a
        transaction, or if it `is_whole`. Raises ZoneGone."""
        sources = self.sources
        sources.is_whole = is_whole or any(want.ends_transaction for want in self._wants())
        self._news.clear()  # from here to wait() nobody else runs
        self._plan_marked()
        while True:
            told = sources.zoneadm.answer
            self._hear()
            if sources.zoneadm.answer is not told and not self.marked.ends_transaction:
                self._plan(sources.each[1:])  # what was marked meanwhile may be shown by nothing older than this record
            self._begin()
            if not sources.awaits([one for one in sources.each if one.is_asked]):
                break
            self.wait(None)
        failed = sources.failed
        if failed and self._old() is None:
            # Which of the events that come before the next try are about it, nobody can tell.
            sources.fail(next(iter(failed.values())).error)

    def wait(self, until: Optional[float]) -> None:
        """For anything that happens; not longer than `until` (monotonic seconds), nor until one more is late."""
        moments = [moment for moment in (until, self.sources.next_late()) if moment is not None]
        # A turn of the loop at least: what has come while all else was busy is not late.
        self._news.wait(max(0.001, min(moments) - time.monotonic()) if moments else None)
        self._news.clear()

    def _plan_marked(self) -> None:
        if self.sources.xml_gone is not None and self.marked.concerns(Source.XML):
            self.sources.xml.retry()  # it may be back, before anybody was told
        for one in self.sources.each:
            if one.failed is not None:
                one.failed.want.add_all(self.marked.take(one.source))
        self.marked = self.marked or Stale()
        cause = self.marked.cause
        self._plan(self.sources.each)
        if self._old() is None and any(one.planned is not None for one in self.sources.each):
            for one in self.sources.each:
                if one.is_idle:
                    one.plan(all_of(cause).of(one.source))
        self._is_beside = self.sources.zfs.planned is not None and part.DATASETS in self.sources.zfs.planned.parts

    def _plan(self, some: list[SourceReading]) -> None:
        """Those of some that can be asked are to be asked for what is marked of them."""
        for one in self._next(some):
            one.plan(self.marked.take(one.source))
        self.marked = self.marked or Stale()

    def _next(self, some: list[SourceReading]) -> list[SourceReading]:
        """Those of some that are marked and can be planned: an answer that is still to come is taken first."""
        if not self.marked:
            return []
        marked = sources_of(self.marked.parts, self.marked.datasets, self._old())
        free = (one for one in some if one.source in marked and one.failed is None)
        return [one for one in free if self.sources.is_whole or not one.is_asked]

    def _hear(self) -> None:
        """What has come of the questions. Raises ZoneGone."""
        for one in self.sources.each:
            self._new_failures += one.hear()
        known, old = self.sources.known(), self._old()
        if known is not None:
            for one in self.sources.each:
                one.fit(known, old)

    def _begin(self) -> None:
        for one in self.sources.each:
            if one.planned is not None and one.under_way is None and self._may_begin(one, one.planned):
                asked = one.ask(self.sources.known(), self._old())
                if one.under_way is not None:
                    self._asker.ask(one.under_way, asked, self._news.set)

    def _may_begin(self, one: SourceReading, planned: Stale) -> bool:
        """zoneadm first, as the state is mostly another; beside the others if all of a zone is read, whose record is
        known. What zfs is asked for is in the XML of a zone that is new."""
        if one is self.sources.zoneadm:
            return True
        if self.sources.known() is None or (self.sources.awaits([self.sources.zoneadm]) and not self._is_beside):
            return False
        if one.aside is not None and planned:
            return False  # it would hang as well
        return one is not self.sources.zfs or self._old() is not None or not self.sources.awaits([self.sources.xml])

    # What becomes of it.

    def refuse(self, error: LoadError) -> None:
        """What was read cannot be served: all of the zone is to be read again."""
        self.sources.refused_for = error
        for one in self.sources.each:
            # What zoneadm is being asked is all that it can be asked; what is marked since is not for this question.
            if one is not self.sources.zoneadm or one.under_way is None:
                one.plan(all_of(None).of(one.source))
        self.sources.fail(error)
        for failure in self.sources.failed.values():
            failure.want.hear(error, but=self.marked.questions)

    def put_back(self) -> None:
        """It is as if nothing had been read: all of it is marked."""
        for want in self.sources.forget():
            self.marked.add_all(want)

    def end(self) -> None:
        """The zone is no more: who waits for what was asked has an answer. Who came since waits for all of it."""
        for want in self.sources.forget():
            want.hear(None, but=self.marked.questions)
        if self.marked.questions:
            self.marked.add(part.ALL, (), None)
