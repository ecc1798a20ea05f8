# SPDX-License-Identifier: MPL-2.0
"""A VM moves from one node to another: `vmadm send`, `receive` and `install` (docs/vmadm.md, "Moving a VM")."""

import json
import os
import re
import signal
import subprocess

import pytest

from support import moving
from support.examples import few, more
from support.moving import MOTD, ON_DISK, VMADM, cut, hardware_vm, head, joined, os_vm, pouring, runs, split
from support.running_daemon import eventually
from support.writing import LIMIT, NOBODY, next_said, outcome
from vmadm import OutcomeMissed, Vmadm, VmadmError, VmNotFound, WrongState

pytest_plugins = ["support.movers"]

OF_ITS_TIME = {
    "autoboot",
    "boot_timestamp",
    "exit_status",
    "exit_timestamp",
    "init_restarts",
    "last_modified",
    "pid",
    "state",
    "zone_state",
    "zonedid",
    "zoneid",
}  # what says how a VM runs, not what it is


def same(vm, other):
    """What differs between the two objects."""
    keys = (vm.keys() | other.keys()) - OF_ITS_TIME
    return {key: (vm.get(key), other.get(key)) for key in keys if vm.get(key) != other.get(key)}


def test_zone_that_ran_runs_on_the_other_node_with_all_it_has(two):
    uuid = os_vm(two, autoboot=True, nics=[{"nic_tag": "external", "ip": "10.0.0.5", "netmask": "255.255.255.0"}])
    sender = subprocess.Popen(
        [VMADM, "send", uuid], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=two.one.environ
    )
    receiver = subprocess.Popen([VMADM, "receive"], stdin=sender.stdout, stderr=subprocess.PIPE, env=two.other.environ)
    sender.stdout.close()
    said = receiver.communicate(timeout=LIMIT)[1].decode(), sender.communicate(timeout=LIMIT)[1].decode()
    assert (outcome(said[0]), outcome(said[1])) == (f"Successfully received VM {uuid}", f"Successfully sent VM {uuid}")
    assert (sender.returncode, receiver.returncode) == (0, 0)
    came, went = two.other.vm(uuid), two.one.vm(uuid)
    assert same(came, went) == {}
    assert (went["state"], went["autoboot"]) == ("stopped", False)
    assert (came["state"], came["autoboot"]) == ("running", True)
    assert two.other.node.read(f"/zones/{uuid}/root/etc/motd") == MOTD
    assert two.datasets(uuid) == [f"zones/{uuid}", f"zones/{uuid}/data"]
    assert f"zones/cores/{uuid}" in two.other.control.datasets()


def test_what_a_vm_does_not_have_it_does_not_get(two):
    uuid = two.one.add(state="stopped", alias=None)
    assert "dns_domain" not in two.one.vm(uuid)
    assert same(two.received(two.bundle(uuid)), two.one.vm(uuid)) == {}


@pytest.mark.parametrize("tmpfs", [0, 128])
def test_vm_without_a_tmp_in_memory_gets_none_at_its_first_boot(two, tmpfs):
    uuid = two.one.create(tmpfs=tmpfs)["uuid"]
    script = f"/zones/{uuid}/root/var/zoneinit/includes/11-files.sh"
    os.makedirs(os.path.dirname(two.one.root + script), exist_ok=True)
    with open(two.one.root + script, "w") as file:
        file.write("exit 0\n")
    two.received(two.bundle(uuid))
    came = two.other.node.read(script)
    assert came.endswith("exit 0\n") and ("/etc/vfstab" in came) == (tmpfs == 0)


def test_rules_of_a_firewall_find_a_vm_that_came(two):
    uuid = os_vm(
        two, firewall_enabled=True, tags={"role": "web"}, nics=[{"nic_tag": "external", "ips": ["10.0.0.9/24"]}]
    )
    bundle = two.bundle(uuid)
    two.other.forget_commands()
    two.received(bundle)
    calls = [line for line in two.other.commands() if line.startswith("fwadm")]
    assert len(calls) == 1 and calls[0].startswith("fwadm add")
    two.other.api.delete(uuid)


@pytest.mark.parametrize("brand", ["bhyve", *more("kvm")])
def test_disks_of_a_hardware_vm_come_with_their_data(two, brand):
    uuid = hardware_vm(two, brand)
    came = two.received(two.bundle(uuid))
    assert same(came, two.one.vm(uuid)) == {}
    assert came["state"] == "stopped"
    with open(two.other.root + came["disks"][1]["path"], "rb") as disk:
        disk.seek(1 << 20)
        assert disk.read(len(ON_DISK)) == ON_DISK
    assert two.other.api.start(uuid)["state"] == "running"


