# SPDX-License-Identifier: MPL-2.0
"""Snapshots of VMs."""

import os

import pytest

from support.writing import NOBODY

pytest_plugins = ["support.writers"]


@pytest.fixture
def uuid(cn):
    return cn.add(alias="snap")


def names(cn, uuid):
    return [snapshot["name"] for snapshot in cn.vm(uuid)["snapshots"]]


def test_snapshot_is_shown_mounted_and_moves_last_modified(cn, uuid):
    os.utime(f"{cn.root}/etc/zones/{uuid}.xml", (10**9, 10**9))
    cn.forget_commands()
    assert cn.ok("create-snapshot", uuid, "a.1") == f"Created snapshot a.1 for VM {uuid}"
    assert names(cn, uuid) == ["a.1"]
    assert cn.vm(uuid)["last_modified"] > "2020"
    assert os.path.isdir(f"{cn.root}/zones/{uuid}/root/checkpoints/a.1")
    assert cn.commands() == [
        f"zfs snapshot zones/{uuid}@vmsnap-a.1",
        f"mount -F lofs -o ro,setuid,nodevices /zones/{uuid}/.zfs/snapshot/vmsnap-a.1/root "
        f"/zones/{uuid}/root/checkpoints/a.1",
    ]


def test_snapshot_is_deleted(cn, uuid):
    cn.api.create_snapshot(uuid, "x")
    cn.forget_commands()
    assert cn.ok("delete-snapshot", uuid, "x") == f"Deleted snapshot x for VM {uuid}"
    assert names(cn, uuid) == []
    assert not os.path.exists(f"{cn.root}/zones/{uuid}/root/checkpoints/x")
    assert cn.commands() == [f"umount /zones/{uuid}/root/checkpoints/x", f"zfs destroy zones/{uuid}@vmsnap-x"]


def test_checkpoints_that_is_a_link_out_of_the_zone_is_not_followed(cn, uuid, tmp_path):
    for snapshot in ("x", "y"):
        (tmp_path / snapshot).mkdir()
    cn.api.create_snapshot(uuid, "x")
    checkpoints = f"{cn.root}/zones/{uuid}/root/checkpoints"
    os.rename(checkpoints, checkpoints + ".kept")
    os.symlink(tmp_path, checkpoints)
    cn.forget_commands()
    cn.api.delete_snapshot(uuid, "x")
    cn.api.create_snapshot(uuid, "y")
    assert names(cn, uuid) == ["y"]
    assert sorted(os.listdir(tmp_path)) == ["x", "y"]
    assert not [command for command in cn.commands() if command.split()[0] in ("mount", "umount")]


def test_snapshot_of_a_stopped_vm_is_not_mounted(cn):
    uuid = cn.add(state="stopped")
    cn.forget_commands()
    cn.api.create_snapshot(uuid, "x")
    cn.api.delete_snapshot(uuid, "x")
    assert [command.split()[0] for command in cn.commands()] == ["zfs", "umount", "zfs"]


def test_rollback_restarts_the_vm_and_newer_snapshots_are_gone(cn, uuid):
    for name in ("one", "two", "three"):
        cn.api.create_snapshot(uuid, name)
    before = cn.vm(uuid)["zoneid"]
    assert cn.ok("rollback-snapshot", uuid, "one") == f"Rolled back snapshot one for VM {uuid}"
    vm = cn.vm(uuid)
    assert [snapshot["name"] for snapshot in vm["snapshots"]] == ["one"]
    assert vm["state"] == "running"
    assert vm["zoneid"] != before


def test_rollback_starts_a_stopped_vm_too(cn):
    uuid = cn.add(state="stopped", snapshots=["vmsnap-s"])
    assert cn.api.rollback_snapshot(uuid, "s")["state"] == "running"


@pytest.mark.parametrize("name", ["a b", "", "x" * 65, "a/b", "é"])
def test_names_that_are_none(cn, uuid, name):
    for command in ("create-snapshot", "delete-snapshot", "rollback-snapshot"):
        assert cn.fails(command, uuid, name) == "Invalid snapshot name"


