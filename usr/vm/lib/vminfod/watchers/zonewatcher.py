# SPDX-License-Identifier: MPL-2.0
"""Zone events: what `sysevent` says about zones, translated (docs/platform.md, "Zone events").

Always: an event only says that a zone is not what it was; its new state is read from zoneadm. A state's name is passed
        on as it came, known or not (OS-5135).
        Two sorts of events count: any change of `status`, and a restart of a zone's init (OS-7356).
Not here: which zones are VMs, and what is read again."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Optional, Union

from vminfod.log import Log
from vminfod.watchers.child import READY_WITHIN, Child
from vminfod.watchers.lines import OddEvent
from vminfod.watchers.sysevent import Ready, parse_sysevent, sysevent_child

ARGUMENTS = ("-rj", "-c", "com.sun:zones:status")  # no class: both sorts come over this channel

# What the platform allows as a zone's name. It becomes part of paths and commands, so nothing else is let in.
_ZONENAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_GLOBAL = "global"


def is_zonename(text: str) -> bool:
    """Whether a zone can have this name."""
    return _ZONENAME.fullmatch(text) is not None


@dataclass(frozen=True)
class ZoneEvent:
    """The zone `zonename` changed. `newstate` and `oldstate` are the kernel's words ("" for newstate: the zone is
    gone), None where the event has none; `restarts` counts those of its init, in an event about one.

    `seen_at`: when the line was read, monotonic nanoseconds; `date_ms`: the platform's date, milliseconds since the
    epoch."""

    zonename: str
    newstate: Optional[str]
    oldstate: Optional[str]
    restarts: Optional[int]
    seen_at: int
    date_ms: int


def parse_zone_event(record: dict[str, Any], seen_at: int) -> Union[ZoneEvent, Ready, None]:
    """One line of the zone events. None: not for us. BadLine or OddEvent: no use, for the reason given."""
    event = parse_sysevent(record)
    if isinstance(event, Ready):
        return event
    if event.klass != "status" and (event.klass, event.subclass) != ("init", "restart"):
        return None
    zonename = event.data.get("zonename")
    if not isinstance(zonename, str):
        raise OddEvent("zone event without a zonename")
    if not is_zonename(zonename):
        raise OddEvent("zone event with an impossible zonename")
    if zonename == _GLOBAL:
        return None
    restarts = event.data.get("restarts")
    return ZoneEvent(
        zonename=zonename,
        newstate=_text(event.data.get("newstate")),
        oldstate=_text(event.data.get("oldstate")),
        restarts=restarts if isinstance(restarts, int) and not isinstance(restarts, bool) else None,
        seen_at=seen_at,
        date_ms=event.date_ms,
    )


def _text(value: object) -> Optional[str]:
    return value if isinstance(value, str) else None


def zone_watcher(
    tool: str,
    *,
    log: Log,
    on_event: Callable[[ZoneEvent], object],
    on_missed: Callable[[str], object],
    ready_within: float = READY_WITHIN,
) -> Child:
    """The child that follows the zones, to be started by the caller. `tool` is the path of `sysevent`.

    `on_missed(reason)`: events may have been lost, so that every zone has to be looked at again."""

    def on_record(record: dict[str, Any], seen_at: int) -> bool:
        event = parse_zone_event(record, seen_at)
        if isinstance(event, Ready):
            return True
        if event is not None:
            on_event(event)
        return False

    command = [tool, *ARGUMENTS]
    return sysevent_child(
        "zone watcher", command, log=log, on_record=on_record, on_missed=on_missed, ready_within=ready_within
    )
