# SPDX-License-Identifier: MPL-2.0
"""What `vminfo top` shows: lines of text for a screen of a given size, made of a Model and of what its user chose.

Always: every line fits, whatever the size and the script; text that strangers supply is escaped. Pure."""

from __future__ import annotations

from vminfod.cli.columns import cell, cut, filled
from vminfod.cli.stdio import escaped
from vminfod.cli.topmodel import ORDERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vminfod.cli.topmodel import Model, Row

MEGABYTE = 1 << 20

# How a line is to look.
PLAIN, BOLD, REVERSED, GOOD, BAD, DIM = "plain", "bold", "reversed", "good", "bad", "dim"

KEYS = "q quit  / filter  s sort  r reverse  enter follow a VM  arrows move"
FOLLOW_KEYS = "q quit  esc back to the list"
_LEAST_ROWS = 3

# Name, width; the last two share what is left.
_COLUMNS = (("UUID", 8), ("ALIAS", 20), ("BRAND", 14), ("STATE", 12), ("MEMORY", 9), ("AGE", 6))


class Choices:
    """What the user chose. `selected`: a row's number among those shown."""

    def __init__(self) -> None:
        self.order = ORDERS[0]
        self.backwards = False
        self.words = ""
        self.typing = False  # the filter is being typed
        self.selected = 0
        self.top = 0  # the first row that is on the screen


Line = tuple[str, str]  # text, how it looks


def screen(model: Model, choices: Choices, width: int, height: int) -> list[Line]:
    """At most `height` lines of at most `width` columns. Moves the selection to where there are rows."""
    if model.followed is not None:
        return _fitted(_follow(model, height), width, height)
    head = [*_head(model), *_prompt(choices), (_columns_line(), REVERSED)]
    rows = model.sorted_rows(choices.order, choices.backwards, choices.words)
    room = max(_LEAST_ROWS, height - len(head) - 1)
    choices.selected = min(max(0, choices.selected), max(0, len(rows) - 1))
    choices.top = min(max(choices.top, choices.selected - room + 1, 0), choices.selected)
    shown = rows[choices.top : choices.top + room]
    lines = [(_row_line(row, model), _look(row)) for row in shown]
    at = choices.selected - choices.top
    if lines:
        lines[at] = (filled(lines[at][0], width), REVERSED)
    lines += [("", PLAIN)] * (height - len(head) - len(lines) - 1)
    return _fitted([*head, *lines, (KEYS, DIM)], width, height)


def once(model: Model) -> str:
    """All of it as text, for `vminfo top -1`."""
    rows = model.sorted_rows("alias", False, "")
    lines = [text for text, _ in _head(model)] + [_columns_line()] + [_row_line(row, model) for row in rows]
    return "".join([escaped(line.rstrip()) + "\n" for line in lines])


def _fitted(lines: list[Line], width: int, height: int) -> list[Line]:
    return [(cut(escaped(text), width), look) for text, look in lines[: max(0, height)]]


def _head(model: Model) -> list[Line]:
    status = model.status
    queue = (status.get("queue") or {}).get("vasync_queue") or {}
    events = status.get("events") or {}
    reading, writers = len(status.get("reloading") or []), len(status.get("transactions") or [])
    rss = (status.get("memory") or {}).get("rss") or 0
    states: dict[str, int] = {}
    for row in model.rows.values():
        states[row.state] = states.get(row.state, 0) + 1
    counted = ", ".join(f"{count} {state}" for state, count in sorted(states.items(), key=lambda s: (-s[1], s[0])))
    sources = [f"{name} {child.get('state')}" for name, child in (status.get("children") or {}).items()]
    listeners = len(status.get("eventsListeners") or {})
    parts = [
        [f"{len(model.rows)} VMs{': ' if counted else ''}{counted}"],
        [
            f"{model.rate:.1f} events/s, revision {events.get('rev', '-')}",
            f"queue: {queue.get('nqueued', '-')} waiting, {queue.get('npending', '-')} running",
            f"reading: {reading}",
            f"last refresh: {_short(status.get('lastRefresh'))} ago",
        ],
        [
            *sources,
            f"{listeners} listeners, {events.get('waitingBytes', '-')} bytes wait",
            f"transactions: {writers}",
            f"memory: {rss / MEGABYTE:.0f} MB",
        ],
    ]
    return [_verdict(model), *[("   ".join(line), PLAIN) for line in parts]]


def _verdict(model: Model) -> Line:
    if model.away is not None:
        return f"vminfod is away: {model.away}", BAD
    reasons = (model.status.get("health") or {}).get("reasons") or []
    if reasons:
        return f"DEGRADED: {'; '.join(str(reason) for reason in reasons)}", BAD
    return f"vminfod is well, up {_short(model.status.get('uptime'))}", GOOD


def _prompt(choices: Choices) -> list[Line]:
    order = f"sorted by {choices.order}{', reversed' if choices.backwards else ''}"
    if choices.typing:
        return [(f"filter: {choices.words}_", BOLD)]
    return [(f"{order}; filter: {choices.words}" if choices.words else order, DIM)]


def _columns_line() -> str:
    return " ".join([name.ljust(width) for name, width in _COLUMNS]) + " LAST CHANGE (CAUSE)"


def _row_line(row: Row, model: Model) -> str:
    texts = (row.uuid.partition("-")[0], row.alias, row.brand, row.state, f"{row.memory:g} MiB", _age(row, model))
    text = " ".join(
        [cell(escaped(text), width) for text, (_, width) in zip(texts, _COLUMNS)]  # noqa: B905 - equal by construction
    )
    return f"{text} {f'{row.changed} ({row.cause})' if row.changed else '-'}"


def _age(row: Row, model: Model) -> str:
    return "-" if row.at is None else age(model.clock() - row.at)


def age(seconds: float) -> str:
    """In the largest unit of which there is one: 12s, 3m, 5h, 4d."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f}{unit}"
    return f"{max(0.0, seconds):.0f}s"


def _look(row: Row) -> str:
    return {"running": GOOD, "failed": BAD}.get(row.state, PLAIN)


def _follow(model: Model, height: int) -> list[Line]:
    row = model.rows.get(model.followed or "")
    name = f"{model.followed} {row.alias}, {row.state}" if row is not None else f"{model.followed} (gone)"
    room = max(1, height - 3)
    lines = [(f"[{date[11:23] or date}] {text}", PLAIN) for date, text in list(model.changes)[-room:]]
    waiting = [("waiting for its next change", DIM)] if not lines else []
    body = [*lines, *waiting]
    body += [("", PLAIN)] * (height - 3 - len(body))
    return [_verdict(model), (f"changes of {name}", REVERSED), *body, (FOLLOW_KEYS, DIM)]


def _short(duration: object) -> str:
    """A duration as /status has it, "5.123456789s (5.12s)": what stands in the brackets."""
    return str(duration or "-").rpartition("(")[2].rstrip(")")