def test_name_of_64_characters_is_one(cn, uuid):
    cn.api.create_snapshot(uuid, "x" * 64)
    assert names(cn, uuid) == ["x" * 64]


@pytest.mark.parametrize("command", ["create-snapshot", "delete-snapshot", "rollback-snapshot"])
@pytest.mark.parametrize("operands", [[], ["a", "b"]])
def test_wrong_number_of_words(cn, uuid, command, operands):
    done = cn.vmadm(command, uuid, *operands)
    assert (done.code, done.err.splitlines()[0]) == (2, f'Wrong number of parameters to "{command}"')


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("create-snapshot", f"VM {NOBODY} not found"),
        ("delete-snapshot", f"VM {NOBODY} not found"),
        ("rollback-snapshot", "bad statusCode: 404"),
    ],
)
def test_snapshots_of_an_unknown_vm(cn, command, text):
    assert cn.fails(command, NOBODY, "x") == text


def test_name_that_is_taken(cn, uuid):
    cn.api.create_snapshot(uuid, "x")
    assert cn.fails("create-snapshot", uuid, "x") == 'snapshot with name "x" already exists.'


@pytest.mark.parametrize("command", ["delete-snapshot", "rollback-snapshot"])
def test_snapshot_that_is_not_there(cn, uuid, command):
    assert cn.fails(command, uuid, "none") == f'No snapshot named "none" for {uuid}'


def test_vm_with_a_delegated_dataset_has_none(cn):
    uuid = cn.add(delegated=True)
    assert cn.fails("create-snapshot", uuid, "x") == "Cannot currently snapshot zones that have datasets"


@pytest.mark.parametrize("command", ["create-snapshot", "delete-snapshot", "rollback-snapshot"])
def test_kvm_has_none(cn, command):
    uuid = cn.add(brand="kvm", image="", ram=1024)
    assert cn.fails(command, uuid, "x") == "snapshots for kvm VMs currently unsupported"


def test_snapshot_of_a_bhyve_takes_its_disks_along(cn):
    uuid = cn.add(brand="bhyve", image="", ram=1024, disks=[{"size": "512", "model": "virtio"}])
    cn.api.create_snapshot(uuid, "x")
    assert cn.control.snapshots_of(f"zones/{uuid}/disk0") == ["vmsnap-x"]
    cn.api.delete_snapshot(uuid, "x")
    assert cn.control.snapshots_of(f"zones/{uuid}/disk0") == []


def write_to(cn, volume, text):
    with open(f"{cn.root}/dev/zvol/rdsk/{volume}", "r+b") as disk:
        disk.write(text)


def read_from(cn, volume):
    with open(f"{cn.root}/dev/zvol/rdsk/{volume}", "rb") as disk:
        return disk.read(3)


def test_rollback_of_a_bhyve_takes_every_disk_back(cn):
    disks = [{"size": 64, "model": "virtio", "boot": True}, {"size": 64, "model": "virtio"}]
    vm = cn.api.create(
        {"brand": "bhyve", "ram": 1024, "zpool": "tank", "flexible_disk_size": 1024, "autoboot": False, "disks": disks}
    )
    uuid, root = vm["uuid"], vm["zfs_filesystem"]
    assert root.startswith("tank/")
    volumes = [disk["zfs_filesystem"] for disk in vm["disks"]]
    for volume in volumes:
        write_to(cn, volume, b"old")
    cn.api.create_snapshot(uuid, "x")
    cn.api.create_snapshot(uuid, "x1")
    later = cn.api.update(uuid, add_disks=[{"size": 64, "model": "virtio"}])["disks"][2]["zfs_filesystem"]
    for volume in (*volumes, later):
        write_to(cn, volume, b"new")
    rolled = cn.api.rollback_snapshot(uuid, "x")
    assert rolled["state"] == "running"
    assert [snapshot["name"] for snapshot in rolled["snapshots"]] == ["x"]
    assert [read_from(cn, volume) for volume in (*volumes, later)] == [b"old", b"old", b"new"]
    assert [cn.control.snapshots_of(name) for name in (root, *volumes, later)] == [["vmsnap-x"]] * 3 + [[]]


