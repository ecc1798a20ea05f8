# SPDX-License-Identifier: MPL-2.0
"""What was read of the platform, before it becomes a VM object: frozen values, safe to share between threads.

A record holds what its source says and nothing derived; text that a later rule translates stays text."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Optional, TypedDict

from jsvalues.numberrule import Number
from vmload.datasets import Datasets


class Zone(NamedTuple):
    """One line of `zoneadm list -p` (docs/platform.md, "Lines of zoneadm"). `uuid` is the VM's, by the
    rules there."""

    zoneid: Optional[Number]  # None: not in the kernel
    zonename: str
    state: str
    zonepath: str
    uuid: str
    brand: str
    zonedid: Optional[Number]  # 0: unknown


class ZoneInfo(NamedTuple):
    """The kernel statistics of one zone (docs/platform.md, "Kernel statistics") as text; None: the kernel did not give
    that one."""

    boot_time: Optional[str] = None  # seconds since the epoch
    init_pid: Optional[str] = None
    init_restarts: Optional[str] = None


class LastExited(NamedTuple):
    """How and when the zone's init ended last (docs/platform.md, "lastexited")."""

    exit_status: Number
    exit_timestamp: str


class Config(TypedDict, total=False):
    """What the JSON files of one zone hold (docs/platform.md, "JSON files"): all four, or none where an incomplete zone
    has files that cannot be read. Each is whatever JSON can say: a guest writes them."""

    customer_metadata: Any
    internal_metadata: Any
    routes: Any
    tags: Any


class FileRecords(NamedTuple):
    """What the files of one zone say. None: not there, or not asked for. Times are whole seconds since the epoch."""

    xml: Optional[dict[str, Any]] = None  # zonexml.parse()
    xml_modified: Optional[int] = None
    receive_payload: Optional[dict[str, Any]] = None
    last_exited: Optional[LastExited] = None
    config: Optional[Config] = None
    others_modified: Optional[int] = None  # when the newest of those below the zonepath was
    xml_hash: Optional[int] = None  # of the bytes that `xml` was parsed from, 64 bits that Python makes (siphash)


class ZoneRecords(NamedTuple):
    """All that was read about one VM's zone. `datasets`: the parent that was listed -> what zfs lists of it."""

    zone: Zone
    files: FileRecords
    zoneinfo: Optional[ZoneInfo] = None
    datasets: Mapping[str, Datasets] = MappingProxyType({})
