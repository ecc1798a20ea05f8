# SPDX-License-Identifier: MPL-2.0
"""Payloads parsed: what is refused with which text, and what the typed change then holds."""

import re

import pytest

from support.payload_vectors import recorded_node
from vmadm.errors import BadPayload
from vmadm.payload.change import NicChange, named
from vmadm.payload.nodefacts import NodeFacts
from vmadm.payload.parsing import brand_of, parse_create, parse_update
from vmadm.payload.unset import UNSET
from vmload import brands

pytestmark = pytest.mark.pure

NODE = recorded_node()
U = "698fed0c-b754-4073-e230-9f37c6b4d79f"
IMAGE = "01b2c898-945f-11e1-a523-af1afbe22822"
LX_IMAGE = "63d6e664-3f1f-11e8-aef6-a3120cf8dd9d"
DISK_IMAGE = "c193a558-1d63-11e9-97cf-97bb3ee5c14f"  # 10240 MiB, needs uefi
KVM_DISK_IMAGE = "e1faace4-e19b-11e5-928b-83849e2fd94a"
MAC, MAC2 = "b2:1e:ba:0a:06:71", "b2:1e:ba:0a:06:72"
ALL_COMPRESSIONS = "on, off, gzip, " + ", ".join(f"gzip-{level}" for level in range(1, 10)) + ", lz4, lzjb, zle"
NIC0 = {
    "interface": "net0",
    "mac": MAC,
    "nic_tag": "external",
    "ips": ["10.77.0.5/24"],
    "ip": "10.77.0.5",
    "netmask": "255.255.255.0",
    "gateways": ["10.77.0.1"],
    "gateway": "10.77.0.1",
    "primary": True,
}
NIC1 = {"interface": "net1", "mac": MAC2, "nic_tag": "admin", "ips": ["dhcp"], "ip": "dhcp"}
DISK0 = f"/dev/zvol/rdsk/zones/{U}/disk0"
DISK = {"path": DISK0, "zfs_filesystem": f"zones/{U}/disk0", "size": 1024, "model": "ahci", "boot": True}
DISK = {**DISK, "pci_slot": "0:4:0", "uuid": "7a3f2c10-0b5e-4e38-9f4e-0d2c9b1e5a77", "media": "disk"}


def vm_of(brand, **members):
    return {
        "uuid": U,
        "zonename": U,
        "brand": brand,
        "zpool": "zones",
        "zfs_filesystem": f"zones/{U}",
        "state": "stopped",
        "zone_state": "installed",
        "max_physical_memory": 256,
        "max_locked_memory": 256,
        "max_swap": 256,
        "tmpfs": 256,
        **members,
    }


def update(payload, brand="joyent", node=NODE, **vm):
    return parse_update(payload, vm_of(brand, **vm), node)


def create(payload, brand="joyent", node=NODE):
    least = {"brand": brand} if brands.is_hvm(brand) else {"brand": brand, "image_uuid": IMAGE}
    if brand == "lx":
        least = {**least, "image_uuid": LX_IMAGE, "kernel_version": "4.3.0"}
    return parse_create({**least, **payload}, node, U)


def refused(parse, *args, **more):
    with pytest.raises(BadPayload) as raised:
        parse(*args, **more)
    return raised.value.errors


# Values.


@pytest.mark.parametrize(
    ("payload", "brand", "asked"),
    [
        ({"zfs_root_recsize": "1e3", "quota": "0x10"}, "joyent", None),
        ({"quota": "0x10", "max_lwps": 1e3}, "joyent", {"quota": 16, "max_lwps": 1000}),
        ({"quota": "", "alias": None, "hostname": " "}, "joyent", {"quota": None, "alias": None, "hostname": None}),
        ({"quota": 0, "tmpfs": 0, "cpu_cap": "0"}, "joyent", {"quota": 0, "tmpfs": 0, "cpu_cap": 0}),
        ({"autoboot": "false", "restart_init": "1"}, "joyent", {"autoboot": False, "restart_init": True}),
        ({"resolvers": "8.8.8.8,,8.8.4.4", "fs_allowed": ""}, "joyent", {"resolvers": ("8.8.8.8", "8.8.4.4")}),
        ({"nonsense": 1, "state": "running", "vcpus": 3}, "joyent", {}),
        ({"vnc_port": "-1", "vcpus": "2"}, "kvm", {"vnc_port": -1, "vcpus": 2}),
    ],
)
def test_what_is_asked_is_typed(payload, brand, asked):
    if asked is None:
        assert refused(update, payload, brand) == [
            "invalid zfs_root_recsize (1000), must be 512-131072 and a power of 2. (0 to disable)"
        ]
        return
    if "fs_allowed" in payload:
        asked = {**asked, "fs_allowed": ()}
    assert dict(update(payload, brand).request.properties.items()) == asked