@pytest.mark.parametrize("snapshot", ["vmsnap-one"])
def test_snapshots_come_along_and_those_of_the_sending_go(two, snapshot):
    uuid = two.one.create()["uuid"]
    two.one.api.create_snapshot(uuid, "one")
    came = two.received(two.bundle(uuid))
    assert [each["name"] for each in came["snapshots"]] == ["one"]
    for node in (two.one, two.other):
        assert node.control.snapshots_of(f"zones/{uuid}") == [snapshot]


def test_bundle_is_the_format_to_the_byte(two):
    uuid = hardware_vm(two, "kvm", alias="\u2603")
    bundle, vm = two.bundle(uuid), two.one.vm(uuid)
    text = subprocess.run([VMADM, "get", uuid], capture_output=True, env=two.one.environ, check=True).stdout
    padded = -(-len(text) // 512) * 512
    assert bundle.startswith(head("JSON", len(text), padded) + text.ljust(padded, b"\0") + head(f"zones/{uuid}"))
    assert split(bundle)[0] == vm
    assert [name for name, _ in split(bundle)[1]] == [f"zones/{uuid}", f"zones/{uuid}-disk0", f"zones/{uuid}-disk1"]
    assert bundle == joined(text, split(bundle)[1])


def test_datasets_go_by_replication_of_a_snapshot_that_is_gone_afterwards(two):
    uuid = two.one.create()["uuid"]
    two.one.forget_commands()
    two.bundle(uuid)
    calls = [line for line in two.one.commands() if line.startswith("zfs")]
    snapshot = f"zones/{uuid}@sending"
    assert calls == [
        f"zfs destroy -r -F {snapshot}",
        f"zfs snapshot -r {snapshot}",
        f"zfs send -R {snapshot}",
        f"zfs destroy -r -F {snapshot}",
    ]


def test_what_zoneadm_left_in_the_zonepath_does_not_travel(two):
    uuid = two.one.create()["uuid"]
    for name in ("SUNWattached.xml", "SUNWdetached.xml"):
        with open(f"{two.one.root}/zones/{uuid}/{name}", "w") as file:
            file.write("<zone/>")
    two.received(two.bundle(uuid))
    assert not [name for name in os.listdir(f"{two.other.root}/zones/{uuid}") if name.startswith("SUNW")]


def test_listeners_see_a_vm_come_step_by_step(two):
    uuid = os_vm(two)
    bundle, seen = two.bundle(uuid), []
    with two.other.api.events(uuid) as events:
        events.wait_ready()
        two.received(bundle)
        for event in events:
            shown = event["vm"]["zone_state"], event["vm"]["state"]
            if not seen or seen[-1] != shown:
                seen.append(shown)
            if shown == ("installed", "stopped"):
                break
    assert seen[0] == ("configured", "receiving")
    assert ("installed", "stopped") not in seen[:-1]
    assert {state for _, state in seen[:-1]} <= {"receiving", "configured", "provisioning"}


def test_vm_that_is_received_is_known_as_such_meanwhile(two):
    uuid = os_vm(two)
    two.other.control.fault("zfs", "hold", match=f"receive -u -F zones/{uuid}")
    child = two.start_receive()
    with pouring(two.bundle(uuid)) as source:
        child.kill()
        child.communicate(timeout=LIMIT)
        child = subprocess.Popen([VMADM, "receive"], stdin=source, stderr=subprocess.PIPE, env=two.other.environ)
        eventually("it is being received", lambda: (two.is_served(uuid) or {}).get("state") == "receiving")
        vm = two.is_served(uuid)
        assert vm["missing"] == {
            "datasets": [f"zones/{uuid}", f"zones/{uuid}/data"],
            "disks": [],
            "filesystems": [],
        }
        assert (vm["zone_state"], vm["transition_to"], vm["alias"]) == ("configured", "stopped", "caf\u00e9")
        two.other.control.step("zfs")
        assert child.wait(LIMIT) == 0
        child.stderr.close()
    assert two.is_served(uuid)["state"] == "stopped"


def test_bare_json_makes_a_vm_whose_datasets_are_received_by_hand(two):
    uuid = os_vm(two)
    vm, [(name, stream)] = split(two.bundle(uuid))
    code, said = two.command(json.dumps(vm).encode())
    assert (code, outcome(said)) == (0, f"Successfully received VM {uuid}")
    assert two.is_served(uuid)["state"] == "receiving"
    assert two.other.fails("install", uuid) == (
        f"Unable to complete install for {uuid} zone is still missing: 2 datasets (zones/{uuid}, zones/{uuid}/data)"
    )
    zfs = f"{two.other.root}/usr/sbin/zfs"
    subprocess.run([zfs, "receive", "-F", name], input=stream, timeout=LIMIT, check=True)
    assert two.other.ok("install", uuid) == f"Successfully installed VM {uuid}"
    assert two.is_served(uuid)["state"] == "stopped"


def test_file_is_received_as_well_as_a_pipe(two, tmp_path):
    uuid = two.one.create()["uuid"]
    (tmp_path / "vm").write_bytes(two.bundle(uuid))
    assert two.command(b"", "-f", str(tmp_path / "vm")) == (0, f"Successfully received VM {uuid}")
    code, said = two.command(b"", "-f", str(tmp_path / "none"))
    assert (code, said) == (1, f"File: {tmp_path}/none does not exist.")


def test_library_sends_and_receives(two):
    uuid = os_vm(two)
    steps = []
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as pipe:
        receiver = moving.threading.Thread(target=lambda: steps.append(two.other.api.receive(pipe.stdout)))
        receiver.start()
        sent = two.one.api.send(uuid, pipe.stdin, progress=lambda *step: steps.append(step))
        pipe.stdin.close()
        receiver.join(LIMIT)
    assert sent["uuid"] == uuid
    dataset, moved, whole = steps[-2]
    assert dataset == f"zones/{uuid}" and 0.9 * moved <= whole <= moved
    assert steps[-1]["state"] == "stopped" and steps[-1]["alias"] == "caf\u00e9"


# What is refused.


def test_vm_that_is_there_already_is_not_touched(two):
    uuid = two.one.create()["uuid"]
    bundle = two.bundle(uuid)
    two.received(bundle)
    before = two.is_served(uuid)
    assert two.receive(bundle) == (1, f"VM with UUID {uuid} already exists")
    assert two.is_served(uuid) == before


def test_dataset_that_is_there_already_is_not_touched(two):
    uuid = two.one.create()["uuid"]
    two.other.node.run("zfs", "create", f"zones/{uuid}", check=True)
    assert two.receive(two.bundle(uuid)) == (1, f"dataset zones/{uuid} exists already")
    assert two.datasets(uuid) == [f"zones/{uuid}"]
    assert two.is_served(uuid) is None


def test_checks_of_a_create_hold(two):
    nic = {"nic_tag": "elsewhere", "ip": "10.0.0.77", "netmask": "255.255.255.0"}
    two.one.node.run("nictagadm", "add", "elsewhere", "stub0")
    two.one.control.set_nic_tags([["elsewhere", "-", "-", "etherstub"]])
    uuid = two.one.create(nics=[nic])["uuid"]
    code, said = two.receive(two.bundle(uuid))
    assert (code, said) == (1, 'Invalid nic tag "elsewhere"')
    assert two.is_served(uuid) is None


@pytest.mark.parametrize("word", few(["send", "install"], 1))
def test_unknown_vm(two, word):
    text = {
        "send": "bad statusCode: 404",
        "install": f"ENOENT: no such file or directory, open '/etc/zones/{NOBODY}-receiving.json'",
    }[word]
    assert two.one.fails(word, NOBODY) == text


def test_terminal_gets_no_stream(two):
    uuid = two.one.create()["uuid"]
    ours, theirs = os.openpty()
    done = subprocess.run(
        [VMADM, "send", uuid], stdout=theirs, stderr=subprocess.PIPE, env=two.one.environ, timeout=LIMIT, check=False
    )
    assert (done.returncode, done.stderr) == (1, b"Cannot send VM to a TTY.\n")
    done = subprocess.run(
        [VMADM, "receive"], stdin=theirs, stderr=subprocess.PIPE, env=two.one.environ, timeout=LIMIT, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith(b"Will not receive from stdin when stdin is a tty.\nUsage: vmadm ")
    for end in (ours, theirs):
        os.close(end)


def test_vm_that_is_neither_stopped_nor_running_is_not_sent(two):
    uuid = two.one.add(state="stopped", attrs={"provisioning": "true"})
    assert two.one.vm(uuid)["state"] == "provisioning"
    said = two.one.fails("send", uuid)
    assert said.startswith(f"VM {uuid} is already not 'running' (currently: provisioning)")


def test_vm_without_a_dataset_is_not_sent(two):
    uuid = two.one.add(state="configured")
    assert two.one.fails("send", uuid) == "VM has no datasets."


def test_only_what_was_received_is_installed(two):
    uuid = two.one.create()["uuid"]
    two.received(two.bundle(uuid))
    assert two.other.fails("install", uuid) == 'Cannot install vm from state "stopped", must be "receiving".'


# Failures.


def test_zfs_that_fails_to_send_fails_the_command_and_leaves_no_snapshot(two):
    uuid = two.one.create()["uuid"]
    two.one.control.fault("zfs", "fail", match="send -R", stderr="cannot send: no luck\n")
    said = two.one.vmadm("send", uuid)
    assert (said.code, said.err) == (
        1,
        f"Command failed: cannot send: no luck (done: attachments, JSON; not done: zones/{uuid})\n",
    )
    assert two.one.control.snapshots_of(f"zones/{uuid}") == []


def test_reader_that_goes_away_fails_the_sending_and_leaves_no_snapshot(two):
    uuid = hardware_vm(two, "kvm")
    child = subprocess.Popen([VMADM, "send", uuid], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=two.one.environ)
    assert len(child.stdout.read(2000)) == 2000
    child.stdout.close()
    said = child.stderr.read().decode()
    child.stderr.close()
    assert child.wait(LIMIT) == 1
    assert outcome(said).startswith("who reads the stream has gone away")
    for dataset in (f"zones/{uuid}", f"zones/{uuid}-disk0", f"zones/{uuid}-disk1"):
        assert two.one.control.snapshots_of(dataset) == []


def test_full_pool_leaves_a_vm_that_is_received_again_when_there_is_room(two):
    uuid = os_vm(two)
    bundle = two.bundle(uuid)
    two.other.control.fault(
        "zfs", "fail", match="receive -u", stderr="cannot receive new filesystem stream: out of space\n"
    )
    code, said = two.receive(bundle)
    assert code == 1
    assert said == (
        "first of 1 error: Command failed: cannot receive new filesystem stream: out of space; "
        f"VM {uuid} is left in state receiving: receive it again, or remove it with vmadm delete"
    )
    assert two.is_served(uuid)["state"] == "receiving"
    assert two.datasets(uuid) == []
    code, said = two.receive(bundle)
    assert (code, said) == (
        0,
        f"VM {uuid} was received in part: that is taken away first\nSuccessfully received VM {uuid}",
    )


def test_volume_without_room_leaves_nothing_that_delete_does_not_remove(two):
    """A real lack of room: the pool's quota leaves no place for the second disk."""
    uuid = hardware_vm(two, "kvm")
    bundle = two.bundle(uuid)
    used = int(two.other.node.run("zfs", "get", "-Hpo", "value", "used", "zones", check=True).stdout)
    two.other.node.run("zfs", "set", f"quota={used + (1 << 30)}", "zones", check=True)
    try:
        code, said = two.receive(bundle)
    finally:
        two.other.node.run("zfs", "set", "quota=none", "zones", check=True)
    assert code == 1 and "out of space" in said
    two.other.api.delete(uuid)
    assert two.other.is_gone(uuid)


def test_json_that_says_other_than_the_datasets_is_reported(two):
    uuid = os_vm(two)
    vm, chunks = split(two.bundle(uuid))
    code, said = two.receive(joined({**vm, "tags": {"a": 2}}, chunks))
    assert code == 1
    assert said.startswith(
        f'VM {uuid} was received, but VM {uuid} does not show all of it: tags is {{"a":1}}, {{"a":2}} was written; '
    )
    assert said.endswith(
        f"VM {uuid} is left in state receiving: finish it with vmadm install, or remove it with vmadm delete"
    )
    assert two.other.ok("install", uuid) == f"Successfully installed VM {uuid}"


@pytest.mark.parametrize("step", few(["install -q", "detach", "attach"], 1))
def test_installation_that_fails_is_finished_or_deleted(two, step):
    uuid = os_vm(two)
    two.other.control.fault("zoneadm", "fail", match=step, stderr="no luck\n")
    code, said = two.receive(two.bundle(uuid))
    assert code == 1 and "Command failed: no luck" in said
    assert two.is_served(uuid)["state"] not in ("stopped", "running")
    assert two.other.ok("install", uuid) == f"Successfully installed VM {uuid}"
    assert two.is_served(uuid)["state"] == "stopped"
    two.other.api.delete(uuid)
    assert two.other.is_gone(uuid)


KILLED_AT = {  # what is held when vmadm is killed, and what puts the VM right
    "zoneadm before it begins": ({"match": "install -q"}, "install"),
    "zoneadm in its midst": ({"match": "install -q", "at": "installed"}, "receive"),
    "detach": ({"match": "detach"}, "install"),
    "attach": ({"match": "attach"}, "install"),
}


def is_held(two, child):
    words = [call["argv"] for call in two.other.control.calls("zoneadm") if call["pid"] == child["pid"]]
    return "list" not in words[-1]


@pytest.mark.parametrize("when", few(KILLED_AT, 1))
def test_installation_that_is_killed_is_finished_or_the_vm_received_again(two, when):
    uuid, (held, remedy) = os_vm(two), KILLED_AT[when]
    bundle = two.bundle(uuid)
    two.other.control.fault("zoneadm", "hold", **held)
    two.other.forget_commands()
    child = two.start_receive()
    child.stdin.write(bundle)
    child.stdin.close()
    child.stdin = None
    eventually("it is there", lambda: [line for line in two.other.commands() if held["match"] in line])
    if remedy == "receive":
        eventually("it has begun", lambda: (two.is_served(uuid) or {}).get("zone_state") == "incomplete")
    child.kill()
    child.communicate(timeout=LIMIT)
    two.other.control.kill_child("zoneadm", match=held["match"])
    eventually("it is gone", lambda: not [each for each in two.other.control.children("zoneadm") if is_held(two, each)])
    two.other.control.clear_faults()  # else what is held would go on
    assert two.is_served(uuid)["state"] not in ("stopped", "running")
    if remedy == "install":
        assert two.other.api.install(uuid)["state"] == "stopped"
    else:
        with pytest.raises(WrongState, match="was cut short while zoneadm worked"):
            two.other.api.install(uuid)
        assert two.received(bundle)["state"] == "stopped"
    assert two.other.node.read(f"/zones/{uuid}/root/etc/motd") == MOTD
    assert f"zones/cores/{uuid}" in two.other.control.datasets()
    two.other.api.delete(uuid)
    assert two.other.is_gone(uuid)


@pytest.mark.parametrize("number", few([signal.SIGINT, signal.SIGTERM], 1))
def test_interrupted_receive_does_not_wait_for_the_end_of_the_stream(two, number):
    uuid = os_vm(two)
    bundle = two.bundle(uuid)
    child = two.start_receive()
    child.stdin.write(cut(bundle))
    child.stdin.flush()
    eventually("zfs receives", lambda: runs(two.other, "receive"))
    child.send_signal(number)
    said = child.communicate(timeout=LIMIT)[1].decode()
    assert child.returncode == 130
    assert re.fullmatch(
        rf"interrupted by {number.name} \(done: nothing; not done: zones/{uuid}\); VM {uuid} is left in state "
        r"receiving: receive it again, or remove it with vmadm delete",
        outcome(said),
    )
    assert two.datasets(uuid) == []
    assert two.received(bundle)["state"] == "stopped"


def test_interrupted_send_leaves_no_snapshot(two):
    uuid = hardware_vm(two, "bhyve")
    two.one.control.fault("zfs", "hold", match="send -R")
    child = subprocess.Popen(
        [moving.sys.executable, "-IS", "-X", "utf8", VMADM, "send", uuid],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=two.one.environ,
    )
    eventually("zfs sends", lambda: runs(two.one, "send"))
    child.send_signal(signal.SIGTERM)
    said = child.communicate(timeout=LIMIT)[1].decode()
    assert (child.returncode, outcome(said)) == (
        130,
        f"interrupted by SIGTERM (done: attachments, JSON; not done: zones/{uuid})",
    )
    assert two.one.control.snapshots_of(f"zones/{uuid}") == []
    assert two.one.control.snapshots_of(f"zones/{uuid}/disk0") == []


def test_send_that_is_killed_is_a_cut_stream_and_the_next_one_takes_its_snapshots_away(two):
    uuid = os_vm(two)
    two.one.control.fault("zfs", "hang", match="send -R", bytes_out=200)
    sender = subprocess.Popen(
        [moving.sys.executable, "-IS", "-X", "utf8", VMADM, "send", uuid], stdout=subprocess.PIPE, env=two.one.environ
    )
    receiver = subprocess.Popen([VMADM, "receive"], stdin=sender.stdout, stderr=subprocess.PIPE, env=two.other.environ)
    sender.stdout.close()
    eventually("it is being received", lambda: runs(two.other, "receive"))
    sender.kill()
    assert sender.wait(LIMIT) == -signal.SIGKILL
    said = receiver.communicate(timeout=LIMIT)[1].decode()
    assert receiver.returncode == 1 and "checksum mismatch or incomplete stream" in said
    assert two.datasets(uuid) == []
    two.one.control.kill_child("zfs", match="send -R")
    two.one.control.clear_faults()
    assert two.received(two.bundle(uuid))["state"] == "stopped"
    assert two.one.control.snapshots_of(f"zones/{uuid}") == []


def test_receive_that_is_killed_leaves_what_delete_removes(two):
    uuid = os_vm(two)
    bundle = two.bundle(uuid)
    child = two.start_receive()
    child.stdin.write(cut(bundle, 0.9))
    child.stdin.flush()
    eventually("it is being received", lambda: (two.is_served(uuid) or {}).get("state") == "receiving")
    child.kill()
    child.communicate(timeout=LIMIT)
    eventually("zfs has seen the end", lambda: not runs(two.other, "receive"))
    assert two.is_served(uuid)["state"] == "receiving"
    assert two.other.vmadm("install", uuid).code == 1
    two.other.api.delete(uuid)
    assert two.other.is_gone(uuid)


def test_dataset_that_was_cut_short_by_a_kill_is_not_installed(two):
    """Nobody was left to destroy the part that had come: what is written down says that it is not whole."""
    uuid = two.one.create()["uuid"]
    vm, [(name, stream)] = split(two.bundle(uuid))
    two.receive(json.dumps(vm).encode())
    path = f"{two.other.root}/etc/zones/{uuid}-receiving.json"
    with open(path) as file:
        kept = json.load(file)
    with open(path, "w") as file:
        json.dump({**kept, "receiving_dataset": name}, file)
    zfs = f"{two.other.root}/usr/sbin/zfs"
    subprocess.run([zfs, "receive", name], input=stream, timeout=LIMIT, check=True)
    two.other.node.run("zfs", "destroy", f"{name}@sending", check=True)
    assert f"{name} was not received to its end" in two.other.fails("install", uuid)
    two.other.node.run("zfs", "snapshot", "-r", f"{name}@sending", check=True)
    two.other.ok("install", uuid)


def test_receive_waits_for_who_changes_the_vm(two):
    """The config lock orders receive and delete of one VM."""
    uuid = os_vm(two)
    two.other.control.fault("zfs", "hold", match="receive -u")
    with pouring(two.bundle(uuid)) as source:
        child = subprocess.Popen([VMADM, "receive"], stdin=source, stderr=subprocess.PIPE, env=two.other.environ)
        eventually("it is being received", lambda: (two.is_served(uuid) or {}).get("state") == "receiving")
        deleting = two.other.start_vmadm("delete", uuid)
        assert next_said(deleting).startswith(f"waiting for {two.other.root}/var/run/vm.{uuid}.config.lockfile")
        two.other.control.step("zfs")
        assert child.wait(LIMIT) == 0
        child.stderr.close()
        assert deleting.communicate(timeout=LIMIT)[1].endswith(f"Successfully deleted VM {uuid}\n")
    assert two.other.is_gone(uuid)


def test_library_raises_what_the_command_says(two):
    api: Vmadm = two.other.api
    with pytest.raises(VmNotFound), open(os.devnull, "wb") as nowhere:
        api.send(NOBODY, nowhere)
    with pytest.raises(VmadmError, match="unable to receive JSON"), open(os.devnull, "rb") as nothing:
        api.receive(nothing)
    uuid = two.one.create()["uuid"]
    vm, chunks = split(two.bundle(uuid))
    with pytest.raises(OutcomeMissed), pouring(joined({**vm, "quota": 99}, chunks)) as source:
        api.receive(source)
    assert api.install(uuid)["state"] == "stopped"
    with pytest.raises(WrongState):
        api.install(uuid)
