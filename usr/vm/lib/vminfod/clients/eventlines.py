# SPDX-License-Identifier: MPL-2.0
"""What the lines of an event stream are: events, the first of them with the list of all VMs."""

from __future__ import annotations

from datetime import datetime, timezone

from vminfod.clients.failures import ParseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from vminfod.clients.shapes import Event, Vm

MAX_LINE = 256 << 20  # bytes. The ready line has all VMs: 3 MB for 1,000, and 100 times that with much metadata


def event_of(line: bytes, parse: Callable[[bytes], Any]) -> Event:
    """The event on one line, its `date` as an aware datetime. Raises ParseError."""
    found = parse(line)
    if not isinstance(found, dict) or not isinstance(found.get("type"), str):
        raise ParseError("VminfodEventStream got a line that is no event")
    found["date"] = _date(found.get("date"))
    event: Event = found  # type: ignore[assignment]  # the members that are not checked are the server's to keep right
    return event


def vms_by_zonename(text: Any, parse: Callable[[str], Any]) -> dict[str, Vm]:
    """The `vms` of a ready event, a JSON text of its own, as zonename -> VM object. Raises ParseError."""
    vms = parse(text) if isinstance(text, str) else None
    if not isinstance(vms, list) or not all(isinstance(vm, dict) and isinstance(vm.get("zonename"), str) for vm in vms):
        raise ParseError("VminfodEventStream got a ready event without a list of VMs")
    return {vm["zonename"]: vm for vm in vms}


def _date(text: Any) -> datetime:
    try:
        # Python 3.10 reads no "Z".
        date = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
    except (AttributeError, ValueError):
        raise ParseError(f"VminfodEventStream got an event whose date is no time: {str(text)[:40]!r}") from None
    return date if date.tzinfo else date.replace(tzinfo=timezone.utc)