@pytest.mark.parametrize(
    ("payload", "brand", "texts"),
    [
        ({"alias": "\ud800"}, "joyent", ["Invalid value(s) for: alias"]),
        ({"set_tags": {"a": "\udfff"}}, "joyent", ["Invalid value(s) for: set_tags"]),
        ({"set_tags": {"\udfff": 1}}, "joyent", ["Invalid value(s) for: set_tags"]),
        ({"set_tags": {"a": 1e400}}, "joyent", ["Invalid value(s) for: set_tags"]),
        ({"hostname": 'x"; end'}, "joyent", ["Invalid value(s) for: hostname"]),
        ({"package_name": "two\nlines"}, "joyent", ["Invalid value(s) for: package_name"]),
        ({"limit_priv": ['x"']}, "joyent", ["Invalid value(s) for: limit_priv"]),
        ({"max_swap": None}, "joyent", ["Invalid value(s) for: max_swap"]),
        ({"ram": None}, "joyent", ["Invalid value(s) for: max_physical_memory,max_locked_memory,max_swap,tmpfs"]),
        ({"max_physical_memory": ""}, "bhyve", ["Invalid value(s) for: max_locked_memory,max_swap"]),
        ({"max_physical_memory": None, "max_swap": 512}, "lx", ["Invalid value(s) for: max_locked_memory,tmpfs"]),
        ({"vga": None}, "kvm", ['Invalid VGA type: "null", supported types are: cirrus,std,vmware,qxl,xenfb']),
        ({"vga": "cga"}, "kvm", ['Invalid VGA type: "cga", supported types are: cirrus,std,vmware,qxl,xenfb']),
        ({"vnc_password": "123456789"}, "bhyve", ["VNC password is too long, maximum length is 8 characters."]),
        (
            {"zfs_root_compression": None},
            "joyent",
            [f"invalid compression type for null, must be one of: {ALL_COMPRESSIONS}"],
        ),
        (
            {"zfs_data_recsize": 262144},
            "joyent",
            ["invalid zfs_data_recsize (262144), must be 512-131072 and a power of 2. (0 to disable)"],
        ),
        ({"add_filesystems": [{"target": "/b", "type": "lofs"}]}, "joyent", ["add_filesystems.0.source"]),
        ({"add_filesystems": [{"target": "/b", "source": "/a"}]}, "joyent", ["add_filesystems.0.type"]),
        ({"add_pci_devices": [{"pci_slot": "8:0:0"}]}, "bhyve", ["add_pci_devices.0.path"]),
        ({"nics": [], "add_nics": []}, "joyent", ['Cannot specify both "nics" and "add_nics"']),
    ],
)
def test_what_cannot_be_is_refused(payload, brand, texts):
    if "." in texts[0] and " " not in texts[0]:
        texts = [f"Missing required properties: {texts[0]}"]
    assert refused(update, payload, brand) == texts


def test_text_kept_in_base64_may_hold_anything_else():
    assert update({"alias": 'say "no"\n'}).properties.alias == 'say "no"\n'


def test_all_that_is_wrong_is_told_together():
    payload = {"quota": "x", "alias": 5, "zfs_root_recsize": 5, "set_routes": {"z": "w"}, "add_nics": [{"ip": "dhcp"}]}
    assert [re.sub(r"(..:){5}..", "MAC", text) for text in refused(update, payload)] == [
        "Invalid value for quota: null:number",
        "Invalid value(s) for: alias",
        'invalid or missing .nic_tag option for NIC: {"mac":"MAC","ips":["dhcp"]}',
        'Invalid route destination: "z" (must be IP address or CIDR)',
        'Invalid route gateway: "w" (must be IP address, MAC address, or nic)',
        "invalid zfs_root_recsize (5), must be 512-131072 and a power of 2. (0 to disable)",
    ]


@pytest.mark.parametrize("brand", [{"a": 1}, "sol10", 5])
def test_brand_that_there_is_not(brand):
    with pytest.raises(BadPayload, match="Invalid brand while validating payload"):
        brand_of({"brand": brand})


def test_brand_is_joyent_unless_said():
    assert brand_of({}) == brand_of({"brand": None}) == "joyent"


# What a create comes to.


def test_defaults_of_a_new_vm():
    made = create({}).properties
    shown = (made.ram, made.max_physical_memory, made.max_swap, made.tmpfs, made.quota, made.cpu_shares, made.autoboot)
    assert shown == (256, 256, 256, 256, 10, 100, True)
    assert (made.zonename, made.dns_domain, made.zpool) == (U, "local", "zones")


def test_null_keeps_a_default_away():
    made = create({"cpu_shares": None, "owner_uuid": None, "quota": None, "tmpfs": None, "max_sem_ids": ""}).properties
    assert (made.cpu_shares, made.owner_uuid, made.quota, made.tmpfs, made.max_sem_ids) == (None, None, 0, None, None)


def test_serial_ports_have_defaults_only_if_neither_is_said():
    made = create({}, "bhyve").properties
    assert (made.com1, made.com2) == ("/dev/zconsole", "socket,/tmp/vm.ttyb")
    assert create({"com1": "none"}, "bhyve").properties.com2 is UNSET


def test_serial_ports_of_an_update_are_left_alone_where_the_vm_has_one():
    assert update({"alias": "x"}, "bhyve", com1="none").properties.com2 is UNSET
    assert update({"alias": "x"}, "bhyve").properties.com2 == "socket,/tmp/vm.ttyb"


