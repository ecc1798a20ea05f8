# SPDX-License-Identifier: MPL-2.0
"""A command that is stopped halfway: what it says, what it leaves, and how that is put right."""

import os
import re
import signal
import threading
import time

import pytest

from support.deadlines import SOON
from support.examples import few, more
from support.running_daemon import eventually
from support.writing import IMAGE, ended
from vmadm import DaemonAway, Interrupted
from vmadm.actions import session
from vmadm.node import locks
from vmadm.node.interrupts import Interrupts
from vmadm.node.machine import Node

pytest_plugins = ["support.writers"]

U = "5f0c0c52-6a1e-4d0b-9a57-0a4b1f2d7e22"
PAYLOAD = {"brand": "joyent-minimal", "image_uuid": IMAGE, "uuid": U}
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def wait_for(cn, text):
    eventually(f"the command {text}", lambda: [line for line in cn.commands() if text in line])


def wait_until_held(cn, tool):
    eventually(f"{tool} is held", lambda: cn.control.held(tool))


@pytest.mark.parametrize("number", few(SIGNALS, 1))
def test_interrupted_create_lets_the_command_end_and_leaves_nothing(cn, number):
    cn.forget_commands()
    cn.control.fault("zoneadm", "hold", match="install")
    child = cn.start_vmadm("create", payload=PAYLOAD)
    wait_until_held(cn, "zoneadm")
    child.send_signal(number)
    cn.control.step("zoneadm")
    code, text = ended(child)
    assert code == 130
    assert re.fullmatch(
        rf"interrupted by {number.name} \(done: zonecfg, install; not done: config files, filesystems, "
        rf"files in the zone, remove the provisioning mark\); what was made of VM {U} has been removed",
        text,
    )
    assert cn.is_gone(U)


def test_create_that_is_interrupted_while_the_zone_boots_leaves_nothing(cn):
    cn.forget_commands()
    cn.control.set_pace(guest=None)
    child = cn.start_vmadm("create", payload=PAYLOAD)
    eventually("the VM runs", lambda: (cn.get(U) or {}).get("zone_state") == "running")
    child.send_signal(signal.SIGINT)
    code, text = ended(child)
    cn.control.set_pace(guest=0.05)
    assert code == 130
    assert text.endswith(f"what was made of VM {U} has been removed")
    assert cn.is_gone(U)


def test_second_signal_does_not_stop_the_cleaning_up(cn):
    cn.forget_commands()
    cn.control.fault("zoneadm", "hold", match="install", times=2)  # and uninstall
    child = cn.start_vmadm("create", payload=PAYLOAD)
    wait_until_held(cn, "zoneadm")
    child.send_signal(signal.SIGINT)
    cn.control.step("zoneadm")
    wait_for(cn, f"zoneadm -u {U} uninstall")
    wait_until_held(cn, "zoneadm")
    child.send_signal(signal.SIGINT)
    cn.control.step("zoneadm")
    code, text = ended(child)
    assert (code, text.endswith("has been removed")) == (130, True)
    assert cn.is_gone(U)


@pytest.mark.parametrize(("tool", "words"), few([("zonecfg", "-z"), ("zoneadm", "install"), ("zoneadm", "boot -X")], 1))
def test_create_that_is_killed_leaves_what_delete_removes(cn, tool, words):
    cn.control.fault(tool, "hold", match=words)
    child = cn.start_vmadm("create", payload=PAYLOAD)
    wait_until_held(cn, tool)
    child.kill()
    child.communicate(timeout=SOON)
    cn.control.step(tool)
    # What it had started may still go on: a command of the node is not ours to kill.
    tools = ("zoneadm", "zonecfg")
    eventually("the node is quiet", lambda: not [call for call in cn.control.children() if call["tool"] in tools])
    if cn.daemon.get(f"/vms/{U}?fresh=true").status == 200:
        cn.ok("delete", U)
    assert cn.is_gone(U)
    assert cn.api.create({**PAYLOAD, "autoboot": False})["state"] == "stopped"
    cn.api.delete(U)


