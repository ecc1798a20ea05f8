# SPDX-License-Identifier: MPL-2.0
"""What a guest's cloud-init is told of its VM: the files of its "nocloud" volume, and a digest that says whether they
are still right (docs/vmadm.md, "cloud-init").

Always: pure. Where customer_metadata has `cloud-init:FILE`, that is the file, to the letter."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Any, Optional

from vmadm.payload import addresses
from vminfod.clients.plainjson import compact
from vmload import Vm

OVERRIDES = "cloud-init:"  # before a file's name, in customer_metadata
FILES = ("meta-data", "user-data", "vendor-data", "network-config")
NO_USER_DATA = "#cloud-config\n{}\n"
FIRST_INTERFACE = "eth0"  # of a NIC that has no name
# What YAML would not read as text: an end that makes a key of it, groups of digits that make a number of base 60.
NOT_PLAIN = re.compile(r".*:|[0-9:]+")


def digest(vm: Vm) -> str:
    """Another one whenever the files may be others; md5, as it has been stored in VMs ever since."""
    told: Vm = {
        "uuid": vm["uuid"],
        **{name: vm[name] for name in ("hostname", "alias") if name in vm},
        "add_nics": vm.get("nics") or [],
        "resolvers": vm.get("resolvers") or [],
        "customer_metadata": vm.get("customer_metadata") or {},
    }
    text = compact(told).encode("utf-8", "surrogatepass")
    return hashlib.md5(text, usedforsecurity=False).hexdigest()


def files(vm: Vm) -> dict[str, str]:
    """File name -> text."""
    uuid, own = vm["uuid"], vm.get("customer_metadata") or {}
    host = vm.get("hostname") or vm.get("alias") or uuid
    made: dict[str, Optional[str]] = {
        "meta-data": f"# cloud-init meta-data\ninstance-id: {uuid}\nlocal-hostname: {host}\n",
        "user-data": NO_USER_DATA,
        "vendor-data": None,
        "network-config": network_config(vm) if vm.get("nics") else None,
    }
    found = {name: _text(own[OVERRIDES + name]) if OVERRIDES + name in own else made[name] for name in FILES}
    return {name: text for name, text in found.items() if text is not None}


def network_config(vm: Vm) -> str:
    """The NICs as YAML, version 2 of cloud-init's format."""
    lines = ["version: 2", "ethernets:"]
    for nic in vm["nics"]:
        lines.append(f"  {nic.get('interface') or FIRST_INTERFACE}:")
        lines += [f"    {line}" for line in _of_nic(nic, vm.get("resolvers") or [])]
    return "\n".join(lines) + "\n"


def _of_nic(nic: Vm, resolvers: list[str]) -> Iterator[str]:
    ips = addresses.present_ips(nic)
    if nic.get("mac"):
        yield "match:"
        yield f'  macaddress: "{nic["mac"].lower()}"'
        yield f"set-name: {nic.get('interface') or FIRST_INTERFACE}"
    if "dhcp" in ips:
        yield "dhcp4: true"
    if "addrconf" in ips:
        yield "dhcp6: true"
    yield from _list("addresses", addresses.static(ips))
    if not nic.get("primary"):
        return
    gateways = nic.get("gateways") or ([nic["gateway"]] if nic.get("gateway") else [])
    for key, wanted in (("gateway4", False), ("gateway6", True)):
        of_kind = [gateway for gateway in gateways if (":" in gateway) is wanted]
        if of_kind:
            yield f"{key}: {_plain(of_kind[-1])}"
    if resolvers:
        yield "nameservers:"
        yield from [f"  {line}" for line in _list("addresses", resolvers)]


def _list(key: str, items: list[str]) -> list[str]:
    return [f"{key}:", *[f"  - {_plain(item)}" for item in items]] if items else []


def _plain(text: str) -> str:
    return f'"{text}"' if NOT_PLAIN.fullmatch(text) else text


def _text(value: Any) -> str:
    return value if isinstance(value, str) else compact(value)