def test_spice_needs_an_image():
    assert create({"spice_opts": "x"}, "kvm").properties.spice_opts is UNSET
    assert create({"spice_opts": "x", "image_uuid": IMAGE}, "kvm").properties.spice_opts == "x"


def test_docker_keeps_the_vms_namespaces():
    change = update({"docker": True}, "lx", internal_metadata_namespaces=["a"], init_name="/i")
    assert change.properties.internal_metadata_namespaces == ("a", "docker")
    assert (change.properties.restart_init, change.properties.init_name) == (False, UNSET)
    assert re.fullmatch("[0-9a-f]{64}", change.maps.internal_metadata.set["docker:id"])
    assert not change.request.maps.internal_metadata


@pytest.mark.parametrize(
    ("payload", "maps"),
    [
        ({"set_tags": None, "set_routes": None}, {}),
        ({"set_tags": {"a": 1}, "remove_tags": ["a", 5]}, {"tags": ({"a": 1}, ("a", "5"))}),
        ({"tags": {"a": 1}}, {}),
    ],
)
def test_maps_of_an_update(payload, maps):
    assert {name: (dict(each.set), each.remove) for name, each in update(payload).maps.items()} == maps


def test_maps_of_a_create_may_be_null():
    assert not create({"tags": None, "routes": None}).maps.tags
    assert dict(create({"tags": {"a": False}}).maps.tags.set) == {"a": False}


def test_memory_beyond_its_limits_is_brought_within_them_before_it_is_judged():
    assert update({"max_swap": 100}).properties.max_swap == 256
    assert update({"max_locked_memory": 10000}).properties.max_locked_memory == 256


# NICs.


@pytest.mark.parametrize(
    ("nic", "texts"),
    [
        ({"nic_tag": "a b"}, ["invalid or missing .nic_tag"]),
        ({"nic_tag": "external", "ip": "10.0.0.300", "netmask": "255.0.0.0"}, ["Invalid IP for NIC"]),
        ({"nic_tag": "external", "ips": ["10.0.0.1"]}, ["Invalid IP for NIC"]),
        ({"nic_tag": "external", "ips": ["10.0.0.1/7"]}, ["Invalid IP for NIC"]),
        ({"nic_tag": "external", "ip": "10.0.0.1"}, ["Missing .netmask option"]),
        (
            {"nic_tag": "external", "ip": "10.0.0.1", "netmask": "255.0.255.0"},
            ["Specified netmask value is invalid: 255.0.255.0"],
        ),
        ({"nic_tag": "external", "gateway": "fd00::1"}, ["Static gateways must be IPv4 addresses: fd00::1"]),
        ({"nic_tag": "external", "gateways": ["x"]}, ["Static gateways must be IPv4 addresses: x"]),
        ({"nic_tag": "external", "ips": [f"10.0.0.{n}/8" for n in range(1, 22)]}, ["nic.*.ips contains 21 addresses"]),
        ({"nic_tag": "external", "allowed_ips": ["x", "10.0.0.1"]}, ["invalid allowed_ips: x, 10.0.0.1"]),
        ({"nic_tag": "external", "allowed_ips": [f"10.0.0.{n}" for n in range(14)]}, ["Maximum of 13 allowed_ips"]),
        ({"nic_tag": "external", "allowed_dhcp_cids": ["0x01"] * 21}, ["nics.*.allowed_dhcp_cids contains 21 Client"]),
        ({"nic_tag": "external", "allowed_dhcp_cids": ["0x" + "ab" * 255] * 3}, ["nics.*.allowed_dhcp_cids contains"]),
        ({"nic_tag": "external", "vrrp_vrid": 9}, ["vrrp_vrid set but not vrrp_primary_ip"]),
        (
            {"nic_tag": "external", "vrrp_vrid": 9, "vrrp_primary_ip": "10.9.9.9"},
            ["vrrp_primary_ip must belong to the same VM"],
        ),
        ({"nic_tag": "external", "vrrp_vrid": 9, "mac": MAC2}, ["Cannot set both mac and vrrp_vrid"]),
        ({"nic_tag": "nosuch"}, ['Invalid nic tag "nosuch"']),
        ({"nic_tag": "external", "mac": MAC2, "mtu": 1400}, [f"nic 0 ({MAC2}): MTU is below the supported MTU (1500)"]),
        ({"nic_tag": "external", "mac": MAC.upper()}, [f"Cannot add multiple NICs with the same MAC: {MAC}"]),
        ({"nic_tag": "external", "ips": ["10.77.0.5/16"]}, ["Cannot add multiple NICs with the same IP: 10.77.0.5/16"]),
        ({"nic_tag": "external", "vlan_id": None}, ["Invalid value(s) for: nics.*.vlan_id"]),
        ({"nic_tag": "external", "vlan_id": ""}, ["Invalid value(s) for: nics.*.vlan_id"]),
        ({"nic_tag": "external", "blocked_outgoing_ports": ["x"]}, ["Invalid value(s) for: nics.*.blocked_outgoing"]),
    ],
)
def test_new_nic_that_is_no_good(nic, texts):
    errors = refused(update, {"add_nics": [nic]}, nics=[NIC0])
    assert len(errors) == len(texts)
    assert all(error.startswith(text) for error, text in zip(errors, texts)), errors


