# SPDX-License-Identifier: MPL-2.0
"""Changes on the mock node, made as the platform's own tools make them, without a process where those need none."""

from __future__ import annotations

import json
import os
import re
from typing import Any

from mockcn.process import MockNode


def replace(path: str, text: str) -> None:
    """Write beside the file and rename, as zonecfg and vmadm do."""
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write(text)
    os.rename(path + ".new", path)


def write_tags(node: MockNode, vm: dict[str, Any], tags: dict[str, Any]) -> None:
    """Give the VM these tags."""
    write_tags_below(node.root, vm, tags)


def write_tags_below(root: str, vm: dict[str, Any], tags: dict[str, Any]) -> None:
    """The same files below any folder."""
    folder = root + vm["zonepath"] + "/config"
    os.makedirs(folder, exist_ok=True)
    replace(folder + "/tags.json", json.dumps(tags))


def write_package(node: MockNode, vm: dict[str, Any], value: str) -> None:
    """Set `package_version` in the zone's XML."""
    path = f"/etc/zones/{vm['zonename']}.xml"
    text = re.sub(r'\s*<attr name="package-version"[^>]*/>', "", node.read(path))
    attr = f'  <attr name="package-version" type="string" value="{value}"/>\n</zone>'
    replace(node.root + path, text.replace("</zone>", attr))


def history_event(dataset: str, action: str = "set", details: str = "quota=1", after: int = 0) -> str:
    """The line that `sysevent -rj` prints for something that happened to a dataset, `after` milliseconds later."""
    minutes, milliseconds = divmod(after, 60_000)
    data = {
        "pool_name": dataset.partition("/")[0],
        "history_internal_name": action,
        "history_dsname": dataset,
        "history_internal_str": details,
        "history_time": 1773403260 + after // 1000,
    }
    event = {
        "date": f"2026-03-13T12:{1 + minutes:02d}:{milliseconds / 1000:06.3f}Z",
        "type": "event",
        "vendor": "SUNW",
        "publisher": "zfs",
        "class": "EC_zfs",
        "subclass": "ESC_ZFS_history_event",
        "pid": 0,
        "data": data,
    }
    return json.dumps(event, separators=(",", ":"))
