# SPDX-License-Identifier: MPL-2.0
"""What a reprovision needs of the platform: datasets that change places under a zone, the brands' scripts, cp."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator

import pytest

from mockcn import process
from mockcn.process import MockNode
from support.zonemaking import new_uuid


@pytest.fixture(scope="module")
def node() -> Iterator[MockNode]:
    with (
        tempfile.TemporaryDirectory(prefix="cn-") as folder,
        process.start(folder + "/node", vms=1, seconds={"install": 0, "boot": 0, "halt": 0}) as running,
    ):
        yield running


def put(node: MockNode, path: str, text: str) -> None:
    with open(node.root + path, "w", encoding="utf-8") as file:
        file.write(text)


def test_delegated_dataset_keeps_its_name_and_its_parents_until_it_is_taken_back(node: MockNode) -> None:
    root = "zones/" + str(node.control.add_vm(delegated=True, state="stopped")["uuid"])
    node.run("zfs", "umount", f"/{root}/cores", check=True)
    done = node.run("zfs", "rename", "-f", f"{root}/data", f"{root}-aside")
    assert done.stderr == f"cannot rename '{root}/data': dataset is used in a non-global zone\n"
    done = node.run("zfs", "rename", "-f", root, f"{root}-aside")
    assert done.stderr == (
        f"cannot rename '{root}': child dataset with inherited mountpoint is used in a non-global zone\n"
    )
    node.run("zfs", "set", "zoned=off", f"{root}/data", check=True)
    node.run("zfs", "rename", "-f", root, f"{root}-aside", check=True)
    assert node.run("zfs", "list", "-H", "-o", "name", f"{root}-aside/data").returncode == 0


def test_datasets_that_change_places_take_their_files_along(node: MockNode) -> None:
    one, other = (f"zones/{new_uuid()}" for _ in range(2))
    for name in (one, other):
        node.run("zfs", "create", name, check=True)
        put(node, f"/{name}/name", name)
    node.run("zfs", "rename", "-f", one, f"{one}-old", check=True)
    assert not os.path.exists(f"{node.root}/{one}")
    node.run("zfs", "rename", "-f", other, one, check=True)
    assert (node.read(f"/{one}/name"), node.read(f"/{one}-old/name")) == (other, one)


def test_cores_are_unmounted_by_their_folder(node: MockNode) -> None:
    uuid = new_uuid()
    node.run("zfs", "create", f"zones/{uuid}", check=True)
    node.run("zfs", "create", "-p", "-o", f"mountpoint=/zones/{uuid}/cores", f"zones/cores/{uuid}", check=True)
    done = node.run("zfs", "rename", "-f", f"zones/{uuid}", f"zones/{uuid}-old")
    assert "busy" in done.stderr
    assert node.run("zfs", "umount", f"/zones/{uuid}/cores").returncode == 0
    done = node.run("zfs", "umount", f"/zones/{uuid}/cores")
    assert done.stderr == f"cannot unmount '/zones/{uuid}/cores': not a mountpoint\n"
    assert node.run("zfs", "rename", "-f", f"zones/{uuid}", f"zones/{uuid}-old").returncode == 0


@pytest.mark.parametrize(
    ("brand", "script"), [("joyent", "jinstall"), ("joyent-minimal", "jinstall"), ("lx", "lx_install")]
)
def test_script_of_the_brand_makes_a_zone_of_an_image(node: MockNode, brand: str, script: str) -> None:
    added = node.control.add_vm(brand=brand, state="stopped")
    zonepath, path = added["zonepath"], f"{node.root}/usr/lib/brand/{brand}/{script}"
    os.chmod(node.root + zonepath, 0o755)
    done = subprocess.run([path, "-r", "-R", zonepath, "-z", added["zonename"]], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert os.path.isdir(f"{node.root}{zonepath}/root/tmp")
    assert os.stat(node.root + zonepath).st_mode & 0o777 == 0o700
    assert subprocess.run([path, "-r", "-R", "/zones/x", "-z", "x"], capture_output=True, check=False).returncode


def test_new_zone_does_not_follow_the_links_of_its_image(node: MockNode) -> None:
    added = node.control.add_vm(brand="joyent", state="stopped")
    root = f"{node.root}{added['zonepath']}/root"
    os.makedirs(f"{node.root}/elsewhere", exist_ok=True)
    os.rename(f"{root}/var", f"{root}/usr-var")
    os.symlink(f"{node.root}/elsewhere", f"{root}/var")
    path = f"{node.root}/usr/lib/brand/joyent/jinstall"
    subprocess.run([path, "-r", "-R", added["zonepath"], "-z", added["zonename"]], check=True)
    assert os.listdir(f"{node.root}/elsewhere") == []


def test_cp_copies_folders_and_links_as_they_are(node: MockNode) -> None:
    os.makedirs(f"{node.root}/from/folder")
    os.makedirs(f"{node.root}/to")
    put(node, "/from/folder/file", "text")
    os.symlink("/etc", f"{node.root}/from/link")
    os.mkfifo(f"{node.root}/from/folder/fifo")
    assert node.run("cp", "-pPR", "/from/folder", "/from/link", "/to/").returncode == 0
    assert os.path.exists(f"{node.root}/to/folder/fifo")
    assert node.read("/to/folder/file") == "text"
    assert os.readlink(f"{node.root}/to/link") == "/etc"
    done = node.run("cp", "-RP", "/from/nothing", "/to/")
    assert (done.returncode, done.stderr) == (2, "cp: cannot copy /from/nothing: No such file or directory\n")
