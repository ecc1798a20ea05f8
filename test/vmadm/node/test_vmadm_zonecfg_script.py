# SPDX-License-Identifier: MPL-2.0
"""The scripts for zonecfg, to the letter (docs/platform.md, "zonecfg")."""

import re

import pytest

from support.payload_vectors import recorded_node
from vmadm.node.zonecfg import create_script, ncpus, update_script
from vmadm.payload.macs import full_mac
from vmadm.payload.parsing import parse_create, parse_update

pytestmark = pytest.mark.pure

U = "698fed0c-b754-4073-e230-9f37c6b4d79f"
IMAGE = "01b2c898-945f-11e1-a523-af1afbe22822"
LX_IMAGE = "63d6e664-3f1f-11e8-aef6-a3120cf8dd9d"
MAC = "b2:1e:ba:0a:06:71"
NODE = recorded_node()

RFD_PAYLOAD = {"brand": "joyent-minimal", "image_uuid": IMAGE, "alias": "foo"}
RFD_SCRIPT = f"""\
create -b
set zonepath=/zones/{U}
set brand=joyent-minimal
set uuid={U}
set ip-type=exclusive
add attr; set name="provisioning"; set type=string; set value=true;end
add attr; set name="vm-version"; set type=string; set value="1"; end
add attr; set name="create-timestamp"; set type=string; set value="2018-04-11T17:19:02.755Z"; end
add attr; set name=transition; set value="provisioning:running:1523467442755"; set type=string; end
add attr; set name="dataset-uuid"; set type=string; set value="{IMAGE}"; end
set cpu-shares=100
set limitpriv="default"
set max-lwps=2000
set max-msg-ids=4096
set max-sem-ids=4096
set max-shm-ids=4096
set max-shm-memory=268435456
set zfs-io-priority=100
set autoboot=true
add capped-memory; set physical=256m; set locked=256m; set swap=256m; end
add attr; set name="billing-id"; set type=string; set value="00000000-0000-0000-0000-000000000000"; end
add attr; set name="owner-uuid"; set type=string; set value="00000000-0000-0000-0000-000000000000"; end
add attr; set name="tmpfs"; set type=string; set value="256"; end
add attr; set name="dns-domain"; set type=string; set value="local"; end
add attr; set name="alias"; set type=string; set value="Zm9v"; end
"""


def script_of(payload, brand, *, autoboot=True):
    change = parse_create(payload, NODE, U)
    return create_script(
        change, created="2018-04-11T17:19:02.755Z", transition_expire=1523467442755 if autoboot else None
    )


def added(payload, brand="joyent-minimal"):
    """The lines of a create's script that the least payload of that brand has not."""
    least = {"brand": brand, "image_uuid": LX_IMAGE if brand == "lx" else IMAGE, "kernel_version": "4.3.0"}
    known = script_of(least, brand).splitlines()
    return [line for line in script_of({**least, **payload}, brand).splitlines() if line not in known]


def test_script_of_the_rfds_create():
    assert script_of(RFD_PAYLOAD, "joyent-minimal") == RFD_SCRIPT


def test_vm_that_does_not_boot_has_no_transition():
    lines = script_of({**RFD_PAYLOAD, "autoboot": "false"}, "joyent-minimal", autoboot=False)
    assert lines == RFD_SCRIPT.replace(
        'add attr; set name=transition; set value="provisioning:running:1523467442755"; set type=string; end\n', ""
    ).replace("autoboot=true", "autoboot=false")


