# SPDX-License-Identifier: MPL-2.0
"""A VM to be reprovisioned, and a look from outside at what it is: by the node's zfs, its XML and its files, without
vminfod or vmadm."""

from __future__ import annotations

import json
import os
import re
from xml.etree import ElementTree

from support.writing import BASE_IMAGE, IMAGE, WrittenNode

OLD, NEW = IMAGE, BASE_IMAGE
NIC = {"interface": "net0", "mac": "b2:1e:ba:a5:6e:71", "ip": "10.2.121.70", "ips": "10.2.121.70/16", "primary": "true"}
MAPS = {"tags": {"a": 1}, "metadata": {"customer_metadata": {"x": "y"}, "internal_metadata": {"i": "j"}}}


def candidate(cn: WrittenNode, **fields: object) -> str:
    """A VM with a delegated dataset, a volume, snapshots, metadata and limits; its uuid."""
    uuid = cn.add(
        delegated=True,
        quota=7,
        image=OLD,
        files=MAPS,
        snapshots=["vmsnap-s"],
        root_props={"compression": "lz4", "snapshot_limit": 5},
        **{"nics": [NIC], **fields},
    )
    root = f"zones/{uuid}"
    for words in (
        ("create", f"{root}/volumes"),
        ("create", f"{root}/volumes/v"),
        ("snapshot", f"{root}/data@kept"),
    ):
        cn.node.run("zfs", *words, check=True)
    put(cn, f"/{root}/root/old", "the old root\n")
    put(cn, f"/{root}/volumes/v/file", "the volume's\n")
    put(cn, f"/{root}/config/ipf.conf", "block in all\n")
    return uuid


def put(cn: WrittenNode, path: str, text: str) -> None:
    os.makedirs(os.path.dirname(cn.root + path), exist_ok=True)
    with open(cn.root + path, "w", encoding="utf-8") as file:
        file.write(text)


def zfs(cn: WrittenNode, *words: str) -> str:
    done = cn.node.run("zfs", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def leftovers(cn: WrittenNode, uuid: str) -> list[str]:
    return [name for name in cn.control.datasets() if uuid in name and "reprovision" in name]


def whole(cn: WrittenNode, uuid: str) -> str:
    """`old` or `new`: which root the VM has. Fails unless it is whole, and has all that is to stay."""
    root = f"zones/{uuid}"
    assert leftovers(cn, uuid) == []
    rows = zfs(cn, "list", "-H", "-o", "name", "-r", "-t", "filesystem", root).split()
    assert rows == [root, f"{root}/data", f"{root}/volumes", f"{root}/volumes/v"]
    values = zfs(cn, "get", "-Hp", "-o", "value", "quota,compression,snapshot_limit", root).split()
    assert values == [str(7 << 30), "lz4", "5"]
    assert zfs(cn, "get", "-H", "-o", "value", "zoned", f"{root}/data") == "on\n"
    assert zfs(cn, "list", "-H", "-o", "name", "-t", "snapshot", f"{root}/data@kept") == f"{root}/data@kept\n"
    assert re.search(rf"^zones/cores/{uuid}\s+/{root}/cores$", zfs(cn, "mount"), re.MULTILINE)
    assert cn.node.read(f"/{root}/volumes/v/file") == "the volume's\n"
    assert json.loads(cn.node.read(f"/{root}/config/tags.json")) == MAPS["tags"]
    assert json.loads(cn.node.read(f"/{root}/config/metadata.json")) == MAPS["metadata"]
    assert cn.node.read(f"/{root}/config/ipf.conf") == "block in all\n"
    zone = ElementTree.fromstring(cn.zone_xml(uuid))
    assert [each.get("name") for each in zone.findall("dataset")] == [f"{root}/data"]
    assert [each.get("mac-addr") for each in zone.findall("network")] == [NIC["mac"]]
    image = next(each.get("value") for each in zone.findall("attr") if each.get("name") == "dataset-uuid")
    origin = zfs(cn, "get", "-H", "-o", "value", "origin", root).strip()
    if os.path.exists(f"{cn.root}/{root}/root/old"):
        assert (image, origin) == (OLD, f"zones/{OLD}@final")
        assert f"{root}@vmsnap-s" in zfs(cn, "list", "-H", "-o", "name", "-t", "snapshot", "-d", "1", root)
        return "old"
    assert (image, origin) == (NEW, f"zones/{NEW}@final")
    assert cn.node.read(f"/{root}/root/etc/release") == "base-64-lts 22.4.0\n"
    return "new"
