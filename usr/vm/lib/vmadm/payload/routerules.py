# SPDX-License-Identifier: MPL-2.0
"""What is wrong with static routes (docs/vmadm.md, "Routes"): destination -> gateway.

A gateway is an address, or names a NIC of the VM by its place (`nics[1]`) or its MAC address (`macs[...]`). Such a NIC
must have a static address, which the zone takes for the gateway.
Always: pure; `nics` are the NICs that the VM will have, in their order."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from vmadm.payload import addresses
from vmadm.payload.macs import full_mac, is_full_mac
from vminfod.clients.plainjson import compact

_NIC = re.compile(r"nics\[([0-9]{1,6})\]")
_MAC = re.compile(r"macs\[([0-9a-fA-F:]+)\]")


def check(new: Mapping[str, Any], kept: Mapping[str, Any], nics: Sequence[Mapping[str, Any]]) -> list[str]:
    """`new` routes of the payload; `kept` ones are looked at where they name a NIC."""
    texts = []
    for destination, gateway in new.items():
        if not addresses.is_good_destination(destination):
            texts.append(f'Invalid route destination: "{destination}" (must be IP address or CIDR)')
        texts += _check_gateway(gateway, nics)
    for gateway in kept.values():
        if isinstance(gateway, str) and not addresses.is_ipv4(gateway):
            texts += _check_gateway(gateway, nics)
    return texts


def _check_gateway(gateway: Any, nics: Sequence[Mapping[str, Any]]) -> list[str]:
    if addresses.is_ipv4(gateway):
        return []
    if not isinstance(gateway, str) or not _names_nic(gateway):
        shown = gateway if isinstance(gateway, str) else compact(gateway)
        return [f'Invalid route gateway: "{shown}" (must be IP address, MAC address, or nic)']
    nic = _named_nic(gateway, nics)
    if nic is None or not addresses.static(nic.get("ips") or ()):
        return [f'Route gateway: "{gateway}" refers to non-existent or DHCP nic']
    return []


def _names_nic(gateway: str) -> bool:
    by_mac = _MAC.fullmatch(gateway)
    return _NIC.fullmatch(gateway) is not None or (by_mac is not None and is_full_mac(full_mac(by_mac[1])))


def _named_nic(gateway: str, nics: Sequence[Mapping[str, Any]]) -> Optional[Mapping[str, Any]]:
    by_place, by_mac = _NIC.fullmatch(gateway), _MAC.fullmatch(gateway)
    if by_place is not None:
        return nics[int(by_place[1])] if int(by_place[1]) < len(nics) else None
    return next((nic for nic in nics if by_mac is not None and nic["mac"] == full_mac(by_mac[1])), None)
