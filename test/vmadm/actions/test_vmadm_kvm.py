# SPDX-License-Identifier: MPL-2.0
"""kvm VMs: what they boot from, and what vmadmd does for vmadm: graceful stop, reboot, reset, displays."""

import os
import stat

import pytest

from support.running_daemon import eventually
from vmadm import VmadmError

pytest_plugins = ("support.writers",)

DISKS = [{"size": 64, "model": "virtio", "boot": True}]


@pytest.fixture
def vmadmd(cn):
    with cn.node.vmadmd() as child:
        yield child


@pytest.fixture
def kvm(cn):
    """A kvm VM that runs."""
    vm = cn.api.create({"brand": "kvm", "ram": 256, "vcpus": 1, "disks": DISKS, "autoboot": False})
    yield cn.api.start(vm["uuid"])
    cn.control.set_pace(shutdown=0.05)
    cn.api.delete(vm["uuid"])


def test_start_writes_what_the_zone_boots_from(cn, kvm):
    path = f"{cn.root}{kvm['zonepath']}/root/startvm"
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o755
    text = cn.node.read(f"{kvm['zonepath']}/root/startvm")
    assert f'"-name" \\\n    "{kvm["uuid"]}"' in text
    assert f"file={kvm['disks'][0]['path']},if=virtio,index=0,media=disk,boot=on" in text
    metadata = cn.node.read(f"{kvm['zonepath']}/root/tmp/vm.metadata")
    assert metadata == '{\n  "internal_metadata": {}\n}\n'


def test_each_start_writes_the_vm_as_it_is_then(cn, kvm):
    cn.ok("stop", "-F", kvm["uuid"])
    cn.api.update(kvm["uuid"], vcpus=2, set_internal_metadata={"a": "b"})
    cn.ok("start", kvm["uuid"])
    assert '"-smp" \\\n    "2"' in cn.node.read(f"{kvm['zonepath']}/root/startvm")
    assert '"a": "b"' in cn.node.read(f"{kvm['zonepath']}/root/tmp/vm.metadata")


def test_link_that_the_tenant_put_in_the_way_is_not_followed(cn, kvm, tmp_path):
    cn.ok("stop", "-F", kvm["uuid"])
    (tmp_path / "startvm").write_text("of the global zone")
    root = f"{cn.root}{kvm['zonepath']}/root"
    os.unlink(f"{root}/startvm")
    os.symlink(tmp_path / "startvm", f"{root}/startvm")
    cn.ok("start", kvm["uuid"])
    assert not os.path.islink(f"{root}/startvm")
    cn.ok("stop", "-F", kvm["uuid"])
    os.rename(f"{root}/tmp", f"{root}/tmp.before")
    os.symlink(tmp_path, f"{root}/tmp")
    assert "root/tmp is a symbolic link" in cn.fails("start", kvm["uuid"])
    assert (tmp_path / "startvm").read_text() == "of the global zone"
    assert os.listdir(tmp_path) == ["startvm"]


def test_stop_is_the_guests_own_with_vmadmd(cn, kvm, vmadmd):
    cn.forget_commands()
    assert cn.ok("stop", kvm["uuid"]) == f"Successfully completed stop for VM {kvm['uuid']}"
    vm = cn.vm(kvm["uuid"])
    assert (vm["state"], vm["zone_state"], vm["autoboot"]) == ("stopped", "installed", False)
    assert "transition" not in vm
    assert f"zoneadm -u {kvm['uuid']} halt -X" not in cn.commands()


def test_guest_that_does_not_shut_down_shows_stopping_and_is_halted_in_time(cn, kvm, vmadmd):
    cn.control.set_pace(shutdown=300)
    with cn.api.events(kvm["uuid"]) as events:
        events.wait_ready()
        cn.ok("stop", "-t", "1", kvm["uuid"])
        states = []
        while not states or states[-1] != "stopped":
            states.append(events.read(20)["vm"]["state"])
    assert "stopping" in states
    assert f"zoneadm -u {kvm['uuid']} halt -X" in cn.commands()


def test_reboot_stops_and_starts_with_vmadmd(cn, kvm, vmadmd):
    cn.ok("reboot", kvm["uuid"])
    after = cn.vm(kvm["uuid"])
    assert (after["state"], "transition" in after) == ("running", False)
    assert after["zoneid"] != kvm["zoneid"]


def test_reset_leaves_the_zone_running(cn, kvm, vmadmd):
    cn.ok("reboot", "-F", kvm["uuid"])
    after = cn.vm(kvm["uuid"])
    assert (after["state"], after["zoneid"]) == ("running", kvm["zoneid"])


@pytest.mark.parametrize("words", [["stop"], ["reboot"], ["reboot", "-F"]])
def test_command_that_needs_vmadmd_says_so_before_it_changes_anything(cn, kvm, words):
    before = cn.zone_xml(kvm["uuid"])
    said = cn.fails(*words, kvm["uuid"])
    what = "reset" if "-F" in words else "stop"
    assert f'Unable to post "{what}" to vmadmd: No such file or directory' in said
    assert cn.zone_xml(kvm["uuid"]) == before
    assert cn.vm(kvm["uuid"])["state"] == "running"


def test_info_shows_what_vmadmd_knows(cn, kvm, vmadmd):
    told = cn.api.info(kvm["uuid"], ["vnc", "status"])
    assert told["status"]["running"] is True
    assert told["vnc"]["host"] == "127.0.0.1"
    with pytest.raises(VmadmError, match="unknown info type"):
        cn.api.info(kvm["uuid"], ["bogus"])


def test_info_on_a_node_without_vmadmd_says_so(cn, kvm):
    with pytest.raises(VmadmError, match="vmadmd is not running on this mock node"):
        cn.api.info(kvm["uuid"])


def test_zone_that_was_not_prepared_does_not_boot(cn):
    uuid = cn.add(brand="kvm", image="", ram=1024, state="stopped")
    done = cn.node.run("zoneadm", "-u", uuid, "boot")
    assert (done.returncode, cn.vm(uuid)["zone_state"]) == (1, "installed")
    assert "/startvm" in done.stderr
    cn.ok("start", uuid)
    eventually("it runs", lambda: cn.vm(uuid)["state"] == "running")


def test_running_vms_display_is_opened_with_what_it_is_given(cn, kvm, vmadmd):
    before = cn.api.info(kvm["uuid"], ["vnc"])["vnc"]
    assert "password" not in before
    cn.api.update(kvm["uuid"], vnc_password="secret", alias="shown")
    after = cn.api.info(kvm["uuid"], ["vnc"])["vnc"]
    assert after["password"] == "secret"
    cn.api.update(kvm["uuid"], vnc_password="")
    assert "password" not in cn.api.info(kvm["uuid"], ["vnc"])["vnc"]
    cn.api.update(kvm["uuid"], vnc_port=-1)
    assert cn.api.info(kvm["uuid"], ["vnc"])["vnc"] == {}


def test_display_of_a_running_vm_stays_as_it_is_without_vmadmd(cn, kvm):
    said = cn.fails("update", kvm["uuid"], payload={"vnc_password": "secret", "alias": "other"})
    assert said.startswith("Unable to tell vmadmd to reload the display: No such file or directory")
    assert said.endswith("; nothing was changed")
    vm = cn.vm(kvm["uuid"])
    assert vm.get("alias") != "other" and "vnc_password" not in vm
    cn.ok("stop", "-F", kvm["uuid"])
    cn.ok("update", kvm["uuid"], payload={"vnc_password": "secret"})
    assert cn.vm(kvm["uuid"])["vnc_password"] == "secret"
