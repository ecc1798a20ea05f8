# SPDX-License-Identifier: MPL-2.0
"""Files that a create puts into a new zone's root, for the zone's own services to find (docs/platform.md, "The little
tools").

Always: everything goes through Node.in_zone(): what came with an image may hold symbolic links that lead out of it.
Paths here are relative to the zone's root, `<zonepath>/root`."""

from __future__ import annotations

from typing import Any

from vmadm.node.machine import Node
from vmadm.payload.nics import AUTOMATIC
from vmload import brands

PROVISIONING = "var/svc/provisioning"  # the zone's services move it away when they are done
STALE = ("var/adm/utmpx", "var/adm/wtmpx", ".zonecontrol/metadata.sock")  # of the machine that the image was made on
MDATA_SERVICE = "svc:/smartdc/mdata:execute"
MDATA_TIMEOUT = 300  # seconds that a user-script may run
ZONEINIT = "root/var/zoneinit/zoneinit.json"
LEGACY_ZONEINIT = "root/var/zoneinit/includes/04-mdata.sh"

Vm = dict[str, Any]


def root_of(vm: Vm) -> str:
    return f"/{vm['zpool']}/{vm['zonename']}/root"


def prepare(node: Node, vm: Vm, *, legacy_image: bool) -> None:
    """All files of a new zone, the provisioning marker last. Raises NotWritten."""
    root = root_of(vm)
    if brands.facts(vm["brand"])["write_zone_netfiles"]:
        files = network_files(vm)
        if legacy_image:
            files["root/zoneconfig"] = zoneconfig(vm)
        for name, text in files.items():
            _write(node, root, name, text)
        for name in STALE[:2]:
            node.remove(node.in_zone(root, name))
    node.remove(node.in_zone(root, STALE[2]))
    _write(node, root, PROVISIONING, "")


def network_files(vm: Vm) -> dict[str, str]:
    """The files under `etc` that plumb the zone's NICs."""
    files = {"etc/nodename": f"{vm.get('hostname') or vm['zonename']}\n"}
    for nic in vm["nics"]:
        interface, ips = nic["interface"], nic.get("ips") or []
        static = [ip for ip in ips if ip not in AUTOMATIC]
        lines = [f"{'' if number == 0 else 'addif '}{_plumbed(ip)}" for number, ip in enumerate(static)]
        files[f"etc/hostname.{interface}"] = "\n".join(lines) + ("\n" if lines else "")
        if "dhcp" in ips:
            files[f"etc/dhcp.{interface}"] = ""
        if "addrconf" in ips:
            files[f"etc/addrconf.{interface}"] = ""
    gateway = next((nic["gateway"] for nic in vm["nics"] if nic.get("primary") and nic.get("gateway")), None)
    if gateway:
        files["etc/defaultrouter"] = f"{gateway}\n"
    return files


def zoneconfig(vm: Vm) -> str:
    """What images from before the metadata service read at their first boot."""
    values = {
        "HOSTNAME": vm.get("hostname") or vm["zonename"],
        "RESOLVERS": " ".join(vm.get("resolvers") or []),
        "DEFAULT_GATEWAY": next((nic["gateway"] for nic in vm["nics"] if nic.get("gateway")), ""),
    }
    return "".join(f'{name}="{value}"\n' for name, value in values.items())


def image_support(node: Node, mountpoint: str) -> str:
    """How an image's services tell that they are done: `marker`, `legacy`, or an empty text if they do not."""
    import json

    text = node.read(f"{mountpoint}/{ZONEINIT}")
    try:
        if text is not None and json.loads(text).get("features", {}).get("var_svc_provisioning"):
            return "marker"
    except (ValueError, AttributeError):
        pass  # a broken description promises nothing
    return "legacy" if node.exists(f"{mountpoint}/{LEGACY_ZONEINIT}") else ""


def _plumbed(ip: str) -> str:
    import ipaddress

    interface = ipaddress.ip_interface(ip)
    if interface.version == 4:
        return f"{interface.ip} netmask {interface.netmask} up"
    return f"inet6 {interface.ip}/{interface.network.prefixlen} up"


def _write(node: Node, root: str, name: str, text: str) -> None:
    path = node.in_zone(root, name)
    node.make_folder(path.rpartition("/")[0])
    node.write(path, text)