@pytest.mark.parametrize(
    ("nic", "text"),
    [
        ({"ip": "10.77.0.9"}, "NIC object needs a .mac property to update"),
        ({"mac": "00:11:22:33:44:55", "ip": "dhcp"}, "There is no existing NIC with that mac address"),
        ({"mac": MAC, "gateway": ""}, "Static gateways must be IPv4 addresses: "),
        ({"mac": MAC2, "ip": "10.77.0.200"}, "Need a single existing IPv4 address to update .ip or .netmask"),
        ({"mac": MAC, "primary": False}, "invalid value for NIC's primary flag: false (must be true)"),
        ({"mac": MAC, "netmask": None}, "Specified netmask value is invalid: null"),
        (
            {"mac": MAC, "nic_tag": "overlay/7"},
            f'invalid .nic_tag option for NIC: {{"mac":"{MAC}","nic_tag":"overlay/7"}}',
        ),
        ({"mac": MAC, "interface": "net1"}, "Cannot add multiple NICs with the same interface: net1"),
        ({"mac": MAC, "interface": 'net1"'}, "Invalid value(s) for: nics.*.interface"),
        ({"mac": MAC, "vrrp_primary_ip": "10.77.0.9"}, "vrrp_primary_ip must belong to the same VM"),
    ],
)
def test_update_of_a_nic_that_is_no_good(nic, text):
    assert refused(update, {"update_nics": [nic]}, nics=[NIC0, NIC1]) == [text]


def test_model_of_a_hardware_vms_nic():
    nic = {"nic_tag": "admin", "mac": MAC, "ip": "dhcp"}
    text = f'missing .model option for NIC: {{"nic_tag":"admin","mac":"{MAC}","ips":["dhcp"]}}'
    assert refused(create, {"nics": [nic]}, "kvm") == [text]
    assert create({"nics": [nic], "nic_driver": "e1000"}, "kvm").nics.add[0].model == "e1000"
    assert update({"add_nics": [nic]}, "kvm", nics=[{**NIC1, "model": "rtl"}]).nics.add[0].model == "rtl"
    assert refused(update, {"update_nics": [{"mac": MAC2, "model": ""}]}, "kvm", nics=[NIC1]) == [
        f'invalid .model option for NIC: {{"mac":"{MAC2}","model":""}}'
    ]


def test_new_nic_is_whole():
    given = {"nic_tag": "external", "mac": "B2:1E:BA:A:6:71", "ip": "10.77.0.9", "netmask": "255.255.0.0"}
    given = {**given, "gateway": "10.77.0.1", "vlan_id": "1e1", "allow_ip_spoofing": False, "dhcp_server": "true"}
    change = create({"nics": [{**given, "interface": "net7", "index": 3}]})
    assert named(change.nics.add[0]) == {
        "mac": MAC,
        "interface": "net0",
        "old_mac": None,
        "nic_tag": "external",
        "ip": "10.77.0.9",
        "netmask": "255.255.0.0",
        "ips": ("10.77.0.9/16",),
        "gateway": "10.77.0.1",
        "gateways": ("10.77.0.1",),
        "vlan_id": 10,
        "primary": True,
        "allow_ip_spoofing": False,
        "dhcp_server": True,
    }
    assert change.request.nics.add[0].netmask == "255.255.0.0"


def test_vrrp_nic_has_the_address_of_its_group():
    nic = {"nic_tag": "external", "vrrp_vrid": "0x10", "vrrp_primary_ip": "10.77.0.5", "ips": ["10.77.0.70/24"]}
    change = update({"add_nics": [nic]}, nics=[NIC0])
    assert (change.nics.add[0].mac, change.nics.add[0].vrrp_vrid) == ("00:00:5e:00:01:10", 16)
    moved = update({"update_nics": [{"mac": MAC2, **nic}]}, nics=[NIC0, NIC1]).nics.update[0]
    assert (moved.mac, moved.old_mac) == ("00:00:5e:00:01:10", MAC2)


def test_address_of_a_router_is_not_the_primary_one():
    nics = [{"nic_tag": "external", "vrrp_vrid": 9, "vrrp_primary_ip": "10.77.0.70", "ips": ["10.77.0.70/24"]}]
    assert refused(update, {"add_nics": nics}, nics=[NIC0]) == ["Cannot set vrrp_primary_ip to the IP of a VRRP nic"]
    assert refused(
        update, {"remove_nics": [MAC]}, nics=[NIC0, {**NIC1, "vrrp_vrid": 9, "vrrp_primary_ip": "10.77.0.5"}]
    ) == ["VM cannot contain only VRRP nics"]