def test_properties_of_a_new_vm_in_their_order():
    assert added(
        {
            "hostname": "web0",
            "package_name": "p",
            "package_version": "1",
            "cpu_cap": 150,
            "do_not_inventory": True,
            "archive_on_delete": 1,
            "firewall_enabled": "true",
            "restart_init": False,
            "init_name": "/sbin/i",
            "maintain_resolvers": True,
            "resolvers": ["192.0.2.53", "192.0.2.54"],
            "zlog_max_size": 1000,
            "internal_metadata_namespaces": "a,b",
            "fs_allowed": ["ufs", "pcfs"],
            "alias": "é",
        }
    ) == [
        "add capped-cpu; set ncpus=1.5; end",
        'add attr; set name="package-name"; set type=string; set value="p"; end',
        'add attr; set name="package-version"; set type=string; set value="1"; end',
        'add attr; set name="hostname"; set type=string; set value="web0"; end',
        'add attr; set name="do-not-inventory"; set type=string; set value="true"; end',
        'add attr; set name="archive-on-delete"; set type=string; set value="true"; end',
        'add attr; set name="firewall-enabled"; set type=string; set value="true"; end',
        'add attr; set name="restart-init"; set type=string; set value="false"; end',
        'add attr; set name="init-name"; set type=string; set value="/sbin/i"; end',
        'add attr; set name="maintain-resolvers"; set type=string; set value="true"; end',
        'add attr; set name="zlog-max-size"; set type=string; set value="1000"; end',
        'add attr; set name="resolvers"; set type=string; set value="192.0.2.53,192.0.2.54"; end',
        'add attr; set name="internal-metadata-namespaces"; set type=string; set value="a,b"; end',
        'add attr; set name="alias"; set type=string; set value="w6k="; end',
        'set fs-allowed="ufs,pcfs"',
    ]


def test_defaults_are_not_written():
    assert (
        added(
            {
                "do_not_inventory": False,
                "restart_init": True,
                "firewall_enabled": "false",
                "hostname": "",
                "resolvers": [],
                "alias": None,
            }
        )
        == []
    )


def test_cpu_shares_are_capped():
    assert added({"cpu_shares": 70000}) == ["set cpu-shares=65535"]


def test_nics_of_a_new_vm_and_the_first_is_primary():
    assert added(
        {
            "nics": [
                {
                    "nic_tag": "external",
                    "mac": MAC,
                    "ip": "10.2.121.70",
                    "netmask": "255.255.0.0",
                    "gateway": "10.2.121.1",
                    "vlan_id": 20,
                    "allowed_ips": ["10.2.0.8", "10.2.0.9"],
                    "allow_ip_spoofing": "1",
                    "dhcp_server": False,
                    "mtu": 1500,
                },
                {"nic_tag": "admin", "mac": "00:00:5e:00:01:0a", "ip": "dhcp"},
            ]
        }
    ) == [
        "add net",
        "set physical=net0",
        "set mac-addr=b2:1e:ba:a:6:71",
        "set global-nic=external",
        'add property (name=gateway, value="10.2.121.1")',
        'add property (name=gateways, value="10.2.121.1")',
        'add property (name=netmask, value="255.255.0.0")',
        'add property (name=ip, value="10.2.121.70")',
        'add property (name=ips, value="10.2.121.70/16")',
        "set vlan-id=20",
        'add property (name=allowed_ips, value="10.2.0.8,10.2.0.9")',
        'add property (name=dhcp_server, value="false")',
        'add property (name=allow_ip_spoofing, value="true")',
        'add property (name=mtu, value="1500")',
        "end",
        "add net",
        "set physical=net1",
        "set mac-addr=0:0:5e:0:1:a",
        "set global-nic=admin",
        'add property (name=ip, value="dhcp")',
        'add property (name=ips, value="dhcp")',
        "end",
        'select net mac-addr=b2:1e:ba:a:6:71; add property (name=primary,value="true"); end',
    ]


def test_nics_of_lx_are_eth():
    assert "set physical=eth0" in added({"nics": [{"nic_tag": "admin"}]}, "lx")


def test_filesystems_of_a_new_vm():
    assert added(
        {
            "filesystems": [
                {"source": "/zones/shared", "target": "/with blank", "type": "lofs", "options": ["ro", "nodevices"]}
            ]
        }
    ) == [
        "add fs",
        'set dir="/with blank"',
        "set special=/zones/shared",
        "set type=lofs",
        'add options "ro"',
        'add options "nodevices"',
        "end",
    ]


def test_docker_brings_its_attributes_along():
    assert added({"docker": True}) == [
        'add attr; set name="docker"; set type=string; set value="true"; end',
        'add attr; set name="restart-init"; set type=string; set value="false"; end',
        'add attr; set name="init-name"; set type=string; set value="/usr/vm/sbin/dockerinit"; end',
        'add attr; set name="internal-metadata-namespaces"; set type=string; set value="docker"; end',
        'add attr; set name="zlog-mode"; set type=string; set value="g--"; end',
    ]
    payload = {"brand": "lx", "docker": True, "image_uuid": LX_IMAGE, "kernel_version": "4.3.0"}
    (key, value), *more = parse_create(payload, NODE, U).maps.internal_metadata.set.items()
    assert (key, more) == ("docker:id", [])
    assert re.fullmatch(f"{U.replace('-', '')}[0-9a-f]{{32}}", value)


