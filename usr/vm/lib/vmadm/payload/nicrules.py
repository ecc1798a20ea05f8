# SPDX-License-Identifier: MPL-2.0
"""A payload's NICs made into whole ones, and what is wrong with them (docs/vmadm.md, "NICs").

A draft is a NIC under way: its typed members, and the object as error texts show it: the payload's members in their
order, with `mac` and `ips` put behind them once they are known.
Always: pure but for new MAC addresses; what is given is not changed; MAC addresses are in full.
Not here: what other VMs and the node's NIC tags object to (nicconflicts.py)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Optional

from vmadm.payload import Payload, addresses
from vmadm.payload.addresses import AUTOMATIC
from vmadm.payload.change import Nic, NicChange, named
from vmadm.payload.macs import full_mac, random_mac, vrrp_mac
from vmadm.payload.nodefacts import TAG
from vmadm.payload.valuerules import is_unset
from vminfod.clients.plainjson import compact
from vmload import Vm, brands

NEW_TAG = TAG
KEPT_TAG = re.compile(r"[A-Za-z0-9_]+")  # a present NIC cannot be moved to an overlay

# Limits of the anti-spoofing tables of a link.
MOST_IPS = 20
MOST_ALLOWED_IPS = 13
MOST_TOGETHER = 32
MOST_CIDS = 20
LONGEST_CIDS = 1024  # characters, joined by commas

MEMBERS = frozenset(each.name for each in fields(Nic))


@dataclass
class Draft:
    """See the head of the module. `old` is the VM's NIC that is updated; `given`: the members that the payload says."""

    members: dict[str, Any]
    shown: Payload
    given: frozenset[str]
    old: Optional[Mapping[str, Any]] = None

    @property
    def mac(self) -> str:
        """In full; of a VRRP NIC the one that follows from its VRID."""
        return str(self.members["mac"])

    @property
    def ips(self) -> tuple[str, ...]:
        return tuple(self.members.get("ips", ()))

    def text(self) -> str:
        """The object as an error shows it."""
        return compact(self.shown)

    def whole(self) -> Nic:
        """The NIC as the zone is to have it."""
        members = {name: value for name, value in self.members.items() if name in MEMBERS}
        form = addresses.old_form(self.ips, members.get("gateways", ()))
        for name, value in form._asdict().items():
            members.pop(name, None)
            if value is not None:
                members[name] = value
        if members.get("primary") is not True:
            members.pop("primary", None)
        return Nic(**members)


def present(vm: Vm) -> list[dict[str, Any]]:
    """The NICs of a VM object, with full MAC addresses, `ips` and `gateways`."""
    found = []
    for nic in vm.get("nics") or []:
        gateways = nic.get("gateways") or ([nic["gateway"]] if nic.get("gateway") else [])
        mac, ips = full_mac(str(nic.get("mac"))), addresses.present_ips(nic)
        found.append({**nic, "mac": mac, "ips": ips, "gateways": gateways})
    return found


def new_draft(asked: NicChange, shown: Payload, model: Optional[str], brand: str, texts: list[str]) -> Draft:
    """A NIC that is to be added; `model` is for a hardware VM's NIC that names none. It has no interface yet."""
    draft = Draft(named(asked), dict(shown), frozenset(shown))
    draft.members.pop("interface", None)
    if draft.members.get("primary") is not True:
        draft.members.pop("primary", None)
        draft.shown.pop("primary", None)
    if "mac" not in draft.members:
        vrid = draft.members.get("vrrp_vrid")
        draft.members["mac"] = draft.shown["mac"] = random_mac() if vrid is None else vrrp_mac(vrid)
    if _complete_addresses(draft, texts):
        draft.members.setdefault("ips", ())
        draft.shown.setdefault("ips", [])
    _complete_gateways(draft)
    if model and brands.facts(brand)["model_required"] and "model" not in draft.members:
        draft.members["model"] = draft.shown["model"] = model
    return draft


def updated_draft(
    asked: NicChange, shown: Payload, old_nics: Iterable[Mapping[str, Any]], texts: list[str]
) -> Optional[Draft]:
    """A NIC of the VM with what is asked put over it; None if there is none such."""
    if not isinstance(asked.mac, str):
        texts.append("NIC object needs a .mac property to update")
        return None
    old = next((nic for nic in old_nics if nic["mac"] == asked.mac), None)
    if old is None:
        texts.append("There is no existing NIC with that mac address")
        return None
    draft = Draft(named(asked), dict(shown), frozenset(shown), old)
    _complete_addresses(draft, texts)
    _complete_gateways(draft)
    kept = {name: value for name, value in old.items() if name in MEMBERS}
    draft.members = {**_as_tuples(kept), **draft.members, "old_mac": old["mac"]}
    vrid = draft.members.get("vrrp_vrid")
    if vrid is not None and "vrrp_vrid" in shown:
        draft.members["mac"] = vrrp_mac(vrid)
    return draft


