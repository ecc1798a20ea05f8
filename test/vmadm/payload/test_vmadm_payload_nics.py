# SPDX-License-Identifier: MPL-2.0
"""NICs of payloads: what is wrong with them, and what becomes of them."""

import re

import pytest

from vmadm.actions import conflicts
from vmadm.payload import nics

MAC = "b2:1e:ba:a5:6e:71"
GOOD = {"nic_tag": "external", "mac": MAC, "ip": "10.2.121.70", "netmask": "255.255.0.0"}
PRESENT = [
    {
        "interface": "net0",
        "mac": MAC,
        "nic_tag": "external",
        "ips": ["10.2.121.70/16"],
        "ip": "10.2.121.70",
        "netmask": "255.255.0.0",
        "gateways": ["10.2.0.1"],
        "gateway": "10.2.0.1",
        "primary": True,
    }
]


@pytest.mark.pure
@pytest.mark.parametrize(
    ("nic", "texts"),
    [
        (GOOD, []),
        ({"nic_tag": "external", "ip": "dhcp"}, []),
        ({"nic_tag": "external", "ips": ["dhcp", "addrconf", "10.0.0.1/8", "2001:db8::1/64"]}, []),
        ({"nic_tag": "external"}, []),
        ({"nic_tag": "overlay_1/5", "ips": []}, []),
        ({"mac": MAC}, [f'invalid or missing .nic_tag option for NIC: {{"mac":"{MAC}"}}']),
        ({"nic_tag": "a b"}, ['invalid or missing .nic_tag option for NIC: {"nic_tag":"a b"}']),
        (
            {"nic_tag": "t", "ip": "nowhere", "netmask": "255.0.0.0"},
            ['Invalid IP for NIC: {"nic_tag":"t","ip":"nowhere","netmask":"255.0.0.0"}'],
        ),
        ({"nic_tag": "t", "ips": ["10.0.0.1"]}, ['Invalid IP for NIC: {"nic_tag":"t","ips":["10.0.0.1"]}']),
        ({"nic_tag": "t", "ip": "10.0.0.1"}, ['Missing .netmask option for NIC: {"nic_tag":"t","ip":"10.0.0.1"}']),
        (
            {"nic_tag": "t", "ip": "10.0.0.1", "netmask": "255.0.255.0"},
            ["Specified netmask value is invalid: 255.0.255.0"],
        ),
        ({"nic_tag": "t", "ip": "10.0.0.1", "netmask": "0.0.0.255"}, ["Specified netmask value is invalid: 0.0.0.255"]),
        ({"nic_tag": "t", "gateway": "2001:db8::1"}, ["Static gateways must be IPv4 addresses: 2001:db8::1"]),
        ({"nic_tag": "t", "gateways": ["10.0.0.1", "dhcp"]}, ["Static gateways must be IPv4 addresses: dhcp"]),
        ({"nic_tag": "t", "primary": False}, []),
        ({"nic_tag": "t", "primary": "false"}, []),
        ({"nic_tag": "t", "primary": "1"}, []),
        ({"nic_tag": "t", "ips": [f"10.0.0.{n}/8" for n in range(21)]}, ["Maximum of 20 IPs per NIC, but 21 given"]),
        (
            {"nic_tag": "t", "allowed_ips": [f"10.0.0.{n}" for n in range(14)]},
            ["Maximum of 13 allowed_ips per NIC, but 14 given"],
        ),
        (
            {
                "nic_tag": "t",
                "ips": [f"10.0.0.{n}/8" for n in range(20)],
                "allowed_ips": [f"10.0.1.{n}" for n in range(13)],
            },
            ["Maximum of 32 ips and allowed_ips together per NIC, but 33"],
        ),
    ],
)
def test_new_nic_of_an_os_vm(nic, texts):
    assert nics.check_new(nic, "joyent") == texts


@pytest.mark.pure
def test_new_nic_of_a_hardware_vm_needs_a_model():
    assert nics.check_new({"nic_tag": "t"}, "kvm") == ['missing .model option for NIC: {"nic_tag":"t"}']
    assert nics.check_new({"nic_tag": "t", "model": "virtio"}, "bhyve") == []