def test_script_of_a_new_kvm():
    script = script_of(
        {"brand": "kvm", "ram": 1024, "vcpus": 2, "vnc_port": -1, "vnc_password": "secret", "qemu_extra_opts": "-x"},
        "kvm",
    )
    assert (
        script
        == f"""\
create -b
set zonepath=/zones/{U}
set brand=kvm
set uuid={U}
set ip-type=exclusive
add attr; set name="provisioning"; set type=string; set value=true;end
add attr; set name="vm-version"; set type=string; set value="1"; end
add attr; set name="create-timestamp"; set type=string; set value="2018-04-11T17:19:02.755Z"; end
add attr; set name=transition; set value="provisioning:running:1523467442755"; set type=string; end
set autoboot=false
set cpu-shares=100
set limitpriv="default,-file_link_any,-net_access,-proc_fork,-proc_info,-proc_session"
set max-lwps=2000
set max-msg-ids=4096
set max-sem-ids=4096
set max-shm-ids=4096
set max-shm-memory=2147483648
set zfs-io-priority=100
add capped-memory; set physical=2048m; set locked=2048m; set swap=2048m; end
add attr; set name="billing-id"; set type=string; set value="00000000-0000-0000-0000-000000000000"; end
add attr; set name="owner-uuid"; set type=string; set value="00000000-0000-0000-0000-000000000000"; end
add attr; set name="vm-autoboot"; set type=string; set value="true"; end
add attr; set name="ram"; set type=string; set value="1024"; end
add attr; set name="vcpus"; set type=string; set value="2"; end
add attr; set name="vnc-port"; set type=string; set value="-1"; end
add attr; set name="vnc-password"; set type=string; set value="c2VjcmV0"; end
add attr; set name="qemu-extra-opts"; set type=string; set value="LXg="; end
"""
    )


def test_script_of_a_new_bhyve_names_its_serial_ports_and_log():
    lines = script_of({"brand": "bhyve", "ram": 1024, "vcpus": 2, "bootrom": "uefi"}, "bhyve").splitlines()
    assert [line for line in lines if line.startswith("add attr")][6:] == [
        'add attr; set name="ram"; set type=string; set value="1024"; end',
        'add attr; set name="com1"; set type=string; set value="/dev/zconsole"; end',
        'add attr; set name="com2"; set type=string; set value="socket,/tmp/vm.ttyb"; end',
        'add attr; set name="bootrom"; set type=string; set value="uefi"; end',
        'add attr; set name="zlog-mode"; set type=string; set value="g--"; end',
        'add attr; set name="zlog-name"; set type=string; set value="platform.log"; end',
        'add attr; set name="vcpus"; set type=string; set value="2"; end',
    ]


@pytest.mark.parametrize(
    ("cap", "text"),
    [(100, "1"), (150, "1.5"), (7, "0.07"), (35, "0.35"), (350, "3.5"), (1000, "10"), (123456, "1234.56")],
)
def test_cpu_cap_as_a_number_of_cpus(cap, text):
    assert ncpus(cap) == text


# Updates.

VM = {
    "uuid": U,
    "zonename": U,
    "brand": "joyent-minimal",
    "state": "running",
    "zone_state": "running",
    "alias": "foo",
    "autoboot": True,
    "cpu_shares": 100,
    "limit_priv": "default",
    "max_lwps": 2000,
    "max_msg_ids": 4096,
    "max_sem_ids": 4096,
    "max_shm_ids": 4096,
    "max_shm_memory": 256,
    "max_physical_memory": 256,
    "max_locked_memory": 256,
    "max_swap": 256,
    "tmpfs": 256,
    "dns_domain": "local",
    "quota": 10,
    "resolvers": [],
    "firewall_enabled": False,
    "nics": [],
    "customer_metadata": {},
    "internal_metadata": {},
    "tags": {},
    "routes": {},
}


