# SPDX-License-Identifier: MPL-2.0
"""`vminfo status` for people: the daemon's /status as indented lines (docs/http-api.md, "Status").

Always: text that strangers supply (user agents, error texts of tools) is escaped, so that it cannot drive the
        operator's terminal (OS-7307); a field that an older or newer daemon lacks prints as `-`."""

from __future__ import annotations

from vminfod.clients.plainjson import compact, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Optional

    from vminfod.clients.shapes import Status

ABSENT = "-"
MEGABYTE = 1024 * 1024


def status_text(status: Status, *, full: bool) -> str:
    """All lines, each with its newline. `full`: also the refresh log and the file watcher."""
    queue = status.get("queue") or {}
    tasks = queue.get("vasync_queue") or {}
    lines = [
        f"state: {_shown(status, 'state')} ({_shown(status, 'status')})",
        f"pid: {_shown(status, 'pid')}",
        f"uptime: {_shown(status, 'uptime')}",
        f"rss: {_megabytes(status.get('memory'))}",
        f"numVms: {_shown(status, 'numVms')}",
        "queue",
        f"  paused: {_shown(queue, 'paused')}",
        f"  idle: {_shown(queue, 'idle')}",
        f"  npending: {_shown(tasks, 'npending')}",
        f"  nqueued: {_shown(tasks, 'nqueued')}",
        "fullRefresh",
        f"  lastRefresh: {_shown(status, 'lastRefresh')}",
        *_refresh_errors(status.get("refreshErrors") or []),
    ]
    if full:
        lines += _refresh_log(status.get("refreshLog") or [])
        lines += _fswatcher(status.get("fswatcher") or {})
    lines += _transactions(status.get("transactions") or [])
    lines += _listeners(status.get("eventsListeners") or {})
    return "\n".join(lines) + "\n"


def verdict_line(status: Status) -> str:
    """What is wrong, with its newline; "" if nothing is, or if the daemon is too old to say."""
    reasons = (status.get("health") or {}).get("reasons") or []
    return f"DEGRADED: {'; '.join(escaped(str(reason)) for reason in reasons)}\n" if reasons else ""


def escaped(text: str) -> str:
    """`text` with control characters as JSON escapes, also those beyond ASCII that terminals obey."""
    inner = quoted(text)[1:-1].replace('\\"', '"')
    return "".join([f"\\u{ord(c):04x}" if "\x7f" <= c <= "\x9f" else c for c in inner])


def _shown(part: Mapping[str, object], key: str) -> str:
    value = part.get(key, ABSENT)
    return escaped(value) if isinstance(value, str) else compact(value)


def _megabytes(memory: Optional[dict[str, Any]]) -> str:
    rss = (memory or {}).get("rss")
    return f"{rss / MEGABYTE:.2f}mb" if isinstance(rss, (int, float)) else ABSENT


def _refresh_errors(errors: list[dict[str, Any]]) -> list[str]:
    if not errors:
        return []
    return [
        f"  refreshErrors: ({len(errors)} items)",
        *[f"    - {_shown(error, 'err')} ({_shown(error, 'ago')})" for error in errors],
    ]


def _refresh_log(entries: list[dict[str, Any]]) -> list[str]:
    if not entries:
        return []
    return [
        f"  refreshLog: ({len(entries)} items)",
        *[
            f"    - {len(entry.get('cacheChanges') or [])} cacheChanges / {len(entry.get('vmChanges') or [])}"
            f" vmChanges - {_shown(entry, 'endedAgo')} ago"
            for entry in entries
        ],
    ]


def _fswatcher(fswatcher: dict[str, Any]) -> list[str]:
    return [
        "fswatcher",
        f"  running: {_shown(fswatcher, 'running')}",
        f"  pid: {_shown(fswatcher, 'watcher_pid')}",
        f"  watching: {len(fswatcher.get('watching') or [])}",
        f"  tryingToWatch: {len(fswatcher.get('not_yet_watching') or [])}",
        f"  pendingActions: {len(fswatcher.get('pending_actions') or {})}",
    ]


def _transactions(transactions: list[dict[str, Any]]) -> list[str]:
    if not transactions:
        return []
    return [
        f"transactions: ({len(transactions)} items)",
        *[
            f"  - {_shown(one, 'uuid')} {_shown(one, 'state')} for {_shown(one, 'age')} s of {_shown(one, 'limit')} s"
            f" by pid {_shown(one, 'pid')} uid {_shown(one, 'uid')} req_id {_shown(one, 'req_id')}:"
            f" {_shown(one, 'command')}"
            for one in transactions
        ],
    ]


def _listeners(listeners: dict[str, dict[str, Any]]) -> list[str]:
    lines = [f"eventsListeners: ({len(listeners)} listeners)"]
    for uuid, listener in listeners.items():
        lines += [
            f"  - {_shown(listener, 'userAgent')}",
            f"    {escaped(uuid)} created {_shown(listener, 'createdAgo')} ago",
            "",
        ]
    return lines
