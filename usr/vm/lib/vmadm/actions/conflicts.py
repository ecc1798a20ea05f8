# SPDX-License-Identifier: MPL-2.0
"""What the rest of the node objects to: other VMs' addresses and ports, and NIC tags that it lacks.

Always: without NICs and VNC ports nothing is asked and nothing runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vmadm.errors import VmadmError
from vmadm.node.machine import Node
from vmadm.payload.nics import Nic, full_mac, static_ips
from vmload import Vm

CONFLICT = "Conflict detected with another vm, please check the MAC, IP, and VRID"
LEAST_MTU = 1500  # bytes on a normal tag
NORMAL = "normal"  # the type of a tag that stands for a link


def with_others(nics: Iterable[Nic], vnc_port: Any, others: Iterable[Vm]) -> list[str]:
    """`[CONFLICT]` if another VM has one of these MACs, VRIDs, IPs on the same tag and VLAN, or the VNC port."""
    ours = list(nics)
    macs = {full_mac(str(nic["mac"])) for nic in ours if nic.get("mac")}
    vrids = {int(nic["vrrp_vrid"]) for nic in ours if nic.get("vrrp_vrid")}
    addresses = {place for nic in ours for place in _places(nic)}
    for other in others:
        if vnc_port and int(vnc_port) > 0 and other.get("vnc_port") == int(vnc_port):
            return [CONFLICT]
        for nic in other.get("nics") or []:
            if (
                full_mac(str(nic.get("mac"))) in macs
                or nic.get("vrrp_vrid") in vrids
                or any(place in addresses for place in _places(nic))
            ):
                return [CONFLICT]
    return []


def with_nic_tags(node: Node, nics: Iterable[Nic]) -> list[str]:
    """What nictagadm says of the tags of these NICs."""
    tags = sorted({str(nic["nic_tag"]) for nic in nics if nic.get("nic_tag")})
    if not tags:
        return []
    exists = node.run("nictagadm", "exists", "-l", *tags)
    if exists.status != 0:
        missing = exists.stderr.split("\n") if exists.stderr.strip() else tags
        return [f'Invalid nic tag "{tag.strip()}"' for tag in missing if tag.strip()]
    rows = [line.split(",") for line in node.must("nictagadm", "list", "-p", "-d", ",").stdout.splitlines()]
    # A platform that tells the MTU does so in a fifth column.
    return [
        f'nic tag "{row[0]}" has an MTU of {row[4]}, less than {LEAST_MTU}'
        for row in rows
        if len(row) > 4 and row[0] in tags and row[3] == NORMAL and row[4].isdigit() and int(row[4]) < LEAST_MTU
    ]


def check_tags_of(node: Node, vm: Vm, prefix: str = "") -> None:
    """For a VM that is about to boot. Raises VmadmError."""
    texts = with_nic_tags(node, vm.get("nics") or [])
    if texts:
        raise VmadmError(prefix + "; ".join(texts))


def _places(nic: Nic) -> list[tuple[str, int, str]]:
    """(tag, VLAN, address) of each static address."""
    return [(str(nic.get("nic_tag")), int(nic.get("vlan_id") or 0), ip) for ip in static_ips(nic)]