def update_of(payload, **vm):
    present = {**VM, **vm}
    return update_script(parse_update(payload, present, NODE), present).splitlines()


@pytest.mark.parametrize(
    ("payload", "vm", "lines"),
    [
        ({"alias": "bar"}, {}, ['select attr name=alias; set value="YmFy"; end']),
        ({"alias": "foo"}, {}, ['select attr name=alias; set value="Zm9v"; end']),
        ({"alias": ""}, {}, ["remove -F attr name=alias;"]),
        ({"alias": None}, {}, ["remove -F attr name=alias;"]),
        ({"hostname": "h"}, {}, ['add attr; set name="hostname"; set type=string; set value="h"; end']),
        ({"hostname": ""}, {}, []),
        (
            {"max_physical_memory": 128},
            {},
            [
                "select capped-memory; set physical=128m; set locked=128m; set swap=256m; end",
                'select attr name=tmpfs; set value="128"; end',
            ],
        ),
        ({"quota": 20}, {}, []),
        ({"cpu_shares": "100"}, {}, []),
        ({"cpu_shares": 50}, {}, ["set cpu-shares=50"]),
        ({"cpu_shares": ""}, {}, ["clear cpu-shares"]),
        ({"max_shm_memory": 512}, {}, ["set max-shm-memory=536870912"]),
        ({"limit_priv": "default,-proc_fork"}, {}, ['set limitpriv="default,-proc_fork"']),
        ({"limit_priv": ["default"]}, {}, []),
        ({"autoboot": "false"}, {}, ["set autoboot=false"]),
        ({"cpu_cap": 150}, {}, ["add capped-cpu; set ncpus=1.5; end"]),
        ({"cpu_cap": 150}, {"cpu_cap": 100}, ["select capped-cpu; set ncpus=1.5; end"]),
        ({"cpu_cap": 0}, {"cpu_cap": 100}, ["remove capped-cpu"]),
        ({"cpu_cap": 0}, {}, []),
        ({"resolvers": "8.8.8.8"}, {}, ['add attr; set name="resolvers"; set type=string; set value="8.8.8.8"; end']),
        (
            {"resolvers": ["8.8.8.8"]},
            {"resolvers": ["8.8.4.4"]},
            ['select attr name=resolvers; set value="8.8.8.8"; end'],
        ),
        ({"resolvers": []}, {"resolvers": ["8.8.4.4"]}, ["remove -F attr name=resolvers;"]),
        (
            {"firewall_enabled": True},
            {},
            ['add attr; set name="firewall-enabled"; set type=string; set value="true"; end'],
        ),
        ({"firewall_enabled": False}, {"firewall_enabled": True}, ["remove -F attr name=firewall-enabled;"]),
        ({"restart_init": False}, {}, ['add attr; set name="restart-init"; set type=string; set value="false"; end']),
        ({"restart_init": True}, {"restart_init": False}, ["remove -F attr name=restart-init;"]),
        ({"tmpfs": 0}, {}, ['select attr name=tmpfs; set value="0"; end']),
        ({"zlog_max_size": 0}, {"zlog_max_size": 9}, ["remove -F attr name=zlog-max-size;"]),
        ({"fs_allowed": ["ufs"]}, {}, ['set fs-allowed="ufs"']),
        ({"fs_allowed": ""}, {"fs_allowed": "ufs"}, ['set fs-allowed=""']),
        ({"limit_priv": ""}, {}, ['set limitpriv=""']),
        ({"set_tags": {"a": 1}, "image_uuid": IMAGE, "state": "stopped", "nonsense": 1}, {}, []),
        (
            {"add_filesystems": [{"source": "/a", "target": "/b", "type": "lofs"}], "remove_filesystems": ["/c"]},
            {"filesystems": [{"source": "/a", "target": "/c", "type": "lofs"}]},
            ["remove fs dir=/c", "add fs", "set dir=/b", "set special=/a", "set type=lofs", "end"],
        ),
        ({}, {}, []),
    ],
)
def test_update_of_properties(payload, vm, lines):
    assert update_of(payload, **vm) == lines


