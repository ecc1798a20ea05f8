# SPDX-License-Identifier: MPL-2.0
"""The node's images: datasets that zones and disks are cloned from, and their manifests (docs/platform.md, "The little
tools").

    zone-dataset    for joyent, joyent-minimal, builder and kvm     a filesystem POOL/UUID with @final
    lx-dataset      for lx                                          likewise
    docker          for lx                                          likewise
    zvol            for disks of kvm and bhyve                      a volume POOL/UUID with @final

Always: there is one of each type on either pool. A clone gets the files of the image's snapshot.
Not here: imgadm's words (commands/imgadm.py)."""

import json
import time
from dataclasses import dataclass, field
from typing import Any, Optional

from mockcn.node import Node
from mockcn.state.properties import Value
from mockcn.state.trees import Files

NO_OWNER = "00000000-0000-0000-0000-000000000000"
MAIN, SECOND = "zones", "tank"
ZONEINIT = "root/var/zoneinit/zoneinit.json"


@dataclass(frozen=True)
class Image:
    """`mib` is what its files take, `volume` the size in MiB of the disk that it is (zvol only)."""

    uuid: str
    name: str
    version: str
    type: str
    mib: int
    pools: tuple[str, ...] = (MAIN,)
    volume: int = 0
    moves_marker: bool = True  # its zoneinit marks that provisioning has ended
    requirements: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, Any] = field(default_factory=dict)

    @property
    def os(self) -> str:
        return "smartos" if self.type == "zone-dataset" else "linux"


# In the order in which a small node's VMs use them.
IMAGES = (
    Image("5b8c4e3a-0f8e-11ee-9f0c-1b6d0c3e2a11", "base-64-lts", "22.4.0", "zone-dataset", 410),
    Image("a7d2c0de-7c42-4c4a-8a55-6d0a2b7e9c01", "minimal-64-lts", "23.4.1", "zone-dataset", 655, (MAIN, SECOND)),
    Image(
        "63d6e664-3f1f-11e8-aef6-a3120cf8dd9d",
        "debian-9",
        "20180413",
        "lx-dataset",
        350,
        (MAIN, SECOND),
        requirements={"brand": "lx"},
        tags={"role": "os", "kernel_version": "4.3.0"},
    ),
    Image(
        "c193a558-1d63-11e9-97cf-97bb3ee5c14f",
        "debian-12-bhyve",
        "20240101",
        "zvol",
        520,
        (MAIN, SECOND),
        10240,
        requirements={"bootrom": "uefi", "min_ram": 256},
    ),
    Image("e1faace4-e19b-11e5-928b-83849e2fd94a", "centos-7", "20160304", "zvol", 890, volume=10240),
    Image(
        "3f9e7a40-2d10-4a7e-8a8c-5a1d6b0f7c33",
        "docker-layer",
        "3f9e7a402d10",
        "docker",
        280,
        (MAIN, SECOND),
        requirements={"brand": "lx"},
    ),
    Image("01b2c898-945f-11e1-a523-af1afbe22822", "smartos", "1.6.3", "zone-dataset", 180, (MAIN, SECOND)),
    Image("c02a2044-c1bd-11e4-bd8c-dfc1db8b0182", "legacy-32", "1.3.18", "zone-dataset", 120, moves_marker=False),
)
BY_UUID = {image.uuid: image for image in IMAGES}


def fitting(kind: str) -> list[str]:
    """Uuids of the images that a VM of this kind (a brand, `docker-lx`, or `disk`) can have."""
    wanted = {"lx": "lx-dataset", "docker-lx": "docker", "disk": "zvol"}.get(kind, "zone-dataset")
    return [image.uuid for image in IMAGES if image.type == wanted and image.moves_marker]


def put_in_place(node: Node, pool: str, creation: int) -> None:
    """The datasets of all images of a pool, as old as `creation` (seconds since the epoch)."""
    for image in IMAGES:
        if pool not in image.pools:
            continue
        props: dict[str, Value] = {"compression": "lz4"}
        if image.type == "zvol":
            props["volblocksize"] = 8192
        dataset = node.pools.create(
            f"{pool}/{image.uuid}",
            props,
            creation=creation,
            sparse=True,
            volsize=image.volume << 20 if image.type == "zvol" else None,
        )
        dataset.space_written(image.mib << 20)
        if image.type == "zvol":
            content: Any = [(0, f"boot sector of {image.name} {image.uuid}\n".encode().ljust(512, b"\0"))]
            node.pools.fill_volume(dataset, content)
        else:
            content = _files(image, creation)
            node.mounts.make(dataset, content)
        node.pools.take(dataset, "final", creation, files=content)


def _files(image: Image, when: int) -> Files:
    """The few files of an image that somebody may look for in a clone of it."""
    texts = {
        "root/etc/release": f"{image.name} {image.version}\n",
        "root/etc/svc/repository.db": "",
        "root/var/log/authlog": "",
        "root/var/adm/wtmpx": "",
        "root/var/adm/utmpx": "",
    }
    if image.type == "zone-dataset" and image.moves_marker:
        texts[ZONEINIT] = json.dumps({"version": image.version, "features": {"var_svc_provisioning": True}}) + "\n"
    return {path: (text.encode(), when * 1_000_000_000, 0o644) for path, text in texts.items()}


def manifest(image: Image, pool: str) -> dict[str, Any]:
    """What imgadm knows of an image on a pool."""
    content: dict[str, Any] = {
        "v": 2,
        "uuid": image.uuid,
        "owner": NO_OWNER,
        "name": image.name,
        "version": image.version,
        "state": "active",
        "disabled": False,
        "public": True,
        "published_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(1_520_000_000 + image.mib)),
        "type": image.type,
        "os": image.os,
        "files": [{"sha1": image.uuid.replace("-", "") + "00000000", "size": image.mib << 19, "compression": "gzip"}],
        "description": f"{image.name} for a mock node",
        "requirements": image.requirements,
        "tags": image.tags,
    }
    if image.type == "zvol":
        content.update(
            {"image_size": image.volume, "disk_driver": "virtio", "nic_driver": "virtio", "cpu_type": "host"}
        )
    return {"manifest": content, "zpool": pool, "source": "https://images.example.com"}


def installed(node: Node, pool: str, uuid: str) -> Optional[dict[str, Any]]:
    """The manifest of an image that is there, None if it is not. Callers hold the node's lock."""
    image = BY_UUID.get(uuid)
    if image is None or not node.pools.exists(f"{pool}/{uuid}"):
        return None
    return manifest(image, pool)
