# SPDX-License-Identifier: MPL-2.0
"""`vmadm reprovision` of a bhyve VM: another first disk, with the old one's size; what is refused, and what is left
where it fails or is killed."""

import re

import pytest

from support.examples import few
from support.reprovisioned import leftovers, zfs
from support.running_daemon import eventually
from support.writing import ZVOL_IMAGE
from vmadm import VmadmError, WrongState

pytest_plugins = ["support.writers"]

PAYLOAD = {"image_uuid": ZVOL_IMAGE}
MIB = 1 << 20
SIZE = 12288  # MiB, of the first disk: more than the image's 10240


def candidate(cn, autoboot=True, **first):
    """A stopped VM with two disks, the first of them larger than its image; its uuid."""
    disks = [
        {"image_uuid": ZVOL_IMAGE, "size": SIZE, "boot": True, "model": "virtio", **first},
        {"size": 1024, "model": "virtio"},
    ]
    flexible = {"flexible_disk_size": SIZE + 1024}
    uuid = cn.api.create({"brand": "bhyve", "ram": 1024, "autoboot": False, "disks": disks, **flexible})["uuid"]
    write(cn, uuid, 0, b"old")
    write(cn, uuid, 1, b"other")
    return cn.api.update(uuid, autoboot=autoboot)["uuid"]


def device(cn, uuid, number):
    return f"{cn.root}/dev/zvol/rdsk/zones/{uuid}/disk{number}"


def write(cn, uuid, number, content):
    with open(device(cn, uuid, number), "r+b") as file:
        file.write(content)


def content(cn, uuid, number):
    with open(device(cn, uuid, number), "rb") as file:
        return file.read(11)


def whole(cn, uuid):
    """`old` or `new`: which first disk the VM has, as zfs, the zone's XML and the disks themselves say."""
    assert leftovers(cn, uuid) == []
    place = f"zones/{uuid}/disk0"
    size, reserved = zfs(cn, "get", "-Hp", "-o", "value", "volsize,refreservation", place).split()
    assert int(size) == SIZE * MIB
    assert int(reserved) > int(size)
    assert content(cn, uuid, 1)[:5] == b"other"
    block = re.search(rf'<device match="/dev/zvol/rdsk/{place}">.*?</device>', cn.zone_xml(uuid), re.DOTALL)
    assert block is not None and block[0].count('name="image-uuid"') == 1
    assert f'name="image-uuid" value="{ZVOL_IMAGE}"' in block[0]
    return "old" if content(cn, uuid, 0)[:3] == b"old" else "new"


def test_first_disk_is_made_anew_and_keeps_its_size(cn):
    uuid = candidate(cn)
    zfs(cn, "snapshot", f"zones/{uuid}/disk0@mine")
    before = cn.vm(uuid)
    line = cn.ok("reprovision", uuid, payload=PAYLOAD)
    assert line == f"Successfully reprovisioned VM {uuid}"
    assert whole(cn, uuid) == "new"
    assert content(cn, uuid, 0) == b"boot sector"
    after = cn.vm(uuid)
    assert after["state"] == "running"
    assert after["disks"] == before["disks"]
    assert (after["quota"], after["flexible_disk_size"]) == (before["quota"], before["flexible_disk_size"])
    assert "transition_to" not in after


def test_running_vm_is_stopped_and_one_that_does_not_boot_by_itself_stays_stopped(cn):
    uuid = candidate(cn, autoboot=False)
    assert cn.api.reprovision(uuid, PAYLOAD)["state"] == "stopped"
    cn.api.start(uuid)
    write(cn, uuid, 0, b"old")
    assert cn.api.reprovision(uuid, PAYLOAD)["state"] == "running"
    assert whole(cn, uuid) == "new"


def test_disk_of_another_image_names_the_new_one(cn):
    uuid = candidate(cn)
    match = f"/dev/zvol/rdsk/zones/{uuid}/disk0"
    other = "ffffffff-0000-4000-8000-000000000001"
    script = f'select device match={match}; remove property (name=image-uuid, value="{ZVOL_IMAGE}"); '
    script += f'add property (name=image-uuid, value="{other}"); end'
    cn.node.run("zonecfg", "-u", uuid, script, check=True)
    eventually("the other image", lambda: cn.vm(uuid)["disks"][0]["image_uuid"] == other)
    assert cn.api.reprovision(uuid, PAYLOAD)["disks"][0]["image_uuid"] == ZVOL_IMAGE
    assert whole(cn, uuid) == "new"


