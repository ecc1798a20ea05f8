# SPDX-License-Identifier: MPL-2.0
"""What a kvm VM boots from: a script that runs qemu in its zone, and metadata beside it (docs/platform.md, "kvm").

    <zonepath>/root/startvm             run by the zone's boot; without it the zone does not boot
    <zonepath>/root/tmp/vm.metadata     internal_metadata, for who serves it to the guest

Always: written anew before each boot, so that it has the VM as it is then; both through the gate to a zone's files.
        script() is pure. An argument stands in double quotes, and nothing in it is expanded by the shell."""

from __future__ import annotations

import re
from typing import Any

from vmadm.node.zonefolder import ZoneFolder
from vmadm.payload.bootoptions import NOTHING, BootOptions
from vminfod.clients.plainjson import pretty
from vmload import Vm

STARTVM = "root/startvm"
METADATA = "root/tmp/vm.metadata"
LOG = "/tmp/vm.startvm.log"
WRAPPER = "/smartdc/bin/qemu-exec"
QEMU = "/smartdc/bin/qemu-system-x86_64"
OWN_QEMU = "/startvm.zone"  # in its place, where the zone has one

CPU_TYPE = "qemu64"
VGA = "std"
BOOT_ORDER = "order=cd"
TX_TIMER, TX_BURST = 200000, 128  # of virtio NICs
DNS_SERVERS = 4  # that the guest's DHCP answer has room for
IPV4 = re.compile(r"[0-9]+(\.[0-9]+){3}")
EXPANDED = re.compile(r'([\\"$`])')  # by a shell, between double quotes
NO_DISPLAY = -1


def write(folder: ZoneFolder, vm: Vm, options: BootOptions = NOTHING) -> None:
    """Write both files of the VM whose zonepath is `folder`, which boots with `options`. Raises NotWritten."""
    folder.write(METADATA, pretty({"internal_metadata": vm.get("internal_metadata") or {}}) + "\n")
    folder.write(STARTVM, script(vm, options), 0o755)


def script(vm: Vm, options: BootOptions = NOTHING) -> str:
    """The text of `startvm`."""
    words = " \\\n    ".join([*(_quoted(word) for word in arguments(vm, options)), *_own_words(vm)])
    return (
        "#!/usr/bin/bash\n\n"
        f"exec >{LOG} 2>&1\n"
        "set -o xtrace\n\n"
        f"qemu={QEMU}\n"
        f"[[ -x {OWN_QEMU} ]] && qemu={OWN_QEMU}\n\n"
        f'exec {WRAPPER} "$qemu" \\\n    {words}\n\n'
        "exit 1\n"
    )


def arguments(vm: Vm, options: BootOptions = NOTHING) -> list[str]:
    """qemu's arguments, but for those that the VM's owner gave as text."""
    drives = [*(vm.get("disks") or []), *[vars(drive) for drive in options.drives]]
    boot = f"order={options.order}" if options.order is not None else vm.get("boot") or BOOT_ORDER
    own_devices = not vm.get("qemu_opts")  # with qemu_opts the devices of the second half are theirs
    return [
        *("-m", str(vm["ram"]), "-name", vm["uuid"], "-uuid", vm["uuid"], "-cpu", vm.get("cpu_type") or CPU_TYPE),
        *(("-smp", str(vm["vcpus"])) if vm.get("vcpus", 1) > 1 else ()),
        *[word for index, disk in enumerate(drives) for word in ("-drive", _drive(disk, index))],
        *("-boot", boot),
        *[word for index, nic in enumerate(vm.get("nics") or []) for word in _nic(vm, nic, index)],
        *("-smbios", _smbios(vm), "-pidfile", "/tmp/vm.pid", "-vga", vm.get("vga") or VGA),
        *("-chardev", "socket,id=qmp,path=/tmp/vm.qmp,server,nowait", "-qmp", "chardev:qmp"),
        *("-chardev", "socket,id=serial0,path=/tmp/vm.console,server,nowait", "-serial", "chardev:serial0"),
        *("-chardev", "socket,id=serial1,path=/tmp/vm.ttyb,server,nowait", "-serial", "chardev:serial1"),
        *(_displays(vm) if own_devices else ()),
        *(("-parallel", "none", "-usb", "-usbdevice", "tablet", "-k", "en-us") if own_devices else ()),
    ]


