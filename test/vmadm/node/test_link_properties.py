# SPDX-License-Identifier: MPL-2.0
"""What dladm is told about one NIC (docs/platform.md, "Link properties"): the words, written out."""

import pytest

from vmadm.node.links import commands
from vmadm.payload.change import Nic, NicChange

pytestmark = pytest.mark.pure

ALL = "ip-nospoof,mac-nospoof,dhcp-nospoof,restricted"


def told(asked, **nic):
    """Property and value, None where it is reset, of each command."""
    whole = Nic(mac="02:08:20:00:00:01", interface="net0", **{**asked, **nic})
    found = commands(NicChange(mac="02:08:20:00:00:01", **asked), whole, "z")
    for words in found:
        assert words[:5] == (words[0], "-t", "-z", "z", "-p")
        assert words[6:] == ("net0",)
    settings = [words[5].partition("=") for words in found]
    assert [bool(equals) for _, equals, _ in settings] == [words[0] == "set-linkprop" for words in found]
    return [(name, value if equals else None) for name, equals, value in settings]


@pytest.mark.parametrize(
    ("asked", "there", "expected"),
    [
        ({"allow_mac_spoofing": False}, {}, ALL),
        ({"allow_mac_spoofing": True}, {}, "ip-nospoof,dhcp-nospoof,restricted"),
        ({"allow_mac_spoofing": True}, {"allow_restricted_traffic": True}, "ip-nospoof,dhcp-nospoof"),
        ({"dhcp_server": True}, {}, "mac-nospoof,dhcp-nospoof,restricted"),
        ({"allow_dhcp_spoofing": True}, {}, "mac-nospoof,restricted"),
        ({"allow_dhcp_spoofing": True}, {"allow_mac_spoofing": True, "allow_restricted_traffic": True}, None),
    ],
)
def test_protection(asked, there, expected):
    assert told(asked, **there) == [("protection", expected)]


@pytest.mark.parametrize(
    ("asked", "there", "expected"),
    [
        ({"ips": ("10.0.0.2/24", "fd00::2/64")}, {}, [("allowed-ips", "10.0.0.2,fd00::2"), ("dynamic-methods", None)]),
        ({"ips": ("dhcp", "addrconf")}, {}, [("allowed-ips", None), ("dynamic-methods", "dhcpv4,addrconf")]),
        (
            {"allowed_ips": ("10.0.0.2", "10.1.0.0/24")},
            {"ips": ("10.0.0.2/24", "dhcp"), "vrrp_primary_ip": "10.0.0.7"},
            [("allowed-ips", "10.0.0.2,10.0.0.7,10.1.0.0/24"), ("dynamic-methods", "dhcpv4")],
        ),
        ({"ips": ("10.0.0.2/24",)}, {"allow_ip_spoofing": True}, [("allowed-ips", None)]),
    ],
)
def test_addresses(asked, there, expected):
    assert told(asked, **there) == expected


def test_permission_to_spoof_addresses_is_about_both():
    assert told({"allow_ip_spoofing": True}, ips=("10.0.0.2/24",)) == [
        ("protection", "mac-nospoof,dhcp-nospoof,restricted"),
        ("allowed-ips", None),
    ]


@pytest.mark.parametrize(
    ("identifiers", "there", "expected"),
    [
        (("0x01", "0x02"), {}, [("allowed-dhcp-cids", "0x01,0x02"), ("allow-all-dhcp-cids", None)]),
        ((), {}, [("allowed-dhcp-cids", None), ("allow-all-dhcp-cids", "true")]),
        (("0x01",), {"dhcp_server": True}, [("allowed-dhcp-cids", None), ("allow-all-dhcp-cids", "true")]),
    ],
)
def test_dhcp_client_identifiers(identifiers, there, expected):
    assert told({"allowed_dhcp_cids": identifiers}, **there) == expected


def test_what_counts_from_the_next_boot_is_not_told():
    assert told({"mtu": 1500, "vlan_id": 3, "nic_tag": "external", "blocked_outgoing_ports": (25,)}) == []
