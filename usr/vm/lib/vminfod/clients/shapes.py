# SPDX-License-Identifier: MPL-2.0
"""What comes over the wire, by its members (docs/http-api.md). Only for annotations: nothing imports it at run time."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Optional, TypedDict, Union

from vminfod.diff import Change

__all__ = ["Change", "Event", "Status", "Vm"]

Vm = dict[str, Any]  # its properties are those of docs/vm-object.md


class Event(TypedDict, total=False):
    """create, modify, delete, heartbeat or ready; `type` and `date` are always there. An event that a mirror makes up
    for a list has no `epoch` and `rev`; the original's server sends neither, nor a `cause`."""

    type: str
    date: datetime
    zonename: str
    uuid: Optional[str]
    vm: Vm
    changes: list[Change]
    last: Vm
    cause: dict[str, Any]
    epoch: str
    rev: Optional[int]
    vms: Union[str, dict[str, Vm]]  # of ready: the list as a JSON text, or by zone name where that is asked for
    unreadable: list[str]  # of ready: the zones that the list lacks


class Status(TypedDict, total=False):
    """The body of /status; what follows `eventsListeners` is not the original's."""

    pid: int
    uptime: str
    memory: dict[str, int]
    state: str
    status: str
    numVms: int
    curDate: str
    curTime: str
    queue: dict[str, Any]
    lastRefresh: Optional[str]
    refreshErrors: list[dict[str, Any]]
    eventsListeners: dict[str, dict[str, Any]]
    refreshLog: list[dict[str, Any]]
    fswatcher: dict[str, Any]
    events: dict[str, Any]
    zoneErrors: dict[str, dict[str, Any]]
    reloading: list[str]
    sysinfoError: Optional[str]
    children: dict[str, dict[str, Any]]
    connections: int
    lostLogRecords: int
    health: dict[str, Any]
    transactions: list[dict[str, Any]]
