# SPDX-License-Identifier: MPL-2.0
"""MAC addresses in one spelling."""

from __future__ import annotations


def normalised_mac(text: str) -> str:
    """`0:A:1b:...` as `00:0a:1b:...`; text that is no MAC address stays as it is and matches nothing."""
    octets = text.split(":")
    digits = "0123456789abcdefABCDEF"
    if not all(0 < len(octet) <= 2 and all(digit in digits for digit in octet) for octet in octets):
        return text
    return ":".join([octet.lower().zfill(2) for octet in octets])
