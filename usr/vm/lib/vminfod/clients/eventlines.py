# SPDX-License-Identifier: MPL-2.0
"""What the lines of an event stream are: events, the first of them with the list of all VMs."""

from __future__ import annotations

from datetime import datetime, timezone

from vminfod.clients.failures import ParseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MAX_LINE = 256 << 20  # bytes. The ready line has all VMs: 3 MB for 1,000, and 100 times that with much metadata


def event_of(line: bytes, parse: Callable[[bytes], Any]) -> dict[str, Any]:
    """The event on one line, its `date` as an aware datetime. Raises ParseError."""
    event = parse(line)
    if not isinstance(event, dict) or not isinstance(event.get("type"), str):
        raise ParseError("VminfodEventStream got a line that is no event")
    event["date"] = _date(event.get("date"))
    return event


def vms_by_zonename(text: Any, parse: Callable[[str], Any]) -> dict[str, dict[str, Any]]:
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
