# SPDX-License-Identifier: MPL-2.0
"""Images that a payload names: is each there, and of a type that can be used so?

Any trouble makes the property a bad value: why imgadm said no is in the log."""

from __future__ import annotations

import json
from typing import Any, Optional

from vmadm.errors import VmadmError
from vmadm.node.machine import Node
from vmadm.payload.propertychecks import is_unset
from vmload import brands
from vmload.uuids import is_uuid

DISK_IMAGE_TYPES = ("zvol",)


def manifest(node: Node, pool: str, image: str) -> Optional[dict[str, Any]]:
    """The manifest of an image on that pool; None if there is none, or imgadm says nothing sensible."""
    try:
        result = node.run("imgadm", "get", "-P", pool, image)
        found = json.loads(result.stdout)["manifest"] if result.status == 0 else None
    except (VmadmError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, dict) else None


def bad_ones(node: Node, payload: dict[str, Any], brand: str, default_pool: str) -> list[str]:
    """The names of the properties whose image cannot be used; `payload` has passed the checks of types."""
    pool = payload.get("zpool") or default_pool
    bad = []
    types = brands.facts(brand)["zoneroot_image_types"]
    image = payload.get("image_uuid")
    if (
        types
        and not is_unset(image)
        and is_uuid(image)
        and (manifest(node, pool, str(image)) or {}).get("type") not in types
    ):
        bad.append("image_uuid")
    for name in ("disks", "add_disks"):
        for index, disk in enumerate(payload.get(name) or []):
            image = disk.get("image_uuid") if isinstance(disk, dict) else None
            if is_unset(image) or not is_uuid(image):
                continue
            found = manifest(node, disk.get("zpool") or pool, str(image)) or {}
            if found.get("type") not in DISK_IMAGE_TYPES:
                bad.append(f"{name}.{index}.image_uuid")
    return bad
