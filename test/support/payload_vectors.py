# SPDX-License-Identifier: MPL-2.0
"""The recorded answers about payloads (test/vectors/vmadm), and the node on which they were recorded, as values."""

import json
from pathlib import Path

from vmadm.payload.nodefacts import NicTag, NodeFacts, image_of

FOLDER = Path(__file__).resolve().parents[1] / "vectors" / "vmadm"


def recorded_node():
    """The recorded node without any VM."""
    content = json.loads((FOLDER / "node.json").read_text())
    images = {
        (pool, uuid): image_of(manifest) for uuid, manifest in content["images"].items() for pool in manifest["pools"]
    }
    tags = {name: NicTag(mtu=mtu) for name, mtu in content["nic_tags"].items()}
    return NodeFacts(pools=frozenset(content["pools"]), images=images, nic_tags=tags)


def validations():
    """The lines of validate.jsonl."""
    with open(FOLDER / "validate.jsonl", encoding="utf-8") as file:
        return [json.loads(line) for line in file]