@pytest.mark.parametrize(("brand", "dataset"), [("kvm", f"zones/{U}-disk0"), *more(("bhyve", f"zones/{U}"))])
def test_volume_of_a_create_that_was_killed_before_there_was_a_zone_is_named(cn, brand, dataset):
    payload = {"brand": brand, "uuid": U, "ram": 512, "vcpus": 1, "disks": [{"size": 100, "model": "virtio"}]}
    cn.control.fault("zonecfg", "hold", match=f"-z {U}")
    cn.forget_commands()
    child = cn.start_vmadm("create", payload=payload)
    wait_for(cn, f"zonecfg -z {U}")
    cn.kill_in_midst(child, "zonecfg")
    remedy = "if a create that was killed left it, remove it with zfs destroy -r"
    assert cn.fails("create", payload=payload) == f"dataset {dataset} exists already: {remedy}"
    assert cn.fails("delete", U) == (f"Failed to delete VM {U}: VM {U} not found, but there is {dataset}: {remedy}")
    cn.node.run("zfs", "destroy", "-r", dataset, check=True)
    cn.api.create({**payload, "autoboot": False})
    cn.api.delete(U)


def test_interrupted_update_says_what_was_done_and_a_second_one_finishes(cn):
    uuid = cn.add(alias="before", quota=10)
    cn.control.fault("zonecfg", "hold")
    child = cn.start_vmadm("update", uuid, payload={"alias": "after", "quota": 20, "set_tags": {"a": 1}})
    wait_until_held(cn, "zonecfg")
    child.send_signal(signal.SIGTERM)
    cn.control.step("zonecfg")
    assert ended(child) == (130, "interrupted by SIGTERM (done: tags.json, zonecfg; not done: quota, last_modified)")
    vm = cn.vm(uuid)
    assert (vm["alias"], vm["quota"], vm["tags"]) == ("after", 10, {"a": 1})
    cn.ok("update", uuid, payload={"alias": "after", "quota": 20, "set_tags": {"a": 1}})
    assert cn.vm(uuid)["quota"] == 20


def test_interrupted_delete_is_finished_by_another(cn):
    uuid = cn.add()
    cn.control.fault("zoneadm", "hold", match="uninstall")
    child = cn.start_vmadm("delete", uuid)
    wait_until_held(cn, "zoneadm")
    child.send_signal(signal.SIGINT)
    cn.control.step("zoneadm")
    assert ended(child) == (
        130,
        f"Failed to delete VM {uuid}: interrupted by SIGINT "
        "(done: halt, archive, uninstall; not done: disks, roots of a reprovision, zonecfg, leftovers)",
    )
    cn.ok("delete", uuid)
    assert cn.is_gone(uuid)


def test_killed_delete_is_finished_by_another(cn):
    uuid = cn.add()
    cn.control.fault("zoneadm", "hold", match="uninstall")
    child = cn.start_vmadm("delete", uuid)
    wait_until_held(cn, "zoneadm")
    child.kill()
    child.communicate(timeout=SOON)
    cn.ok("delete", uuid)
    cn.control.step("zoneadm")
    eventually("what it had started has ended, too", lambda: not cn.control.children("zoneadm"))
    assert cn.is_gone(uuid)


def test_interrupted_stop_says_so_and_the_zone_goes_on_stopping(cn):
    uuid = cn.add()
    cn.control.fault("zlogin", "hold", match="shutdown", when="after")  # it has been asked to shut down by then
    child = cn.start_vmadm("stop", uuid)
    wait_until_held(cn, "zlogin")
    child.send_signal(signal.SIGINT)
    cn.control.step("zlogin")
    assert ended(child) == (130, "interrupted by SIGINT")
    eventually("it has stopped", lambda: cn.vm(uuid)["state"] == "stopped")


def test_config_file_of_a_killed_writer_is_whole(cn):
    """The new text stands beside the file until it is complete: readers and the next writer do not mind it."""
    uuid = cn.add(files={"tags": {"a": 1}})
    with open(f"{cn.root}/zones/{uuid}/config/tags.json.new", "w") as file:
        file.write('{"half')
    assert cn.vm(uuid)["tags"] == {"a": 1}
    assert cn.api.update(uuid, set_tags={"b": 2})["tags"] == {"a": 1, "b": 2}
    assert not os.path.exists(f"{cn.root}/zones/{uuid}/config/tags.json.new")


