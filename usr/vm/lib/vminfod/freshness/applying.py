# SPDX-License-Identifier: MPL-2.0
"""The one place where what was read of a zone becomes what is served of it.

Always: only a task on the queue comes here with what changes the cache, and the first load before there are clients;
        what cannot be read or assembled leaves the old object served, and an error (retrying.py);
        a zone is dropped only when zoneadm says that it does not exist, or its XML is gone;
        a VM that could not be read since the start ends with a `delete`, too: clients keep what they had of it;
        of a VM that a transaction holds nothing is applied but what is read to end it, not even an error.
Not here: what is read, and when it is tried again (reloads.py)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional, Union

from vminfod.diff import Change
from vminfod.freshness.filewatches import FileWatches
from vminfod.freshness.retrying import Retrying
from vminfod.freshness.sysinfo import Sysinfo
from vminfod.serving.cache import Cache
from vminfod.serving.cause import REFRESH, Cause
from vminfod.serving.holds import Holds
from vmload.loader import assemble
from vmload.loaderror import LoadError, NoVm, XmlGone, ZoneGone
from vmload.records import ZoneRecords

Found = Union[ZoneRecords, LoadError]  # what a reading gave, or why it gave nothing


@dataclass(frozen=True)
class Applied:
    """What became of a reading. `event`: create, modify or delete; None if nothing changed. `error`: why the zone has
    to be tried again. `is_kept_back`: a transaction holds the VM, and it is as if nothing had been read: it has
    to be read again."""

    event: Optional[str] = None
    changes: list[Change] = field(default_factory=list)
    error: Optional[LoadError] = None
    is_kept_back: bool = False


class Applying:
    """See the head of the module."""

    def __init__(self, cache: Cache, holds: Holds, sysinfo: Sysinfo, watches: FileWatches, retrying: Retrying):
        self._cache = cache
        self._holds = holds
        self._sysinfo = sysinfo
        self._watches = watches
        self._retrying = retrying

    def apply(self, asked: str, found: Found, cause: Optional[Cause], *, is_whole: bool = True) -> Applied:
        """Serve, drop or keep the zone, as what was `found` says. Without a `cause` there is no event: the first load.
        Unless it `is_whole`, one of its sources still fails: the zone has the error that it had.

        `asked` is what zoneadm was asked for: that can be a uuid too, of a zone that has another name."""
        zonename = found.zone.zonename if isinstance(found, ZoneRecords) else asked
        if self._holds.keeps_back(zonename, cause) or self._holds.keeps_back(asked, cause):
            return Applied(is_kept_back=True)
        if isinstance(found, NoVm):
            self._retrying.ended(asked)  # what could not be read was no VM's: nobody has to hear of its end
        if isinstance(found, ZoneGone):
            return self._gone(asked, cause)
        if isinstance(found, XmlGone):
            # No VM meanwhile. Its files stay watched, and it is tried again.
            event = self._drop(asked, cause)
            self._retrying.failed(asked, found)
            return Applied(event, error=found)
        if isinstance(found, LoadError):
            return self._failed(asked, found)
        try:
            vm = assemble(found, self._sysinfo.value)
        except LoadError as error:
            return self._failed(asked, error)
        put = self._cache.put(zonename, found, vm, cause)
        if is_whole and self._retrying.ended(zonename) is not None:
            self._watches.answers_again(found.zone)
        if asked != zonename:
            self._gone(asked, cause)
        return Applied(put.event, put.changes)

    def would_change(self, zonename: str, records: ZoneRecords) -> bool:
        """Whether to apply these records would make an event."""
        known = self._cache.records(zonename)
        if known is not None and known == records:
            return False
        try:
            return self._cache.differs(zonename, assemble(records, self._sysinfo.value))
        except LoadError:
            return False

    def _failed(self, asked: str, error: LoadError) -> Applied:
        self._retrying.failed(asked, error)
        return Applied(error=error)

    def _gone(self, zonename: str, cause: Optional[Cause]) -> Applied:
        event = self._drop(zonename, cause)
        self._watches.drop(zonename)
        self._retrying.ended(zonename)
        return Applied(event)

    def _drop(self, zonename: str, cause: Optional[Cause]) -> Optional[str]:
        known = self._retrying.get(zonename)
        if self._cache.drop(zonename, cause or REFRESH):
            return "delete"
        if cause is None or known is None or not known.is_of_a_vm:
            return None
        self._cache.never_seen(zonename, cause)
        return "delete"