def _drive(disk: Vm, index: int) -> str:
    media = disk.get("media") or "disk"
    boot = ",boot=on" if disk.get("boot") is True else ""
    return f"file={disk['path']},if={disk['model']},index={index},media={media}{boot}"


def _nic(vm: Vm, nic: Vm, index: int) -> list[str]:
    mac, interface = nic["mac"], nic["interface"]
    if nic.get("model") == "virtio":
        timer, burst = vm.get("virtio_txtimer") or TX_TIMER, vm.get("virtio_txburst") or TX_BURST
        words = [
            "-device",
            f"virtio-net-pci,mac={mac},tx=timer,x-txtimer={timer},x-txburst={burst},vlan={index}",
        ]
    else:
        words = ["-net", f"nic,macaddr={mac},vlan={index},name={interface},model={nic.get('model')}"]
    return [*words, "-net", f"vnic,name={interface},vlan={index},ifname={interface}{_lease(vm, nic)}"]


def _lease(vm: Vm, nic: Vm) -> str:
    """What qemu's own DHCP server answers the guest on that NIC; nothing where there is no static IPv4 address."""
    first = _first_ipv4(nic)
    if first is None:
        return ""
    address, netmask = first
    lease = f",ip={address},netmask={netmask}"
    nics: list[Vm] = vm.get("nics") or []
    primary = next((each for each in nics if each.get("primary") and _first_ipv4(each)), None)
    is_default = bool(nic.get("gateway")) and nic.get("gateway") == vm.get("default_gateway")
    if nic is primary or is_default:
        if nic.get("gateway"):
            lease += f",gateway_ip={nic['gateway']}"
        lease += f",hostname={vm.get('hostname') or vm['uuid']}"
        servers = [each for each in vm.get("resolvers") or [] if IPV4.fullmatch(each)][:DNS_SERVERS]
        lease += "".join(f",dns_ip{number}={server}" for number, server in enumerate(servers))
    return lease


def _first_ipv4(nic: Vm) -> Any:
    """(address, netmask) of the NIC's first IPv4 item; None if that is `dhcp`, or there is none."""
    for ip in nic.get("ips") or []:
        address, _, prefix = str(ip).partition("/")
        if ip == "dhcp":
            return None
        if IPV4.fullmatch(address) and prefix.isdigit():
            bits = (0xFFFFFFFF << (32 - int(prefix))) & 0xFFFFFFFF
            return address, ".".join(str(bits >> shift & 255) for shift in (24, 16, 8, 0))
    if not nic.get("ips") and IPV4.fullmatch(str(nic.get("ip"))) and nic.get("netmask"):
        return nic["ip"], nic["netmask"]
    return None


def _smbios(vm: Vm) -> str:
    stamp = vm.get("platform_buildstamp") or "x"
    return (
        f"type=1,manufacturer=Joyent,product=SmartDC HVM,version=7.{stamp},serial={vm['uuid']},uuid={vm['uuid']},"
        "sku=001,family=Virtual Machine"
    )


def _displays(vm: Vm) -> list[str]:
    words = ["-vnc", "unix:/tmp/vm.vnc" + (",password" if vm.get("vnc_password") else "")]
    if vm.get("spice_port") not in (None, NO_DISPLAY):
        spice = "sock=/tmp/vm.spice" + ("" if vm.get("spice_password") else ",disable-ticketing")
        words += ["-spice", spice + (f",{vm['spice_opts']}" if vm.get("spice_opts") else "")]
    return words


def _own_words(vm: Vm) -> list[str]:
    """What the owner gave, for the shell to split, as ever."""
    return [words for words in (vm.get("qemu_opts"), vm.get("qemu_extra_opts")) if words]


def _quoted(word: str) -> str:
    return '"' + EXPANDED.sub(r"\\\1", word) + '"'
