# SPDX-License-Identifier: MPL-2.0
"""Events as lines for people and programs: what `vminfo events` and `vmadm events` print. Pure functions; each gives
text with its newlines.

Always: one event or one change a line, whatever characters an alias or a tag's name holds."""

from __future__ import annotations

from jsvalues import dates
from vminfod.clients.plainjson import compact

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vminfod.clients.shapes import Change, Event

LONGEST_ALIAS = 30  # characters; longer ones end in three dots within that length
ELLIPSIS = "..."
ABSENT = "-"
WHEN_CHANGED = "last_modified"


def event_text(event: Event, *, full: bool) -> str:
    """A create, modify or delete: one line, or one for each change of a modify. `full`: whole date and zonename."""
    zonename = str(event.get("zonename", ABSENT))
    start = f"[{_date(event, full)}] {zonename if full else zonename.partition('-')[0]} {_alias(event)} {event['type']}"
    if event["type"] != "modify":
        return one_line(start)
    changes = event.get("changes") or []
    if "transaction" in (event.get("cause") or {}):
        # What was changed comes first, as it does where each step of a write is an event by itself.
        changes = sorted(changes, key=lambda change: change.get("prettyPath") == WHEN_CHANGED)
    return "".join([one_line(f"{start}: {_change(change)}") for change in changes])


def ready_text(event: Event, *, full: bool) -> str:
    """The ready event, when it is asked for."""
    stream = f" (uuid {event.get('uuid', ABSENT)})" if full else ""
    return one_line(f"[{_date(event, full)}] ready{stream}")


def json_text(event: Event) -> str:
    """The event as it came, on one line."""
    return compact({**event, "date": dates.of_datetime(event["date"])}) + "\n"


def one_line(text: str) -> str:
    """`text` with control characters as JSON escapes: an alias must not break the line or drive the terminal."""
    if not text.isprintable():
        text = "".join([f"\\u{ord(c):04x}" if c < " " or "\x7f" <= c <= "\x9f" else c for c in text])
    return text + "\n"


def _date(event: Event, full: bool) -> str:
    text = dates.of_datetime(event["date"])
    return text if full else text.partition("T")[2]


def _alias(event: Event) -> str:
    alias = str((event.get("vm") or {}).get("alias") or ABSENT)
    return alias if len(alias) <= LONGEST_ALIAS else alias[: LONGEST_ALIAS - len(ELLIPSIS)] + ELLIPSIS


def _change(change: Change) -> str:
    old, new = (compact(change[key]) if key in change else "undefined" for key in ("oldValue", "newValue"))
    return f"{change.get('prettyPath')} {change.get('action')} :: {old} -> {new}"