@pytest.mark.pure
@pytest.mark.parametrize(
    ("update", "texts"),
    [
        ({"mac": MAC, "ip": "10.2.121.71"}, []),
        ({"mac": "b2:1e:ba:a5:6e:71".upper(), "nic_tag": "admin"}, []),
        ({"ip": "10.2.121.71"}, ["NIC object needs a .mac property to update"]),
        ({"mac": "2:2:2:2:2:2"}, ["There is no existing NIC with that mac address"]),
        ({"mac": MAC, "nic_tag": ""}, [f'invalid or missing .nic_tag option for NIC: {{"mac":"{MAC}","nic_tag":""}}']),
    ],
)
def test_update_of_a_nic(update, texts):
    assert nics.check_update(update, PRESENT) == texts


@pytest.mark.parametrize(
    ("added", "updated", "texts"),
    [
        (
            [{"mac": "2:0:0:0:0:1"}, {"mac": "02:00:00:00:00:01"}],
            [],
            ["Cannot add multiple NICs with the same MAC: 02:00:00:00:00:01"],
        ),
        ([{"mac": MAC}], [], [f"Cannot add multiple NICs with the same MAC: {MAC}"]),
        ([{"ip": "10.2.121.70"}], [], ["Cannot add multiple NICs with the same IP: 10.2.121.70"]),
        ([{"ips": ["10.0.0.1/8"]}, {"ip": "10.0.0.1"}], [], ["Cannot add multiple NICs with the same IP: 10.0.0.1"]),
        ([{"vrrp_vrid": 7}, {"vrrp_vrid": 7}], [], ["Cannot add multiple NICs with the same VRID: 7"]),
        ([{"ip": "dhcp"}, {"ip": "dhcp"}], [], []),
        ([{"primary": True}], [{"mac": MAC, "primary": "true"}], ["payload specifies more than 1 primary NIC"]),
        # The address that the present NIC gives up is free for another one.
        ([{"ip": "10.2.121.70"}], [{"mac": MAC, "ip": "10.2.121.71"}], []),
    ],
)
def test_nics_of_one_vm_together(added, updated, texts):
    assert nics.check_together(added, updated, PRESENT) == texts


@pytest.mark.pure
def test_new_nic_is_shown_in_both_forms():
    shown = nics.completed(
        {
            **GOOD,
            "gateway": "10.2.121.1",
            "interface": "net7",
            "physical": "net1",
            "index": 1,
            "vlan_id": "20",
            "allow_ip_spoofing": False,
            "dhcp_server": "true",
        }
    )
    assert shown == {
        "nic_tag": "external",
        "mac": MAC,
        "ips": ["10.2.121.70/16"],
        "ip": "10.2.121.70",
        "netmask": "255.255.0.0",
        "gateways": ["10.2.121.1"],
        "gateway": "10.2.121.1",
        "vlan_id": 20,
        "allow_ip_spoofing": False,
        "dhcp_server": True,
    }


@pytest.mark.pure
@pytest.mark.parametrize(
    ("nic", "ips", "ip"),
    [
        ({"ip": "dhcp"}, ["dhcp"], "dhcp"),
        ({"ip": "addrconf"}, ["addrconf"], None),
        ({}, [], None),
        ({"ips": ["addrconf", "10.1.2.3/8"]}, ["addrconf", "10.1.2.3/8"], "10.1.2.3"),
        ({"ips": "dhcp,addrconf"}, ["dhcp", "addrconf"], "dhcp"),
    ],
)
def test_addresses_of_a_new_nic(nic, ips, ip):
    shown = nics.completed({"nic_tag": "t", "mac": MAC, **nic})
    assert shown["ips"] == ips
    assert shown.get("ip") == ip


@pytest.mark.pure
def test_missing_mac_is_generated():
    assert re.fullmatch(r"[0-9a-f]2(:[0-9a-f]{2}){5}", nics.completed({"nic_tag": "t"})["mac"])
    assert nics.completed({"nic_tag": "t", "vrrp_vrid": 10})["mac"] == "00:00:5e:00:01:0a"


