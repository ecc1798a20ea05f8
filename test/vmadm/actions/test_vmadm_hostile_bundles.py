# SPDX-License-Identifier: MPL-2.0
"""Bundles whose datasets would reach out of the VM: nothing is written, mounted or attached that is not its own
(docs/vmadm.md, "Moving a VM", "Who sent it")."""

import os
import shutil
import subprocess
import threading

import pytest

from support.examples import few, more
from support.moving import hardware_vm, head, joined, os_vm, split
from support.running_daemon import eventually
from support.writing import IMAGE, LIMIT

pytest_plugins = ["support.movers"]


def prepared(two, act):
    """A VM on the one node after act(its folder), ready to be sent; its uuid."""
    uuid = two.one.create()["uuid"]
    act(f"{two.one.root}/zones/{uuid}", uuid)
    return uuid


def listing(node, path):
    return sorted(os.listdir(node.root + path)) if os.path.isdir(node.root + path) else None


def bundle_of(two, uuid, vm):
    """The bundle of the VM object `vm` with what its datasets are now."""
    two.one.node.run("zfs", "snapshot", "-r", f"zones/{uuid}@sending", check=True)
    words = [f"{two.one.root}/usr/sbin/zfs", "send", "-R", f"zones/{uuid}@sending"]
    return joined(vm, [(f"zones/{uuid}", subprocess.run(words, capture_output=True, check=True).stdout)])


def refused(two, uuid, bundle=None):
    """What is said to its bundle; the VM is not installed then, and can be deleted."""
    before = listing(two.other, "/etc"), listing(two.other, "/"), listing(two.other, "/etc/zones")
    code, said = two.receive(bundle or two.bundle(uuid))
    assert code == 1
    assert two.is_served(uuid)["state"] == "receiving"
    assert two.datasets(uuid) == []
    two.other.api.delete(uuid)
    assert two.other.is_gone(uuid)
    assert (listing(two.other, "/etc"), listing(two.other, "/"), listing(two.other, "/etc/zones")) == before
    return said


@pytest.mark.parametrize("mountpoint", few(["/evil", "/etc/zones", "/usr/sbin"], 1))
def test_filesystem_is_mounted_nowhere_but_at_its_place(two, mountpoint):
    def act(folder, uuid):
        run = two.one.node.run
        run("zfs", "create", f"zones/{uuid}/evil", check=True)
        with open(f"{folder}/evil/zoneadm", "w") as file:
            file.write("#!/bin/sh\n")
        run("zfs", "unmount", f"zones/{uuid}/evil", check=True)
        run("zfs", "set", f"mountpoint={mountpoint}", f"zones/{uuid}/evil", check=True)

    uuid = prepared(two, act)
    said = refused(two, uuid)
    assert f"the stream would have zones/{uuid}/evil mounted at {mountpoint}, which is not its place" in said


def test_root_is_mounted_nowhere_but_at_the_zonepath(two):
    """As it is a VM's root on the sending node, its properties are set in the midst of the stream: by hand here."""
    uuid = two.one.create()["uuid"]
    vm, _ = split(two.bundle(uuid))
    run = two.one.node.run
    run("zfs", "create", "-o", "mountpoint=/evil", "zones/evil", check=True)
    run("zfs", "snapshot", "zones/evil@sending", check=True)
    words = [f"{two.one.root}/usr/sbin/zfs", "send", "-R", "zones/evil@sending"]
    stream = subprocess.run(words, capture_output=True, check=True).stdout
    code, said = two.receive(joined(vm, [(f"zones/{uuid}", stream)]))
    run("zfs", "destroy", "-r", "zones/evil", check=True)
    assert code == 1
    assert f"the stream would have zones/{uuid} mounted at /evil, which is not its place" in said
    assert not os.path.exists(f"{two.other.root}/evil")
    assert two.datasets(uuid) == []


