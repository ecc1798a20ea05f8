# SPDX-License-Identifier: MPL-2.0
"""The blocks of a zonecfg script: NICs, disks, filesystems, PCI devices (docs/platform.md, "zonecfg").

Always: pure; a block is a list of lines; what the object lacks is left out.
An object here is a whole one of a Change, with `mac` in full."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Optional

from vmadm.payload.change import Change, Disk, Filesystem, Nic, PciDevice
from vmadm.payload.macs import full_mac
from vmadm.payload.unset import UNSET, said
from vmload import Vm

PLAIN = re.compile(r"[A-Za-z0-9_./:@,+-]+")
NIC_PROPERTIES = (
    "network_uuid",
    "model",
    "dhcp_server",
    "allow_dhcp_spoofing",
    "blocked_outgoing_ports",
    "allow_ip_spoofing",
    "allow_mac_spoofing",
    "allow_restricted_traffic",
    "allow_unfiltered_promisc",
    "vrrp_vrid",
    "vrrp_primary_ip",
    "mtu",
)
DISK_PROPERTIES = ("model", "media")
DISK_IMAGE_PROPERTIES = ("image_uuid", "image_name", "pci_slot", "uuid", "notrim", "guest_block_size")


def nic_lines(nic: Nic) -> list[str]:
    """`add net` ... `end`; with `primary` inside if the NIC has it."""
    lines = ["add net", f"set physical={nic.interface}", f"set mac-addr={script_mac(nic.mac)}"]
    if said(nic.nic_tag, ""):
        lines.append(f"set global-nic={nic.nic_tag}")
    lines += _property("gateway", nic.gateway)
    lines += _property("gateways", nic.gateways)
    lines += _property("netmask", nic.netmask)
    lines += _property("ip", nic.ip)
    lines += _property("ips", nic.ips)
    if nic.vlan_id is not UNSET:
        lines.append(f"set vlan-id={nic.vlan_id}")
    lines += _property("allowed_ips", nic.allowed_ips)
    lines += _property("allowed_dhcp_cids", nic.allowed_dhcp_cids)
    for name in NIC_PROPERTIES:
        lines += _property(name, getattr(nic, name))
    lines += _property("primary", nic.primary)
    return [*lines, "end"]


def script_mac(mac: str) -> str:
    """A MAC address as zonecfg's scripts have it: no leading zero in any octet."""
    return ":".join(octet.lstrip("0") or "0" for octet in mac.split(":"))


def make_primary(mac: str) -> str:
    return f'select net mac-addr={script_mac(mac)}; add property (name=primary,value="true"); end'


def changed_nic_lines(change: Change, vm: Vm) -> list[str]:
    """remove_nics, update_nics and add_nics of an update, and who is primary afterwards."""
    lines = [f"remove net mac-addr={script_mac(mac)}" for mac in change.nics.remove]
    for nic in change.nics.update:
        lines += [f"remove net mac-addr={script_mac(nic.old_mac or nic.mac)}", *nic_lines(nic)]
    for nic in change.nics.add:
        lines += nic_lines(nic)
    if change.new_primary is not None:
        now = {nic.old_mac: nic.mac for nic in change.nics.update}
        before = [full_mac(str(nic.get("mac"))) for nic in vm.get("nics") or []]
        macs = [now.get(mac, mac) for mac in before if mac not in change.nics.remove]
        macs += [nic.mac for nic in change.nics.add]
        lines += [make_primary(mac) if mac == change.new_primary else _make_secondary(mac) for mac in macs]
    return lines


def disk_lines(disks: Iterable[Disk]) -> list[str]:
    lines = []
    for disk in disks:
        lines += ["add device", f"set match={_word(disk.path)}"]
        lines += _property("boot", said(disk.boot, False))
        for name in DISK_PROPERTIES:
            lines += _property(name, getattr(disk, name))
        # A volume made from an image shows the image's size, any other its own.
        if disk.image_size is not UNSET:
            lines += _property("image-size", disk.image_size)
        else:
            lines += _property("size", disk.size)
        for name in DISK_IMAGE_PROPERTIES:
            lines += _property(name.replace("_", "-"), getattr(disk, name))
        lines.append("end")
    return lines


def set_disk_image(path: str, old: Optional[str], new: str) -> str:
    """Another image for a disk that stays otherwise as it is."""
    lines = [f"select device match={_word(path)}"]
    if old:
        lines.append(f'remove property (name=image-uuid, value="{old}")')
    return "; ".join([*lines, f'add property (name=image-uuid, value="{new}")', "end"])


def changed_disk_lines(change: Change) -> list[str]:
    """remove_disks, update_disks (whole disks) and add_disks."""
    gone = [*(disk.path for disk in change.disks.update), *change.disks.remove]
    lines = [f"remove -F device match={_word(path)}" for path in gone]
    return lines + disk_lines(change.disks.update) + disk_lines(change.disks.add)


def filesystem_lines(filesystems: Iterable[Filesystem]) -> list[str]:
    lines = []
    for filesystem in filesystems:
        lines += [
            "add fs",
            f"set dir={_word(filesystem.target)}",
            f"set special={_word(filesystem.source)}",
            f"set type={_word(filesystem.type)}",
        ]
        if filesystem.raw:
            lines.append(f"set raw={_word(filesystem.raw)}")
        lines += [f'add options "{option}"' for option in filesystem.options]
        lines.append("end")
    return lines


def changed_filesystem_lines(change: Change) -> list[str]:
    lines = [f"remove fs dir={_word(target)}" for target in change.filesystems.remove]
    for filesystem in change.filesystems.update:
        lines += [f"remove fs dir={_word(filesystem.target)}", *filesystem_lines([filesystem])]
    return lines + filesystem_lines(change.filesystems.add)


def pci_lines(devices: Iterable[PciDevice]) -> list[str]:
    lines = []
    for device in devices:
        lines += [
            "add device",
            f"set match={_word(device.path)}",
            *_property("model", "passthru"),
            *_property("pci-slot", device.pci_slot),
            "end",
        ]
    return lines


def changed_pci_lines(change: Change) -> list[str]:
    devices = change.pci_devices
    gone = [*(device.path for device in devices.update), *devices.remove]
    lines = [f"remove -F device match={_word(path)}" for path in gone]
    return lines + pci_lines(devices.update) + pci_lines(devices.add)


def _property(name: str, value: Any) -> list[str]:
    """A value that is not said, none at all, or an empty list is not written; one that is false says `false`."""
    if value is UNSET or value is None or value == ():
        return []
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, tuple):
        text = ",".join(str(element) for element in value)
    else:
        text = str(value)
    return [f'add property (name={name}, value="{text}")']


def _make_secondary(mac: str) -> str:
    return f'select net mac-addr={script_mac(mac)}; remove -F property (name=primary,value="true"); end'


def _word(text: str) -> str:
    return text if PLAIN.fullmatch(text) else f'"{text}"'
