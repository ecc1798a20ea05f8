# SPDX-License-Identifier: MPL-2.0
"""The VM's maps of metadata, tags and routes, and the files that hold them.

    metadata.json   {"internal_metadata": {...}, "customer_metadata": {...}}
    tags.json       {...}
    routes.json     {...}

Always: pure; a new map is the old one less the removed keys, plus the set ones; a file is only written if one of its
        maps changes. They are written whole, under another name, and renamed into place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmadm.errors import BadPayload
from vmadm.payload.change import Maps
from vminfod.clients.plainjson import compact, pretty
from vmload import configfiles
from vmload.loaderror import LoadError
from vmload.zonefiles import LARGEST_FILE

FILES = {
    "metadata.json": ("internal_metadata", "customer_metadata"),
    "tags.json": ("tags",),
    "routes.json": ("routes",),
}
MAPS = tuple(name for names in FILES.values() for name in names)
EMPTY_FILE = "{}\n"

Map = dict[str, Any]


def changed_maps(maps: Maps, vm: Mapping[str, Any]) -> dict[str, Map]:
    """The maps that set_X and remove_X of an update change, whole."""
    changed = {}
    for name, change in maps.items():
        old = vm.get(name) or {}
        new = change.applied(old)
        if compact(new) != compact(old):  # 1 is not True
            changed[name] = new
    return changed


def file_contents(changed: Mapping[str, Map], vm: Mapping[str, Any]) -> dict[str, str]:
    """File name -> text, of the files that hold a changed map. Raises BadPayload for one that vminfod would not read
    again: the VM would keep its old object for ever."""
    contents = {}
    for file, names in FILES.items():
        if not any(name in changed for name in names):
            continue
        maps = {name: changed.get(name, vm.get(name) or {}) for name in names}
        contents[file] = _readable(file, pretty(maps if file == "metadata.json" else maps[names[0]]))
    return contents


def _readable(file: str, text: str) -> str:
    """`text`, if it can be read again."""
    data = text.encode("utf-8", "surrogatepass")
    what = " and ".join(FILES[file])
    if len(data) > LARGEST_FILE:
        raise BadPayload([f"{what} would have {len(data)} bytes in {file}, more than the {LARGEST_FILE} that are read"])
    try:
        configfiles.json_or_empty(data)
    except LoadError as error:
        raise BadPayload([f"{what} would be too much for {file}: {error}"]) from error
    return text
