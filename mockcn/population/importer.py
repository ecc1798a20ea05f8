# SPDX-License-Identifier: MPL-2.0
"""Real zone XML, brought onto the node: the bytes stay, the rest of the zone's state is made to fit.

For DIR/NAME.xml the zone is called what the XML calls it (NAME where it cannot be parsed) and gets its index line, its
zonepath with dataset, its delegated datasets, a volume for each zvol among its devices, and config files. A zone whose
name is no uuid gets one in the index, from the seed and the name. All imported zones are installed, except that a
second zone of a name that is taken is left out with a line that says so."""

import os
import random
import zlib
from xml.etree.ElementTree import Element

from mockcn.node import Node
from mockcn.population.identities import uuid_from
from mockcn.population.ordinary import BASE_TIME
from mockcn.progress import say
from mockcn.state import zonexml
from mockcn.state.properties import Value
from mockcn.state.zones import Zone, looks_like_uuid

ZVOL = "/dev/zvol/"
DEFAULT_SIZE = 1024  # MiB of a volume of which the XML says nothing
QUOTA = 10 << 30  # bytes for a zone root


def take(node: Node, folder: str) -> list[Zone]:
    """Bring in all *.xml of `folder`, in the order of their names."""
    zones = []
    node.quiet(True)
    try:
        for name in sorted(os.listdir(folder)):
            if name.endswith(".xml"):
                with open(os.path.join(folder, name), "rb") as file:
                    zones += take_one(node, name[:-4], file.read())
    finally:
        node.quiet(False)
    return zones


def take_one(node: Node, name: str, content: bytes) -> list[Zone]:
    """One zone from the bytes of its XML; [] if there is a zone of that name already."""
    try:
        element = zonexml.parse(content.decode("utf-8", "replace"))
    except zonexml.NotXml:
        element = Element("zone")  # nothing is known of it; its file is put in place all the same
    name = element.get("name", name)
    if name in node.zones.zones:
        say(f"import: there is a zone {name} already, its file was left out")
        return []
    zonepath = element.get("zonepath") or f"/zones/{name}"
    uuid = name if looks_like_uuid(name) else uuid_from(random.Random(zlib.crc32(name.encode()) + node.seed))
    debugid = element.get("debugid", "")
    zone = Zone(
        name,
        uuid,
        zonepath,
        "installed",
        element.get("brand", "joyent"),
        shared_ip=element.get("ip-type", "shared") != "exclusive",
        debugid=int(debugid) if debugid.isdigit() else node.zones.new_debugid(),
    )
    with node.lock:
        node.zones.add(zone, content)
        _make_state(node, zone, element)
    if element.get("autoboot") == "true" and zonexml.attr(element, "transition") is None:
        node.walk(node.zones.boot_steps(zone, BASE_TIME + zlib.crc32(name.encode()) % 1_000_000))
    return [zone]


def _make_state(node: Node, zone: Zone, element: Element) -> None:
    root = zone.zonepath.lstrip("/")
    _dataset(node, root, {"refquota" if zone.brand == "bhyve" else "quota": QUOTA})
    for child in element:
        if child.tag == "dataset" and child.get("name"):
            _dataset(node, child.get("name", ""), {})
            dataset = node.pools.dataset(child.get("name", ""))
            dataset.props["zoned"] = "on"
            dataset.touch(deep=True)
        elif child.tag == "device" and child.get("match", "").startswith(ZVOL):
            _volume(node, child)
    node.make_folder(zone.zonepath + "/config")
    node.make_folder(zone.zonepath + "/root/var/svc")
    with open(node.real(f"{zone.zonepath}/config/metadata.json"), "w", encoding="utf-8") as file:
        file.write('{"customer_metadata":{},"internal_metadata":{}}\n')
    with open(node.real(f"{zone.zonepath}/config/tags.json"), "w", encoding="utf-8") as file:
        file.write('{"imported":true}\n')
    for path in (zone.xml_path, f"{zone.zonepath}/config/metadata.json", f"{zone.zonepath}/config/tags.json"):
        os.utime(node.real(path), (BASE_TIME, BASE_TIME))  # the same dates at each start


def _pool_of(node: Node, name: str) -> None:
    pool = name.split("/")[0]
    if pool not in node.pools.pools:
        node.pools.add_pool(pool, zlib.crc32(pool.encode()) << 16)


def _dataset(node: Node, name: str, props: dict[str, Value]) -> None:
    _pool_of(node, name)
    if not node.pools.exists(name):
        node.pools.create(name, props, parents=True, creation=BASE_TIME)


def _volume(node: Node, device: Element) -> None:
    """`/dev/zvol/rdsk/zones/U/disk0` -> the volume zones/U/disk0 of the size that its net-attrs give."""
    name = device.get("match", "")[len(ZVOL) :].partition("/")[2]
    attrs = {attr.get("name"): attr.get("value", "") for attr in device if attr.tag == "net-attr"}
    size = attrs.get("size") or attrs.get("image-size") or ""
    mib = int(size) if size.isdigit() and int(size) else DEFAULT_SIZE
    _pool_of(node, name)
    if "/" in name and not node.pools.exists(name):
        node.pools.create(name, {"volblocksize": 8192}, volsize=mib << 20, parents=True, creation=BASE_TIME)