def test_start_that_fails_is_told_and_the_disk_is_the_new_one(cn):
    uuid = candidate(cn)
    cn.control.fault("zoneadm", "fail", match="boot", stderr="zoneadm: no\n")
    first, last = cn.ok("reprovision", uuid, payload=PAYLOAD).splitlines()
    assert first == f"VM {uuid} has its new image, but was not started: first of 1 error: Command failed: zoneadm: no"
    assert last == f"Successfully reprovisioned VM {uuid}"
    assert (whole(cn, uuid), cn.vm(uuid)["state"]) == ("new", "stopped")


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"disks": []}, "No disks found for bhyve VM"),
        ({"disks": [{"match": "/x.iso", "media": "cdrom", "model": "ahci"}]}, "disk0 not found for bhyve VM"),
        (
            {"disks": [{"size": "512", "model": "virtio", "boot": "true"}]},
            "Cannot reprovision: image (10240 MiB) > disk0 (512 MiB)",
        ),
        (
            {"disks": [{"size": "12288", "model": "virtio"}]},
            "disk0 found but does not have boot property set to true - reprovision requires a bootable disk0",
        ),
    ],
)
def test_vm_without_such_a_disk_is_refused(cn, fields, text):
    uuid = cn.add(brand="bhyve", image="", ram=1024, state="stopped", quota=100, **fields)
    assert cn.fails("reprovision", uuid, payload=PAYLOAD) == f"Failed to reprovision VM {uuid}: {text}"


def test_held_snapshots_are_named(cn):
    uuid = candidate(cn)
    snapshot = f"zones/{uuid}/disk0@backup"
    zfs(cn, "snapshot", snapshot)
    for tag in ("one", "two"):
        zfs(cn, "hold", tag, snapshot)
    with pytest.raises(WrongState) as raised:
        cn.api.reprovision(uuid, PAYLOAD)
    assert str(raised.value).splitlines()[1:] == [f"  - {snapshot} (holds: one, two)"]
    assert "that must be released first:" in str(raised.value)
    assert whole(cn, uuid) == "old"
    for tag in ("one", "two"):
        zfs(cn, "release", tag, snapshot)


CHANGES = (  # what zfs does, in its order; D is the disk
    "clone -o",
    "rename -f D D-reprovisioning-root",
    "rename -f D-reprovisioning-new D",
    "rename -f D-reprovisioning-root D-reprovisioned-root",
    "destroy -r D-reprovisioned-root",
)
KEPT_AT = 3


def words_of(number, uuid):
    return CHANGES[number].replace("D", f"zones/{uuid}/disk0")


@pytest.mark.parametrize("number", few(range(len(CHANGES) - 1), 2))
def test_failing_step_brings_the_old_disk_back(cn, number):
    uuid = candidate(cn)
    cn.control.fault("zfs", "fail", match=words_of(number, uuid), stderr="no luck\n")
    with pytest.raises(VmadmError, match=f"no luck.* VM {uuid} is whole, with its old image {ZVOL_IMAGE}"):
        cn.api.reprovision(uuid, PAYLOAD)
    assert whole(cn, uuid) == "old"
    assert cn.vm(uuid)["autoboot"] is True


@pytest.mark.parametrize("number", few(range(len(CHANGES)), 2))
def test_killed_reprovision_is_settled_by_start(cn, number):
    uuid = candidate(cn)
    words = words_of(number, uuid)
    cn.forget_commands()
    cn.control.fault("zfs", "hold", match=words)
    child = cn.start_vmadm("reprovision", uuid, payload=PAYLOAD)
    eventually("the step", lambda: [line for line in cn.commands() if line.startswith(f"zfs {words}")])
    cn.kill_in_midst(child, "zfs", words)
    cn.ok("start", uuid)
    assert whole(cn, uuid) == ("new" if number > KEPT_AT else "old")
    assert cn.vm(uuid)["state"] == "running"
