# SPDX-License-Identifier: MPL-2.0
"""What has to be known of the node to judge a payload, as plain values: payload/ itself asks nothing.

    needed = facts_needed(payload)                      which images, NIC tags, pools and other VMs matter
    node   = ...                                        actions/ asks zpool, imgadm, nictagadm and vminfod
    findings = look_through(payload, brand, action, node)      findings.py

Always: nothing is asked for what the payload does not name: no image, no command of imgadm."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from vmload.units import Bytes, Mib
from vmload.uuids import is_uuid

DEFAULT_POOL = "zones"
NORMAL_TAG = "normal"  # the type of a tag that stands for a link

IMAGE_NAMES = ("image_uuid", "dataset_uuid", "zone_dataset_uuid")  # the last two are deprecated
POOL_NAMES = ("zpool", "zfs_storage_pool_name")

# What can be a name at all. Nothing else is given to a command, whatever the payload holds.
TAG = re.compile(r"[A-Za-z0-9_/]+")
POOL = re.compile(r"[a-zA-Z][-a-zA-Z0-9_.:]{0,254}")

ImageKey = tuple[str, str]  # (pool, image uuid)


@dataclass(frozen=True)
class Image:
    """An image's manifest, as far as a payload's rules look into it."""

    type: str
    image_size: Optional[Mib] = None
    has_requirements: bool = False
    bootrom: Optional[str] = None  # requirements.bootrom
    cloudinit_datasource: Optional[str] = None


@dataclass(frozen=True)
class NicTag:
    """A NIC tag of the node. `type` is nictagadm's word, `mtu` None where the platform does not say it."""

    type: str = NORMAL_TAG
    mtu: Optional[Bytes] = None


@dataclass(frozen=True)
class NodeFacts:
    """What the node has. A NIC tag that nictagadm says is not there is missing from `nic_tags`, an image that imgadm
    cannot show from `images`."""

    pools: frozenset[str] = frozenset()
    images: Mapping[ImageKey, Image] = field(default_factory=dict)
    nic_tags: Mapping[str, NicTag] = field(default_factory=dict)
    others: tuple[Mapping[str, Any], ...] = ()  # the other VMs' objects

    def image(self, pool: Any, image: Any) -> Optional[Image]:
        """The image on that pool; None if it is not there, or one of the two is no name at all."""
        return self.images.get((pool, image)) if isinstance(pool, str) and isinstance(image, str) else None


@dataclass(frozen=True)
class FactsNeeded:
    """What to ask the node for."""

    pools: bool = False
    images: tuple[ImageKey, ...] = ()
    nic_tags: tuple[str, ...] = ()
    others: bool = False


def facts_needed(payload: Mapping[str, Any]) -> FactsNeeded:
    """What the rules will look at; `payload` may be anything that JSON can say, as long as it is an object."""
    nics = [nic for name in ("nics", "add_nics", "update_nics") for nic in _objects(payload.get(name))]
    tags = dict.fromkeys(nic["nic_tag"] for nic in nics if _is_name(TAG, nic.get("nic_tag")))
    return FactsNeeded(
        pools=any(name in payload for name in POOL_NAMES),
        images=tuple(dict.fromkeys(key for key in _images(payload) if _is_name(POOL, key[0]) and is_uuid(key[1]))),
        nic_tags=tuple(tags),
        others=bool(nics) or payload.get("vnc_port") is not None,
    )


def image_of(manifest: Any) -> Optional[Image]:
    """The `manifest` that `imgadm get` prints; None if it is none."""
    if not isinstance(manifest, dict) or not isinstance(manifest.get("type"), str):
        return None
    size, requirements, tags = manifest.get("image_size"), manifest.get("requirements"), manifest.get("tags")
    bootrom = requirements.get("bootrom") if isinstance(requirements, dict) else None
    datasource = tags.get("org.smartos:cloudinit_datasource") if isinstance(tags, dict) else None
    return Image(
        type=manifest["type"],
        image_size=size if isinstance(size, int) and not isinstance(size, bool) else None,
        has_requirements=isinstance(requirements, dict),
        bootrom=bootrom if isinstance(bootrom, str) and bootrom else None,
        cloudinit_datasource=datasource if isinstance(datasource, str) and datasource else None,
    )


def _is_name(pattern: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _objects(value: Any) -> list[dict[str, Any]]:
    return [element for element in value if isinstance(element, dict)] if isinstance(value, list) else []


def _images(payload: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    """(pool, image) of all that is called an image, under whatever name."""
    pool = payload.get("zpool") or DEFAULT_POOL
    for name in IMAGE_NAMES:
        yield pool, payload.get(name)
    for name in ("disks", "add_disks"):
        for disk in _objects(payload.get(name)):
            yield disk.get("zpool") or DEFAULT_POOL, disk.get("image_uuid")
