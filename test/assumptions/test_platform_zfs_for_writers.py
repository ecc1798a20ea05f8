# SPDX-License-Identifier: MPL-2.0
"""zfs in the forms in which vmadm calls it, with the error texts that vmadm matches."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator

import pytest

from mockcn import process
from mockcn.process import MockNode
from support.zonemaking import new_uuid

DISK_IMAGE = "c193a558-1d63-11e9-97cf-97bb3ee5c14f"
GIB = 1 << 30


@pytest.fixture(scope="module")
def node() -> Iterator[MockNode]:
    """One node for all of this file: each test makes its own datasets."""
    with tempfile.TemporaryDirectory(prefix="cn-") as folder, process.start(folder + "/node", vms=2) as running_node:
        yield running_node


@pytest.fixture
def root(node: MockNode) -> str:
    """The name of a new filesystem."""
    name = f"zones/{new_uuid()}"
    node.run("zfs", "create", name, check=True)
    return name


@pytest.fixture
def fails(node: MockNode) -> Callable[..., tuple[int, str]]:
    """fails(tool, *words): (exit status, standard error) of a call that must print nothing else."""

    def run(tool: str, *words: str) -> tuple[int, str]:
        done = node.run(tool, *words)
        assert done.stdout == ""
        return done.returncode, done.stderr

    return run


@pytest.fixture
def value(node: MockNode) -> Callable[[str, str], str]:
    """value(property, dataset) as `zfs get -p` shows it."""
    return lambda name, dataset: node.run("zfs", "get", "-Hpo", "value", name, dataset, check=True).stdout.rstrip("\n")


def test_names_and_volumes_are_listed(node: MockNode, zfs: Callable[..., str], root: str) -> None:
    zfs("create", "-V", "1024M", f"{root}/disk0")
    zfs("create", "-V", "8M", f"{root}/disk1")
    assert zfs("list", "-o", "name", "-H", root) == root + "\n"
    assert zfs("list", "-Hrpt", "volume", "-o", "name,volsize", root) == (
        f"{root}/disk0\t{GIB}\n{root}/disk1\t{8 << 20}\n"
    )


@pytest.mark.parametrize(
    "words",
    [
        ["list", "-o", "name", "-H"],
        ["get", "-Ho", "value", "origin"],
        ["get", "-H", "-o", "value", "mountpoint"],
        ["get", "-Hpo", "property,value", "quota,reservation"],
        ["set", "quota=1g"],
        ["destroy", "-rF"],
    ],
)
def test_missing_dataset_is_named_in_the_error(fails: Callable[..., tuple[int, str]], words: list[str]) -> None:
    assert fails("zfs", *words, "zones/none") == (1, "cannot open 'zones/none': dataset does not exist\n")


def test_several_properties_are_set_and_read_at_once(node: MockNode, zfs: Callable[..., str], root: str) -> None:
    zfs("set", f"quota={40 * GIB}", f"reservation={20 * GIB}", f"refreservation={10 * GIB - (1 << 20)}", root)
    assert zfs("get", "-Hpo", "property,value", "quota,reservation,refreservation", root) == (
        f"quota\t{40 * GIB}\nreservation\t{20 * GIB}\nrefreservation\t{10 * GIB - (1 << 20)}\n"
    )
    zfs("set", "quota=none", "refreservation=none", root)
    assert zfs("get", "-Hpo", "value", "quota,refreservation", root) == "0\n0\n"


@pytest.mark.parametrize(
    "setting, name, shown",
    [
        ("quota=20g", "quota", str(20 * GIB)),
        ("recsize=8192", "recordsize", "8192"),
        ("compression=gzip-3", "compression", "gzip-3"),
        ("filesystem_limit=12", "filesystem_limit", "12"),
        ("snapshot_limit=none", "snapshot_limit", str((1 << 64) - 1)),
        (f"refquota={GIB}", "refquota", str(GIB)),
    ],
)
def test_property_is_set_in_the_words_of_vmadm(
    zfs: Callable[..., str], value: Callable[[str, str], str], root: str, setting: str, name: str, shown: str
) -> None:
    zfs("set", setting, root)
    assert value(name, root) == shown


def test_dataset_is_created_with_properties(zfs: Callable[..., str], root: str) -> None:
    zfs("create", "-o", "compression=lz4", "-o", "recsize=16384", f"{root}/data")
    assert zfs("get", "-Hpo", "value", "compression,recordsize", f"{root}/data") == "lz4\n16384\n"


def test_dry_run_prints_the_reservation_of_a_volume_that_is_there(
    zfs: Callable[..., str], value: Callable[[str, str], str], root: str
) -> None:
    volume = f"{root}/disk0"
    zfs("create", "-V", "1024M", volume)
    lines = zfs("create", "-nPV", str(2 * GIB), "-o", "copies=1", "-o", "volblocksize=8192", volume).splitlines()
    assert lines[0] == f"create\t{volume}"
    told = dict(line.split("\t")[1:] for line in lines if line.startswith("property\t"))
    assert told["volsize"] == str(2 * GIB)
    assert value("volsize", volume) == str(GIB)
    zfs("set", f"volsize={2 * GIB}", volume)
    zfs("set", "refreservation=auto", volume)
    assert value("refreservation", volume) == told["refreservation"]


def test_copies_count_in_the_reservation(zfs: Callable[..., str], root: str) -> None:
    told = [
        int(line.split("\t")[2])
        for copies in (1, 2)
        for line in zfs("create", "-nPV", str(GIB), "-o", f"copies={copies}", f"{root}/x").splitlines()
        if line.startswith("property\trefreservation")
    ]
    assert GIB < told[0] < 2 * GIB < told[1] < 3 * GIB


def test_disk_is_cloned_and_its_origin_known(
    zfs: Callable[..., str], value: Callable[[str, str], str], root: str
) -> None:
    zfs("clone", "-F", "-o", "compression=lz4", f"zones/{DISK_IMAGE}@final", f"{root}/disk0")
    assert value("origin", f"{root}/disk0") == f"zones/{DISK_IMAGE}@final"
    assert value("volsize", f"{root}/disk0") == str(10 * GIB)
    assert value("origin", root) == "-"


def test_snapshot_is_held_released_and_destroyed(
    zfs: Callable[..., str], fails: Callable[..., tuple[int, str]], root: str
) -> None:
    snapshot = f"{root}@indestructible"
    zfs("snapshot", snapshot)
    assert fails("zfs", "snapshot", snapshot) == (
        1,
        f"cannot create snapshot '{snapshot}': dataset already exists\nno snapshots were created\n",
    )
    zfs("hold", "do_not_destroy", snapshot)
    assert fails("zfs", "hold", "do_not_destroy", snapshot) == (
        1,
        f"cannot hold snapshot '{snapshot}': tag already exists on this dataset\n",
    )
    assert [line.split()[:2] for line in zfs("holds", snapshot).splitlines()[1:]] == [[snapshot, "do_not_destroy"]]
    assert fails("zfs", "destroy", snapshot)[0] == 1
    zfs("release", "do_not_destroy", snapshot)
    assert fails("zfs", "release", "do_not_destroy", snapshot) == (
        1,
        f"cannot release hold from snapshot '{snapshot}': no such tag on this dataset\n",
    )
    zfs("destroy", snapshot)
    assert fails("zfs", "destroy", snapshot) == (1, "could not find any snapshots to destroy; check snapshot names.\n")


def test_snapshots_of_all_below_are_made_and_destroyed_at_once(zfs: Callable[..., str], root: str) -> None:
    zfs("create", "-V", "8M", f"{root}/disk0")
    zfs("snapshot", "-r", f"{root}@vmsnap-a")
    names = zfs("list", "-H", "-r", "-t", "snapshot", "-o", "name", root).split()
    assert names == [f"{root}@vmsnap-a", f"{root}/disk0@vmsnap-a"]
    zfs("destroy", "-r", f"{root}@vmsnap-a")
    assert zfs("list", "-H", "-r", "-t", "snapshot", "-o", "name", root) == ""


def test_rollback_with_r_destroys_the_newer_snapshots(zfs: Callable[..., str], root: str) -> None:
    for name in ("a", "b", "c"):
        zfs("snapshot", f"{root}@vmsnap-{name}")
    zfs("rollback", "-r", f"{root}@vmsnap-a")
    assert zfs("list", "-H", "-t", "snapshot", "-o", "name", root) == f"{root}@vmsnap-a\n"


def test_destroy_with_r_and_f_takes_snapshots_and_children(zfs: Callable[..., str], root: str) -> None:
    zfs("create", "-V", "8M", f"{root}/disk0")
    zfs("snapshot", f"{root}/disk0@vmsnap-a")
    zfs("destroy", "-rF", f"{root}/disk0")
    assert zfs("list", "-H", "-r", "-t", "all", "-o", "name", root) == f"{root}\n"


def test_refreservation_auto_is_for_volumes(fails: Callable[..., tuple[int, str]], root: str) -> None:
    status, text = fails("zfs", "set", "refreservation=auto", root)
    assert (status, text.startswith(f"cannot set property for '{root}': ")) == (1, True)


# -- reservations of volumes -------------------------------------------------------------------------------------------


def auto_of(zfs: Callable[..., str], size: int, name: str) -> str:
    """What a dry run says that a volume of that size has to reserve."""
    lines = zfs("create", "-nPV", str(size), "-o", "volblocksize=8192", name).splitlines()
    return next(line.split("\t")[2] for line in lines if line.startswith("property\trefreservation"))


def test_created_volume_takes_an_automatic_reservation(
    zfs: Callable[..., str], value: Callable[[str, str], str], root: str
) -> None:
    zfs("create", "-o", "refreservation=auto", "-V", "16M", f"{root}/disk0")
    assert value("refreservation", f"{root}/disk0") == auto_of(zfs, 16 << 20, f"{root}/x")


def test_cloned_disk_reserves_what_its_own_size_needs(
    zfs: Callable[..., str], value: Callable[[str, str], str], root: str
) -> None:
    words = ["-o", f"volsize={20 * GIB}", "-o", "refreservation=auto"]
    zfs("clone", "-F", *words, f"zones/{DISK_IMAGE}@final", f"{root}/disk0")
    assert value("refreservation", f"{root}/disk0") == auto_of(zfs, 20 * GIB, f"{root}/x")
    zfs("clone", "-F", "-o", "refreservation=512M", f"zones/{DISK_IMAGE}@final", f"{root}/disk1")
    assert value("refreservation", f"{root}/disk1") == str(512 << 20)


def test_volume_that_finds_no_room_below_a_quota_is_refused(
    zfs: Callable[..., str], fails: Callable[..., tuple[int, str]], root: str
) -> None:
    zfs("set", "quota=1g", root)
    assert fails("zfs", "create", "-V", "2g", f"{root}/disk0") == (1, f"cannot create '{root}/disk0': out of space\n")
    zfs("create", "-V", "512M", f"{root}/disk0")
    too_large = f"cannot set property for '{root}/disk0': size is greater than available space\n"
    assert fails("zfs", "set", "volsize=2g", f"{root}/disk0") == (1, too_large)
    zfs("set", "quota=4g", "reservation=4g", root)
    zfs("set", "volsize=2g", f"{root}/disk0")
    assert fails("zfs", "set", "reservation=5g", root) == (1, too_large.replace("/disk0", ""))


def test_quota_and_reservation_may_be_set_in_either_order(node: MockNode) -> None:
    """A quota below the reservation is refused, and tried again once the reservation is lower, too."""
    gib = 1 << 30
    node.run("zfs", "create", "zones/orders", check=True)
    node.run("zfs", "set", f"quota={2 * gib}", f"reservation={2 * gib}", "zones/orders", check=True)
    node.run("zfs", "set", f"quota={gib}", f"reservation={gib}", "zones/orders", check=True)
    node.run("zfs", "set", f"reservation={3 * gib}", f"quota={3 * gib}", "zones/orders", check=True)
    done = node.run("zfs", "set", f"quota={gib}", "zones/orders")
    assert (done.returncode, "size is less than current used or reserved space" in done.stderr) == (1, True)
    values = node.run("zfs", "get", "-Hpo", "value", "quota,reservation", "zones/orders").stdout.split()
    assert values == [str(3 * gib), str(3 * gib)]