@pytest.mark.parametrize(
    ("asked", "changed"),
    [
        ({"ip": "10.77.0.6"}, {"ips": ("10.77.0.6/24",), "ip": "10.77.0.6"}),
        ({"netmask": "255.255.0.0"}, {"ips": ("10.77.0.5/16",), "netmask": "255.255.0.0"}),
        ({"ips": ["10.77.0.7/25"]}, {"ips": ("10.77.0.7/25",), "ip": "10.77.0.7", "netmask": "255.255.255.128"}),
        ({"ips": ["10.77.0.7/24"], "ip": "10.77.0.8"}, {"ips": ("10.77.0.7/24",), "ip": "10.77.0.7"}),
        ({"ip": "dhcp"}, {"ips": ("dhcp",), "ip": "dhcp", "netmask": UNSET}),
        ({"ip": ""}, {"ips": (), "ip": UNSET, "netmask": UNSET}),
        ({"gateways": []}, {"gateways": (), "gateway": UNSET}),
        ({"gateway": "10.77.0.254"}, {"gateways": ("10.77.0.254",), "gateway": "10.77.0.254"}),
        ({"allowed_ips": []}, {"allowed_ips": ()}),
        ({"vlan_id": 0, "mtu": 1400}, {"vlan_id": 0, "mtu": 1400}),
        ({"allow_mac_spoofing": 1, "dhcp_server": False}, {"allow_mac_spoofing": True, "dhcp_server": False}),
        ({"blocked_outgoing_ports": [25, "143"]}, {"blocked_outgoing_ports": (25, 143)}),
        ({"interface": "net7"}, {"interface": "net7"}),
    ],
)
def test_update_is_laid_over_the_present_nic(asked, changed):
    whole = update({"update_nics": [{"mac": MAC.upper(), **asked}]}, nics=[NIC0]).nics.update[0]
    before = {name: tuple(value) if isinstance(value, list) else value for name, value in NIC0.items()}
    wanted = {name: value for name, value in {**before, **changed, "old_mac": MAC}.items() if value is not UNSET}
    assert named(whole) == wanted


def test_interfaces_of_nics_that_go_are_not_used_again_at_once():
    change = update({"remove_nics": [MAC2], "add_nics": [{"nic_tag": "external"}]}, nics=[NIC0, NIC1])
    assert [nic.interface for nic in change.nics.add] == ["net2"]
    assert create({"nics": [{"nic_tag": "admin"}] * 2}, "lx").nics.add[1].interface == "eth1"


@pytest.mark.parametrize(
    ("payload", "nics", "chosen"),
    [
        ({"remove_nics": [MAC]}, [NIC0, NIC1], MAC2),
        ({"remove_nics": MAC}, [NIC0, {**NIC1, "ips": []}], None),
        ({"remove_nics": [MAC2]}, [NIC0, NIC1], None),
        ({"update_nics": [{"mac": MAC2, "primary": "true"}]}, [NIC0, NIC1], MAC2),
        ({"update_nics": [{"mac": MAC, "primary": True}]}, [NIC0, NIC1], None),
        ({"add_nics": [{"nic_tag": "external", "mac": "2:0:0:0:0:1", "primary": 1}]}, [NIC0], "02:00:00:00:00:01"),
        ({"add_nics": [{"nic_tag": "external", "mac": "2:0:0:0:0:1", "primary": False}]}, [NIC0], None),
    ],
)
def test_who_becomes_primary(payload, nics, chosen):
    assert update(payload, nics=nics).new_primary == chosen


@pytest.mark.parametrize(
    ("ips", "chosen"),
    [
        ((["10.0.0.1/8"], ["8.8.8.8/24"]), 1),
        ((["10.0.0.1/8"], ["dhcp"]), 1),
        ((["10.0.0.1/8", "addrconf"], ["172.16.0.1/12"]), 0),
        ((["10.0.0.1/8"], ["10.0.0.2/8", "fd00::1/64"]), 1),
        (([], ["192.168.0.1/24"]), 1),
    ],
)
def test_public_addresses_come_first_when_the_primary_goes(ips, chosen):
    rest = [
        {**NIC1, "mac": f"02:00:00:00:00:0{n}", "interface": f"net{n + 1}", "ips": each} for n, each in enumerate(ips)
    ]
    assert update({"remove_nics": [MAC]}, nics=[NIC0, *rest]).new_primary == rest[chosen]["mac"]


def test_nic_that_is_not_there_is_gone_already():
    assert update({"remove_nics": ["02:00:00:00:00:01"]}, nics=[NIC0]).nics.remove == ()


def test_nic_cannot_be_removed_and_added_at_once():
    errors = refused(update, {"remove_nics": [MAC], "add_nics": [{"nic_tag": "external", "mac": MAC}]}, nics=[NIC0])
    assert errors == [f"Cannot both remove and add or update the NIC with MAC {MAC}"]


OTHER = {
    "uuid": "o",
    "state": "stopped",
    "zone_state": "installed",
    "vnc_port": 5900,
    "nics": [{"mac": "2:8:20:1:2:3", "nic_tag": "external", "vlan_id": 20, "ips": ["10.9.0.9/24"], "vrrp_vrid": 9}],
}


