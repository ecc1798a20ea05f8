# SPDX-License-Identifier: MPL-2.0
"""The room that a bhyve VM's root dataset has for its disks, by what zfs itself says."""

import pytest

from support.examples import more

pytest_plugins = ("support.writers",)

MIB, GIB = 1 << 20, 1 << 30


def numbers(cn, dataset, *names):
    words = ("get", "-Hpo", "value", ",".join(names), dataset)
    return [int(value) for value in cn.node.run("zfs", *words).stdout.split()]


def volumes(cn, root):
    """(size, reservation) of each volume, in bytes."""
    rows = cn.node.run("zfs", "list", "-Hpr", "-t", "volume", "-o", "volsize,refreservation", root).stdout
    return [tuple(int(word) for word in row.split()) for row in rows.splitlines()]


def check_room(cn, vm, *, flexible):
    """What zfs keeps beside the data of each volume is there on top of what was asked for, reserved to the byte."""
    root = vm["zfs_filesystem"]
    found = volumes(cn, root)
    assert all(reserved > size for size, reserved in found)
    own = max(1, vm["quota"]) * GIB
    wanted = own + flexible * MIB + sum(reserved - size for size, reserved in found)
    assert numbers(cn, root, "quota", "reservation", "refquota", "refreservation") == [wanted, wanted, own, own - MIB]


@pytest.mark.parametrize("quota", [1, *more(0, 3)])
def test_flexible_room_holds_through_the_life_of_disks(cn, quota):
    disks = [{"size": 512, "model": "virtio"}, {"size": 64, "model": "virtio", "block_size": 512}]
    vm = cn.api.create(
        {"brand": "bhyve", "ram": 1024, "autoboot": False, "quota": quota, "flexible_disk_size": 4096, "disks": disks}
    )
    uuid, paths = vm["uuid"], [disk["path"] for disk in vm["disks"]]
    check_room(cn, vm, flexible=4096)
    vm = cn.api.update(uuid, add_disks=[{"size": 256, "model": "virtio", "block_size": 4096}])
    check_room(cn, vm, flexible=4096)
    vm = cn.api.update(uuid, update_disks=[{"path": paths[0], "size": 1024}, {"path": paths[1], "size": 128}])
    check_room(cn, vm, flexible=4096)
    vm = cn.api.update(uuid, update_disks=[{"path": paths[0], "size": 256, "dangerous_allow_shrink": True}])
    check_room(cn, vm, flexible=4096)
    vm = cn.api.update(uuid, quota=2, flexible_disk_size=2048)
    check_room(cn, vm, flexible=2048)
    cn.api.delete(uuid)


def test_disk_with_a_reservation_of_its_own_takes_no_room_beside_it(cn):
    vm = cn.api.create({"brand": "bhyve", "ram": 1024, "autoboot": False, "flexible_disk_size": 1024})
    root = vm["zfs_filesystem"]
    before = numbers(cn, root, "quota", "reservation")
    cn.api.update(vm["uuid"], add_disks=[{"size": 256, "model": "virtio", "refreservation": 16}])
    assert volumes(cn, root) == [(256 * MIB, 16 * MIB)]
    assert numbers(cn, root, "quota", "reservation") == before
    cn.api.delete(vm["uuid"])


@pytest.mark.parametrize("match", ["create -o", "set volsize"])
def test_room_is_as_before_when_zfs_refuses(cn, match):
    disks = [{"size": 256, "model": "virtio"}]
    vm = cn.api.create({"brand": "bhyve", "ram": 1024, "autoboot": False, "flexible_disk_size": 2048, "disks": disks})
    root = vm["zfs_filesystem"]
    before = numbers(cn, root, "quota", "reservation"), volumes(cn, root)
    cn.control.fault("zfs", "fail", match=match, stderr="no such luck\n")
    asked = (
        {"add_disks": disks} if "create" in match else {"update_disks": [{"path": vm["disks"][0]["path"], "size": 512}]}
    )
    assert "no such luck" in cn.fails("update", vm["uuid"], payload=asked)
    cn.control.clear_faults()
    assert (numbers(cn, root, "quota", "reservation"), volumes(cn, root)) == before
    cn.ok("update", vm["uuid"], payload=asked)
    cn.api.delete(vm["uuid"])
