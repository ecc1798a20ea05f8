# SPDX-License-Identifier: MPL-2.0
"""IP addresses as NICs have them (docs/vmadm.md, "NICs").

A NIC's addresses can be said in two ways: `ip`, `netmask` and `gateway`, or `ips` ("192.0.2.9/24", "dhcp", "addrconf")
and `gateways`. The zone keeps both. The second counts; the first follows from it (old_form()).
Always: pure; text that is no address is never an exception."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Optional

AUTOMATIC = ("dhcp", "addrconf")  # stand in `ips` in place of an address
LEAST_PREFIX = {4: 8, 6: 0}  # IP version -> the shortest prefix of a NIC's address
LEAST_ALLOWED_PREFIX = 1  # of allowed_ips, either version

_PRIVATE = [ipaddress.IPv4Network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")]  # RFC 1918


class OldForm(NamedTuple):
    """`ip`, `netmask` and `gateway`; None for what a NIC has not."""

    ip: Optional[str]
    netmask: Optional[str]
    gateway: Optional[str]


def old_form(ips: Iterable[str], gateways: Iterable[str]) -> OldForm:
    """The first IPv4 address with its netmask, else `dhcp`; the first IPv4 gateway."""
    listed = list(ips)
    gateway = next((gateway for gateway in gateways if is_ipv4(gateway)), None)
    address = next((found for ip in listed if (found := _ipv4_interface(ip)) is not None), None)
    if address is not None:
        return OldForm(str(address.ip), str(address.netmask), gateway)
    return OldForm("dhcp" if "dhcp" in listed else None, None, gateway)


def present_ips(nic: Mapping[str, Any]) -> list[str]:
    """The `ips` of a NIC of a VM object, also of one that has only the old form."""
    if "ips" in nic:
        return [str(ip) for ip in nic["ips"]]
    ip = nic.get("ip")
    if ip in AUTOMATIC:
        return [str(ip)]
    return [joined(str(ip), str(nic["netmask"]))] if ip and nic.get("netmask") else []


def joined(ip: str, netmask: str) -> str:
    """`ip` with the length of a good netmask: 192.0.2.9/24. Whether `ip` is an address is_good_ip() says."""
    return f"{ip}/{bin(int(ipaddress.IPv4Address(netmask))).count('1')}"


def address_of(ip: str) -> str:
    """An entry of `ips` without its prefix length."""
    return ip.partition("/")[0]


def static(ips: Iterable[str]) -> list[str]:
    """Those of the entries that are no automatic ones."""
    return [ip for ip in ips if ip not in AUTOMATIC]


def is_ipv4(text: Any) -> bool:
    """A plain IPv4 address."""
    return isinstance(text, str) and _parsed(ipaddress.IPv4Address, text) is not None


def is_ipv4_cidr(text: str) -> bool:
    """An IPv4 address with a prefix length."""
    return "/" in text and _ipv4_interface(text) is not None


def is_netmask(text: Any) -> bool:
    """An IPv4 address of leading ones."""
    if not is_ipv4(text):
        return False
    hosts = int(ipaddress.IPv4Address(text)) ^ 0xFFFFFFFF
    return hosts & (hosts + 1) == 0


def is_good_ip(entry: str) -> bool:
    """An entry of `ips`: an address with a prefix length that a NIC can have, or an automatic one."""
    if entry in AUTOMATIC:
        return True
    address, slash, prefix = entry.partition("/")
    return bool(slash) and _is_within(address, prefix, LEAST_PREFIX)


def is_good_allowed_ip(entry: str) -> bool:
    """An entry of allowed_ips: an address, or a network."""
    address, slash, prefix = entry.partition("/")
    if not slash:
        return _parsed(ipaddress.ip_address, address) is not None
    return _is_within(address, prefix, {4: LEAST_ALLOWED_PREFIX, 6: LEAST_ALLOWED_PREFIX})


def is_good_destination(text: str) -> bool:
    """Where a route leads to: an IPv4 address, or a network of 8 bits or more."""
    address, slash, prefix = text.partition("/")
    if not slash:
        return is_ipv4(address)
    return is_ipv4(address) and _is_within(address, prefix, LEAST_PREFIX)


def is_private(ip: str) -> bool:
    """An IPv4 address of a private network; all else, `dhcp` and IPv6 too, counts as public."""
    found = _parsed(ipaddress.IPv4Address, address_of(ip))
    return found is not None and any(found in network for network in _PRIVATE)


def _is_within(address: str, prefix: str, least: Mapping[int, int]) -> bool:
    found = _parsed(ipaddress.ip_address, address)
    if found is None or not (prefix.isascii() and prefix.isdigit() and len(prefix) <= 3):
        return False
    return bool(least[found.version] <= int(prefix) <= found.max_prefixlen)


def _ipv4_interface(text: str) -> Optional[ipaddress.IPv4Interface]:
    found: Optional[ipaddress.IPv4Interface] = _parsed(ipaddress.IPv4Interface, text)
    return found


def _parsed(kind: Any, text: str) -> Any:
    try:
        return kind(text) if "%" not in text else None  # a zone index means nothing to another machine
    except ValueError:
        return None