@pytest.mark.parametrize(
    ("nic", "other", "conflict"),
    [
        ({"mac": "02:08:20:01:02:03"}, {}, True),
        ({"vlan_id": "20", "ips": ["10.9.0.9/16"]}, {}, True),
        ({"ips": ["10.9.0.9/24"]}, {}, False),
        ({"nic_tag": "admin", "vlan_id": 20, "ips": ["10.9.0.9/24"]}, {}, False),
        ({"vlan_id": 20, "ips": ["10.9.0.9/24"]}, {"state": "failed"}, False),
        ({"vlan_id": 20, "ips": ["10.9.0.9/24"]}, {"state": "failed", "zone_state": "running"}, True),
    ],
)
def test_conflict_with_another_vm(nic, other, conflict):
    node = NodeFacts(nic_tags=NODE.nic_tags, others=({**OTHER, **other},))
    payload = {"add_nics": [{"nic_tag": "external", **nic}]}
    if conflict:
        text = "Conflict detected with another vm, please check the MAC, IP, and VRID"
        assert refused(update, payload, node=node) == [text]
    else:
        update(payload, node=node)


def test_conflict_of_a_vnc_port():
    node = NodeFacts(others=(OTHER,))
    assert refused(update, {"vnc_port": "5900"}, "kvm", node=node)
    update({"vnc_port": 5901}, "kvm", node=node)


# Routes.


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        ({"set_routes": {"10.0.0.0/8": "nics[0]", "192.0.2.1": f"macs[{MAC.upper()}]"}}, None),
        ({"set_routes": {"10.0.0.0/8": "nics[7]"}}, 'Route gateway: "nics[7]" refers to non-existent or DHCP nic'),
        ({"set_routes": {"10.0.0.0/8": "nics[1]"}}, 'Route gateway: "nics[1]" refers to non-existent or DHCP nic'),
        (
            {"set_routes": {"10.0.0.0/8": "macs[00:11:22:33:44:55]"}},
            'Route gateway: "macs[00:11:22:33:44:55]" refers to non-existent or DHCP nic',
        ),
        (
            {"set_routes": {"10.0.0.0/8": 5}},
            'Invalid route gateway: "5" (must be IP address, MAC address, or nic)',
        ),
        ({"set_routes": {"10.0.0.0/7": "10.0.0.1"}}, "Invalid route destination"),
        ({"set_routes": {"fd00::/64": "10.0.0.1"}}, "Invalid route destination"),
        ({"remove_nics": [MAC]}, 'Route gateway: "nics[0]" refers to non-existent or DHCP nic'),
        ({"remove_nics": [MAC], "remove_routes": ["10.1.0.0/16"]}, None),
        ({"update_nics": [{"mac": MAC, "ip": "dhcp"}]}, 'Route gateway: "nics[0]" refers to non-existent or DHCP nic'),
        ({"alias": "x"}, None),
    ],
)
def test_routes_by_way_of_a_nic(payload, text):
    vm = {"nics": [NIC0, NIC1], "routes": {"10.1.0.0/16": "nics[0]"}}
    if text is None:
        update(payload, **vm)
    else:
        assert [error[: len(text)] for error in refused(update, payload, **vm)] == [text]


# Disks.


@pytest.mark.parametrize(
    ("disk", "text"),
    [
        ({"size": 512, "model": "ide"}, '"ide" is not a valid disk model for bhyve brand. Valid are: virtio,ahci,nvme'),
        ({"size": 512, "path": "/x"}, "you cannot specify a path for a disk unless you set nocreate=true"),
        ({"size": 512, "block_size": 1000}, "invalid .block_size(1000), must be 512-131072 and a power of 2."),
        ({"size": 512, "pci_slot": "0:6:0"}, 'pci_slot "0:6:0" invalid: PCI device 6 is reserved'),
        ({"size": 512, "pci_slot": "0:4:9"}, 'pci_slot "0:4:9" is not valid'),
        ({"size": 512, "pci_slot": "4"}, f'VM has multiple disks in pci_slot "4": "{DISK0}" and a new disk'),
        ({"size": 512, "uuid": DISK["uuid"]}, f"duplicate disk uuid {DISK['uuid']}"),
        ({"size": 512, "nocreate": True, "path": DISK0}, f"Cannot add multiple disks with the same path: {DISK0}"),
        ({"size": 512, "media": "floppy", "path": "/f"}, "VM has no PCI bus or slot assigned for floppy devices"),
        ({"media": "cdrom"}, "a disk of media cdrom, or with nocreate=true, needs a path: "),
        ({"size": 0}, "createVolume("),
        ({"size": None}, "Invalid value(s) for: disks.*.size"),
        ({"size": 512, "compression": "zip"}, "invalid compression setting for disk, must be one of: on, off, gzip"),
    ],
)
def test_new_disk_that_is_no_good(disk, text):
    errors = refused(update, {"add_disks": [disk]}, "bhyve", disks=[DISK])
    assert [error[: len(text)] for error in errors] == [text]


