# SPDX-License-Identifier: MPL-2.0
"""The five sources of a zone that is being read, taken together: what they have said, and who is waited for.

Always: nothing is to be taken as long as an answer is awaited: so nothing is shown beside a state that is older than
        it, but for what is late;
        of a zone that is not served yet nothing is to be taken before all is known, and none is late for who wants the
        whole.
Not here: the rule of one source (sourcereading.py), and what is asked when (zonereading.py)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Optional

from vminfod.freshness.asking import Asking
from vminfod.freshness.sourcereading import Failure, SourceReading
from vminfod.freshness.stale import Stale
from vmload.loaderror import LoadError, XmlGone
from vmload.records import ZoneRecords
from vmload.zonesources import SOURCES, Source, nothing_of


class FiveSources:
    """See the head of the module. `old`: gives what is served of the zone now. `is_whole`: late ones are waited for,
    too. `refused_for`: why what was read could not be served the last time."""

    def __init__(self, old: Callable[[], Optional[ZoneRecords]]):
        self.each = [SourceReading(source) for source in SOURCES]
        self.zoneadm, self.xml, _, _, self.zfs = self.each
        self.is_whole = False
        self.refused_for: Optional[LoadError] = None
        self._old = old
        self._looked_at = 0.0  # when it was last told who is late, monotonic seconds

    # How they stand.

    @property
    def failed(self) -> dict[Source, Failure]:
        """Those that have failed, and wait for their next try."""
        return {one.source: one.failed for one in self.each if one.failed is not None}

    @property
    def is_going(self) -> bool:
        """Whether there is more left than what has failed."""
        return any(one.is_going for one in self.each)

    @property
    def has_news(self) -> bool:
        """Whether one has ended that has not been heard."""
        return any(one.has_news for one in self.each)

    @property
    def is_new_and_late(self) -> bool:
        """Whether the zone exists, and is not served as one of its sources does not answer."""
        exists = self.zoneadm.answer is not None
        return exists and self._old() is None and any(one.is_late for one in self.each)

    @property
    def xml_gone(self) -> Optional[XmlGone]:
        """That the zone has no XML, if nothing has come of that yet."""
        error = None if self.xml.failed is None else self.xml.failed.error
        return error if isinstance(error, XmlGone) and error is not self.refused_for else None

    def wants(self) -> list[Stale]:
        """All that is wanted of them."""
        return [want for one in self.each for want in one.wants()]

    def next_late(self) -> Optional[float]:
        """When one more is late than were at the last look, monotonic seconds."""
        moments = [one.late_at for one in self.each if one.late_at is not None and one.late_at > self._looked_at]
        return min(moments, default=None)

    # What is known.

    def awaits(self, some: Iterable[SourceReading]) -> bool:
        """Whether an answer of one of some is to come, and waited for."""
        self._looked_at = time.monotonic()
        is_new = self._old() is None
        return any(one.is_awaited(is_whole=self.is_whole, is_new=is_new) for one in some)

    def known(self) -> Optional[ZoneRecords]:
        """The zone by all that is known; None if that is nothing."""
        records, told = self._old(), self.zoneadm.answer
        if records is None and told is not None and told.zone is not None:
            records = nothing_of(told.zone)
        for one in self.each:
            if records is not None and one.answer is not None and one.answer.put is not None:
                records = one.answer.put(records)
        return records

    def answers(self) -> list[Asking]:
        """Those that are to be taken now: none as long as another source is awaited, be it to be tried again."""
        if self.awaits(self.each):
            return []
        return [one.answer for one in self.each if one.answer is not None]

    def news_of_no_xml(self) -> Optional[XmlGone]:
        """That the zone has no XML, unless zoneadm is about to say whether it is there at all."""
        gone, told = self.xml_gone, self.zoneadm.failed
        if gone is None or not self.awaits([self.zoneadm]) or (told is not None and told.error is gone):
            return gone
        return None

    # What becomes of it.

    def retry(self) -> None:
        """Ask those again that have failed."""
        for one in self.each:
            one.retry()

    def fail(self, error: LoadError) -> None:
        """What is planned and what was read has failed."""
        for one in self.each:
            one.fail(error)

    def take(self) -> None:
        """The answers are served."""
        for one in self.each:
            one.taken()

    def forget(self) -> list[Stale]:
        """Nothing is wanted of them any more: what was."""
        wants = self.wants()
        for one in self.each:
            one.forget()
        return wants

    def stop(self) -> None:
        """Wait for none any more."""
        for one in self.each:
            one.stop()