NET0 = {
    "interface": "net0",
    "mac": "02:08:20:0a:00:01",
    "nic_tag": "external",
    "ips": ["8.8.0.9/24"],
    "ip": "8.8.0.9",
    "netmask": "255.255.255.0",
    "primary": True,
}
NET1 = {
    "interface": "net1",
    "mac": "02:08:20:0a:00:02",
    "nic_tag": "admin",
    "ips": ["10.0.0.9/8"],
    "ip": "10.0.0.9",
    "netmask": "255.0.0.0",
}


def test_nic_that_is_updated_is_written_anew_and_stays_primary():
    assert update_of({"update_nics": [{"mac": "2:8:20:a:0:1", "ip": "8.8.0.10"}]}, nics=[NET0, NET1]) == [
        "remove net mac-addr=2:8:20:a:0:1",
        "add net",
        "set physical=net0",
        "set mac-addr=2:8:20:a:0:1",
        "set global-nic=external",
        'add property (name=netmask, value="255.255.255.0")',
        'add property (name=ip, value="8.8.0.10")',
        'add property (name=ips, value="8.8.0.10/24")',
        'add property (name=primary, value="true")',
        "end",
    ]


def test_first_nic_of_a_vm_without_any_is_not_made_primary():
    assert update_of({"add_nics": [{"nic_tag": "admin", "mac": MAC}]}) == [
        "add net",
        "set physical=net0",
        "set mac-addr=b2:1e:ba:a:6:71",
        "set global-nic=admin",
        "end",
    ]


def test_new_primary_takes_it_from_the_others():
    assert update_of({"update_nics": [{"mac": NET1["mac"], "primary": True}]}, nics=[NET0, NET1])[-2:] == [
        'select net mac-addr=2:8:20:a:0:1; remove -F property (name=primary,value="true"); end',
        'select net mac-addr=2:8:20:a:0:2; add property (name=primary,value="true"); end',
    ]


def test_when_the_primary_goes_another_one_takes_its_place():
    assert update_of({"remove_nics": [NET0["mac"]]}, nics=[NET0, NET1]) == [
        "remove net mac-addr=2:8:20:a:0:1",
        'select net mac-addr=2:8:20:a:0:2; add property (name=primary,value="true"); end',
    ]


def test_kvm_keeps_autoboot_in_an_attribute():
    assert update_of({"autoboot": False}, brand="kvm") == ["select attr name=vm-autoboot; set value=false; end"]


def test_bhyve_gets_its_ports_with_an_update_if_it_has_none():
    assert update_of({"alias": "bar"}, brand="bhyve", zlog_mode="g--") == [
        'select attr name=alias; set value="YmFy"; end',
        'add attr; set name="com1"; set type=string; set value="/dev/zconsole"; end',
        'add attr; set name="com2"; set type=string; set value="socket,/tmp/vm.ttyb"; end',
        'select attr name=zlog-mode; set value="g--"; end',
        'add attr; set name="zlog-name"; set type=string; set value="platform.log"; end',
    ]


def test_bhyve_keeps_a_port_of_its_own():
    lines = update_of({"alias": "bar"}, brand="bhyve", com1="none", zlog_mode="g--", zlog_name="platform.log")
    assert not [line for line in lines if "com" in line.partition("name=")[2][:5]]


def test_disks_of_an_update():
    disk = {"path": "/dev/zvol/rdsk/zones/u-disk0", "boot": True, "model": "virtio", "media": "disk", "size": 1024}
    payload = {"update_disks": [{"path": disk["path"], "boot": False}], "remove_disks": ["/dev/old"]}
    vm = {"brand": "kvm", "state": "stopped", "disks": [disk, {"path": "/dev/old"}], "vm_autoboot": True}
    assert update_of(payload, **vm) == [
        "remove -F device match=/dev/zvol/rdsk/zones/u-disk0",
        "remove -F device match=/dev/old",
        "add device",
        "set match=/dev/zvol/rdsk/zones/u-disk0",
        'add property (name=boot, value="false")',
        'add property (name=model, value="virtio")',
        'add property (name=media, value="disk")',
        'add property (name=size, value="1024")',
        "end",
    ]


def test_mac_without_leading_zeros():
    assert full_mac("0208200A0001") == "02:08:20:0a:00:01"