def test_rollback_that_fails_at_a_disk_is_repeated(cn):
    disks = [{"size": 64, "model": "virtio"}, {"size": 64, "model": "virtio"}]
    vm = cn.api.create({"brand": "bhyve", "ram": 1024, "autoboot": False, "disks": disks})
    volumes = [disk["zfs_filesystem"] for disk in vm["disks"]]
    for volume in volumes:
        write_to(cn, volume, b"old")
    cn.api.create_snapshot(vm["uuid"], "x")
    for volume in volumes:
        write_to(cn, volume, b"new")
    cn.control.fault("zfs", "fail", match=f"rollback -r {volumes[1]}", stderr="cannot roll back\n")
    assert "cannot roll back" in cn.fails("rollback-snapshot", vm["uuid"], "x")
    assert [read_from(cn, volume) for volume in volumes] == [b"old", b"new"]
    cn.ok("rollback-snapshot", vm["uuid"], "x")
    assert [read_from(cn, volume) for volume in volumes] == [b"old", b"old"]
    cn.api.delete(vm["uuid"])


# Failures.


def test_failing_snapshot(cn, uuid):
    cn.control.fault("zfs", "fail", match="snapshot zones", stderr="cannot create snapshot: out of space\n")
    assert cn.fails("create-snapshot", uuid, "x") == (
        "first of 1 error: Command failed: cannot create snapshot: out of space"
    )
    assert names(cn, uuid) == []


def test_snapshot_that_cannot_be_mounted_is_one_all_the_same(cn, uuid):
    cn.control.fault("mount", "fail", stderr="mount: no\n")
    cn.ok("create-snapshot", uuid, "x")
    assert names(cn, uuid) == ["x"]


def test_snapshot_is_not_mounted_over_a_link_of_the_zones(cn, uuid, tmp_path):
    os.makedirs(f"{cn.root}/zones/{uuid}/root", exist_ok=True)
    os.symlink(tmp_path, f"{cn.root}/zones/{uuid}/root/checkpoints")
    cn.ok("create-snapshot", uuid, "x")
    assert os.listdir(tmp_path) == []


def test_checkpoint_that_is_busy_keeps_the_snapshot(cn, uuid):
    cn.api.create_snapshot(uuid, "x")
    cn.control.fault("umount", "fail", stderr="umount: /x busy\n")
    assert cn.fails("delete-snapshot", uuid, "x") == "first of 1 error: Command failed: umount: /x busy"
    assert names(cn, uuid) == ["x"]


def test_failing_destroy_keeps_the_snapshot(cn, uuid):
    cn.api.create_snapshot(uuid, "x")
    cn.control.fault("zfs", "fail", match="destroy", stderr="cannot destroy: held\n")
    assert cn.fails("delete-snapshot", uuid, "x") == (
        "first of 1 error: Command failed: cannot destroy: held (done: umount; not done: zfs destroy, last_modified)"
    )
    assert names(cn, uuid) == ["x"]
    cn.ok("delete-snapshot", uuid, "x")


def test_failing_rollback_says_that_the_vm_is_stopped(cn, uuid):
    cn.api.create_snapshot(uuid, "x")
    cn.control.fault("zfs", "fail", match="rollback", stderr="cannot roll back\n")
    assert cn.fails("rollback-snapshot", uuid, "x") == (
        "Command failed: cannot roll back (done: stop; not done: zfs rollback, start)"
    )
    assert cn.vm(uuid)["state"] == "stopped"
    cn.ok("rollback-snapshot", uuid, "x")
    assert cn.vm(uuid)["state"] == "running"


@pytest.mark.parametrize("name", [".", ".."])
def test_name_that_no_folder_can_have_is_one_without_a_checkpoint(cn, uuid, name):
    cn.forget_commands()
    assert cn.ok("create-snapshot", uuid, name) == f"Created snapshot {name} for VM {uuid}"
    assert names(cn, uuid) == [name]
    assert cn.ok("delete-snapshot", uuid, name) == f"Deleted snapshot {name} for VM {uuid}"
    assert names(cn, uuid) == []
    full = f"zones/{uuid}@vmsnap-{name}"
    assert cn.commands() == [f"zfs snapshot {full}", f"zfs destroy {full}"]
