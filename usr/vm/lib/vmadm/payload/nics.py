# SPDX-License-Identifier: MPL-2.0
"""NICs of a payload: checked, completed, and as the VM object will show them.

A payload may say an address in two ways: `ip`, `netmask`, `gateway`, or `ips` (["192.0.2.9/24", "dhcp", "addrconf"])
and `gateways`. The zone keeps both; of the two `ips` and `gateways` are the ones that count, the others follow.
Always: pure but for random_mac(); no function changes a NIC that it was given.
Not here: whether another VM or the node objects (conflicts.py), the zonecfg lines (zonecfg.py)."""

from __future__ import annotations

import ipaddress
import random
import re
from collections.abc import Iterable
from typing import Any, Optional

from vmadm.payload.macs import normalised_mac
from vmadm.payload.propertychecks import is_unset, list_of
from vminfod.clients.plainjson import compact
from vmload import brands

NIC_TAG = re.compile(r"[A-Za-z0-9_/]+")
AUTOMATIC = ("dhcp", "addrconf")  # stand in `ips` in place of an address

# Limits of the anti-spoofing tables of a link.
MOST_IPS = 20
MOST_ALLOWED_IPS = 13
MOST_TOGETHER = 32

LISTS = ("ips", "gateways", "allowed_ips", "allowed_dhcp_cids", "blocked_outgoing_ports")
BOOLEANS = (
    "allow_dhcp_spoofing",
    "allow_ip_spoofing",
    "allow_mac_spoofing",
    "allow_restricted_traffic",
    "allow_unfiltered_promisc",
    "dhcp_server",
    "primary",
)
NUMBERS = ("vlan_id", "mtu", "vrrp_vrid")
TRUE = (True, "true", "1", 1)

Nic = dict[str, Any]


def check_new(nic: Nic, brand: str) -> list[str]:
    """What is wrong with a NIC that is to be added; values have passed their types' checks."""
    texts = [] if _is_tag(nic.get("nic_tag")) else [f"invalid or missing .nic_tag option for NIC: {compact(nic)}"]
    if brands.facts(brand)["model_required"] and is_unset(nic.get("model")):
        texts.append(f"missing .model option for NIC: {compact(nic)}")
    return texts + _check_addresses(nic, None)


def check_update(nic: Nic, present: Iterable[Nic]) -> list[str]:
    """What is wrong with the new values of a NIC; `present` are the VM's NICs."""
    if is_unset(nic.get("mac")):
        return ["NIC object needs a .mac property to update"]
    old = by_mac(present, nic["mac"])
    if old is None:
        return ["There is no existing NIC with that mac address"]
    texts = []
    if "nic_tag" in nic and not _is_tag(nic["nic_tag"]):
        texts.append(f"invalid or missing .nic_tag option for NIC: {compact(nic)}")
    return texts + _check_addresses(nic, old) + _check_primary(nic)


def check_together(added: list[Nic], updated: list[Nic], kept: list[Nic]) -> list[str]:
    """What is wrong with the NICs that the VM would have: duplicates, and more than one primary."""
    if sum(1 for nic in [*added, *updated] if nic.get("primary") in TRUE) > 1:
        texts = ["payload specifies more than 1 primary NIC"]
    else:
        texts = []
    changed = {normalised_mac(str(nic.get("mac"))) for nic in updated}
    others = [nic for nic in kept if normalised_mac(str(nic.get("mac"))) not in changed]
    seen: dict[str, set[str]] = {"MAC": set(), "IP": set(), "VRID": set()}
    for nic in [*others, *updated, *added]:
        for kind, values in (("MAC", _macs(nic)), ("IP", static_ips(nic)), ("VRID", _vrids(nic))):
            for value in values:
                if value in seen[kind]:
                    texts.append(f"Cannot add multiple NICs with the same {kind}: {value}")
                seen[kind].add(value)
    return texts


def by_mac(nics: Iterable[Nic], mac: str) -> Optional[Nic]:
    """The NIC with that MAC address, however it is written."""
    wanted = full_mac(mac)
    return next((nic for nic in nics if full_mac(str(nic.get("mac"))) == wanted), None)


def full_mac(mac: str) -> str:
    """Lower case, two digits an octet, colons between them."""
    if ":" not in mac and len(mac) == 12:
        mac = ":".join(mac[at : at + 2] for at in range(0, 12, 2))
    return normalised_mac(mac)


