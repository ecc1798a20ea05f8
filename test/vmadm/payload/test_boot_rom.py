# SPDX-License-Identifier: MPL-2.0
"""Which boot ROM a bhyve VM gets, and which one it cannot have with its images."""

import pytest

from support.payload_vectors import recorded_node
from vmadm import BadPayload
from vmadm.payload.nodefacts import Image, NodeFacts
from vmadm.payload.parsing import parse_create
from vmadm.payload.unset import UNSET

pytestmark = pytest.mark.pure

U = "0c6f1f0e-0000-4000-8000-00000000000a"
IMAGES = {
    "uefi": Image("zvol", 64, has_requirements=True, bootrom="uefi", cloudinit_datasource="nocloud"),
    "bios": Image("zvol", 64, has_requirements=True, bootrom="bios"),
    "other needs": Image("zvol", 64, has_requirements=True),
    "no needs": Image("zvol", 64),
}
UUIDS = {name: f"0c6f1f0e-0000-4000-8000-00000000010{number}" for number, name in enumerate(IMAGES)}
NODE = NodeFacts(pools=recorded_node().pools, images={("zones", UUIDS[name]): image for name, image in IMAGES.items()})


def disk(image, **members):
    return {"image_uuid": UUIDS[image], "model": "virtio", **members}


def created(*disks, **payload):
    return parse_create({"brand": "bhyve", "ram": 1024, "disks": list(disks), **payload}, NODE, U)


@pytest.mark.parametrize(
    ("disks", "bootrom"),
    [
        ([disk("uefi", boot=True)], "uefi"),
        ([disk("bios", boot=True), disk("uefi")], "uefi"),  # the last one, boot disk or not
        ([disk("uefi"), disk("bios", boot=True)], "bios"),
        ([disk("uefi", boot=True), disk("other needs")], "uefi"),
        ([disk("no needs", boot=True)], UNSET),
        ([{"size": 64, "model": "virtio"}], UNSET),
    ],
)
def test_images_say_which_one(disks, bootrom):
    assert created(*disks).properties.bootrom == bootrom


@pytest.mark.parametrize(
    ("image", "members", "bootrom", "is_good"),
    [
        ("uefi", {"boot": True}, "uefi", True),
        ("uefi", {"boot": True}, "bios", False),
        ("uefi", {"boot": "true"}, "bios", False),
        ("uefi", {}, "bios", True),
        ("uefi", {"boot": "false"}, "bios", True),
        ("other needs", {"boot": True}, "bios", True),
        ("other needs", {"boot": True}, "/rom.bin", False),
        ("no needs", {"boot": True}, "/rom.bin", True),
    ],
)
def test_payload_says_one_that_the_boot_disks_image_has_to_go_with(image, members, bootrom, is_good):
    if is_good:
        assert created(disk(image, **members), bootrom=bootrom).properties.bootrom == bootrom
        return
    with pytest.raises(BadPayload, match="bootrom"):
        created(disk(image, **members), bootrom=bootrom)


def test_image_that_asks_for_it_brings_cloud_inits_disk():
    change = created(disk("uefi", boot=True), {"size": 10, "model": "virtio"}, flexible_disk_size=128)
    last = change.disks.add[-1]
    assert (last.path, last.size, last.block_size, last.boot) == (f"/dev/zvol/rdsk/zones/{U}/disk2", 16, 512, False)
    assert (last.pci_slot, last.uuid) == (UNSET, UNSET)
    assert change.properties.flexible_disk_size == 144
    assert change.maps.internal_metadata.set["cloudinit_nocloud_path"] == last.path