def test_new_disk_of_an_update():
    payload = {
        "add_disks": [{"size": "512"}, {"image_uuid": DISK_IMAGE, "pci_slot": "0:5:0"}, {"size": 64, "zpool": "tank"}]
    }
    change = update(payload, "bhyve", disks=[DISK])
    assert [(disk.volume, disk.size, disk.model, disk.pci_slot) for disk in change.disks.add] == [
        (f"zones/{U}/disk1", 512, "ahci", "0:4:1"),
        (f"zones/{U}/disk2", UNSET, "ahci", "0:5:0"),
        (f"tank/{U}/disk3", 64, "ahci", "0:4:2"),
    ]
    assert change.disks.add[1].image_size == 10240
    assert change.properties.bootrom == "uefi"
    assert change.disks.add[0].media is UNSET


def test_disks_of_a_create():
    change = create(
        {"disks": [{"size": 10, "boot": "1"}, {"media": "cdrom", "path": "/x.iso"}], "disk_driver": "ide"}, "kvm"
    )
    first, second = change.disks.add
    assert (first.path, first.volume, first.boot, first.model, first.media) == (
        f"/dev/zvol/rdsk/zones/{U}-disk0",
        f"zones/{U}-disk0",
        True,
        "ide",
        "disk",
    )
    assert (second.path, second.volume) == ("/x.iso", None)


def test_more_than_one_boot_disk():
    disks = [{"size": 1, "model": "virtio", "boot": True}] * 2
    assert refused(create, {"disks": disks}, "bhyve")[0].startswith("multiple boot disks: ")


@pytest.mark.parametrize(
    ("payload", "vm", "text"),
    [
        ({"remove_disks": ["/dev/none"]}, {}, "There is no existing disk with path /dev/none"),
        ({"update_disks": [{"path": "/dev/none"}]}, {}, "There is no existing disk with path /dev/none"),
        ({"update_disks": [{"boot": True}]}, {}, "Disk object needs a .path property to update"),
        ({"update_disks": [{"path": DISK0, "model": "ide"}]}, {}, '"ide" is not a valid disk model for bhyve brand.'),
        ({"update_disks": [{"path": DISK0, "pci_slot": "x"}]}, {}, 'pci_slot "x" is not valid'),
        ({"update_disks": [{"path": DISK0, "pci_slot": "0:5:1"}]}, {}, 'VM has multiple disks in pci_slot "0:5:1"'),
        ({"update_disks": [{"path": DISK0, "uuid": U}]}, {}, f"duplicate disk uuid {U}"),
        (
            {"update_disks": [{"path": DISK0, "size": 512}]},
            {},
            "cannot resize disk: new size must be greater than current size. (1024 > 512)",
        ),
        ({"update_disks": [{"path": DISK0, "size": 512, "dangerous_allow_shrink": 1}]}, {}, None),
        (
            {"update_disks": [{"path": DISK0, "size": 2048}], "remove_disks": [DISK0]},
            {},
            "Cannot both remove and update",
        ),
        ({"add_disks": [{"size": 1, "uuid": U}], "remove_disks": ["/dev/d1"]}, {}, f"duplicate disk uuid {U}"),
        (
            {"add_disks": [{"size": 1}]},
            {"state": "running", "zone_state": "running"},
            'updates to disks are only allowed when state is "stopped", currently: running (running)',
        ),
        (
            {"update_disks": [{"path": DISK0, "boot": True}]},
            {"state": "running", "zone_state": "running"},
            'at least one specified update to disks is only allowed when state is "stopped", currently: running',
        ),
        ({"update_disks": [{"path": DISK0, "compression": "lz4"}]}, {"state": "running"}, None),
        ({"add_disks": [{"size": 1}]}, {"state": "provisioning"}, None),
        ({"update_disks": [{"path": "/dev/d1", "boot": True}]}, {}, 'multiple boot disks: "{"path":"' + DISK0),
        ({"add_disks": [{"size": 1, "boot": True}]}, {}, 'multiple boot disks: "{"path":"' + DISK0),
        ({"add_disks": [{"size": 1, "boot": True}], "remove_disks": [DISK0]}, {}, None),
        ({"update_disks": [{"path": DISK0, "boot": False}, {"path": "/dev/d1", "boot": True}]}, {}, None),
        ({"update_disks": [{"path": DISK0, "boot": True}]}, {}, None),
    ],
)
def test_changes_of_disks(payload, vm, text):
    second = {"path": "/dev/d1", "uuid": U, "pci_slot": "0:5:1", "size": 1, "model": "virtio"}
    vm = {"disks": [DISK, second], **vm}
    if text is None:
        update(payload, "bhyve", **vm)
    else:
        assert [error[: len(text)] for error in refused(update, payload, "bhyve", **vm)] == [text]


def test_second_boot_disk_that_is_there_already_stops_no_other_change():
    disks = [DISK, {**DISK, "path": "/dev/d1", "pci_slot": "0:5:1"}]
    assert update({"update_disks": [{"path": DISK0, "model": "virtio"}]}, "bhyve", disks=disks).disks.update
    assert update({"add_disks": [{"size": 1, "model": "virtio", "boot": True}]}, "kvm", disks=disks).disks.add


