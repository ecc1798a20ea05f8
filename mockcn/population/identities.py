# SPDX-License-Identifier: MPL-2.0
"""Identifiers from a seeded source, so that the same seed gives the same node."""

import random


def uuid_from(source: random.Random) -> str:
    digits = f"{source.getrandbits(128):032x}"
    variant = "89ab"[int(digits[16], 16) % 4]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def mac_from(source: random.Random) -> str:
    return ":".join(["90", "b8", "d0", *(f"{source.randrange(256):02x}" for _ in range(3))])
