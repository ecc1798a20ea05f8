# SPDX-License-Identifier: MPL-2.0
"""An event stream's bytes, cut into lines and turned into events.

Always: lines are cut as bytes and decoded whole, so that a character divided between two packets survives (A7);
        \\n, \\r\\n and \\r end a line (inside JSON they are always escaped), empty lines mean nothing;
        no more than MAX_LINE bytes wait for their line's end (L2)."""

from __future__ import annotations

from datetime import datetime, timezone

from vminfod.clients.failures import ParseError, StreamError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MAX_LINE = 256 << 20  # bytes. The ready line has all VMs: 3 MB for 1,000, and 100 times that with much metadata


class LineCutter:
    """Takes bytes as they come and gives whole lines without their ends."""

    def __init__(self) -> None:
        self._held: list[bytes] = []  # the beginning of a line whose end has not come
        self._held_size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes. Raises StreamError when one grows beyond MAX_LINE."""
        lines = []
        for piece in data.splitlines(keepends=True):
            self._held.append(piece)
            self._held_size += len(piece)
            if self._held_size > MAX_LINE:
                raise StreamError(f"VminfodEventStream got a line of more than {MAX_LINE} bytes", code="EMSGSIZE")
            if piece.endswith((b"\n", b"\r")):
                line = b"".join(self._held).rstrip(b"\r\n")
                self._held.clear()
                self._held_size = 0
                if line:
                    lines.append(line)
        return lines


def event_of(line: bytes, parse: Callable[[bytes], Any]) -> dict[str, Any]:
    """The event on one line, its `date` as an aware datetime. Raises ParseError."""
    event = parse(line)
    if not isinstance(event, dict) or not isinstance(event.get("type"), str):
        raise ParseError("VminfodEventStream got a line that is no event")
    event["date"] = _date(event.get("date"))
    return event


def date_text(date: datetime) -> str:
    """A date as the daemon writes it: UTC, milliseconds, `Z`."""
    return date.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


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