@pytest.mark.parametrize("member", ["model", "compression", "media", "zpool", "pci_slot", "guest_block_size"])
@pytest.mark.parametrize("key", ["disks", "add_disks", "update_disks"])
def test_blank_text_in_a_disk_is_a_bad_value(key, member):
    if (key, member) == ("update_disks", "zpool"):
        return  # not looked at there
    disk = (
        {"size": 10240, "model": "virtio", "path": DISK0} if key == "update_disks" else {"size": 1, "model": "virtio"}
    )
    act, vm = (create, {}) if key == "disks" else (update, {"disks": [DISK]})
    for blank in ("", "  "):
        errors = refused(act, {key: [{**disk, member: blank}]}, "bhyve", **vm)
        assert errors == [f"Invalid value(s) for: disks.*.{member}"]


def test_disk_that_is_updated_keeps_what_it_had():
    whole = update(
        {"update_disks": [{"path": DISK0, "boot": False, "media": "x"}]}, "bhyve", disks=[DISK]
    ).disks.update[0]
    assert named(whole) == {
        "path": DISK0,
        "volume": f"zones/{U}/disk0",
        "size": 1024,
        "model": "ahci",
        "boot": False,
        "pci_slot": "0:4:0",
        "uuid": DISK["uuid"],
        "media": "x",
    }


def test_slots_of_new_disks_leave_room_for_those_that_get_theirs_at_the_next_start():
    old = [{**DISK, "pci_slot": None}, {"path": "/dev/d1", "size": 1}]
    assert update({"add_disks": [{"size": 1}]}, "bhyve", disks=old).disks.add[0].pci_slot == "0:4:1"


def test_cloud_inits_disk():
    change = create({"disks": [], "internal_metadata": {"cloudinit_datasource": "nocloud"}, "quota": 0}, "bhyve")
    disk = change.disks.add[0]
    assert (disk.size, disk.block_size, disk.model, disk.pci_slot, disk.uuid) == (16, 512, "virtio", UNSET, UNSET)
    assert change.maps.internal_metadata.set["cloudinit_nocloud_path"] == disk.path
    assert change.properties.quota == 1


# PCI devices and filesystems.


@pytest.mark.parametrize(
    ("payload", "vm", "text"),
    [
        ({"add_pci_devices": [{"path": "/devices/a", "pci_slot": "9"}]}, {}, "Cannot add multiple PCI devices"),
        ({"update_pci_devices": [{"path": "/devices/a", "pci_slot": "x"}]}, {}, 'pci_slot "x" is not valid'),
        (
            {"remove_pci_devices": ["/devices/a"]},
            {"state": "provisioning"},
            'updates to pci_devices are only allowed when state is "stopped", currently: provisioning (installed)',
        ),
    ],
)
def test_pci_devices_that_are_no_good(payload, vm, text):
    vm = {"pci_devices": [{"path": "/devices/a", "pci_slot": "8:0:0"}], **vm}
    assert [error[: len(text)] for error in refused(update, payload, "bhyve", **vm)] == [text]


def test_pci_devices_of_an_update():
    old = [{"path": "/devices/a", "pci_slot": "8:0:0", "model": "passthru"}]
    payload = {
        "pci_devices": [{"path": "/devices/b", "pci_slot": "9:0:0"}],
        "update_pci_devices": [{"path": "/devices/a", "pci_slot": "8:1:0"}, {"path": "/devices/c", "pci_slot": "1"}],
    }
    change = update(payload, "bhyve", pci_devices=old)
    assert [(device.path, device.pci_slot) for device in change.pci_devices.add] == [("/devices/b", "9:0:0")]
    assert [(device.path, device.pci_slot) for device in change.pci_devices.update] == [("/devices/a", "8:1:0")]


def test_filesystem_that_is_updated_keeps_what_it_had():
    old = [{"source": "/a", "target": "/b", "type": "lofs", "options": ["ro"]}]
    payload = {"update_filesystems": [{"target": "/b", "options": ["rw"]}, {"target": "/none"}, {"source": "/x"}]}
    assert [named(each) for each in update(payload, filesystems=old).filesystems.update] == [
        {"target": "/b", "source": "/a", "type": "lofs", "raw": None, "options": ("rw",)}
    ]


def test_what_is_asked_stays_apart_from_what_follows():
    change = update({"max_physical_memory": 128, "update_nics": [{"mac": MAC, "ip": "10.77.0.6"}]}, nics=[NIC0])
    assert dict(change.request.items()) == {
        "max_physical_memory": 128,
        "update_nics": NicChange(mac=MAC, ip="10.77.0.6"),
    }
    assert change.properties.max_locked_memory == 128


def test_interface_that_an_update_takes_is_not_given_to_a_new_nic():
    payload = {"update_nics": [{"mac": MAC, "interface": "net2"}], "add_nics": [{"nic_tag": "admin"}]}
    change = update(payload, nics=[NIC0, NIC1])
    assert [nic.interface for nic in (*change.nics.update, *change.nics.add)] == ["net2", "net3"]
