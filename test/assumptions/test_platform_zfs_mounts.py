# SPDX-License-Identifier: MPL-2.0
"""Mounting and unmounting: zfs mount and umount, what is busy, lofs, and what is on volumes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator

import pytest

from mockcn import process
from mockcn.process import MockNode
from mockcn.state.unmounter import mounted_below
from support.running_daemon import eventually
from support.zonemaking import installed, new_uuid, running

MIB = 1 << 20
DISK_IMAGE = "c193a558-1d63-11e9-97cf-97bb3ee5c14f"


@pytest.fixture(scope="module")
def node() -> Iterator[MockNode]:
    """One node for all of this file: each test makes its own datasets and zones."""
    with (
        tempfile.TemporaryDirectory(prefix="cn-") as folder,
        process.start(folder + "/node", vms=2, seconds={"install": 0, "boot": 0, "halt": 0}) as running_node,
    ):
        yield running_node


@pytest.fixture
def root(node: MockNode) -> str:
    """The name of a new filesystem."""
    name = f"zones/{new_uuid()}"
    node.run("zfs", "create", name, check=True)
    return name


@pytest.fixture
def fails(node: MockNode) -> Callable[..., tuple[int, str]]:
    def run(tool: str, *words: str) -> tuple[int, str]:
        done = node.run(tool, *words)
        assert done.stdout == ""
        return done.returncode, done.stderr

    return run


def put(node: MockNode, path: str, text: str) -> None:
    with open(node.root + path, "w", encoding="utf-8") as file:
        file.write(text)


# -- zfs mount, zfs umount ---------------------------------------------------------------------------------------------


def test_unmounted_filesystem_hides_its_files_until_it_is_mounted(
    node: MockNode, zfs: Callable[..., str], root: str
) -> None:
    put(node, f"/{root}/kept", "text")
    zfs("umount", root)
    assert os.listdir(f"{node.root}/{root}") == []
    assert zfs("get", "-Ho", "value", "mounted", root) == "no\n"
    zfs("mount", root)
    assert node.read(f"/{root}/kept") == "text"
    assert zfs("get", "-Ho", "value", "mounted", root) == "yes\n"


def test_unmounting_says_what_is_no_mountpoint_or_not_mounted(
    zfs: Callable[..., str], fails: Callable[..., tuple[int, str]], root: str
) -> None:
    assert fails("zfs", "umount", f"/{root}/none") == (1, f"cannot unmount '/{root}/none': not a mountpoint\n")
    zfs("umount", f"/{root}")
    assert fails("zfs", "umount", root) == (1, f"cannot unmount '{root}': not currently mounted\n")
    zfs("mount", root)
    assert fails("zfs", "mount", root) == (1, f"cannot mount '{root}': filesystem already mounted\n")


def test_filesystem_is_not_mounted_over_files(
    node: MockNode, zfs: Callable[..., str], fails: Callable[..., tuple[int, str]], root: str
) -> None:
    put(node, f"/{root}/inside", "")
    zfs("umount", root)
    put(node, f"/{root}/in-the-way", "")
    assert fails("zfs", "mount", root) == (1, f"cannot mount '/{root}': directory is not empty\n")
    os.unlink(f"{node.root}/{root}/in-the-way")
    zfs("mount", root)
    assert os.listdir(f"{node.root}/{root}") == ["inside"]


def test_delegated_files_are_away_while_zoned_and_come_along_with_renames(
    node: MockNode, zfs: Callable[..., str], root: str
) -> None:
    zfs("create", f"{root}/data")
    put(node, f"/{root}/data/rows", "1")
    zfs("set", "zoned=on", f"{root}/data")
    assert not os.path.exists(f"{node.root}/{root}/data")
    zfs("set", "zoned=off", f"{root}/data")
    zfs("rename", "-f", f"{root}/data", f"{root}-data")
    assert node.read(f"/{root}-data/rows") == "1"
    zfs("rename", "-f", root, f"{root}-old")
    zfs("create", root)
    zfs("rename", "-f", f"{root}-data", f"{root}/data")
    assert node.read(f"/{root}/data/rows") == "1"


# -- in use ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["destroy", "-r"], ["destroy", "-rF"], ["umount"]])
def test_root_of_a_running_zone_is_busy(
    node: MockNode, zfs: Callable[..., str], fails: Callable[..., tuple[int, str]], words: list[str]
) -> None:
    zone = running(node)
    zfs("snapshot", f"zones/{zone}@before")
    assert fails("zfs", *words, f"zones/{zone}") == (1, f"cannot unmount '/zones/{zone}': Device busy\n")
    assert fails("zfs", "rename", f"zones/{zone}", f"zones/{zone}-x")[0] == 1
    assert node.control.snapshots_of(f"zones/{zone}") == ["before"]


def test_disk_of_a_running_zone_is_busy_and_can_be_destroyed_once_it_is_halted(
    node: MockNode, zfs: Callable[..., str], fails: Callable[..., tuple[int, str]]
) -> None:
    vm = node.control.add_vm(brand="bhyve", disks=[{"boot": "true", "size": "16"}])
    disk = f"zones/{vm['uuid']}/disk0"
    assert fails("zfs", "destroy", "-rF", disk) == (1, f"cannot destroy '{disk}': dataset is busy\n")
    node.run("zoneadm", "-u", vm["uuid"], "halt", "-X", check=True)
    zfs("destroy", "-rF", disk)


def test_root_is_busy_while_the_cores_lie_in_it(
    node: MockNode, zfs: Callable[..., str], fails: Callable[..., tuple[int, str]]
) -> None:
    zone = installed(node)
    busy = (1, f"cannot unmount '/zones/{zone}': Device busy\n")
    assert fails("zfs", "rename", "-f", f"zones/{zone}", f"zones/{zone}-old") == busy
    assert fails("zfs", "destroy", "-r", f"zones/{zone}") == busy
    zfs("umount", f"/zones/{zone}/cores")
    zfs("rename", "-f", f"zones/{zone}", f"zones/{zone}-old")
    assert os.path.isdir(f"{node.root}/zones/{zone}-old/root")


# -- mount -------------------------------------------------------------------------------------------------------------


def snapshot_in_its_zone(node: MockNode, zone: str) -> tuple[str, str]:
    """Take a snapshot of a zone that has a file, which changes afterwards; what to mount, and where."""
    put(node, f"/zones/{zone}/root/etc/motd", "then")
    node.run("zfs", "snapshot", f"zones/{zone}@vmsnap-a", check=True)
    put(node, f"/zones/{zone}/root/etc/motd", "now")
    where = f"/zones/{zone}/root/checkpoints/a"
    os.makedirs(node.root + where)
    return f"/zones/{zone}/.zfs/snapshot/vmsnap-a/root", where


def mounted_snapshot_shows_the_files_of_then(node: MockNode) -> None:
    zone = running(node)
    source, where = snapshot_in_its_zone(node, zone)
    node.run("mount", "-F", "lofs", "-o", "ro,setuid,nodevices", source, where, check=True)
    assert node.read(f"{where}/etc/motd") == "then"
    assert f"{where} on {source} ro,setuid,nodevices\n" in node.run("mount").stdout
    node.run("umount", where, check=True)
    assert os.listdir(node.root + where) == []
    assert node.read(f"/zones/{zone}/root/etc/motd") == "now"


def test_mounted_snapshot_shows_the_files_of_then(node: MockNode) -> None:
    mounted_snapshot_shows_the_files_of_then(node)


def test_without_the_privilege_snapshots_are_mounted_and_other_folders_refused(root: str) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="cn-") as folder,
        process.start(folder + "/node", vms=1, kernel_mounts=False, seconds={"install": 0, "boot": 0}) as node,
    ):
        mounted_snapshot_shows_the_files_of_then(node)
        os.makedirs(node.root + "/zones/shared/at")
        done = node.run("mount", "-F", "lofs", "/zones/archive", "/zones/shared/at")
        assert (done.returncode, done.stderr) == (1, "mount: insufficient privileges\n")


def test_halted_zone_has_nothing_mounted_in_its_root(node: MockNode) -> None:
    zone = running(node)
    source, where = snapshot_in_its_zone(node, zone)
    node.run("mount", "-F", "lofs", "-o", "ro", source, where, check=True)
    node.run("zoneadm", "-u", zone, "halt", "-X", check=True)
    assert where not in node.run("mount").stdout
    assert os.listdir(node.root + where) == []


def test_mounted_folder_is_the_same_folder_twice(node: MockNode, zfs: Callable[..., str], root: str) -> None:
    zfs("create", f"{root}/source")
    os.mkdir(f"{node.root}/{root}/at")
    done = node.run("mount", "-F", "lofs", f"/{root}/source", f"/{root}/at")
    if done.stderr == "mount: insufficient privileges\n":
        pytest.skip("mounting takes a privilege that these tests do not have")
    put(node, f"/{root}/at/written", "x")
    assert node.read(f"/{root}/source/written") == "x"
    assert node.run("zfs", "umount", root).stderr == f"cannot unmount '/{root}': Device busy\n"
    node.run("umount", f"/{root}/at", check=True)
    assert os.listdir(f"{node.root}/{root}/at") == []


@pytest.mark.parametrize("ending", ["is killed outright", "is stopped"])
def test_nothing_is_left_mounted_however_the_node_ends(root: str, ending: str) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="cn- with a blank ") as folder,
        process.start(folder + "/node", vms=1, seconds={"install": 0, "boot": 0}) as node,
    ):
        for name in ("from", "at", "at too"):
            os.makedirs(f"{node.root}/zones/{name}")
        put(node, "/zones/from/file", "x")
        for where in ("/zones/at", "/zones/at too"):
            done = node.run("mount", "-F", "lofs", "/zones/from", where)
            if done.stderr == "mount: insufficient privileges\n":
                pytest.skip("mounting takes a privilege that these tests do not have")
        assert len(mounted_below(folder)) == 2
        if ending == "is killed outright":
            node.child.kill()
        else:
            node.stop()
        eventually("nothing is mounted", lambda: not mounted_below(folder))
        if ending == "is killed outright":
            assert os.listdir(f"{node.root}/zones/at too") == []
            assert os.listdir(f"{node.root}/zones/from") == ["file"]


# -- volumes -----------------------------------------------------------------------------------------------------------


def device(node: MockNode, volume: str) -> str:
    return f"{node.root}/dev/zvol/rdsk/{volume}"


def test_what_is_written_to_a_volume_is_in_its_snapshots_and_clones(
    node: MockNode, zfs: Callable[..., str], root: str
) -> None:
    zfs("create", "-V", "16M", f"{root}/disk0")
    assert os.path.getsize(device(node, f"{root}/disk0")) == 16 * MIB
    with open(device(node, f"{root}/disk0"), "r+b") as file:
        file.seek(MIB)
        file.write(b"first")
    zfs("snapshot", f"{root}/disk0@a")
    with open(device(node, f"{root}/disk0"), "r+b") as file:
        file.seek(MIB)
        file.write(b"later")
    zfs("clone", f"{root}/disk0@a", f"{root}/disk1")
    for volume, text in (("disk0", b"later"), ("disk1", b"first")):
        with open(f"{node.root}/dev/zvol/dsk/{root}/{volume}", "rb") as file:
            file.seek(MIB)
            assert file.read(5) == text
    zfs("set", "volsize=32M", f"{root}/disk1")
    assert os.path.getsize(device(node, f"{root}/disk1")) == 32 * MIB
    zfs("rollback", f"{root}/disk0@a")
    with open(device(node, f"{root}/disk0"), "rb") as file:
        file.seek(MIB)
        assert file.read(5) == b"first"
    zfs("rename", f"{root}/disk1", f"{root}/disk2")
    assert os.path.exists(device(node, f"{root}/disk2")) and not os.path.exists(device(node, f"{root}/disk1"))
    zfs("destroy", "-r", f"{root}/disk2")
    assert not os.path.exists(device(node, f"{root}/disk2"))


def test_disk_cloned_from_an_image_begins_as_the_image(node: MockNode, zfs: Callable[..., str], root: str) -> None:
    zfs("clone", f"zones/{DISK_IMAGE}@final", f"{root}/disk0")
    with open(device(node, f"{root}/disk0"), "rb") as file:
        assert DISK_IMAGE.encode() in file.read(512)
