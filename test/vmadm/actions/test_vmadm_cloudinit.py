# SPDX-License-Identifier: MPL-2.0
"""The volume on which a guest's cloud-init finds its data, as it is when the VM boots."""

import os

import pytest

from support.examples import few
from support.fatreader import read_volume
from vmadm import VmadmError

pytest_plugins = ("support.writers",)

NOCLOUD = {"cloudinit_datasource": "nocloud"}


def make(cn, **payload):
    payload = {"brand": "bhyve", "ram": 1024, "flexible_disk_size": 2048, "autoboot": False, **payload}
    return cn.api.create({"internal_metadata": NOCLOUD, **payload})


def volume_of(cn, vm):
    path = cn.root + vm["internal_metadata"]["cloudinit_nocloud_path"]
    with open(path, "rb") as file:
        return read_volume(file.read())


def test_first_boot_finds_the_vms_name_and_network(cn):
    nic = {"nic_tag": "external", "ip": "10.3.0.7", "netmask": "255.255.0.0", "model": "virtio"}
    disks = [{"size": 64, "model": "virtio", "boot": True}]
    vm = make(cn, hostname="guest", nics=[nic], disks=disks, autoboot=True, customer_metadata={"k": "v"})
    assert vm["state"] == "running"
    volume = volume_of(cn, vm)
    assert (volume.label, volume.size) == ("CIDATA", 16 << 20)
    assert volume.files["meta-data"].decode().splitlines()[1:] == [
        f"instance-id: {vm['uuid']}",
        "local-hostname: guest",
    ]
    network = volume.files["network-config"].decode()
    assert vm["nics"][0]["mac"] in network
    assert "- 10.3.0.7/16\n" in network
    own = vm["disks"][1]
    assert (own["path"], own["pci_slot"]) == (vm["internal_metadata"]["cloudinit_nocloud_path"], "0:5:0")
    assert len(own["uuid"]) == 36
    cn.api.delete(vm["uuid"])


def test_each_start_tells_what_changed_and_no_more(cn):
    vm = make(cn, alias="one")
    assert [disk["size"] for disk in vm["disks"]] == [16]
    uuid = vm["uuid"]
    cn.ok("start", uuid)
    assert b"local-hostname: one\n" in volume_of(cn, vm).files["meta-data"]
    path = cn.root + vm["internal_metadata"]["cloudinit_nocloud_path"]
    with open(path, "r+b") as file:
        file.write(b"of the guest")
    cn.ok("stop", "-F", uuid)
    cn.ok("start", uuid)
    with open(path, "rb") as file:
        assert file.read(12) == b"of the guest"
    cn.ok("stop", "-F", uuid)
    cn.api.update(uuid, alias="two", set_customer_metadata={"cloud-init:user-data": "#!/bin/sh\n" + "x" * 70000})
    cn.ok("start", uuid)
    files = volume_of(cn, vm).files
    assert b"local-hostname: two\n" in files["meta-data"]
    assert files["user-data"] == b"#!/bin/sh\n" + b"x" * 70000
    cn.api.delete(uuid)


def test_vm_with_another_source_has_no_such_volume(cn):
    vm = make(cn, internal_metadata={"cloudinit_datasource": "smartos"}, disks=[{"size": 64, "model": "virtio"}])
    cn.ok("start", vm["uuid"])
    assert [disk["size"] for disk in cn.vm(vm["uuid"])["disks"]] == [64]
    cn.api.delete(vm["uuid"])


def test_kvm_reads_its_own_too(cn):
    disks = [{"size": 16, "model": "virtio", "block_size": 512}]
    vm = cn.api.create({"brand": "kvm", "ram": 1024, "autoboot": False, "disks": disks, "alias": "old"})
    metadata = {**NOCLOUD, "cloudinit_nocloud_path": vm["disks"][0]["path"]}
    vm = cn.api.update(vm["uuid"], set_internal_metadata=metadata)
    cn.ok("start", vm["uuid"])
    assert b"local-hostname: old\n" in volume_of(cn, vm).files["meta-data"]
    cn.api.delete(vm["uuid"])


@pytest.mark.parametrize(
    "disk", few([{"size": 32, "block_size": 512}, {"size": 16}, {"size": 16, "block_size": 512}], 1)
)
def test_disk_that_is_not_made_for_it_is_not_written(cn, disk):
    others = {"boot": True} if disk == {"size": 16, "block_size": 512} else {}
    vm = make(cn, internal_metadata={}, disks=[{"model": "virtio", **disk, **others}])
    path = vm["disks"][0]["path"]
    cn.api.update(vm["uuid"], set_internal_metadata={**NOCLOUD, "cloudinit_nocloud_path": path})
    with pytest.raises(VmadmError, match=f"Invalid cloudinit_nocloud_path: {path}"):
        cn.api.start(vm["uuid"])
    with open(cn.root + path, "rb") as file:
        assert file.read(512) == bytes(512)
    assert cn.vm(vm["uuid"])["state"] == "stopped"
    cn.api.delete(vm["uuid"])


@pytest.mark.parametrize("path", few(["/etc/passwd", "/dev/zvol/rdsk/zones/swap", "../../x"], 1))
def test_path_that_is_no_disk_of_the_vm_is_refused(cn, path):
    vm = make(cn)
    cn.api.update(vm["uuid"], set_internal_metadata={"cloudinit_nocloud_path": path})
    with pytest.raises(VmadmError, match="Invalid cloudinit_nocloud_path"):
        cn.api.start(vm["uuid"])
    cn.api.delete(vm["uuid"])


def test_volume_that_cannot_be_written_fails_the_start_with_its_path(cn):
    vm = make(cn)
    path = vm["internal_metadata"]["cloudinit_nocloud_path"]
    os.rename(cn.root + path, cn.root + path + ".away")
    try:
        assert f"cannot write {path}" in cn.fails("start", vm["uuid"])
    finally:
        os.rename(cn.root + path + ".away", cn.root + path)
    cn.ok("start", vm["uuid"])
    cn.api.delete(vm["uuid"])
