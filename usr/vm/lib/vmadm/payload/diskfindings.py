# SPDX-License-Identifier: MPL-2.0
"""New disks of a payload: where each comes from (an image, or a size), and whether that goes together. Pure.

A disk comes from an image (`image_uuid`, with the size that the image has) or is empty (`size`). What is a CD-ROM is
not looked at. The image's own size is what counts: a payload may repeat it, and may leave it out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Optional, Protocol

from vmadm.payload.nodefacts import DEFAULT_POOL, Image, NodeFacts
from vmadm.payload.pcislots import DISK
from vmadm.payload.valuerules import as_boolean, as_integer, is_unset
from vmload import brands

LISTS = ("disks", "add_disks")
DISK_IMAGE = "zvol"  # the type of an image that a disk can be made from
BOOTROMS = ("bios", "uefi")  # what an image that names no boot ROM, but other needs, can do with


class Lists(Protocol):
    """What is wrong goes in here."""

    bad_values: list[str]
    bad_properties: list[str]
    missing_properties: list[str]


def look_at_sources(payload: Mapping[str, Any], brand: str, node: NodeFacts, found: Lists) -> None:
    """Add what the disks of a create, or the add_disks of an update, lack or have too much."""
    for where, disk in _new_disks(payload):
        if is_other_medium(disk):
            continue
        if brands.is_hvm(brand) and "image_uuid" in disk:
            _look_at_cloned(payload, where, disk, image_of_disk(disk, node), found)
        elif brands.is_hvm(brand):
            _look_at_empty(where, disk, found)
        _look_at_reservation(where, disk, found)


def look_at_images(payload: Mapping[str, Any], node: NodeFacts, found: Lists) -> None:
    """Add the images that are not there or no disks, and the sizes that are not those of the image."""
    for where, disk in _new_disks(payload):
        if "image_uuid" not in disk:
            continue
        image = image_of_disk(disk, node)
        if image is None:
            _note(found.bad_values, f"{where}.image_uuid")
        elif not is_other_medium(disk):
            _look_at_size(where, disk, image, found)
            if as_boolean(disk.get("boot")) and not _boots(image, payload.get("bootrom")):
                _note(found.bad_values, "bootrom")


def _boots(image: Image, bootrom: Any) -> bool:
    """Whether the image of a boot disk goes with the boot ROM that the payload names; it can name none."""
    if is_unset(bootrom) or not image.has_requirements:
        return True
    return bootrom == image.bootrom if image.bootrom else bootrom in BOOTROMS


def _new_disks(payload: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each with its name. What is no object is taken for an empty one."""
    for name in LISTS:
        disks = payload.get(name)
        for index, disk in enumerate(disks if isinstance(disks, list) else ()):
            yield f"{name}.{index}", disk if isinstance(disk, dict) else {}


def is_other_medium(disk: Mapping[str, Any]) -> bool:
    """A CD-ROM or the like: it is given as it is, and has no source."""
    return "media" in disk and disk["media"] != DISK


def image_of_disk(disk: Mapping[str, Any], node: NodeFacts) -> Optional[Image]:
    """The image that a disk names, if it is there and one can make a disk from it."""
    found = node.image(disk.get("zpool") or DEFAULT_POOL, disk.get("image_uuid"))
    return found if found is not None and found.type == DISK_IMAGE else None


def _look_at_reservation(where: str, disk: Mapping[str, Any], found: Lists) -> None:
    reserved = as_integer(disk.get("refreservation"))
    if reserved is not None and reserved < 0:
        _note(found.bad_values, f"{where}.refreservation")


def _look_at_empty(where: str, disk: Mapping[str, Any], found: Lists) -> None:
    if "size" not in disk:
        _note(found.missing_properties, f"{where}.size")
    for name in ("image_name", "image_size"):
        if name in disk:
            _note(found.bad_properties, f"{where}.{name}")


def _look_at_cloned(
    payload: Mapping[str, Any], where: str, disk: Mapping[str, Any], image: Optional[Image], found: Lists
) -> None:
    if "image_size" not in disk and (image is None or image.image_size is None):
        _note(found.missing_properties, f"{where}.image_size")
    if "size" in disk and "flexible_disk_size" not in payload:
        _note(found.bad_properties, f"{where}.size")
    if "block_size" in disk:
        _note(found.bad_properties, f"{where}.block_size")


def _look_at_size(where: str, disk: Mapping[str, Any], image: Image, found: Lists) -> None:
    if image.image_size is None:
        return
    if "image_size" in disk:
        if as_integer(disk["image_size"]) != image.image_size:
            _note(found.bad_values, f"{where}.image_size")
        return
    size = as_integer(disk.get("size"))
    if size is not None and size < image.image_size:
        _note(found.bad_values, "size")


def _note(names: list[str], name: str) -> None:
    if name not in names:
        names.append(name)
