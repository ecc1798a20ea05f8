# SPDX-License-Identifier: MPL-2.0
"""Zone state changes in the shape of an older C program, made from vminfod's events.

vminfod says `installed` where the kernel says `uninitialized`; consumers of the old program expect the kernel's word,
except for a zone that has just been installed."""

from __future__ import annotations

import sys

from vminfod.clients.stream import VminfodEventStream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from types import TracebackType
    from typing import Optional

    from vminfod.clients.clientlog import Logger
    from vminfod.clients.shapes import Event

NO_ZONEID = "-1"


class ZoneEvent:
    """Follows vminfod from construction on and gives zone state changes by iteration, until stop().

    Each is {"zonename", "oldstate" (not for a deleted zone), "newstate", "zoneid" and "when", both text}.
    Raises VminfodError, as VminfodEventStream does, when the stream breaks; it does not reconnect. `waiting` is as
    there."""

    def __init__(
        self,
        name: str,
        log: Optional[Logger] = None,
        *,
        host: Optional[str] = None,
        port: Optional[int] = None,
        socket: Optional[str] = None,
        waiting: Optional[Callable[[], object]] = None,
    ) -> None:
        self._stream = VminfodEventStream(
            f"VM.js events - {name}",
            host=host,
            port=port,
            socket=socket,
            log=log,
            query={"vms": False},
            waiting=waiting,
        )

    def wait_ready(self, timeout: Optional[float] = None) -> Event:
        """The stream's ready event; from then on nothing is missed. `timeout` in seconds."""
        return self._stream.wait_ready(timeout)

    def stop(self) -> None:
        """End the iteration. Idempotent."""
        self._stream.stop()

    def __iter__(self) -> Iterator[dict[str, str]]:
        for event in self._stream:
            change = zone_event(event)
            if change is not None:
                yield change

    def __enter__(self) -> ZoneEvent:
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.stop()


def zone_event(event: Event) -> Optional[dict[str, str]]:
    """The zone event in an event of the stream, keys in the order in which they are printed; None if its zone_state
    did not change."""
    states = _states(event)
    if states is None:
        return None
    oldstate, newstate = _in_kernel_words(*states)
    found = {"zonename": str(event.get("zonename"))}
    if oldstate is not None:
        found["oldstate"] = oldstate
    found["newstate"] = newstate
    found["zoneid"] = _zoneid(event)
    found["when"] = _nanoseconds(event["date"])
    return found


def _states(event: Event) -> Optional[tuple[Optional[str], str]]:
    """(old, new) as vminfod has them; old is None for a delete."""
    if event["type"] == "create":
        return "", str((event.get("vm") or {}).get("zone_state", ""))
    if event["type"] == "delete":
        return None, ""
    for change in event.get("changes") or []:
        if change.get("path") == ["zone_state"]:
            return str(change.get("oldValue", "")), str(change.get("newValue", ""))
    return None


def _in_kernel_words(oldstate: Optional[str], newstate: str) -> tuple[Optional[str], str]:
    if newstate == "installed" and oldstate != "incomplete":
        newstate = "uninitialized"
    if oldstate == "installed":
        oldstate = "uninitialized"
    return oldstate, newstate


def _zoneid(event: Event) -> str:
    """The kernel's id of the zone now; where there is no such kernel, what the event's VM object says."""
    if sys.platform == "sunos5":
        return _kernel_zoneid(str(event.get("zonename")))
    zoneid = (event.get("vm") or {}).get("zoneid")
    return str(zoneid) if isinstance(zoneid, int) else NO_ZONEID


def _kernel_zoneid(zonename: str) -> str:
    """getzoneidbyname(3C), which gives -1 for a zone that is not booted."""
    import ctypes

    return str(ctypes.CDLL(None).getzoneidbyname(zonename.encode()))


def _nanoseconds(date: datetime) -> str:
    """Since 1970, with the precision of the event's date: milliseconds."""
    return f"{round(date.timestamp() * 1000)}000000"