@pytest.mark.parametrize("target", ["../../etc", *more("/etc")])
def test_filesystem_is_not_mounted_through_a_link(two, target):
    def act(folder, uuid):
        two.one.node.run("zfs", "create", f"zones/{uuid}/child", check=True)
        with open(f"{folder}/child/passwd", "w") as file:
            file.write("mine")
        two.one.node.run("zfs", "unmount", f"zones/{uuid}/child", check=True)
        os.rmdir(f"{folder}/child")
        os.symlink(target, f"{folder}/child")

    uuid = prepared(two, act)
    assert f"refusing to use /zones/{uuid}/child" in refused(two, uuid)
    assert not os.path.exists(f"{two.other.root}/etc/passwd")


@pytest.mark.parametrize("name", few(["root", "config", "cores"], 1))
def test_zonepath_with_a_link_in_place_of_a_folder_is_refused(two, name):
    """What the sending node would not read itself, its bundle can hold."""
    uuid = two.one.create()["uuid"]
    vm, folder = two.one.vm(uuid), f"{two.one.root}/zones/{uuid}"
    if name == "cores":
        two.one.node.run("zfs", "destroy", f"zones/cores/{uuid}", check=True)
    shutil.rmtree(f"{folder}/{name}", ignore_errors=True)
    os.symlink("/etc", f"{folder}/{name}")
    assert f"refusing to use /zones/{uuid}/{name}" in refused(two, uuid, bundle_of(two, uuid, vm))


def test_delegated_dataset_may_be_mounted_where_its_zone_likes(two):
    uuid = os_vm(two)
    two.one.node.run("zfs", "set", "zoned=on", f"zones/{uuid}/data", check=True)
    two.one.node.run("zfs", "set", "mountpoint=/data", f"zones/{uuid}/data", check=True)
    assert two.received(two.bundle(uuid))["datasets"] == [f"zones/{uuid}/data"]
    assert not os.path.exists(f"{two.other.root}/data")


def test_device_files_that_come_are_none(two):
    """A VM's root is made so, but its bundle can say otherwise, of the root or of what lies below it."""

    def act(_folder, uuid):
        two.one.node.run("zfs", "create", "-o", "devices=on", f"zones/{uuid}/child", check=True)
        two.one.node.run("zfs", "set", "devices=on", f"zones/{uuid}", check=True)

    uuid = prepared(two, act)
    two.received(two.bundle(uuid))
    words = ("zfs", "get", "-Hpr", "-t", "filesystem", "-o", "name,value", "devices", f"zones/{uuid}")
    found = dict(line.split("\t") for line in two.other.node.run(*words, check=True).stdout.splitlines())
    assert found == {f"zones/{uuid}": "off", f"zones/{uuid}/child": "off"}


def test_of_two_that_come_under_one_name_the_second_is_refused(two):
    """Both before there is a zone of that name. zonecfg would make the second one's of the first."""
    bundles, uuids = {}, [two.one.create()["uuid"], two.one.create()["uuid"]]
    for uuid in uuids:
        vm, [(_, stream)] = split(two.bundle(uuid))
        vm.update(zonename="web", zonepath="/zones/web", zfs_filesystem="zones/web")
        bundles[uuid] = joined(vm, [("zones/web", stream)])
    two.other.forget_commands()
    two.other.control.fault("zonecfg", "hold", match="web")
    said = {}

    def receive(uuid):
        said[uuid] = two.receive(bundles[uuid])

    threads = [threading.Thread(target=receive, args=[uuid]) for uuid in uuids]
    threads[0].start()
    eventually("it is about to make the zone", lambda: two.other.control.held("zonecfg") == 1)
    threads[1].start()
    eventually(
        "the other has looked", lambda: len([line for line in two.other.commands() if "imgadm get" in line]) == 2
    )
    two.other.control.step("zonecfg")
    for thread in threads:
        thread.join(LIMIT)
    assert said[uuids[0]] == (0, f"Successfully received VM {uuids[0]}")
    assert said[uuids[1]][0] == 1 and said[uuids[1]][1].endswith("zone web exists already")
    assert two.is_served(uuids[1]) is None
    shown = two.is_served(uuids[0])
    assert (shown["zonename"], shown["state"]) == ("web", "stopped")


