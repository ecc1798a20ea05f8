# SPDX-License-Identifier: MPL-2.0
"""Files that a create puts into a new zone's root, for the zone's own services to find (docs/platform.md, "The little
tools").

Always: everything goes through a ZoneFolder: what came with an image may hold links that lead out of it, and FIFOs.
Names here are relative to the zone's root, `<zonepath>/root`."""

from __future__ import annotations

from vmadm.errors import VmadmError
from vmadm.node.machine import Node
from vmadm.node.zonefolder import ZoneFolder
from vmadm.payload import addresses
from vmadm.payload.change import Change
from vmadm.payload.unset import said
from vmload import brands

PROVISIONING = "var/svc/provisioning"  # the zone's services move it away when they are done
STALE = ("var/adm/utmpx", "var/adm/wtmpx")  # of the machine that the image was made on
METADATA_SOCKET = ".zonecontrol/metadata.sock"  # likewise
MDATA_SERVICE = "svc:/smartdc/mdata:execute"
MDATA_TIMEOUT = 300  # seconds that a user-script may run
REPOSITORY = "root/etc/svc/repository.db"  # of the zone's services, below the zonepath
ZONEINIT = "root/var/zoneinit/zoneinit.json"
LEGACY_ZONEINIT = "root/var/zoneinit/includes/04-mdata.sh"
FILES_ZONEINIT = "root/var/zoneinit/includes/11-files.sh"  # a script of the zone's first boot

# Before that script's own lines, for a VM that is to have no /tmp in memory.
WITHOUT_TMPFS = """\
# This VM has no /tmp in memory.
/usr/bin/egrep -v '[[:space:]]/tmp[[:space:]]+tmpfs' /etc/vfstab > /etc/vfstab.new
/usr/bin/mv /etc/vfstab.new /etc/vfstab
"""


def prepare(folder: ZoneFolder, change: Change, *, legacy_image: bool) -> None:
    """All files of a new zone, whose zonepath is `folder`; the provisioning marker last. Raises NotWritten."""
    if brands.facts(change.brand)["write_zone_netfiles"]:
        files = network_files(change)
        if legacy_image:
            files["root/zoneconfig"] = zoneconfig(change)
        for name, text in files.items():
            folder.write(f"root/{name}", text)
        for name in STALE:
            folder.remove(f"root/{name}")
        if change.properties.tmpfs == 0:
            drop_tmpfs(folder)
    folder.remove(f"root/{METADATA_SOCKET}")
    folder.write(f"root/{PROVISIONING}", "")


def drop_tmpfs(folder: ZoneFolder) -> None:
    """For a VM with `tmpfs` 0. An image of the brands joyent and builder has the script; without it there is nothing to
    do. Raises NotWritten."""
    script = folder.read(FILES_ZONEINIT)
    if script is not None and WITHOUT_TMPFS not in script:
        folder.write(FILES_ZONEINIT, WITHOUT_TMPFS + script, 0o755)


def set_metadata_timeout(node: Node, folder: ZoneFolder, seconds: int) -> None:
    """How long the metadata service may take; for before the first boot, so that nothing can be swapped between the
    check and svccfg. Raises VmadmError."""
    folder.check_no_link("root/etc/svc")
    if folder.exists(REPOSITORY) and not folder.is_file(REPOSITORY):
        raise VmadmError(f"{folder.path(REPOSITORY)} is no file")
    words = ("-s", MDATA_SERVICE, "setprop", "start/timeout_seconds", "=", "count:", str(seconds))
    node.must("svccfg", *words, environ={"SVCCFG_REPOSITORY": node.real(folder.path(REPOSITORY))})


def network_files(change: Change) -> dict[str, str]:
    """The files under `etc` that plumb the zone's NICs. A NIC without a static address has no hostname.<if>; dhcp and
    the default router are the primary NIC's alone, and all its gateways are written."""
    files = {"etc/nodename": f"{_hostname(change)}\n"}
    for nic in change.nics.add:
        ips = said(nic.ips, ())
        static = addresses.static(ips)
        if static:
            files[f"etc/hostname.{nic.interface}"] = "".join(f"{ip} up\n" for ip in static)
        if "addrconf" in ips:
            files[f"etc/addrconf.{nic.interface}"] = ""
    primary = next((nic for nic in change.nics.add if nic.primary is True), None)
    if primary is not None:
        if "dhcp" in said(primary.ips, ()):
            files[f"etc/dhcp.{primary.interface}"] = ""
        gateways = said(primary.gateways, ())
        if gateways:
            files["etc/defaultrouter"] = "".join(f"{gateway}\n" for gateway in gateways)
    return files


def zoneconfig(change: Change) -> str:
    """What images from before the metadata service read at their first boot."""
    values = {
        "HOSTNAME": _hostname(change),
        "RESOLVERS": " ".join(said(change.properties.resolvers, ())),
        "DEFAULT_GATEWAY": next((nic.gateway for nic in change.nics.add if said(nic.gateway, "")), ""),
    }
    return "".join(f'{name}="{value}"\n' for name, value in values.items())


def _hostname(change: Change) -> str:
    return said(change.properties.hostname, "") or change.zonename


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
