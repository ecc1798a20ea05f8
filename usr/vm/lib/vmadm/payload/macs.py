# SPDX-License-Identifier: MPL-2.0
"""MAC addresses in one spelling, and new ones."""

from __future__ import annotations

import os

_DIGITS = frozenset("0123456789abcdefABCDEF")


def normalised_mac(text: str) -> str:
    """`0:A:1b:...` as `00:0a:1b:...`; text that is no MAC address stays as it is and matches nothing."""
    octets = text.split(":")
    if not all(0 < len(octet) <= 2 and _DIGITS.issuperset(octet) for octet in octets):
        return text
    return ":".join([octet.lower().zfill(2) for octet in octets])


def full_mac(mac: str) -> str:
    """Lower case, two digits an octet, colons between them; twelve digits without any colon are a MAC address, too."""
    if ":" not in mac and len(mac) == 12:
        mac = ":".join(mac[at : at + 2] for at in range(0, 12, 2))
    return normalised_mac(mac)


def is_full_mac(text: str) -> bool:
    """What full_mac() gives for a MAC address."""
    octets = text.split(":")
    return len(octets) == 6 and all(len(octet) == 2 and _DIGITS.issuperset(octet) for octet in octets)


def random_mac() -> str:
    """A locally administered address, as vmadm makes them: the second digit is a 2."""
    first, *others = os.urandom(6)  # the module random would cost every command its import
    return ":".join([f"{1 + first % 15:x}2", *(f"{1 + octet % 255:02x}" for octet in others)])


def vrrp_mac(vrid: int) -> str:
    """The address that all routers of a VRRP group share."""
    return f"00:00:5e:00:01:{vrid:02x}"
