# SPDX-License-Identifier: MPL-2.0
"""Images, NIC tags and the small tools that vmadm calls."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator

import pytest

from mockcn import process
from mockcn.process import MockNode
from support.zonemaking import SMARTOS, configured, installed, new_uuid, running

KINDS = {"zone-dataset", "lx-dataset", "docker", "zvol"}


@pytest.fixture(scope="module")
def node() -> Iterator[MockNode]:
    """One node for all of this file: each test makes its own zones."""
    with (
        tempfile.TemporaryDirectory(prefix="cn-") as folder,
        process.start(folder + "/node", vms=2, seconds={"install": 0, "boot": 0, "halt": 0}) as running_node,
    ):
        yield running_node


def images(node: MockNode, pool: str) -> list[dict[str, object]]:
    """The manifests of all images of a pool, as imgadm has them."""
    uuids = [line.split()[0] for line in node.run("imgadm", "list").stdout.splitlines()[1:]]
    answers = [node.run("imgadm", "get", "-P", pool, uuid) for uuid in uuids]
    return [json.loads(done.stdout)["manifest"] for done in answers if done.returncode == 0]


# -- images ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pool", ["zones", "tank"])
def test_each_pool_has_an_image_of_each_type(node: MockNode, pool: str) -> None:
    assert {manifest["type"] for manifest in images(node, pool)} == KINDS


@pytest.mark.parametrize("pool", ["zones", "tank"])
def test_image_can_be_cloned_from_its_final_snapshot(node: MockNode, pool: str) -> None:
    for manifest in images(node, pool):
        where = f"{pool}/{new_uuid()}"
        done = node.run("zfs", "clone", "-F", f"{pool}/{manifest['uuid']}@final", where)
        assert (done.returncode, done.stderr) == (0, "")
        kind = node.run("zfs", "get", "-Ho", "value", "type", where).stdout
        assert kind == ("volume\n" if manifest["type"] == "zvol" else "filesystem\n")


def test_disk_image_has_the_size_of_its_volume(node: MockNode) -> None:
    for manifest in images(node, "zones"):
        size = node.run("zfs", "get", "-Hpo", "value", "volsize", f"zones/{manifest['uuid']}").stdout
        expected = f"{int(str(manifest['image_size'])) << 20}\n" if manifest["type"] == "zvol" else "-\n"
        assert size == expected


def test_manifest_has_what_provisioning_reads(node: MockNode) -> None:
    for manifest in images(node, "zones"):
        assert {"uuid", "type", "requirements", "tags"} <= set(manifest)


def test_image_of_the_rfd_is_there(node: MockNode) -> None:
    manifest = json.loads(node.run("imgadm", "get", "-P", "zones", SMARTOS, check=True).stdout)["manifest"]
    assert (manifest["uuid"], manifest["type"]) == (SMARTOS, "zone-dataset")


def test_mounted_image_shows_whether_its_guest_moves_the_marker(node: MockNode) -> None:
    told = []
    for manifest in images(node, "zones"):
        if manifest["type"] == "zone-dataset":
            where = node.run("zfs", "get", "-H", "-o", "value", "mountpoint", f"zones/{manifest['uuid']}").stdout
            path = f"{where.strip()}/root/var/zoneinit/zoneinit.json"
            told.append(
                os.path.exists(node.root + path) and json.loads(node.read(path))["features"]["var_svc_provisioning"]
            )
    assert sorted(told) == [False, True, True, True]  # one image is too old


@pytest.mark.parametrize(
    "words, text",
    [
        (["-P", "zones", "11111111-2222-4333-8444-555555555555"], "ImageNotInstalled"),
        (["-P", "tank", "5b8c4e3a-0f8e-11ee-9f0c-1b6d0c3e2a11"], "ImageNotInstalled"),
        (["-P", "nopool", SMARTOS], "UnknownZpool"),
    ],
)
def test_image_that_is_not_there_is_an_error(node: MockNode, words: list[str], text: str) -> None:
    done = node.run("imgadm", "get", *words)
    assert done.returncode != 0
    assert text in done.stderr
    assert done.stdout == ""


# -- NIC tags ----------------------------------------------------------------------------------------------------------


def test_tags_that_exist_are_fine_without_a_word(node: MockNode) -> None:
    done = node.run("nictagadm", "exists", "-l", "external", "admin")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_missing_tags_are_named_one_a_line(node: MockNode) -> None:
    done = node.run("nictagadm", "exists", "-l", "nope", "external", "neither")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "nope\nneither\n")


def test_tags_are_listed_with_mac_link_and_type(node: MockNode) -> None:
    lines = node.run("nictagadm", "list", "-p", "-d", ",", check=True).stdout.splitlines()
    assert "external,00:50:56:3d:a7:95,e1000g1,normal" in lines
    assert {len(line.split(",")) for line in lines} == {4}


def test_tag_of_an_overlay_is_there_if_the_overlay_is(node: MockNode) -> None:
    assert node.run("nictagadm", "exists", "-l", "external/123").returncode == 0
    assert node.run("nictagadm", "exists", "-l", "overlay/123").stderr == "overlay/123\n"


def test_added_tag_is_listed_on_the_link_of_its_mac(node: MockNode) -> None:
    node.run("nictagadm", "add", "lab", "0:50:56:3d:a7:95", check=True)
    assert "lab,00:50:56:3d:a7:95,e1000g1,normal\n" in node.run("nictagadm", "list", "-p", "-d", ",").stdout
    assert node.run("nictagadm", "exists", "-l", "lab").returncode == 0
    assert (
        node.run("nictagadm", "add", "lab", "00:50:56:3d:a7:95").stderr == "nictagadm: nic tag 'lab' already exists\n"
    )
    node.run("nictagadm", "delete", "lab", check=True)
    assert node.run("nictagadm", "exists", "-l", "lab").stderr == "lab\n"


def test_added_etherstub_has_no_card(node: MockNode) -> None:
    node.run("nictagadm", "add", "-l", "stub7", check=True)
    assert "stub7,-,-,etherstub\n" in node.run("nictagadm", "list", "-p", "-d", ",").stdout
    node.run("nictagadm", "delete", "stub7", check=True)


# -- the rest ----------------------------------------------------------------------------------------------------------


def test_pools_are_listed_by_name(node: MockNode) -> None:
    assert node.run("zpool", "list", "-H", "-p", "-o", "name").stdout == "tank\nzones\n"


def test_controls_of_a_running_zone_can_be_set(node: MockNode) -> None:
    zone = running(node)
    for words in (
        ["-n", "zone.max-swap", "-v", "268435456", "-t", "privileged", "-r", "-i", "zone", zone],
        ["-n", "zone.cpu-cap", "-x", "-t", "privileged", "-i", "zone", zone],
    ):
        done = node.run("prctl", *words)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_controls_of_a_stopped_zone_cannot_be_set(node: MockNode) -> None:
    zone = installed(node)
    done = node.run("prctl", "-n", "zone.max-lwps", "-v", "1", "-t", "privileged", "-r", "-i", "zone", zone)
    assert done.returncode == 1
    assert zone in done.stderr


@pytest.mark.parametrize(
    "tool, words",
    [
        ("svccfg", ["-s", "svc:/smartdc/mdata:execute", "setprop", "start/timeout_seconds", "=", "count:", "300"]),
        ("svcadm", ["restart", "metadata"]),
        ("svcs", ["-H"]),
    ],
)
def test_tools_of_which_only_success_matters_succeed_without_a_word(
    node: MockNode, tool: str, words: list[str]
) -> None:
    done = node.run(tool, *words)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_snapshot_is_mounted_and_unmounted(node: MockNode) -> None:
    zone = installed(node)
    node.run("zfs", "snapshot", f"zones/{zone}@vmsnap-a", check=True)
    where = f"/zones/{zone}/root/checkpoints/a"
    os.makedirs(node.root + where)
    words = ["-F", "lofs", "-o", "ro,setuid,nodevices", f"/zones/{zone}/.zfs/snapshot/vmsnap-a/root", where]
    assert node.run("mount", *words).returncode == 0
    assert node.run("mount", *words).returncode == 1
    assert node.run("umount", where).returncode == 0
    done = node.run("umount", where)
    assert done.returncode == 1
    assert f"{where} not mounted" in done.stderr


def test_missing_snapshot_cannot_be_mounted(node: MockNode) -> None:
    zone = installed(node)
    where = f"/zones/{zone}/root/checkpoints"
    os.makedirs(node.root + where)
    assert node.run("mount", "-F", "lofs", f"/zones/{zone}/.zfs/snapshot/vmsnap-no/root", where).returncode == 1


def test_process_tree_of_a_zone_is_its_init(node: MockNode) -> None:
    zone = running(node)
    pid = node.run("ptree", "-z", zone).stdout.split()[0]
    assert node.run("ptree", pid).stdout.split() == [pid, "/sbin/init"]
    assert node.run("ptree", "-z", configured(node)).stdout == ""
