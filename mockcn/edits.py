# SPDX-License-Identifier: MPL-2.0
"""Direct changes to a zone's XML, config files and state, as an administrator with an editor would make them.

Used by the orders of a test (orders.py) and by random operations (churn.py); the tools' own ways are in commands/.
Always: an edit that is refused has changed nothing. Callers hold no lock."""

import json
import os
import re
from typing import Any, Callable, Optional
from xml.etree.ElementTree import Element

from mockcn.node import Node
from mockcn.population import vms
from mockcn.state import zonexml
from mockcn.state.mounts import write_atomically
from mockcn.state.zones import Zone

CONFIG_FILES = ("metadata", "routes", "tags")


class Refused(Exception):
    """The change makes no sense; the message says why."""


def read_xml(node: Node, zone: Zone) -> str:
    with node.lock:
        return node.zones.read_xml(zone)


def write_xml(node: Node, zone: Zone, text: str) -> None:
    """Any text, good XML or not."""
    with node.lock:
        node.zones.write_xml(zone, text.encode("utf-8", "surrogateescape"))


def set_attr(node: Node, zone: Zone, name: str, value: Optional[str]) -> None:
    _edit(node, zone, lambda element: zonexml.set_attr(element, name, value))


def set_rctl(node: Node, zone: Zone, name: str, limit: Optional[int]) -> None:
    _edit(node, zone, lambda element: zonexml.set_rctl(element, name, limit))


def set_memory(node: Node, zone: Zone, mib: int) -> None:
    """Physical, locked memory and swap, in MiB."""

    def change(element: Element) -> None:
        for name in ("zone.max-physical-memory", "zone.max-locked-memory", "zone.max-swap"):
            zonexml.set_rctl(element, name, mib << 20)

    _edit(node, zone, change)


def add_nic(node: Node, zone: Zone, nic: dict[str, str]) -> None:
    _edit(node, zone, lambda element: element.append(vms.nic_element(nic)))


def remove_nic(node: Node, zone: Zone, mac: str) -> None:
    _edit(node, zone, lambda element: element.remove(_network(element, mac)))


def set_nic(node: Node, zone: Zone, mac: str, name: str, value: Optional[str]) -> None:
    _edit(node, zone, lambda element: zonexml.set_net_attr(_network(element, mac), name, value))


def write_config(node: Node, zone: Zone, file: str, content: Any, *, in_place: bool = False) -> None:
    """`content`: text as it is, anything else as JSON; None removes the file."""
    if file not in CONFIG_FILES:
        raise Refused(f"config files are {', '.join(CONFIG_FILES)}")
    path = node.real(f"{zone.zonepath}/config/{file}.json")
    with node.lock:
        data = (content if isinstance(content, str) else json.dumps(content)).encode("utf-8", "surrogateescape")
        if content is None:
            os.unlink(path)
        elif in_place:
            with open(path, "wb") as target:
                target.write(data)
        else:
            write_atomically(path, data)


def boot(node: Node, zone: Zone, pace: float = 0) -> None:
    """Through all states to running, `pace` seconds between the steps. Raises ZoneError."""
    with node.lock:
        steps = node.zones.boot_steps(zone)
    node.walk(steps, pace)


def halt(node: Node, zone: Zone, status: int = -1, pace: float = 0) -> None:
    """Down to installed; init ends with wait status `status`. Raises ZoneError."""
    with node.lock:
        steps = node.zones.halt_steps(zone, status)
    node.walk(steps, pace)


def _network(element: Element, mac: str) -> Element:
    for network in element.findall("network"):
        if network.get("mac-addr") == mac:
            return network
    raise Refused(f"no nic {mac}")


def _edit(node: Node, zone: Zone, change: Callable[[Element], None]) -> None:
    """Read a zone's XML, let `change` work on its element, put the new text in place."""
    with node.lock:
        element = zonexml.parse(re.sub(r"^\s+", "", node.zones.read_xml(zone)))
        change(element)
        node.zones.write_xml(zone, zonexml.text(element).encode())