def random_mac() -> str:
    """A locally administered address, as vmadm makes them: the second digit is a 2."""
    return ":".join([f"{random.randrange(16):x}2", *(f"{random.randrange(256):02x}" for _ in range(5))])


def completed(nic: Nic) -> Nic:
    """A new NIC's own values as the VM object will show them: both forms of addresses, numbers, booleans."""
    shown = _typed(nic)
    for name in ("physical", "index", "interface"):
        shown.pop(name, None)
    if "mac" in shown:
        shown["mac"] = full_mac(shown["mac"])
    elif "vrrp_vrid" in shown:
        shown["mac"] = f"00:00:5e:00:01:{shown['vrrp_vrid']:02x}"
    else:
        shown["mac"] = random_mac()
    if "ips" not in shown:
        shown["ips"] = _ips_of(shown, None)
    if "gateways" not in shown and "gateway" in shown:
        shown["gateways"] = [shown["gateway"]]
    return _with_old_form(shown)


def overlaid(old: Nic, update: Nic) -> Nic:
    """A present NIC with new values put over it, as the VM object will show it. An unset value removes the member."""
    given = _typed(update)
    unset = {name for name, value in update.items() if is_unset(value) or value == []}
    given["mac"] = full_mac(given["mac"])
    if "ips" not in given and ({"ip", "netmask"} & given.keys()):
        given["ips"] = _ips_of(given, old)
    if "gateways" not in given and "gateway" in given:
        given["gateways"] = [given["gateway"]]
    shown = {name: value for name, value in {**old, **given}.items() if name not in unset}
    if "gateway" in unset and "gateways" not in given:
        shown.pop("gateways", None)
    if "ip" in unset and "ips" not in given:
        shown["ips"] = []
    return _with_old_form(shown)


def next_interface(used: Iterable[str], brand: str) -> str:
    """The first free `net<N>` (lx: `eth<N>`)."""
    prefix = brands.facts(brand)["interface_prefix"]
    taken = set(used)
    number = 0
    while f"{prefix}{number}" in taken:
        number += 1
    return f"{prefix}{number}"


def static_ips(nic: Nic) -> list[str]:
    """The addresses of a NIC without their prefix lengths; automatic ones are none."""
    ips = nic.get("ips")
    if is_unset(ips):
        ips = nic.get("ip")
    listed = list_of(ips) if isinstance(ips, str) else list(ips or [])
    return [str(ip).partition("/")[0] for ip in listed if ip not in AUTOMATIC and ip]


def primary_after_removal(kept: list[Nic]) -> Optional[str]:
    """The MAC that becomes primary when the primary NIC goes: of the first NIC with a public address, else of the first
    with a private one; None if none has any. What is not private IPv4 counts as public: `dhcp`, `addrconf` and IPv6."""
    public: Optional[str] = None
    private: Optional[str] = None
    for nic in kept:
        for ip in _present_ips(nic):
            if not _is_rfc1918(ip.partition("/")[0]):
                public = public or str(nic["mac"])
                break
            if private is None:
                private = str(nic["mac"])
                break
    return public or private