def has_good_tag(draft: Draft) -> bool:
    """Whether the payload gives this NIC a tag, and one that can be a name."""
    return _is_tag(draft.shown.get("nic_tag"), NEW_TAG if draft.old is None else KEPT_TAG)


def check_each(drafts: Sequence[Draft], others: Sequence[Mapping[str, Any]], brand: str, texts: list[str]) -> None:
    """What is wrong with each NIC of the payload; `others` are the VM's NICs that stay as they are."""
    seen: dict[str, set[object]] = {"VRID": set(), "MAC": set(), "IP": set(), "interface": set()}
    for nic in others:
        for kind, value, _ in _single_values(nic):
            seen[kind].add(value)
    for draft in drafts:
        found: dict[str, list[str]] = {kind: [] for kind in seen}
        for kind, value, shown in _single_values(draft.members):
            if value in seen[kind]:
                found[kind].append(f"Cannot add multiple NICs with the same {kind}: {shown}")
            seen[kind].add(value)
        texts += found["VRID"] + found["MAC"] + found["interface"]
        _check_primary(draft, texts)
        _check_ips(draft, found["IP"], texts)
        _check_names(draft, brand, texts)
        _check_allowed(draft, texts)
    if sum(1 for draft in drafts if draft.members.get("primary") is True and "primary" in draft.given) > 1:
        texts.append("payload specifies more than 1 primary NIC")


def _single_values(nic: Mapping[str, Any]) -> Iterator[tuple[str, object, object]]:
    """(kind, value, value as it is shown) of what only one NIC of a VM can have."""
    if nic.get("vrrp_vrid") is not None:
        yield "VRID", nic["vrrp_vrid"], nic["vrrp_vrid"]
    yield "MAC", nic["mac"], nic["mac"]
    for ip in addresses.static(nic.get("ips") or ()):
        yield "IP", addresses.address_of(ip), ip
    if nic.get("interface"):
        yield "interface", nic["interface"], nic["interface"]


def _check_primary(draft: Draft, texts: list[str]) -> None:
    if draft.old is not None and "primary" in draft.given and draft.members.get("primary") is not True:
        texts.append(f"invalid value for NIC's primary flag: {_shown(draft.shown['primary'])} (must be true)")


def _check_ips(draft: Draft, doubled: list[str], texts: list[str]) -> None:
    for gateway in _given(draft, "gateways"):
        if not addresses.is_ipv4(gateway):
            texts.append(f"Static gateways must be IPv4 addresses: {gateway}")
    ips = draft.ips if {"ips", "ip", "netmask"} & draft.given else ()
    if len(ips) > MOST_IPS:
        texts.append(f"nic.*.ips contains {len(ips)} addresses, but is limited to {MOST_IPS}")
    if not all(addresses.is_good_ip(ip) for ip in ips):
        texts.append(f"Invalid IP for NIC: {draft.text()}")
    texts += doubled


def _check_names(draft: Draft, brand: str, texts: list[str]) -> None:
    """Model and tag, and the MAC address of a VRRP NIC, which is not the payload's to say."""
    given, members, is_new = draft.given, draft.members, draft.old is None
    if is_new and members.get("vrrp_vrid") is not None and draft.mac != vrrp_mac(members["vrrp_vrid"]):
        texts.append("Cannot set both mac and vrrp_vrid")
    if is_new and "model" not in members and brands.facts(brand)["model_required"]:
        texts.append(f"missing .model option for NIC: {draft.text()}")
    if not is_new and "model" in given and not draft.shown["model"]:
        texts.append(f"invalid .model option for NIC: {draft.text()}")
    if is_new and not _is_tag(draft.shown.get("nic_tag"), NEW_TAG):
        texts.append(f"invalid or missing .nic_tag option for NIC: {draft.text()}")
    if not is_new and "nic_tag" in given and not _is_tag(draft.shown["nic_tag"], KEPT_TAG):
        texts.append(f"invalid .nic_tag option for NIC: {draft.text()}")


def _check_allowed(draft: Draft, texts: list[str]) -> None:
    allowed = _given(draft, "allowed_ips")
    if not all(addresses.is_good_allowed_ip(ip) for ip in allowed):
        texts.append(f"invalid allowed_ips: {', '.join(allowed)}")
    if len(allowed) > MOST_ALLOWED_IPS:
        texts.append(f"Maximum of {MOST_ALLOWED_IPS} allowed_ips per nic")
    cids = _given(draft, "allowed_dhcp_cids")
    if len(cids) > MOST_CIDS:
        texts.append(f"nics.*.allowed_dhcp_cids contains {len(cids)} Client Identifiers, but is limited to {MOST_CIDS}")
    if len(",".join(cids)) >= LONGEST_CIDS:
        texts.append("nics.*.allowed_dhcp_cids contains too many long Client Identifiers")


