# SPDX-License-Identifier: MPL-2.0
"""Why the daemon looked at a zone: the `cause` that each event carries."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Optional, TypedDict, cast

# Nanoseconds. An event that claims to be older was delayed by more than a queue, or the clock was set: then the latency
# is counted from when the line was read.
_BELIEVABLE = 3600 * 10**9


class CauseDetails(TypedDict, total=False):
    """What the platform's event was about, by its source: zone (`state`, or `restarts` of its init), zfs (`dataset` or
    `pool`, and `action`), file (`path`); or vmadm, a transaction: whose it was, and whether it ended without commit."""

    state: Optional[str]
    restarts: int
    dataset: str
    pool: str
    action: str
    path: str
    command: str
    pid: Optional[int]
    uid: Optional[int]
    req_id: Optional[str]
    transaction: str
    aborted: bool
    expired: bool


class ShownCause(CauseDetails, total=False):
    """The `cause` of an event."""

    source: str
    latency_ms: float


@dataclass(frozen=True)
class Cause:
    """`source`: zone, zfs, file, refresh, request or vmadm. `details`: the zone's state, the dataset and action, the
    path, or the transaction.

    `seen_at`: monotonic nanoseconds of the platform's event, or of a transaction's end; None where there was none (a
    refresh, a request)."""

    source: str
    details: CauseDetails = field(default_factory=CauseDetails)
    seen_at: Optional[int] = None

    @property
    def ends_transaction(self) -> bool:
        """Whether it is a writer's own word, and not what the platform told of the steps of some change."""
        return self.source == TRANSACTION

    def shown(self, now: int) -> ShownCause:
        """As it stands in an event that is emitted at `now` (monotonic nanoseconds); latency_ms has one decimal."""
        cause = cast(ShownCause, {"source": self.source, **self.details})
        if self.seen_at is not None:
            cause["latency_ms"] = round(max(0, now - self.seen_at) / 1e6, 1)
        return cause


TRANSACTION = "vmadm"  # the source of what a transaction publishes

REFRESH = Cause("refresh")
REQUEST = Cause("request")


def moment_of(date_ms: Optional[int], read_at: int) -> int:
    """The monotonic moment of an event that the platform dates `date_ms` (milliseconds since the epoch) and whose line
    was read at `read_at`."""
    if date_ms is None:
        return read_at
    age = time.time_ns() - date_ms * 10**6 - (time.monotonic_ns() - read_at)
    return read_at - age if 0 <= age < _BELIEVABLE else read_at
