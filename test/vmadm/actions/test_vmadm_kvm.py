# SPDX-License-Identifier: MPL-2.0
"""kvm VMs: what they boot from, and what vmadmd does for vmadm: graceful stop, reboot, reset, displays."""

import os
import shlex
import socket
import stat

import pytest

from support.deadlines import SOON
from support.examples import more
from support.running_daemon import eventually
from vmadm import VmadmError
from vmadm.actions import vmadmd as vmadmd_actions
from vmadm.node.vmadmdplace import SOCKET

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
        cn.ok("stop", "-t", "3", kvm["uuid"])  # so long it is seen to be stopping
        states = []
        while not states or states[-1] != "stopped":
            states.append(events.read(SOON)["vm"]["state"])
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


@pytest.mark.parametrize("words", [["stop"], ["reboot"], *more(["reboot", "-F"])])
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


def test_boot_options_hold_for_one_boot(cn, kvm):
    uuid, root = kvm["uuid"], f"{cn.root}{kvm['zonepath']}/root"
    before = cn.zone_xml(uuid)
    cn.ok("stop", "-F", uuid)
    with open(f"{root}/install.iso", "w"):
        pass
    disk = kvm["disks"][0]["path"]
    cn.ok("start", uuid, "order=c,once=d", "cdrom=/install.iso,ide", f"disk={disk},scsi")
    script = cn.node.read(f"{kvm['zonepath']}/root/startvm")
    words = shlex.split(
        script.partition('exec /smartdc/bin/qemu-exec "$qemu" ')[2].partition("\n\n")[0].replace("\\\n", "")
    )
    drives = [words[at + 1] for at, word in enumerate(words) if word == "-drive"]
    assert drives == [
        f"file={disk},if=virtio,index=0,media=disk,boot=on",
        "file=/install.iso,if=ide,index=1,media=cdrom",
        f"file={disk},if=scsi,index=2,media=disk",
    ]
    assert words[words.index("-boot") + 1] == "order=c,once=d"
    cn.ok("stop", "-F", uuid)
    cn.api.start(uuid, order="nc", drives=[("cdrom", "/install.iso", "virtio")])
    script = cn.node.read(f"{kvm['zonepath']}/root/startvm")
    assert '"order=nc"' in script and "file=/install.iso,if=virtio,index=1,media=cdrom" in script
    cn.ok("stop", "-F", uuid)
    cn.ok("start", uuid)
    script = cn.node.read(f"{kvm['zonepath']}/root/startvm")
    assert '"order=cd"' in script and "install.iso" not in script
    assert cn.zone_xml(uuid) == before


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("cdrom=/none.iso,ide", "Cannot find disk: /none.iso"),
        *more(
            ("cdrom=/../../etc/passwd,ide", "Cannot find disk: /../../etc/passwd"),
            ("disk=DISK,ahci", '"ahci" is not a valid disk model for kvm brand. Valid are: virtio,scsi,ide'),
        ),
        ("disk=DISK,ide,boot=on", '"ide,boot=on" is not a valid disk model for kvm brand. Valid are: virtio,scsi,ide'),
    ],
)
def test_drive_that_cannot_be_is_refused_before_anything_is_touched(cn, kvm, word, text):
    uuid = kvm["uuid"]
    cn.ok("stop", "-F", uuid)
    script = cn.node.read(f"{kvm['zonepath']}/root/startvm")
    cn.forget_commands()
    word = word.replace("DISK", kvm["disks"][0]["path"])
    assert cn.fails("start", uuid, word) == f"Unable to start VM {uuid}: {text}"
    assert cn.node.read(f"{kvm['zonepath']}/root/startvm") == script
    assert not any(line.startswith(("zoneadm", "zonecfg")) for line in cn.commands())


def test_drive_behind_a_link_of_the_tenants_is_refused(cn, kvm):
    uuid = kvm["uuid"]
    cn.ok("stop", "-F", uuid)
    os.symlink("/etc", f"{cn.root}{kvm['zonepath']}/root/away")
    assert "Cannot find disk: /away/passwd" in cn.fails("start", uuid, "cdrom=/away/passwd,ide")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["order=c", "order=d"], "You can only specify 'order' once when starting a VM"),
        (["cdrom=/x.iso"], "Parameter to cdrom must be: path,model"),
        (["disk=,ide"], "Parameter to disk must be: path,model"),
        (["order="], "Parameter to order must be a boot order, such as cd,once=d"),
        (["once=d"], "Invalid argument to start: once"),
        (["quick"], "Invalid argument to start: quick"),
    ],
)
def test_boot_options_that_are_none_are_wrong_words(cn, words, text):
    done = cn.vmadm("start", "0c6f1f0e-0000-4000-8000-00000000000a", *words)
    assert (done.code, done.out, done.err.splitlines()[0]) == (2, "", text)
    assert "Usage: vmadm" in done.err