@pytest.mark.pure
@pytest.mark.parametrize(
    ("update", "changed"),
    [
        # Only the address: its netmask stays.
        ({"ip": "10.2.121.71"}, {"ips": ["10.2.121.71/16"], "ip": "10.2.121.71"}),
        ({"netmask": "255.0.0.0"}, {"ips": ["10.2.121.70/8"], "netmask": "255.0.0.0"}),
        ({"ip": "10.0.0.1", "netmask": "255.0.0.0"}, {"ips": ["10.0.0.1/8"], "ip": "10.0.0.1", "netmask": "255.0.0.0"}),
        ({"ips": ["192.0.2.9/24"]}, {"ips": ["192.0.2.9/24"], "ip": "192.0.2.9", "netmask": "255.255.255.0"}),
        ({"ip": "dhcp"}, {"ips": ["dhcp"], "ip": "dhcp", "netmask": None}),
        ({"gateway": "10.2.0.2"}, {"gateways": ["10.2.0.2"], "gateway": "10.2.0.2"}),
        ({"gateway": ""}, {"gateways": None, "gateway": None}),
        ({"vlan_id": "7", "allow_mac_spoofing": "1"}, {"vlan_id": 7, "allow_mac_spoofing": True}),
        ({"nic_tag": "admin"}, {"nic_tag": "admin"}),
    ],
)
def test_update_is_laid_over_the_present_nic(update, changed):
    wanted = {key: value for key, value in {**PRESENT[0], **changed}.items() if value is not None}
    assert nics.overlaid(PRESENT[0], {"mac": MAC, **update}) == wanted
    assert PRESENT[0]["ip"] == "10.2.121.70"


@pytest.mark.pure
def test_interfaces_fill_the_gaps():
    assert nics.next_interface(["net0", "net2"], "joyent") == "net1"
    assert nics.next_interface(["net0"], "lx") == "eth0"


@pytest.mark.pure
@pytest.mark.parametrize(
    ("kept", "mac"),
    [
        ([{"mac": "a", "ips": ["10.0.0.1/8"]}, {"mac": "b", "ips": ["8.8.8.8/24"]}], "b"),
        ([{"mac": "a", "ips": ["10.0.0.1/8"]}, {"mac": "b", "ips": ["dhcp"]}], "b"),
        ([{"mac": "a", "ips": ["dhcp"]}], "a"),
        ([{"mac": "a", "ips": ["10.0.0.1/8", "addrconf"]}, {"mac": "b", "ips": ["172.16.0.1/12"]}], "a"),
        ([{"mac": "a", "ips": ["10.0.0.1/8"]}, {"mac": "b", "ips": ["10.0.0.2/8", "2001:db8::1/64"]}], "b"),
        ([{"mac": "a", "ips": []}, {"mac": "b"}], None),
        ([], None),
    ],
)
def test_who_becomes_primary_when_the_primary_goes(kept, mac):
    assert nics.primary_after_removal(kept) == mac


OTHER = {
    "uuid": "o",
    "vnc_port": 5900,
    "nics": [{"mac": "2:8:20:1:2:3", "nic_tag": "external", "vlan_id": 20, "ips": ["192.0.2.9/24"], "vrrp_vrid": 9}],
}


@pytest.mark.pure
@pytest.mark.parametrize(
    ("nic", "vnc_port", "conflict"),
    [
        ({"mac": "02:08:20:01:02:03"}, None, True),
        ({"vrrp_vrid": "9"}, None, True),
        ({"nic_tag": "external", "vlan_id": "20", "ip": "192.0.2.9"}, None, True),
        ({"nic_tag": "external", "ip": "192.0.2.9"}, None, False),
        ({"nic_tag": "internal", "vlan_id": 20, "ip": "192.0.2.9"}, None, False),
        ({"nic_tag": "external", "vlan_id": 20, "ip": "192.0.2.10"}, None, False),
        ({"ip": "dhcp"}, 5900, True),
        ({}, "5900", True),
        ({}, 5901, False),
        ({}, 0, False),
    ],
)
def test_conflict_with_another_vm(nic, vnc_port, conflict):
    text = "Conflict detected with another vm, please check the MAC, IP, and VRID"
    assert conflicts.with_others([nic], vnc_port, [OTHER]) == ([text] if conflict else [])
