# SPDX-License-Identifier: MPL-2.0
"""The whole state of a node as plain values, for who has to know what is really there without asking its tools.

Always: everything is taken in one hold of the node's lock, so that it is the node at one moment.
Not here: what a VM is. That is for the reader to say."""

import os
from typing import Any, Optional

from mockcn.node import Node
from mockcn.state.datasets import Dataset
from mockcn.state.properties import PROPERTIES
from mockcn.state.zones import Zone

FILES = {
    "metadata": "config/metadata.json",
    "tags": "config/tags.json",
    "routes": "config/routes.json",
    "lastexited": "lastexited",
}
UNREADABLE = {"unreadable": True}  # stands for a file's text
SETTABLE = ("compression", "filesystem_limit", "quota", "recordsize", "refquota", "refreservation", "snapshot_limit")


def dump(node: Node) -> dict[str, Any]:
    """{"zones": [...], "datasets": {name: ...}, "sysinfo": {...}}, zones in the order of the index."""
    with node.lock:
        return {
            "zones": [_zone(node, zone) for zone in node.zones.zones.values()],
            "datasets": {
                dataset.name: _dataset(dataset) for root in node.pools.roots() for dataset in root.descendants()
            },
            "sysinfo": node.sysinfo,
        }


def _zone(node: Node, zone: Zone) -> dict[str, Any]:
    kernel = zone.kernel
    return {
        "name": zone.name,
        "uuid": zone.uuid,
        "state": zone.shown_state,
        "zonepath": zone.zonepath,
        "brand": zone.brand,
        "debugid": zone.debugid,
        "kernel": None
        if kernel is None
        else {
            "zoneid": kernel.zoneid,
            "pid": kernel.init_pid,
            "boot_time": kernel.boot_time,
            "restarts": kernel.init_restarts,
        },
        "xml": _text(node.real(zone.xml_path)),
        "files": {name: _text(node.real(f"{zone.zonepath}/{path}")) for name, path in FILES.items()},
    }


def _text(path: str) -> Any:
    """The file's text; None if it is not there, UNREADABLE if it is no file that can be read."""
    text: Optional[str] = None
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return UNREADABLE
    return text


def _dataset(dataset: Dataset) -> dict[str, Any]:
    return {
        "kind": dataset.kind,
        "mounted_at": os.path.join("/dev/zvol/rdsk", dataset.name)
        if dataset.kind == "volume"
        else dataset.mounted_at(),
        "creation": dataset.creation,
        "volsize": dataset.props.get("volsize"),
        "volblocksize": dataset.props.get("volblocksize", 8192) if dataset.kind == "volume" else None,
        "usedbysnapshots": dataset.used_by_snapshots(),
        **{name: dataset.effective(PROPERTIES[name]) for name in SETTABLE if dataset.kind[0] in PROPERTIES[name].on},
        "snapshots": [
            {
                "name": snapshot.name,
                "creation": snapshot.creation,
                "written": snapshot.written,
                "holds": len(snapshot.holds),
            }
            for snapshot in dataset.snapshots.values()
        ],
    }
