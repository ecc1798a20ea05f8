# SPDX-License-Identifier: MPL-2.0
"""What `vminfo top` knows of the node: its VMs, what changed last in each and why, and how the daemon fares.

Always: it holds what a listener of /events knows, and no more: apply() an event after start() with the snapshot, in
        order; times are seconds of the clock that it was given. Pure: no terminal, no connection."""

from __future__ import annotations

import time
from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Optional

KEPT_CHANGES = 1000  # of the VM that is followed
KEPT_CHARACTERS = 1000  # of each: a guest can write megabytes into its metadata
RATE_OVER = 10.0  # seconds

ORDERS = ("change", "alias", "state", "memory", "brand")  # what rows can be sorted by


class Row:
    """One VM. `memory`: MiB. `changed`: what changed last, `cause`: why, `at`: when; None if nothing has so far."""

    __slots__ = ("uuid", "alias", "brand", "state", "memory", "changed", "cause", "at")

    def __init__(self, vm: Mapping[str, Any]) -> None:
        self.changed, self.cause = "", ""
        self.at: Optional[float] = None
        self.take(vm)

    def take(self, vm: Mapping[str, Any]) -> None:
        """The VM as it is now."""
        self.uuid, self.alias = str(vm.get("uuid", "")), str(vm.get("alias") or "-")
        self.brand, self.state = str(vm.get("brand", "-")), str(vm.get("state", "-"))
        memory = vm.get("ram") if vm.get("hvm") else vm.get("max_physical_memory")
        self.memory = memory if isinstance(memory, (int, float)) else 0


class Model:
    """See the head of the module."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.rows: dict[str, Row] = {}  # uuid -> row
        self.status: Mapping[str, Any] = {}  # the body of /status
        self.away: Optional[str] = None  # why the daemon does not answer; None while it does
        self.followed: Optional[str] = None  # uuid of the VM whose changes are kept
        self.changes: deque[tuple[str, str]] = deque(maxlen=KEPT_CHANGES)  # of that VM: date and text, oldest first
        self._emitted: deque[float] = deque()

    def start(self, vms: list[dict[str, Any]]) -> None:
        """A stream begins with these VMs. What was known of their last changes stays."""
        self.away = None
        rows = {}
        for vm in vms:
            row = self.rows.get(vm["uuid"]) or Row(vm)
            row.take(vm)
            rows[row.uuid] = row
        self.rows = rows

    def apply(self, event: Mapping[str, Any]) -> None:
        """A create, modify or delete; its `date` as text."""
        now = self.clock()
        self._emitted.append(now)
        uuid, cause = event["uuid"], cause_text(event.get("cause") or {})
        if uuid == self.followed:
            self.changes.extend((event["date"], line) for line in change_lines(event, cause))
        if event["type"] == "delete":
            self.rows.pop(uuid, None)
            return
        row = self.rows.setdefault(uuid, Row(event["vm"]))
        row.take(event["vm"])
        row.changed, row.cause, row.at = changed_text(event), cause, now

    def follow(self, uuid: Optional[str]) -> None:
        """Keep the changes of this VM from now on; None: of no VM."""
        self.followed = uuid
        self.changes.clear()

    @property
    def rate(self) -> float:
        """Events a second, of late."""
        now = self.clock()
        while self._emitted and self._emitted[0] < now - RATE_OVER:
            self._emitted.popleft()
        return len(self._emitted) / RATE_OVER

    def sorted_rows(self, order: str, backwards: bool, words: str) -> list[Row]:
        """The rows in which each of `words` occurs, in an order of ORDERS: the last change and the most memory first,
        all else as a dictionary would."""
        wanted = words.lower().split()
        rows = [row for row in self.rows.values() if all(word in _text(row) for word in wanted)]
        rows.sort(key=lambda row: (row.alias.lower(), row.uuid))
        if order == "change":
            rows.sort(key=lambda row: -1.0 if row.at is None else row.at, reverse=True)
        elif order == "memory":
            rows.sort(key=lambda row: row.memory, reverse=True)
        elif order in ("state", "brand"):
            rows.sort(key=lambda row: str(getattr(row, order)))
        return rows[::-1] if backwards else rows


def _text(row: Row) -> str:
    return f"{row.uuid} {row.alias} {row.brand} {row.state} {row.changed} {row.cause}".lower()


def changed_text(event: Mapping[str, Any]) -> str:
    """What an event says, in a few words."""
    if event["type"] != "modify":
        return f"{event['type']}d"
    changes = event.get("changes") or []
    if not changes:
        return "order of a list"
    more = f" and {len(changes) - 1} more" if len(changes) > 1 else ""
    return f"{changes[0].get('prettyPath')} {changes[0].get('action')}{more}"


def change_lines(event: Mapping[str, Any], cause: str) -> list[str]:
    """The same at length: a line for each change, with its values and the cause."""
    from vminfod.clients.plainjson import compact

    if event["type"] != "modify" or not event.get("changes"):
        return [f"{changed_text(event)} ({cause})"]
    lines = []
    for change in event["changes"]:
        old, new = (compact(change[key]) if key in change else "nothing" for key in ("oldValue", "newValue"))
        lines.append(f"{change.get('prettyPath')}: {old} -> {new} ({cause})"[:KEPT_CHARACTERS])
    return lines


def cause_text(cause: Mapping[str, Any]) -> str:
    """Why, in a few words: the source, and what it says besides (docs/http-api.md, "The lines")."""
    source = str(cause.get("source", "-"))
    if source == "file":
        return "file " + str(cause.get("path", "")).rpartition("/")[2]
    for name in ("command", "state", "action"):
        if cause.get(name):
            return f"{source} {cause[name]}"
    return source
