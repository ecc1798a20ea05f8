# SPDX-License-Identifier: MPL-2.0
"""The blocks of a zonecfg script: NICs, disks, filesystems, PCI devices (docs/platform.md, "zonecfg").

Always: pure; a block is a list of lines; what the object lacks is left out.
NICs come as the VM object shows them, with `mac` in full (nics.py)."""

from __future__ import annotations

import re
from typing import Any

Object = dict[str, Any]

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
DISK_PROPERTIES = ("boot", "model", "media")
DISK_IMAGE_PROPERTIES = ("image_uuid", "image_name", "pci_slot", "uuid", "notrim", "guest_block_size")


def nic_lines(nic: Object) -> list[str]:
    """`add net` ... `end`; with `primary` inside if the NIC has it."""
    lines = ["add net", f"set physical={nic['interface']}", f"set mac-addr={script_mac(nic['mac'])}"]
    if nic.get("nic_tag"):
        lines.append(f"set global-nic={nic['nic_tag']}")
    gateways = nic.get("gateways") or []
    lines += _net_property("gateway", nic.get("gateway"))
    lines += _net_property("gateways", gateways or None)
    for name in ("netmask", "ip"):
        lines += _net_property(name, nic.get(name))
    lines += _net_property("ips", nic.get("ips") or None)
    if nic.get("vlan_id") is not None:
        lines.append(f"set vlan-id={nic['vlan_id']}")
    for name in ("allowed_ips", "allowed_dhcp_cids"):
        lines += _net_property(name, nic.get(name) or None)
    for name in NIC_PROPERTIES:
        value = nic.get(name)
        # A flag that was asked to be off says so: the VM object then shows false.
        lines += _net_property(name, "false" if value is False else value)
    if nic.get("primary"):
        lines.append('add property (name=primary, value="true")')
    return [*lines, "end"]


def script_mac(mac: str) -> str:
    """A MAC address as zonecfg's scripts have it: no leading zero in any octet."""
    return ":".join(octet.lstrip("0") or "0" for octet in mac.split(":"))


def make_primary(mac: str) -> str:
    return f'select net mac-addr={script_mac(mac)}; add property (name=primary,value="true"); end'


def changed_nic_lines(change: Object, vm: Object) -> list[str]:
    """remove_nics, update_nics and add_nics of an update, and who is primary afterwards."""
    lines = [f"remove net mac-addr={script_mac(mac)}" for mac in change.get("remove_nics") or []]
    for nic in change.get("update_nics") or []:
        lines += [f"remove net mac-addr={script_mac(nic['mac'])}", *nic_lines(nic)]
    for nic in change.get("add_nics") or []:
        lines += nic_lines(nic)
    chosen = change.get("new_primary")
    if chosen:
        gone = set(change.get("remove_nics") or [])
        macs = [full for nic in vm.get("nics", []) if (full := _full(nic["mac"])) not in gone]
        macs += [nic["mac"] for nic in change.get("add_nics") or []]
        lines += [make_primary(mac) if mac == chosen else _make_secondary(mac) for mac in macs]
    return lines


def disk_lines(disks: list[Object]) -> list[str]:
    lines = []
    for disk in disks:
        lines += ["add device", f"set match={_word(disk['path'])}"]
        for name in DISK_PROPERTIES:
            lines += _net_property(name, disk.get(name))
        # A volume made from an image tells the image's size, any other its own.
        size_of = "image_size" if disk.get("image_size") is not None else "size"
        lines += _net_property(size_of.replace("_", "-"), disk.get(size_of))
        for name in DISK_IMAGE_PROPERTIES:
            lines += _net_property(name.replace("_", "-"), disk.get(name))
        lines.append("end")
    return lines


def changed_disk_lines(change: Object, vm: Object) -> list[str]:
    """remove_disks (paths), update_disks (whole disks where their device changes) and add_disks."""
    lines = [f"remove -F device match={_word(path)}" for path in change.get("remove_disks") or []]
    present = {disk.get("path"): disk for disk in vm.get("disks", [])}
    for update in change.get("update_disks") or []:
        merged = {**present[update["path"]], **update}
        lines += [f"remove -F device match={_word(update['path'])}", *disk_lines([merged])]
    return lines + disk_lines(change.get("add_disks") or [])


def filesystem_lines(filesystems: list[Object]) -> list[str]:
    lines = []
    for filesystem in filesystems:
        lines += [
            "add fs",
            f"set dir={_word(filesystem['target'])}",
            f"set special={_word(filesystem['source'])}",
            f"set type={_word(filesystem.get('type') or 'lofs')}",
        ]
        if filesystem.get("raw"):
            lines.append(f"set raw={_word(filesystem['raw'])}")
        lines += [f'add options "{option}"' for option in filesystem.get("options") or []]
        lines.append("end")
    return lines


def changed_filesystem_lines(change: Object) -> list[str]:
    lines = [f"remove fs dir={_word(target)}" for target in change.get("remove_filesystems") or []]
    for filesystem in change.get("update_filesystems") or []:
        lines += [f"remove fs dir={_word(filesystem['target'])}", *filesystem_lines([filesystem])]
    return lines + filesystem_lines(change.get("add_filesystems") or [])


def pci_lines(devices: list[Object]) -> list[str]:
    lines = []
    for device in devices:
        lines += [
            "add device",
            f"set match={_word(device['path'])}",
            *_net_property("model", "passthru"),
            *_net_property("pci-slot", device.get("pci_slot")),
            "end",
        ]
    return lines


def changed_pci_lines(change: Object) -> list[str]:
    lines = [f"remove -F device match={_word(path)}" for path in change.get("remove_pci_devices") or []]
    for device in change.get("update_pci_devices") or []:
        lines += [f"remove -F device match={_word(device['path'])}", *pci_lines([device])]
    return lines + pci_lines(change.get("add_pci_devices") or [])


def _net_property(name: str, value: Any) -> list[str]:
    if value is None or value is False:
        return []
    if isinstance(value, list):
        text = ",".join(str(element) for element in value)
    else:
        text = "true" if value is True else str(value)
    return [f'add property (name={name}, value="{text}")']


def _make_secondary(mac: str) -> str:
    return f'select net mac-addr={script_mac(mac)}; remove -F property (name=primary,value="true"); end'


def _full(mac: str) -> str:
    from vmadm.payload.nics import full_mac

    return full_mac(mac)


def _word(text: str) -> str:
    return text if PLAIN.fullmatch(text) else f'"{text}"'
