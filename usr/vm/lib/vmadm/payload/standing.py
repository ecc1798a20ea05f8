# SPDX-License-Identifier: MPL-2.0
"""A VM as it stands, as the Change that would make it: for what writes files of a new root (docs/vmadm.md,
"Reprovision").

Always: pure; only what those files are made of is in it, which is hostname, resolvers, NICs, metadata and whether
        /tmp is in memory."""

from __future__ import annotations

from typing import Any

from vmadm.payload.change import Change, Elements, MapChange, Maps, Nic, Properties, Request
from vmadm.payload.nicrules import present
from vmadm.payload.unset import UNSET
from vmload import Vm

TEXTS = ("hostname", "dns_domain")


def standing(vm: Vm) -> Change:
    """The Change for the VM that a fresh read shows as `vm`."""
    said: dict[str, Any] = {name: vm[name] for name in TEXTS if vm.get(name)}
    if vm.get("tmpfs") == 0:
        said["tmpfs"] = 0
    if vm.get("resolvers"):
        said["resolvers"] = tuple(vm["resolvers"])
    if vm.get("docker"):
        said["docker"] = True
    return Change(
        brand=str(vm["brand"]),
        uuid=vm["uuid"],
        zonename=vm["zonename"],
        zpool=vm["zpool"],
        request=Request(),
        properties=Properties(**said),
        maps=Maps(internal_metadata=MapChange(set=vm.get("internal_metadata") or {})),
        nics=Elements(add=tuple(_nic(nic) for nic in present(vm) if nic.get("interface"))),
    )


def _nic(nic: dict[str, Any]) -> Nic:
    return Nic(
        mac=nic["mac"],
        interface=nic["interface"],
        ips=tuple(nic["ips"]),
        gateways=tuple(nic["gateways"]),
        gateway=nic["gateways"][0] if nic["gateways"] else UNSET,
        primary=True if nic.get("primary") else UNSET,
    )