def test_lock_of_a_killed_writer_is_free(cn):
    uuid = cn.add()
    cn.control.fault("zonecfg", "hang")
    child = cn.start_vmadm("update", uuid, "alias=never")
    wait_for(cn, f"zonecfg -u {uuid}")
    path = cn.root + locks.config_lock(uuid)
    assert locks.holder(path).startswith(f"held by `vmadm update {uuid}`, pid {child.pid}, since 20")
    child.kill()
    child.communicate(timeout=SOON)
    cn.control.clear_faults()
    cn.ok("update", uuid, "alias=mine")  # it would hang if it waited for the zonecfg, which does
    assert cn.vm(uuid)["alias"] == "mine"
    cn.control.kill_child("zonecfg")


COMMANDS = {  # what is called, the command of the node during which vminfod goes away
    "update": (lambda api, uuid: api.update(uuid, alias="x"), "zonecfg -u"),
    "create": (lambda api, uuid: api.create(PAYLOAD), "zoneadm -z U install"),
    "delete": (lambda api, uuid: api.delete(uuid), "zoneadm -u U uninstall"),
    "stop": (lambda api, uuid: api.stop(uuid), "zlogin U"),
    "start": (lambda api, uuid: api.start(uuid), "zoneadm -u U boot"),
    "snapshot": (lambda api, uuid: api.create_snapshot(uuid, "s"), "zfs snapshot zones"),
}


@pytest.mark.parametrize("what", few(COMMANDS, 1))
def test_daemon_that_goes_away_meanwhile_is_reported(own_cn, what, monkeypatch):
    monkeypatch.setattr(session, "AWAY", 0.3)
    act, command = COMMANDS[what]
    uuid = own_cn.add(state="stopped" if what == "start" else "running")
    command = command.replace("U", U if what == "create" else uuid)
    tool, _, match = command.partition(" ")
    own_cn.control.fault(tool, "hold", match=match)
    errors = []

    def run():
        with pytest.raises(DaemonAway) as raised:
            act(own_cn.api, uuid)
        errors.append(str(raised.value))

    thread = threading.Thread(target=run)
    thread.start()
    wait_until_held(own_cn, tool)
    own_cn.daemon.stop()
    own_cn.control.step(tool)
    thread.join(SOON)
    assert "cannot reach vminfod to see the outcome: connect ECONNREFUSED" in errors[0]
    assert "\n" not in errors[0]
    if what == "create":
        assert errors[0].endswith(f"what was made of VM {U} has been removed")
        assert not os.path.exists(f"{own_cn.root}/etc/zones/{U}.xml")


# The handlers themselves.


@pytest.mark.pure
def test_signal_between_two_commands_is_raised_at_once():
    with Interrupts(), pytest.raises(Interrupted, match="interrupted by SIGTERM"):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)  # it is interrupted: this is the case, not a wait


@pytest.mark.pure
def test_signal_during_a_command_is_raised_before_the_next_one():
    order = []
    with Interrupts() as interrupts, pytest.raises(Interrupted):
        with interrupts.busy():
            os.kill(os.getpid(), signal.SIGTERM)
            order.append("the command has ended")
        order.append("and is noted as done")
        with interrupts.busy():
            order.append("not reached")
    assert order == ["the command has ended", "and is noted as done"]


@pytest.mark.pure
def test_second_signal_is_not_put_off():
    with Interrupts() as interrupts, pytest.raises(Interrupted), interrupts.busy():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)  # it is interrupted: this is the case, not a wait


def test_command_that_was_just_being_started_does_not_outlive_a_signal(tmp_path):
    """It interrupts its parent first of all, which has not learnt its number by then."""
    (tmp_path / "usr/sbin").mkdir(parents=True)
    tool = tmp_path / "usr/sbin/zfs"
    tool.write_text("#!/bin/sh\necho $$ >$0.pid\nkill -TERM $PPID\nexec sleep 3600\n")
    tool.chmod(0o755)
    with (
        Interrupts() as interrupts,
        pytest.raises(Interrupted, match="interrupted by SIGTERM"),
        Node(str(tmp_path), interrupts.busy).started("zfs") as child,
    ):
        child.wait(SOON)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "usr/sbin/zfs.pid").read_text()), 0)


def test_handlers_are_put_back():
    before = [signal.getsignal(number) for number in SIGNALS]
    with Interrupts():
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before
