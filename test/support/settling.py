# SPDX-License-Identifier: MPL-2.0
"""When a daemon on a mock node has nothing left to do.

Always: what the node has told before settle() has been read by then, and what came of it is done. That the daemon has
        nothing to do just now does not say so: on a busy machine an event can still be in a pipe, and would come in the
        midst of what a test does next: as one more reading, as another event, in the place of a call that a fault is
        meant for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mockcn.control import Control
from support.running_daemon import RunningDaemon, eventually


def settle(daemon: RunningDaemon, broken: Iterable[str] = ()) -> None:
    """Wait until the daemon has read all that its node has told, and has nothing left to do but to try again the
    `broken` zones and those that it lists as unreadable."""
    hear(daemon)
    eventually("the daemon has nothing left to do", lambda: is_idle(daemon, broken))


def hear(daemon: RunningDaemon) -> None:
    """Wait until each source that is up has read what the node has told: a mark behind it, which means nothing, is
    among the lines that the source has skipped."""
    before = _sources(daemon)
    Control(daemon.root).mark()
    eventually("all that was told has been read", lambda: _have_read(before, _sources(daemon)))


def is_idle(daemon: RunningDaemon, broken: Iterable[str] = ()) -> bool:
    """Whether the daemon has nothing to do now; see settle()."""
    status = daemon.status(full=False)
    queue = status["queue"]["vasync_queue"]
    return (
        not set(status["reloading"]) - set(broken) - set(status["zoneErrors"])
        and status["status"] == "working"
        and not queue["npending"] + queue["nqueued"]
    )


def _sources(daemon: RunningDaemon) -> dict[str, dict[str, Any]]:
    """Those that are up."""
    children: dict[str, dict[str, Any]] = daemon.status(full=False)["children"]
    return {name: child for name, child in children.items() if child["state"] == "up"}


def _have_read(before: dict[str, dict[str, Any]], now: dict[str, dict[str, Any]]) -> bool:
    """Whether each has skipped a line since, or is another process: of such a one all is read anew."""
    return all(
        name not in now or now[name]["pid"] != then["pid"] or now[name]["skippedLines"] > then["skippedLines"]
        for name, then in before.items()
    )
