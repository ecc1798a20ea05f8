# SPDX-License-Identifier: MPL-2.0
"""`vmadm delete`."""

import os

import pytest

from support.writing import NOBODY
from vmadm import VmNotFound

pytest_plugins = ["support.writers"]


@pytest.mark.parametrize("word", ["delete", "destroy"])
def test_deleted_vm_is_gone_for_everybody(cn, word):
    uuid = cn.add(alias="gone", snapshots=["vmsnap-a"], delegated=True)
    cn.forget_commands()
    assert cn.ok(word, uuid) == f"Successfully deleted VM {uuid}"
    assert cn.is_gone(uuid)
    done = cn.vmadm("get", uuid)
    assert tuple(done) == (1, "", f"zoneadm: {uuid}: No such zone configured\n")
    assert cn.commands() == [
        f"zonecfg -u {uuid} set autoboot=false",
        f"zoneadm -u {uuid} halt -X",
        f"zoneadm -u {uuid} uninstall -F",
        "zfs list -H -o name "
        + " ".join(
            f"zones/{uuid}-{each}" for each in ("reprovisioning-new", "reprovisioning-root", "reprovisioned-root")
        ),
        f"zonecfg -u {uuid} delete -F",
    ]


@pytest.mark.parametrize("state", ["stopped", "configured", "incomplete"])
def test_delete_from_any_state(cn, state):
    uuid = cn.add(state=state)
    cn.ok("delete", uuid)
    assert cn.is_gone(uuid)


def test_incomplete_vm_without_a_dataset(cn):
    uuid = cn.add(state="incomplete", datasets_exist=False)
    cn.ok("delete", uuid)
    assert cn.is_gone(uuid)


@pytest.mark.parametrize("brand", ["kvm", "bhyve"])
def test_disks_go_too(cn, brand):
    uuid = cn.add(brand=brand, image="", ram=1024, disks=[{"size": "512", "model": "virtio"}])
    cn.ok("delete", uuid)
    assert cn.is_gone(uuid)


def test_second_delete_finds_nothing(cn):
    uuid = cn.add()
    cn.api.delete(uuid)
    assert cn.fails("delete", uuid) == f"Failed to delete VM {uuid}: VM {uuid} not found"
    with pytest.raises(VmNotFound):
        cn.api.delete(NOBODY)


@pytest.mark.parametrize(("where", "name"), [("root", "indestructible_zoneroot"), ("data", "indestructible_delegated")])
def test_indestructible_vm_is_refused(cn, where, name):
    uuid = cn.add(indestructible=where, delegated=True)
    assert cn.fails("delete", uuid) == f"Failed to delete VM {uuid}: {name} is set, cannot delete"
    assert cn.vm(uuid)["state"] == "running"
    cn.api.update(uuid, {name: False})
    cn.ok("delete", uuid)


def test_vm_whose_volume_another_one_mounts_is_refused(cn):
    owner = cn.add(alias="owner")
    other = cn.add(
        alias="other", filesystems=[{"special": f"/zones/{owner}/volumes/v", "directory": "/v", "type": "lofs"}]
    )
    assert cn.fails("delete", owner) == (
        f"Failed to delete VM {owner}: Unable to delete VM {owner} the following VMs are sharing its volumes: "
        f'["{other}"]'
    )
    cn.ok("delete", other)
    cn.ok("delete", owner)


def test_payload_of_a_receive_goes_too(cn):
    uuid = cn.add(state="stopped", receiving={"uuid": "x"})
    cn.ok("delete", uuid)
    assert not os.path.exists(f"{cn.root}/etc/zones/{uuid}-receiving.json")


def test_archive_is_kept_if_the_vm_wants_one(cn):
    uuid = cn.add(attrs={"archive-on-delete": "true"}, files={"tags": {"a": 1}})
    cn.ok("delete", uuid)
    assert sorted(os.listdir(f"{cn.root}/zones/archive/{uuid}")) == ["tags.json", "zone.xml"]


# Failing tools.


@pytest.mark.parametrize(("tool", "match"), [("zonecfg", "autoboot=false"), ("zoneadm", "halt -X")])
def test_failures_on_the_way_do_not_stop_it(cn, tool, match):
    uuid = cn.add(state="stopped")
    cn.control.fault(tool, "fail", match=match, stderr="no\n")
    cn.ok("delete", uuid)
    assert cn.is_gone(uuid)


def test_zone_that_cannot_be_uninstalled_goes_and_its_dataset_is_reported(cn):
    uuid = cn.add(state="stopped")
    cn.control.fault("zoneadm", "fail", match="uninstall", stderr="zoneadm: dataset is busy\n")
    assert cn.ok("delete", uuid).splitlines() == [
        f"Command failed: zoneadm: dataset is busy; dataset zones/{uuid} may be left",
        f"Successfully deleted VM {uuid}",
    ]
    assert cn.get(uuid) is None
    assert f"zones/{uuid}" in cn.control.datasets()


@pytest.mark.parametrize("at", ["incomplete", "destroyed", "configured"])
def test_uninstall_that_fails_halfway(cn, at):
    uuid = cn.add(state="stopped")
    cn.control.fault("zoneadm", "fail", match="uninstall", at=at, stderr="no\n")
    assert cn.ok("delete", uuid).splitlines()[-1] == f"Successfully deleted VM {uuid}"
    assert cn.get(uuid) is None


@pytest.mark.parametrize("options", [{}, {"at": "delete"}])
def test_failing_zonecfg_leaves_what_a_second_delete_removes(cn, options):
    uuid = cn.add()
    cn.control.fault("zonecfg", "fail", match="delete -F", stderr="zonecfg: busy\n", **options)
    assert cn.fails("delete", uuid) == (
        f"Failed to delete VM {uuid}: first of 1 error: Command failed: zonecfg: busy "
        "(done: halt, archive, uninstall, disks, roots of a reprovision; not done: zonecfg, leftovers)"
    )
    assert cn.vm(uuid)["state"] == "configured"
    cn.ok("delete", uuid)
    assert cn.is_gone(uuid)


@pytest.mark.parametrize("match", ["get -Ho value origin", "destroy -rF"])
def test_disk_that_cannot_be_destroyed(cn, match):
    uuid = cn.add(brand="kvm", image="", ram=1024, state="stopped", disks=[{"size": "512", "model": "virtio"}])
    cn.control.fault("zfs", "fail", match=match, stderr="cannot destroy: busy\n")
    assert cn.fails("delete", uuid).startswith(
        f"Failed to delete VM {uuid}: first of 1 error: Command failed: cannot destroy: busy (done: "
    )
    cn.ok("delete", uuid)
    assert cn.is_gone(uuid)


def test_without_the_daemon_nothing_is_deleted(own_cn):
    uuid = own_cn.add()
    own_cn.daemon.stop()
    text = own_cn.fails("delete", uuid)
    assert text.startswith(f"Failed to delete VM {uuid}: cannot reach vminfod: ")
    assert text.endswith("nothing was changed")
    assert os.path.exists(f"{own_cn.root}/etc/zones/{uuid}.xml")
