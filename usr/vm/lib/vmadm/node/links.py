# SPDX-License-Identifier: MPL-2.0
"""What a running zone's links may send, set on them when an update changes it (docs/platform.md, "Link properties").

    protection         what is dropped: ip-nospoof, mac-nospoof, dhcp-nospoof, restricted
    allowed-ips        with ip-nospoof: the addresses that the link may use; none: whatever it has
    dynamic-methods    the ways by which it may get others: dhcpv4, addrconf
    allowed-dhcp-cids, allow-all-dhcp-cids      with dhcp-nospoof: the client identifiers that it may use

Always: commands() is pure, and gives only what the members that were asked for are about; a NIC whose zone has no such
        link yet, because it was added since the zone booted, is left out.
MTU, VLAN, tag and MAC, and NICs that come or go, count from the next boot on."""

from __future__ import annotations

from vmadm.node.machine import Node
from vmadm.payload import addresses
from vmadm.payload.change import Change, Nic, NicChange
from vmadm.payload.unset import UNSET, said

PROTECTIONS = {
    "allow_ip_spoofing": "ip-nospoof",
    "allow_mac_spoofing": "mac-nospoof",
    "allow_dhcp_spoofing": "dhcp-nospoof",
    "allow_restricted_traffic": "restricted",
}
OF_PROTECTION = (*PROTECTIONS, "dhcp_server")
OF_ADDRESSES = ("ip", "netmask", "ips", "allowed_ips", "vrrp_primary_ip", "allow_ip_spoofing")
METHODS = {"dhcp": "dhcpv4", "addrconf": "addrconf"}

Words = tuple[str, ...]


def set_links(node: Node, change: Change, zonename: str) -> None:
    """Tell the links of the running zone what the updated NICs may send from now on. Raises ToolFailed."""
    there = set(node.must("dladm", "show-vnic", "-z", zonename, "-o", "link", "-p").stdout.split())
    whole = {nic.old_mac or nic.mac: nic for nic in change.nics.update}
    for asked in change.request.nics.update:
        nic = whole.get(str(asked.mac))
        if nic is not None and nic.interface in there:
            for words in commands(asked, nic, zonename):
                node.must("dladm", *words)


def commands(asked: NicChange, nic: Nic, zonename: str) -> list[Words]:
    """The words of dladm for one NIC: `asked` as the payload has it, `nic` as it is to be."""
    settings: list[tuple[str, list[str]]] = []
    if _asks(asked, OF_PROTECTION):
        settings.append(("protection", _protections(nic)))
    if _asks(asked, OF_ADDRESSES):
        if nic.allow_ip_spoofing is True:
            settings.append(("allowed-ips", []))
        else:
            settings.append(("allowed-ips", _addresses(nic)))
            settings.append(("dynamic-methods", [METHODS[ip] for ip in said(nic.ips, ()) if ip in METHODS]))
    if asked.allowed_dhcp_cids is not UNSET:
        identifiers = list(said(nic.allowed_dhcp_cids, ()))
        if nic.allow_dhcp_spoofing is True or nic.dhcp_server is True or not identifiers:
            settings += [("allowed-dhcp-cids", []), ("allow-all-dhcp-cids", ["true"])]
        else:
            settings += [("allowed-dhcp-cids", identifiers), ("allow-all-dhcp-cids", [])]
    return [_words(zonename, nic.interface, prop, values) for prop, values in settings]


def _asks(asked: NicChange, names: tuple[str, ...]) -> bool:
    return any(getattr(asked, name) is not UNSET for name in names)


def _protections(nic: Nic) -> list[str]:
    """A DHCP server, and a NIC that may take part in others' DHCP, sends from addresses that are not its own."""
    lifted = {word for member, word in PROTECTIONS.items() if getattr(nic, member) is True}
    if nic.dhcp_server is True or nic.allow_dhcp_spoofing is True:
        lifted.add("ip-nospoof")
    return [word for word in PROTECTIONS.values() if word not in lifted]


def _addresses(nic: Nic) -> list[str]:
    found = [addresses.address_of(ip) for ip in addresses.static(said(nic.ips, ()))]
    found += [said(nic.vrrp_primary_ip, ""), *said(nic.allowed_ips, ())]
    return list(dict.fromkeys([address for address in found if address]))


def _words(zonename: str, interface: str, prop: str, values: list[str]) -> Words:
    if not values:
        return ("reset-linkprop", "-t", "-z", zonename, "-p", prop, interface)
    return ("set-linkprop", "-t", "-z", zonename, "-p", f"{prop}={','.join(values)}", interface)
