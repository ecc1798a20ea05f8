# SPDX-License-Identifier: MPL-2.0
"""The node's firewall tools: fwadm, which keeps rules and writes each VM's packet filter, and ipf, which is that filter
(docs/platform.md, "Firewall").

    fwadm add|update -f -       standard input {"localVMs": [{"uuid": U}, ...]}: these VMs came, or changed
    ipf -GD ZONE                the zone's filter is switched off

Always: fwadm asks vminfod for the VMs, so that it is called when what changed is served. Never `fwadm start` or `stop`:
        they are a `vmadm update` themselves, and would wait for the lock that the caller holds."""

from __future__ import annotations

from collections.abc import Iterable

from vmadm.node import locks
from vmadm.node.machine import Node, failure
from vmadm.node.zonefolder import ZoneFolder
from vminfod.clients.plainjson import compact

FWADM = "/usr/sbin/fwadm"
LOCK = "/var/fw/.lockfile"  # held by whoever changes rules or the files of a filter
FILES = ("ipf.conf", "ipf6.conf")  # in a VM's config folder; its boot loads them
NOT_RUNNING = "Could not find running zone"


def is_there(node: Node) -> bool:
    """Whether the node has firewalls at all."""
    return node.exists(FWADM)


def tell(node: Node, verb: str, uuids: Iterable[str]) -> None:
    """`add` or `update` these VMs. Raises ToolFailed."""
    node.must("fwadm", verb, "-f", "-", stdin=compact({"localVMs": [{"uuid": uuid} for uuid in uuids]}))


def switch_off(node: Node, zonename: str, folder: ZoneFolder, *, running: bool) -> None:
    """Take the filter away from the zone whose zonepath is `folder`. Raises ToolFailed, NotWritten."""
    with locks.flocked(node.real(LOCK)):
        for file in FILES:
            folder.rename(f"config/{file}", f"{file}.old")
        if running:
            result = node.run("ipf", "-GD", zonename)
            if result.status != 0 and NOT_RUNNING not in result.stderr:
                raise failure("ipf", result)
