# SPDX-License-Identifier: MPL-2.0
"""One question to one source of a zone: a greenlet that asks it, and what came of that.

Always: it ends with an answer or an error, whatever goes wrong, and then says so; unless it is killed.
Not here: which source is asked for what and when, and what becomes of its answer (zonereading.py)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Optional

import gevent

from vminfod.freshness.stale import Stale
from vminfod.freshness.threads import Threads
from vminfod.log import Log
from vmload.loaderror import LoadError
from vmload.records import Zone, ZoneRecords
from vmload.zonesources import Asked, Look, Put, Source, ZoneSources, nothing_of

Looks = Callable[[Source, Zone], Optional[Look]]


def no_look(_source: Source, _zone: Zone) -> None:
    """Looks of who watches nothing."""


@dataclass
class Asking:
    """A source that is asked for what is in `want`, and what was known when it was. In the end `put` is its answer, or
    `error` why it has none; `zone` is zoneadm's."""

    source: Source
    want: Stale
    known: Optional[ZoneRecords]
    greenlet: Optional[gevent.Greenlet] = None
    put: Optional[Put] = None
    zone: Optional[Zone] = None
    error: Optional[LoadError] = None
    was_late: bool = False

    @property
    def has_ended(self) -> bool:
        return self.put is not None or self.error is not None

    def kill(self) -> None:
        """Nobody waits for it any more."""
        if self.greenlet is not None:
            self.greenlet.kill(block=False)


class Asker:
    """Asks the sources of one zone. `looks`: how the files of a source are looked at, and watched, when they are
    read."""

    def __init__(self, zonename: str, sources: ZoneSources, threads: Threads, log: Log, looks: Looks):
        self._zonename = zonename
        self._sources = sources
        self._threads = threads
        self._log = log
        self._looks = looks

    def ask(self, asking: Asking, asked: Optional[Asked], has_ended: Callable[[], None]) -> None:
        """Begin to ask, zoneadm for nothing and any other source for what is `asked`; has_ended() is called then."""
        asking.greenlet = gevent.spawn(self._answer, asking, asked, has_ended)
        asking.greenlet.name = f"{asking.source.name} of {self._zonename}"

    def _answer(self, asking: Asking, asked: Optional[Asked], has_ended: Callable[[], None]) -> None:
        """The greenlet."""
        source = asking.source
        try:
            if source is Source.ZONEADM or asked is None:
                zone = self._sources.find(self._zonename, self._threads)
                nothing_of(zone)
                asking.zone, asking.put = zone, partial(_with_zone, zone)
            else:
                asked = asked._replace(look=self._looks(source, asked.known.zone))
                asking.put = self._sources.ask(source, asked, self._threads)
        except LoadError as error:
            asking.error = error
        except Exception as error:  # noqa: BLE001 boundary: a fault of ours in one zone's reading must not stop the rest
            self._log.error("reading a zone failed unexpectedly", zonename=self._zonename, err=error)
            asking.error = LoadError(f"{type(error).__name__}: {error}", "INTERNAL")
        has_ended()


def _with_zone(zone: Zone, records: ZoneRecords) -> ZoneRecords:
    return records._replace(zone=zone)
