# SPDX-License-Identifier: MPL-2.0
"""What other VMs and the node's NIC tags object to (docs/vmadm.md, "NICs").

Addresses are compared, not their text: 10.0.0.1/24 and 10.0.0.1/16 on the same tag and VLAN are the same, and a VLAN
that is not said is VLAN 0. A VM that has failed and does not run holds no address.
Always: pure; `others` never has the VM itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Optional

from vmadm.payload import addresses
from vmadm.payload.macs import full_mac
from vmadm.payload.nicrules import Draft
from vmadm.payload.nodefacts import NORMAL_TAG, NicTag

CONFLICT = "Conflict detected with another vm, please check the MAC, IP, and VRID"
LEAST_MTU = 1500  # bytes on a link of its own
PLACED_BY = frozenset(("ips", "ip", "netmask", "nic_tag", "vlan_id"))  # an update without these moves no address


def with_others(drafts: Iterable[Draft], vnc_port: Optional[int], others: Iterable[Mapping[str, Any]]) -> list[str]:
    """`[CONFLICT]` if another VM has a MAC address, a VRID, an address on the same tag and VLAN, or the VNC port."""
    macs: set[str] = set()
    vrids: set[int] = set()
    places: set[tuple[str, int, str]] = set()
    for draft in drafts:
        if draft.old is None:
            macs.add(draft.mac)
        if "vrrp_vrid" in draft.given and draft.members.get("vrrp_vrid") is not None:
            vrids.add(draft.members["vrrp_vrid"])
        if draft.old is None or draft.given & PLACED_BY:
            places |= set(_places(draft.members, draft.ips))
    for other in others:
        if other.get("state") == "failed" and other.get("zone_state") != "running":
            continue
        if vnc_port is not None and vnc_port > 0 and other.get("vnc_port") == vnc_port:
            return [CONFLICT]
        for nic in other.get("nics") or []:
            if (
                full_mac(str(nic.get("mac"))) in macs
                or nic.get("vrrp_vrid") in vrids
                or places.intersection(_places(nic, addresses.present_ips(nic)))
            ):
                return [CONFLICT]
    return []


def with_tags(nics: Iterable[Mapping[str, Any]], tags: Mapping[str, NicTag]) -> list[str]:
    """NICs, as mappings, whose tag is not there, or whose MTU a normal tag does not support."""
    texts = []
    tagged = [(index, nic) for index, nic in enumerate(nics) if nic.get("nic_tag")]
    for name in dict.fromkeys(str(nic["nic_tag"]) for _, nic in tagged):
        if name not in tags:
            texts.append(f'Invalid nic tag "{name}"')
    for index, nic in tagged:
        tag, mtu = tags.get(str(nic["nic_tag"])), nic.get("mtu")
        if tag is not None and tag.type == NORMAL_TAG and isinstance(mtu, int) and mtu < LEAST_MTU:
            texts.append(
                f"nic {index} ({nic.get('mac')}): MTU is below the supported MTU ({LEAST_MTU}) of nic tag "
                f'"{nic["nic_tag"]}"'
            )
    return texts


def _places(nic: Mapping[str, Any], ips: Iterable[str]) -> Iterator[tuple[str, int, str]]:
    """(tag, VLAN, address) of each static address."""
    for ip in addresses.static(ips):
        yield str(nic.get("nic_tag")), int(nic.get("vlan_id") or 0), addresses.address_of(ip)