@pytest.mark.parametrize("kind", ["disk", *more("cdrom")])
def test_disk_of_another_vm_is_not_attached(two, kind):
    victim = two.other.api.create(
        {"brand": "kvm", "ram": 512, "autoboot": False, "disks": [{"size": 16, "model": "virtio"}]}
    )
    uuid = hardware_vm(two, "kvm")
    vm, chunks = split(two.bundle(uuid))
    vm["disks"][1].update(path=victim["disks"][0]["path"], media=kind)
    code, said = two.receive(joined(vm, chunks))
    assert (code, said) == (
        1,
        f"the VM cannot have the disk '{victim['disks'][0]['path']}': it is no volume of its own",
    )
    assert two.is_served(uuid) is None
    assert two.is_served(victim["uuid"]) == victim


@pytest.mark.parametrize(
    "name", few(["zones/{victim}", "zones/{victim}/data", "zones/{victim}/new", "zones/new", "zones"], 1)
)
def test_dataset_that_is_not_the_vms_is_not_received(two, name):
    victim = two.other.create(delegate_dataset=True)
    uuid = two.one.create()["uuid"]
    vm, [(_, stream)] = split(two.bundle(uuid))
    name = name.format(victim=victim["uuid"])
    before = two.other.control.datasets()
    code, said = two.receive(joined(vm, [(name, stream)]))
    assert code == 1 and said.startswith(f"the stream has the dataset '{name}', which is none of the VM's; ")
    assert two.other.control.datasets() == before
    assert two.is_served(victim["uuid"]) == victim
    two.other.api.delete(uuid)


def test_dataset_of_another_vm_is_not_delegated(two):
    victim = two.other.create(delegate_dataset=True)["uuid"]
    uuid = os_vm(two)
    vm, chunks = split(two.bundle(uuid))
    code, said = two.receive(joined({**vm, "datasets": [f"zones/{victim}/data"]}, chunks))
    assert (code, said) == (
        1,
        f"the VM cannot have the dataset 'zones/{victim}/data': it is not below zones/{uuid}",
    )
    assert two.is_served(uuid) is None


def test_vm_is_not_received_in_the_place_of_another_dataset(two):
    """Its zone would be called like an image, or like a folder of the node."""
    uuid = two.one.create()["uuid"]
    vm, [(_, stream)] = split(two.bundle(uuid))
    for key in ("zonepath", "zfs_filesystem"):
        del vm[key]
    for zonename, text in (
        ("opt", "a zone cannot be called 'opt'"),
        (IMAGE, f"a zone cannot be called '{IMAGE}'"),
        (f"{IMAGE}-disk0", f"a zone cannot be called '{IMAGE}-disk0'"),
        ("shared", "dataset zones/shared exists already"),
        ("cores", "a zone cannot be called 'cores'"),
        ("../etc", "a zone cannot be called '../etc'"),
    ):
        code, said = two.receive(joined({**vm, "zonename": zonename}, [(f"zones/{zonename}", stream)]))
        assert (code, said) == (1, text)
    assert two.is_served(uuid) is None


def test_volume_that_is_a_filesystem_is_refused(two):
    uuid = hardware_vm(two, "kvm")
    vm, chunks = split(two.bundle(uuid))
    code, said = two.receive(joined(vm, [chunks[0], (chunks[1][0], chunks[0][1])]))
    assert code == 1 and f"the stream has a filesystem for zones/{uuid}-disk0" in said
    assert two.datasets(uuid) == [f"zones/{uuid}"]
    two.other.api.delete(uuid)
    assert two.other.is_gone(uuid)


@pytest.mark.parametrize(
    "more", few([b"garbage", b"garbage" * 1000, head("JSON", 2, 512) + b"{}".ljust(512, b"\0")], 2)
)
def test_what_follows_the_last_dataset_keeps_the_vm_from_being_installed(two, more):
    uuid = two.one.create()["uuid"]
    code, said = two.receive(two.bundle(uuid) + more)
    assert code == 1
    assert said.endswith(
        f"VM {uuid} is left in state receiving: finish it with vmadm install, or remove it with vmadm delete"
    )
    assert two.is_served(uuid)["state"] == "receiving"
    two.other.api.delete(uuid)
