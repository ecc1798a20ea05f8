# SPDX-License-Identifier: MPL-2.0
"""`vmadm delete`."""

import json
import os
import re
import shutil

import pytest

from support.examples import more
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


# What is kept of it.

ARCHIVED = {"archive-on-delete": "true"}


def archived(cn, uuid):
    """The files of the VM's archive, without those that every archive has."""
    top = f"{cn.root}/zones/archive/{uuid}"
    found = {os.path.relpath(f"{folder}/{name}", top) for folder, _, names in os.walk(top) for name in names}
    assert found >= {"vm.json", "zone.xml", "zfs.dump", "config/tags.json"}
    return sorted(found - {"vm.json", "zone.xml", "zfs.dump", "config/tags.json"})


def put(cn, path, text="text\n"):
    os.makedirs(os.path.dirname(cn.root + path), exist_ok=True)
    with open(cn.root + path, "w") as file:
        file.write(text)


def test_archive_has_the_vm_its_configuration_and_its_datasets(cn):
    uuid = cn.add(attrs=ARCHIVED, files={"tags": {"a": 1}}, snapshots=["vmsnap-s"], delegated=True)
    before, xml = cn.vm(uuid), cn.zone_xml(uuid)
    cn.ok("delete", uuid)
    assert archived(cn, uuid) == []
    top = f"/zones/archive/{uuid}"
    kept = json.loads(cn.node.read(f"{top}/vm.json"))
    assert (kept["uuid"], kept["tags"], kept["quota"]) == (uuid, {"a": 1}, before["quota"])
    assert cn.node.read(f"{top}/vm.json").startswith('{\n  "')
    assert cn.node.read(f"{top}/zone.xml") == xml.replace('autoboot="true"', 'autoboot="false"')
    dump = cn.node.read(f"{top}/zfs.dump")
    for name in (f"zones/{uuid}", f"zones/{uuid}@vmsnap-s", f"zones/{uuid}/data", f"zones/cores/{uuid}"):
        assert f"\n{name}\t" in "\n" + dump
    assert f"zones/{uuid}\tquota\t{before['quota'] << 30}\tlocal" in dump


@pytest.mark.parametrize(
    ("fields", "there", "kept"),
    [
        (
            {},
            ["logs/platform.log", "logs/platform.log.0", "root/var/svc/log/x.log", "root/var/adm/messages.0"],
            ["admmsgs/messages.0", "platform/platform.log", "platform/platform.log.0", "svclogs/x.log"],
        ),
        (
            {"brand": "lx", "attrs": {**ARCHIVED, "kernel-version": "4.3.0"}},
            ["root/var/log/triton.log", "root/var/svc/log/x.log", "cores/core.1"],
            ["cores/core.1", "logs/triton.log"],
        ),
        (
            {"attrs": {**ARCHIVED, "docker": "true"}},
            ["root/var/log/sdc-dockerinit.log", "logs/stdio.log.2026-01-01T00:00:00Z", "logs/stdio.log"],
            ["docker/stdio.log.2026-01-01T00:00:00Z", "docker/stdio.log.NOW", "dockerinit/sdc-dockerinit.log"],
        ),
        (
            {"brand": "kvm", "image": "", "ram": 1024},
            ["root/tmp/vm.log.1", "root/tmp/vm.pid", "root/startvm"],
            ["startvm", "vmlogs/vm.log.1"],
        ),
    ],
)
def test_archive_has_the_logs_of_each_kind_of_vm(cn, fields, there, kept):
    uuid = cn.add(**{"attrs": ARCHIVED, "files": {"tags": {}}, "state": "stopped", **fields})
    for inside in there:
        put(cn, f"/zones/{uuid}/{inside}")
    cn.ok("delete", uuid)
    found = [re.sub(r"stdio\.log\.20\d{6}T\d{6}Z$", "stdio.log.NOW", each) for each in archived(cn, uuid)]
    assert found == kept


def test_archive_does_not_follow_a_tenants_links(cn):
    uuid = cn.add(attrs=ARCHIVED, files={"tags": {}}, state="stopped")
    put(cn, "/secret/messages")
    root = f"{cn.root}/zones/{uuid}/root"
    put(cn, f"/zones/{uuid}/root/var/svc/log/plain")
    os.symlink(f"{cn.root}/secret/messages", f"{root}/var/svc/log/link")
    os.makedirs(f"{root}/var", exist_ok=True)
    shutil.rmtree(f"{root}/var/adm", ignore_errors=True)
    os.symlink(f"{cn.root}/secret", f"{root}/var/adm")
    cn.ok("delete", uuid)
    assert archived(cn, uuid) == ["svclogs/link", "svclogs/plain"]
    assert os.path.islink(f"{cn.root}/zones/archive/{uuid}/svclogs/link")


def test_archive_that_is_there_is_left_alone_and_half_of_one_is_made_anew(cn):
    uuid = cn.add(attrs=ARCHIVED, files={"tags": {}}, state="stopped")
    put(cn, f"/zones/archive/{uuid}.new/config/half")
    cn.control.fault("zfs", "fail", match="get -rpH all", stderr="no\n")
    cn.ok("delete", uuid)
    assert sorted(os.listdir(f"{cn.root}/zones/archive/{uuid}")) == ["config", "cores", "vm.json", "zone.xml"]
    assert os.listdir(f"{cn.root}/zones/archive/{uuid}/config") == ["tags.json"]
    other = cn.add(attrs=ARCHIVED, state="stopped")
    put(cn, f"/zones/archive/{other}/mine")
    cn.ok("delete", other)
    assert os.listdir(f"{cn.root}/zones/archive/{other}") == ["mine"]


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


@pytest.mark.parametrize("at", ["incomplete", *more("destroyed"), "configured"])
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
