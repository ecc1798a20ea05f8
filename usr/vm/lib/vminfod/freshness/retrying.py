# SPDX-License-Identifier: MPL-2.0
"""Zones that cannot be read: why, since when, and when each is tried again.

Always: a zone has an error from its first failure until it has been applied, or does not exist any more;
        each failure in a row doubles the wait, up to a minute, with jitter so that many do not come at once;
        it is tried sooner when something happened to what could not be read, and yet never without a pause."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Optional, TypedDict

from vminfod import times
from vminfod.backoff import Backoff
from vminfod.log import Log
from vmload.loaderror import LoadError, XmlGone

# Seconds until a zone that could not be read is tried again, at first and at most.
_FIRST = 1.0
_MOST = 60.0
_LASTING = 3  # failures in a row, some seconds


class ZoneErrorStatus(TypedDict):
    """A member of `zoneErrors` in /status (docs/http-api.md, "Status")."""

    err: str
    code: Optional[str]
    tries: int
    since: str
    ago: str


@dataclass
class ZoneError:
    """Why a zone could not be read. `since`: monotonic nanoseconds of the first failure in a row. `wait`: seconds until
    the next try."""

    error: LoadError
    since: int
    tries: int = 0
    wait: float = 0.0
    is_woken: bool = False
    _tried: float = 0.0  # monotonic seconds
    _backoff: Backoff = field(default_factory=lambda: Backoff(_FIRST, _MOST))

    def again(self, error: LoadError) -> None:
        """One more failure in the row."""
        self.error = error
        self.tries += 1
        self.wait = self._backoff.next()
        self.is_woken, self._tried = False, time.monotonic()

    @property
    def due(self) -> float:
        """When to try again, monotonic seconds."""
        return self._tried + min(self.wait, _FIRST) / 2 + (0.0 if self.is_woken else self.wait)

    @property
    def lasts(self) -> bool:
        """Whether it is a fault, and not just a zone that is being made or unmade."""
        return self.is_of_a_vm or self.tries >= _LASTING

    @property
    def is_of_a_vm(self) -> bool:
        """Whether the zone is a VM: without its XML it is none."""
        return not isinstance(self.error, XmlGone)

    def dump(self, now: int) -> ZoneErrorStatus:
        """For /status."""
        return {
            "err": str(self.error),
            "code": self.error.code,
            "tries": self.tries,
            "since": times.stamp(self.since),
            "ago": times.duration(now - self.since),
        }


class Retrying:
    """The errors, by zone name."""

    def __init__(self, log: Log):
        self._log = log
        self._errors: dict[str, ZoneError] = {}

    def __iter__(self) -> Iterator[tuple[str, ZoneError]]:
        return iter(list(self._errors.items()))

    def __len__(self) -> int:
        return len(self._errors)

    def get(self, zonename: str) -> Optional[ZoneError]:
        """Why the zone cannot be read; None if it can, or is unknown."""
        return self._errors.get(zonename)

    def failed(self, zonename: str, error: LoadError) -> None:
        """The zone could not be read, or what was read could not be applied.

        Logged as an error once: it is in /status, and tried for ever. A zone without XML is mostly being made or unmade
        just now, and no trouble unless it stays so."""
        known = self._errors.get(zonename)
        if known is None:
            known = self._errors[zonename] = ZoneError(error, time.monotonic_ns())
        known.again(error)
        is_news = known.tries == (1 if known.is_of_a_vm else _LASTING)
        (self._log.error if is_news else self._log.debug)(
            "cannot read a zone: trying again", zonename=zonename, err=error, tries=known.tries
        )

    def ended(self, zonename: str) -> Optional[ZoneError]:
        """The zone has been applied, or does not exist: the error that it had until now."""
        return self._errors.pop(zonename, None)

    def due(self, zonename: str) -> float:
        """When the zone is to be tried again, monotonic seconds; now, if it has no error by now."""
        known = self._errors.get(zonename)
        return known.due if known is not None else 0.0

    def wake(self, zonename: str) -> None:
        """Something happened to what could not be read of the zone: try again soon."""
        known = self._errors.get(zonename)
        if known is not None:
            known.is_woken = True