_RFC1918 = [ipaddress.ip_network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")]


def _is_rfc1918(ip: str) -> bool:
    return _is_ipv4(ip) and any(ipaddress.ip_address(ip) in network for network in _RFC1918)


def _with_old_form(nic: Nic) -> Nic:
    """`ip`, `netmask` and `gateway` as they follow from `ips` and `gateways`."""
    for name in ("ip", "netmask", "gateway"):
        nic.pop(name, None)
    address = _first_ipv4(nic["ips"]) if "ips" in nic else None
    if address is not None:
        nic["ip"] = str(address.ip)
        nic["netmask"] = str(address.netmask)
    elif "dhcp" in nic.get("ips", ()):
        nic["ip"] = "dhcp"
    gateway = next((gateway for gateway in nic.get("gateways", ()) if _is_ipv4(gateway)), None)
    if gateway is not None:
        nic["gateway"] = gateway
    return nic


def _typed(nic: Nic) -> Nic:
    """Values of the right types; unset ones are left out, and a `primary` that is false, which says nothing."""
    typed: Nic = {}
    for name, value in nic.items():
        if is_unset(value):
            continue
        if name in LISTS:
            value = list_of(value) if isinstance(value, str) else [str(element) for element in value]
            if name == "blocked_outgoing_ports":
                value = [int(port) for port in value]
        elif name in BOOLEANS:
            value = value in TRUE
            if name == "primary" and not value:
                continue
        elif name in NUMBERS:
            value = int(value)
        typed[name] = value
    return typed


def _ips_of(given: Nic, old: Optional[Nic]) -> list[str]:
    """`ips` from `ip` and `netmask`; what is not given comes from the present NIC's only IPv4 address."""
    ip = given.get("ip")
    present = None if old is None else _first_ipv4(_present_ips(old))
    if ip is None and present is not None and "netmask" in given:
        ip = str(present.ip)
    if ip is None:
        return []
    if ip in AUTOMATIC:
        return [ip]
    if "/" in ip or not _is_ipv4(ip):
        return [ip]
    netmask = given.get("netmask") or (str(present.netmask) if present is not None else None)
    return [str(ipaddress.IPv4Interface(f"{ip}/{netmask}"))]


def _present_ips(nic: Nic) -> list[str]:
    if "ips" in nic:
        return list(nic["ips"])
    if _is_ipv4(str(nic.get("ip"))) and nic.get("netmask"):
        return [f"{nic['ip']}/{nic['netmask']}"]
    return []


def _first_ipv4(ips: Iterable[str]) -> Optional[ipaddress.IPv4Interface]:
    for ip in ips:
        try:
            return ipaddress.IPv4Interface(ip)
        except ValueError:
            continue
    return None


def _check_addresses(nic: Nic, old: Optional[Nic]) -> list[str]:
    bad_ip = [f"Invalid IP for NIC: {compact(nic)}"]
    ip, netmask = nic.get("ip"), nic.get("netmask")
    if not is_unset(netmask) and not _is_netmask(netmask):
        return [f"Specified netmask value is invalid: {netmask}"]
    if is_unset(nic.get("ips")) and not is_unset(ip) and ip not in AUTOMATIC:
        if not _is_ipv4(ip):
            return bad_ip
        has_one = old is not None and _first_ipv4(_present_ips(old)) is not None
        if is_unset(netmask) and not has_one:
            return [f"Missing .netmask option for NIC: {compact(nic)}"]
    texts = []
    ips, allowed = (_as_list(nic.get(name)) for name in ("ips", "allowed_ips"))
    if any(entry not in AUTOMATIC and not _is_cidr(entry) for entry in ips):
        texts += bad_ip
    gateways = _as_list(nic.get("gateways")) + ([] if is_unset(nic.get("gateway")) else [nic["gateway"]])
    texts += [f"Static gateways must be IPv4 addresses: {gateway}" for gateway in gateways if not _is_ipv4(gateway)]
    if len(ips) > MOST_IPS:
        texts.append(f"Maximum of {MOST_IPS} IPs per NIC, but {len(ips)} given")
    if len(allowed) > MOST_ALLOWED_IPS:
        texts.append(f"Maximum of {MOST_ALLOWED_IPS} allowed_ips per NIC, but {len(allowed)} given")
    if len(ips) + len(allowed) > MOST_TOGETHER:
        texts.append(f"Maximum of {MOST_TOGETHER} ips and allowed_ips together per NIC, but {len(ips) + len(allowed)}")
    return texts


def _check_primary(nic: Nic) -> list[str]:
    if "primary" in nic and nic["primary"] not in TRUE:
        shown = nic["primary"] if isinstance(nic["primary"], str) else compact(nic["primary"])
        return [f"invalid value for NIC's primary flag: {shown} (must be true)"]
    return []


def _macs(nic: Nic) -> list[str]:
    return [] if is_unset(nic.get("mac")) else [full_mac(str(nic["mac"]))]


def _vrids(nic: Nic) -> list[str]:
    return [] if is_unset(nic.get("vrrp_vrid")) else [str(nic["vrrp_vrid"])]


def _as_list(value: Any) -> list[str]:
    if is_unset(value):
        return []
    return list_of(value) if isinstance(value, str) else [str(element) for element in value]


def _is_tag(value: Any) -> bool:
    return isinstance(value, str) and NIC_TAG.fullmatch(value) is not None


def _is_ipv4(text: Any) -> bool:
    try:
        ipaddress.IPv4Address(str(text))
    except ValueError:
        return False
    return True


def _is_netmask(text: Any) -> bool:
    if not _is_ipv4(text):
        return False
    hosts = int(ipaddress.IPv4Address(str(text))) ^ 0xFFFFFFFF
    return hosts & (hosts + 1) == 0


def _is_cidr(text: str) -> bool:
    if "/" not in text:
        return False
    try:
        ipaddress.ip_interface(text)
    except ValueError:
        return False
    return True
