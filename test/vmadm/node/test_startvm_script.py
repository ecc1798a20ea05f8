# SPDX-License-Identifier: MPL-2.0
"""The script that a kvm VM boots from, and qemu's arguments in it (docs/platform.md, "kvm")."""

import shlex
import subprocess

import pytest

from support.deadlines import SOON
from vmadm.node.startvm import arguments, script

U = "0c6f1f0e-0000-4000-8000-00000000000a"
VM = {
    "uuid": U,
    "ram": 1024,
    "vcpus": 1,
    "platform_buildstamp": "20260101T000000Z",
    "disks": [{"path": "/dev/zvol/rdsk/zones/d0", "model": "virtio", "boot": True}],
    "nics": [],
}
MONITOR = [
    *("-chardev", "socket,id=qmp,path=/tmp/vm.qmp,server,nowait", "-qmp", "chardev:qmp"),
    *("-chardev", "socket,id=serial0,path=/tmp/vm.console,server,nowait", "-serial", "chardev:serial0"),
    *("-chardev", "socket,id=serial1,path=/tmp/vm.ttyb,server,nowait", "-serial", "chardev:serial1"),
]
SMBIOS = (
    f"type=1,manufacturer=Joyent,product=SmartDC HVM,version=7.20260101T000000Z,serial={U},uuid={U},"
    "sku=001,family=Virtual Machine"
)


def nic(**more):
    return {"mac": "02:08:20:00:00:01", "interface": "net0", "model": "virtio", **more}


def after(words, option):
    """What stands behind each such option."""
    return [words[at + 1] for at, word in enumerate(words) if word == option]


@pytest.mark.pure
def test_plain_vm():
    assert arguments(VM) == [
        *("-m", "1024", "-name", U, "-uuid", U, "-cpu", "qemu64"),
        *("-drive", "file=/dev/zvol/rdsk/zones/d0,if=virtio,index=0,media=disk,boot=on"),
        *("-boot", "order=cd", "-smbios", SMBIOS, "-pidfile", "/tmp/vm.pid", "-vga", "std"),
        *MONITOR,
        *("-vnc", "unix:/tmp/vm.vnc", "-parallel", "none", "-usb", "-usbdevice", "tablet", "-k", "en-us"),
    ]


@pytest.mark.pure
def test_what_the_vm_says_takes_the_place_of_defaults():
    words = arguments({**VM, "vcpus": 4, "cpu_type": "host", "boot": "order=nc,once=d", "vga": "cirrus"})
    assert [after(words, option) for option in ("-smp", "-cpu", "-boot", "-vga")] == [
        ["4"],
        ["host"],
        ["order=nc,once=d"],
        ["cirrus"],
    ]


@pytest.mark.pure
def test_drives_are_numbered_in_order_and_only_a_boot_disk_boots():
    disks = [{"path": "/a", "model": "ide", "boot": False}, {"path": "/x.iso", "model": "ide", "media": "cdrom"}]
    assert after(arguments({**VM, "disks": disks}), "-drive") == [
        "file=/a,if=ide,index=0,media=disk",
        "file=/x.iso,if=ide,index=1,media=cdrom",
    ]


@pytest.mark.pure
def test_nics_of_both_sorts():
    other = nic(mac="02:08:20:00:00:02", interface="net1", model="e1000")
    words = arguments({**VM, "nics": [nic(), other], "virtio_txtimer": 5, "virtio_txburst": 6})
    assert after(words, "-device") == ["virtio-net-pci,mac=02:08:20:00:00:01,tx=timer,x-txtimer=5,x-txburst=6,vlan=0"]
    assert after(words, "-net") == [
        "vnic,name=net0,vlan=0,ifname=net0",
        "nic,macaddr=02:08:20:00:00:02,vlan=1,name=net1,model=e1000",
        "vnic,name=net1,vlan=1,ifname=net1",
    ]
    assert after(arguments({**VM, "nics": [nic()]}), "-device") == [
        "virtio-net-pci,mac=02:08:20:00:00:01,tx=timer,x-txtimer=200000,x-txburst=128,vlan=0"
    ]


@pytest.mark.pure
@pytest.mark.parametrize(
    ("nics", "leases"),
    [
        ([nic(ips=["dhcp"], primary=True)], [""]),
        ([nic(ips=["2001:db8::2/64"], primary=True)], [""]),
        (
            [nic(ips=["10.0.0.5/22"], gateway="10.0.0.1", primary=True)],
            [",ip=10.0.0.5,netmask=255.255.252.0,gateway_ip=10.0.0.1,hostname=db0,dns_ip0=8.8.8.8,dns_ip1=8.8.4.4"],
        ),
        (  # the second is the primary; the first has an address alone
            [nic(ips=["10.0.0.5/24"], gateway="10.0.0.1"), nic(ips=["10.1.0.5/24"], primary=True)],
            [
                ",ip=10.0.0.5,netmask=255.255.255.0",
                ",ip=10.1.0.5,netmask=255.255.255.0,hostname=db0,dns_ip0=8.8.8.8,dns_ip1=8.8.4.4",
            ],
        ),
        ([nic(ip="10.0.0.5", netmask="255.0.0.0")], [",ip=10.0.0.5,netmask=255.0.0.0"]),  # of an old VM
    ],
)
def test_what_the_guest_is_told_by_dhcp(nics, leases):
    vm = {**VM, "nics": nics, "hostname": "db0", "resolvers": ["8.8.8.8", "2001:db8::1", "8.8.4.4"]}
    assert after(arguments(vm), "-net") == [
        f"vnic,name=net0,vlan={number},ifname=net0{lease}" for number, lease in enumerate(leases)
    ]


@pytest.mark.pure
@pytest.mark.parametrize(
    ("more", "vnc", "spice"),
    [
        ({"vnc_password": "secret"}, ["unix:/tmp/vm.vnc,password"], []),
        ({"spice_port": 5930}, ["unix:/tmp/vm.vnc"], ["sock=/tmp/vm.spice,disable-ticketing"]),
        (
            {"spice_port": 5930, "spice_password": "x", "spice_opts": "a=b"},
            ["unix:/tmp/vm.vnc"],
            ["sock=/tmp/vm.spice,a=b"],
        ),
        ({"spice_port": -1}, ["unix:/tmp/vm.vnc"], []),
        ({"qemu_opts": "-vnc none", "spice_port": 1}, [], []),
    ],
)
def test_displays(more, vnc, spice):
    words = arguments({**VM, **more})
    assert (after(words, "-vnc"), after(words, "-spice")) == (vnc, spice)
    assert ("-usb" in words) == ("qemu_opts" not in more)


def test_shell_hands_the_arguments_over_as_they_are_and_splits_the_owners(tmp_path):
    qemu, said = tmp_path / "qemu-exec", tmp_path / "said"
    qemu.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{said}\n')
    qemu.chmod(0o755)
    vm = {**VM, "boot": 'order=c $(touch /x) `id` "a" \\', "qemu_opts": "-foo bar", "qemu_extra_opts": "-baz"}
    text = script(vm).replace("/smartdc/bin/qemu-exec", shlex.quote(str(qemu)))
    text = text.replace("/tmp/vm.startvm.log", str(tmp_path / "log"))
    subprocess.run(["bash", "-c", text], check=True, timeout=SOON)
    assert said.read_text().splitlines() == [
        "/smartdc/bin/qemu-system-x86_64",
        *arguments(vm),
        "-foo",
        "bar",
        "-baz",
    ]
