# SPDX-License-Identifier: MPL-2.0
"""Files that a create puts into a new zone's root, for the zone's own services to find (docs/platform.md, "The little
tools").

Always: everything goes through a ZoneFolder: what came with an image may hold links that lead out of it, and FIFOs.
Names here are relative to the zone's root, `<zonepath>/root`."""

from __future__ import annotations

from vmadm.node.zonefolder import ZoneFolder
from vmadm.payload.nics import AUTOMATIC
from vmload import Vm, brands

PROVISIONING = "var/svc/provisioning"  # the zone's services move it away when they are done
STALE = ("var/adm/utmpx", "var/adm/wtmpx", ".zonecontrol/metadata.sock")  # of the machine that the image was made on
MDATA_SERVICE = "svc:/smartdc/mdata:execute"
MDATA_TIMEOUT = 300  # seconds that a user-script may run
ZONEINIT = "root/var/zoneinit/zoneinit.json"
LEGACY_ZONEINIT = "root/var/zoneinit/includes/04-mdata.sh"


def prepare(folder: ZoneFolder, vm: Vm, *, legacy_image: bool) -> None:
    """All files of a new zone, whose zonepath is `folder`; the provisioning marker last. Raises NotWritten."""
    if brands.facts(vm["brand"])["write_zone_netfiles"]:
        files = network_files(vm)
        if legacy_image:
            files["root/zoneconfig"] = zoneconfig(vm)
        for name, text in files.items():
            folder.write(f"root/{name}", text)
        for name in STALE[:2]:
            folder.remove(f"root/{name}")
    folder.remove(f"root/{STALE[2]}")
    folder.write(f"root/{PROVISIONING}", "")


def network_files(vm: Vm) -> dict[str, str]:
    """The files under `etc` that plumb the zone's NICs. A NIC without a static address has no hostname.<if>; dhcp and
    the default router are the primary NIC's alone, and all its gateways are written."""
    files = {"etc/nodename": f"{vm.get('hostname') or vm['zonename']}\n"}
    for nic in vm["nics"]:
        interface, ips = nic["interface"], nic.get("ips") or []
        static = [ip for ip in ips if ip not in AUTOMATIC]
        if static:
            files[f"etc/hostname.{interface}"] = "".join(f"{ip} up\n" for ip in static)
        if "addrconf" in ips:
            files[f"etc/addrconf.{interface}"] = ""
    primary = next((nic for nic in vm["nics"] if nic.get("primary")), None)
    if primary is not None:
        if "dhcp" in (primary.get("ips") or []):
            files[f"etc/dhcp.{primary['interface']}"] = ""
        gateways = primary.get("gateways") or [gateway for gateway in (primary.get("gateway"),) if gateway]
        if gateways:
            files["etc/defaultrouter"] = "".join(f"{gateway}\n" for gateway in gateways)
    return files


def zoneconfig(vm: Vm) -> str:
    """What images from before the metadata service read at their first boot."""
    values = {
        "HOSTNAME": vm.get("hostname") or vm["zonename"],
        "RESOLVERS": " ".join(vm.get("resolvers") or []),
        "DEFAULT_GATEWAY": next((nic["gateway"] for nic in vm["nics"] if nic.get("gateway")), ""),
    }
    return "".join(f'{name}="{value}"\n' for name, value in values.items())


def image_support(image: ZoneFolder) -> str:
    """How the services of an image, mounted at `image`, tell that they are done: `marker`, `legacy`, or an empty text
    if they do not. Raises NotWritten if something else stands in place of the image's files."""
    import json

    text = image.read(ZONEINIT)
    try:
        if text is not None and json.loads(text).get("features", {}).get("var_svc_provisioning"):
            return "marker"
    except (ValueError, AttributeError, RecursionError):
        pass  # a broken description promises nothing
    return "legacy" if image.exists(LEGACY_ZONEINIT) else ""
