# SPDX-License-Identifier: MPL-2.0
"""Zones made with the platform's own tools, for tests of those tools and of what watches them."""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Callable
from typing import Optional

from mockcn.process import MockNode
from support.deadlines import SOON

SMARTOS = "01b2c898-945f-11e1-a523-af1afbe22822"  # a zone-dataset that is on both pools


def new_uuid() -> str:
    return str(uuid.uuid4())


def script(zone: str, *more: str, brand: str = "joyent-minimal", pool: str = "zones") -> str:
    """The least that vmadm configures for a zone, then the statements `more`."""
    return (
        "\n".join(
            [
                "create -b",
                f"set zonepath=/{pool}/{zone}",
                f"set brand={brand}",
                f"set uuid={zone}",
                "set ip-type=exclusive",
                'add attr; set name="vm-version"; set type=string; set value="1"; end',
                f'add attr; set name="dataset-uuid"; set type=string; set value="{SMARTOS}"; end',
                'set limitpriv="default"',
                "set autoboot=false",
                *more,
            ]
        )
        + "\n"
    )


def configured(
    node: MockNode, *more: str, brand: str = "joyent-minimal", pool: str = "zones", zone: Optional[str] = None
) -> str:
    """A new zone that is only configured; its uuid, which is its name."""
    zone = zone or new_uuid()
    node.run("zonecfg", "-z", zone, stdin=script(zone, *more, brand=brand, pool=pool), check=True)
    return zone


def installed(node: MockNode, *more: str, quota: int = 10, brand: str = "joyent-minimal", pool: str = "zones") -> str:
    """A new zone with its datasets, cloned from SMARTOS."""
    zone = configured(node, *more, brand=brand, pool=pool)
    node.run("zoneadm", "-z", zone, "install", "-q", str(quota), "-t", SMARTOS, "-x", "nodataset", check=True)
    return zone


def running(node: MockNode, *more: str, brand: str = "joyent-minimal") -> str:
    """A new zone that runs."""
    zone = installed(node, *more, brand=brand)
    node.run("zoneadm", "-u", zone, "boot", "-X", check=True)
    return zone


def state(node: MockNode, zone: str) -> str:
    """What zoneadm calls the state of a zone; an empty text if there is none of that name."""
    line = node.run("zoneadm", "-z", zone, "list", "-p").stdout
    return line.split(":")[2] if line else ""


def xml_path(node: MockNode, zone: str) -> str:
    return os.path.join(node.root, f"etc/zones/{zone}.xml")


def attr(node: MockNode, zone: str, name: str) -> Optional[str]:
    """The value of an `<attr>` as it stands in the zone's XML."""
    found = re.search(f'<attr name="{name}" type="string" value="([^"]*)"/>', node.read(f"/etc/zones/{zone}.xml"))
    return found[1] if found else None


def index_line(node: MockNode, zone: str) -> Optional[str]:
    """The line of a zone in the index."""
    for line in node.read("/etc/zones/index").splitlines():
        if line.startswith(zone + ":"):
            return line
    return None


def until(what: str, check: Callable[[], object], within: float = SOON) -> None:
    """Wait for check() to be true; AssertionError after `within` seconds."""
    deadline = time.monotonic() + within
    while not check():
        assert time.monotonic() < deadline, f"not within {within} s: {what}"
        time.sleep(0.01)