def check_vrrp(nics: Sequence[Mapping[str, Any]], texts: list[str]) -> None:
    """The NICs that the VM will have, as mappings. Each of them is good by itself."""
    own = {addresses.address_of(ip) for nic in nics for ip in nic.get("ips") or ()}
    primaries = {nic["vrrp_primary_ip"] for nic in nics if nic.get("vrrp_primary_ip")}
    before = len(texts)
    for nic in nics:
        ips = [addresses.address_of(ip) for ip in nic.get("ips") or ()]
        is_router, primary = nic.get("vrrp_vrid") is not None, nic.get("vrrp_primary_ip")
        if is_router and primaries.intersection(ips):
            texts.append("Cannot set vrrp_primary_ip to the IP of a VRRP nic")
        if is_router and not primary:
            texts.append("vrrp_vrid set but not vrrp_primary_ip")
        if len(ips) + len(nic.get("allowed_ips") or ()) + bool(primary) > MOST_TOGETHER:
            texts.append(f"More than {MOST_TOGETHER} IPs cannot be associated with a NIC")
    if len(texts) > before:
        return
    if nics and all(nic.get("vrrp_vrid") is not None for nic in nics):
        texts.append("VM cannot contain only VRRP nics")
    elif not primaries <= own:
        texts.append("vrrp_primary_ip must belong to the same VM")


def next_interface(used: Iterable[str], brand: str) -> str:
    """The first free `net<N>` (lx: `eth<N>`)."""
    prefix = brands.facts(brand)["interface_prefix"]
    taken = set(used)
    return next(name for number in range(len(taken) + 1) if (name := f"{prefix}{number}") not in taken)


def nominated(nics: Iterable[Mapping[str, Any]]) -> Optional[str]:
    """The MAC that becomes primary when the primary NIC goes: of the first NIC whose first address is public, else of
    the first with a private one; None if none has any. What is not private IPv4 counts as public: `dhcp` and IPv6."""
    public: Optional[str] = None
    private: Optional[str] = None
    for nic in nics:
        for ip in nic.get("ips") or ():
            if not addresses.is_private(ip):
                public = public or str(nic["mac"])
                break
            if private is None:
                private = str(nic["mac"])
                break
    return public or private


def _complete_addresses(draft: Draft, texts: list[str]) -> bool:
    """`ips` from `ip` and `netmask`; whether what was given is good."""
    members, shown = draft.members, draft.shown
    ip, netmask = members.get("ip"), members.get("netmask")
    if "netmask" in shown and not (isinstance(shown["netmask"], str) and _is_netmask_or_blank(shown["netmask"])):
        texts.append(f"Specified netmask value is invalid: {_shown(shown['netmask'])}")
        return False
    if "ip" in shown and shown["ip"] is None:
        texts.append(f"Invalid IP for NIC: {draft.text()}")
        return False
    if "ips" not in members and ("ip" in shown or netmask is not None):
        if ip in AUTOMATIC:
            members["ips"] = (ip,)
        elif ip is None and "ip" in shown:
            members["ips"] = ()
        else:
            found = _with_netmask(draft, ip, netmask, texts)
            if found is None:
                return False
            members["ips"] = (found,)
    for name in ("ip", "netmask"):
        shown.pop(name, None)
        members.pop(name, None)
    if "ips" in members:
        shown["ips"] = list(members["ips"])
    return True


def _with_netmask(draft: Draft, ip: Optional[str], netmask: Optional[str], texts: list[str]) -> Optional[str]:
    """An entry of `ips`; what is not given comes from the present NIC's only IPv4 address. None: it was no good."""
    if ip is not None and netmask is not None:
        return addresses.joined(ip, netmask)
    if draft.old is None:
        if ip is None:
            return None
        texts.append(f"Missing .netmask option for NIC: {draft.text()}")
        return None
    have = [entry for entry in draft.old["ips"] if addresses.is_ipv4_cidr(entry)]
    if len(have) != 1:
        texts.append("Need a single existing IPv4 address to update .ip or .netmask")
        return None
    old_ip, _, bits = have[0].partition("/")
    return f"{ip}/{bits}" if ip is not None else addresses.joined(old_ip, str(netmask))


def _complete_gateways(draft: Draft) -> None:
    members, shown = draft.members, draft.shown
    if "gateway" in shown and "gateways" not in members:
        members["gateways"] = (_shown(shown["gateway"]),)
        shown["gateways"] = [shown["gateway"]]
    shown.pop("gateway", None)
    members.pop("gateway", None)


def _given(draft: Draft, name: str) -> tuple[str, ...]:
    """A list that the payload gives; what the NIC had before is not judged again."""
    is_given = name in draft.given or (name == "gateways" and "gateway" in draft.given)
    return tuple(draft.members.get(name, ())) if is_given else ()


def _as_tuples(nic: Mapping[str, Any]) -> dict[str, Any]:
    """Members of a VM object's NIC with the types that a change's have."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in nic.items()}


def _is_netmask_or_blank(text: str) -> bool:
    return is_unset(text) or addresses.is_netmask(text)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else compact(value)


def _is_tag(value: Any, pattern: re.Pattern[str]) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None