def test_boot_options_of_other_brands_are_taken_and_ignored(cn):
    zone = cn.create()["uuid"]
    assert cn.ok("start", zone, "order=cd", "cdrom=/no.iso,none") == f"Successfully started VM {zone}"
    bhyve = cn.api.create({"brand": "bhyve", "ram": 256, "vcpus": 1, "disks": DISKS, "autoboot": False})["uuid"]
    assert "Cannot find disk: /no.iso" in cn.fails("start", bhyve, "cdrom=/no.iso,virtio")
    assert cn.ok("start", bhyve, "order=cd") == f"Successfully started VM {bhyve}"


def test_sysrq_asks_vmadmd(cn, kvm, vmadmd):
    uuid = kvm["uuid"]
    with serial_line(cn, kvm) as line:
        assert cn.ok("sysrq", uuid, "nmi") == f"Sent NMI to VM {uuid}"
        assert until(line, b"NMI received")
    assert cn.ok("sysrq", uuid, "screenshot") == f"Sent screenshot sysrq to VM {uuid}"
    with open(f"{cn.root}{kvm['zonepath']}/root/tmp/vm.ppm", "rb") as picture:
        assert picture.read(2) == b"P6"
    assert cn.api.sysrq(uuid, "screenshot")["uuid"] == uuid


def test_sysrq_that_cannot_be_sent_says_why(cn, kvm):
    uuid = kvm["uuid"]
    assert 'Unable to post "sysrq" to vmadmd: No such file or directory' in cn.fails("sysrq", uuid, "nmi")
    cn.ok("stop", "-F", uuid)
    said = cn.fails("sysrq", uuid, "nmi")
    assert said == 'Unable to send request to vm from state "stopped", must be "running" or "stopping".'
    zone = cn.api.start(cn.create()["uuid"])["uuid"]
    said = cn.fails("sysrq", zone, "nmi")
    assert said == 'The sysrq command is only supported for VMs  with brand "bhyve" or "kvm".'
    assert cn.fails("sysrq", "ffffffff-0000-4000-8000-00000000000f", "nmi") == "bad statusCode: 404"
    for words, text in (
        ([uuid], 'Wrong number of parameters to "sysrq"'),
        ([uuid, "nmi", "nmi"], 'Wrong number of parameters to "sysrq"'),
        ([uuid, "reboot"], "Invalid sysrq type: reboot"),
        (["nobody", "nmi"], "Invalid or missing UUID for sysrq"),
    ):
        done = cn.vmadm("sysrq", *words)
        assert (done.code, done.out, done.err.splitlines()[0]) == (2, "", text)
        assert "Usage: vmadm" in done.err


def test_vmadmd_that_never_answers_is_given_up_and_leaves_no_transition(cn, kvm, monkeypatch):
    monkeypatch.setattr(vmadmd_actions, "ANSWER_LIMIT", 0.2)
    path = f"{cn.root}{SOCKET}"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        try:
            with pytest.raises(VmadmError, match='Unable to post "stop" to vmadmd: timed out'):
                cn.api.stop(kvm["uuid"])
            with pytest.raises(VmadmError, match='Unable to post "sysrq" to vmadmd: timed out'):
                cn.api.sysrq(kvm["uuid"])
        finally:
            os.unlink(path)
    vm = cn.vm(kvm["uuid"])
    assert (vm["state"], "transition_to" in vm) == ("running", False)


def serial_line(cn, vm):
    line = socket.socket(socket.AF_UNIX)
    folder = os.open(f"{cn.root}{vm['zonepath']}/root/tmp", os.O_DIRECTORY)
    try:
        line.connect(f"/proc/self/fd/{folder}/vm.console")
    finally:
        os.close(folder)
    assert until(line, b"login: ")
    return line


def until(line, text):
    said = b""
    line.settimeout(SOON)
    while text not in said and (piece := line.recv(4096)):
        said += piece
    return text in said
