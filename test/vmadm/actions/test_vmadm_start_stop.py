# SPDX-License-Identifier: MPL-2.0
"""`vmadm start`, `stop`, `reboot`, `kill`."""

import pytest

from support.deadlines import SOON
from support.running_daemon import eventually
from support.writing import LX_IMAGE, NOBODY, ended
from vmadm import AlreadyInState, ToolFailed, VmadmError, WrongState
from vmadm.actions import booting, lifecycle, stopping

pytest_plugins = ["support.writers"]


@pytest.fixture
def running(cn):
    return cn.add(alias="up")


@pytest.fixture
def stopped(cn):
    return cn.add(alias="down", state="stopped", autoboot=False)


# Start.


@pytest.mark.parametrize("word", ["start", "boot"])
def test_started_vm_runs_and_boots_with_the_node(cn, stopped, word):
    cn.forget_commands()
    assert cn.ok(word, stopped) == f"Successfully started VM {stopped}"
    vm = cn.vm(stopped)
    assert (vm["state"], vm["autoboot"]) == ("running", True)
    assert cn.commands() == [f"zoneadm -u {stopped} boot -X", f"zonecfg -u {stopped} set autoboot=true"]


def test_starting_what_runs_is_no_failure(cn, running):
    done = cn.vmadm("start", running)
    assert tuple(done) == (0, "", f"Unable to start VM {running}: VM {running} is already 'running'\n")
    with pytest.raises(AlreadyInState):
        cn.api.start(running)


@pytest.mark.parametrize("state", ["configured", "incomplete"])
def test_start_from_a_wrong_state(cn, state):
    uuid = cn.add(state=state)
    assert cn.fails("start", uuid) == (
        f'Unable to start VM {uuid}: Cannot start vm from state "{state}", must be "stopped".'
    )


def test_start_of_an_unknown_vm(cn):
    assert cn.fails("start", NOBODY) == f"Unable to start VM {NOBODY}: bad statusCode: 404"


def test_start_with_a_nic_tag_that_is_gone(cn):
    uuid = cn.add(state="stopped", nics=[{"interface": "net0", "mac": "2:8:20:1:1:1", "nic_tag": "gone"}])
    assert cn.fails("start", uuid) == f'Unable to start VM {uuid}: Invalid nic tag "gone"'
    assert cn.vm(uuid)["state"] == "stopped"


def test_zone_that_does_not_boot(cn, stopped):
    cn.control.fault("zoneadm", "fail", match="boot", stderr=f"zoneadm: zone '{stopped}': call to zoneadmd failed\n")
    assert cn.fails("start", stopped) == (
        f"Unable to start VM {stopped}: first of 1 error: Command failed: "
        f"zoneadm: zone '{stopped}': call to zoneadmd failed"
    )
    assert cn.ok("start", stopped) == f"Successfully started VM {stopped}"


def test_autoboot_that_cannot_be_set_is_reported_but_the_vm_runs(cn, stopped):
    cn.control.fault("zonecfg", "fail", match="set autoboot=true")
    assert "autoboot is false, true was written" in cn.fails("start", stopped)
    assert cn.vm(stopped)["state"] == "running"


@pytest.mark.pure
def test_vm_that_ends_at_once_has_been_started():
    """Its init ran and ended before anybody looked: it is stopped, with a newer exit than before."""
    before = {"uuid": "u", "state": "stopped", "zone_state": "installed", "exit_timestamp": "2020-01-01T00:00:00.000Z"}
    check = booting.has_run(before)
    assert not check(before)
    assert check({**before, "exit_timestamp": "2020-01-02T00:00:00.000Z"})


@pytest.mark.pure
def test_stopped_counts_after_running_was_seen():
    before = {"uuid": "u", "state": "stopped", "zone_state": "installed"}
    check = booting.has_run(before)
    assert not check(before)
    assert not check({**before, "state": "provisioning", "zone_state": "running"})
    assert check(before)


def test_disks_of_an_old_bhyve_get_the_slots_and_uuids_that_they_lack(cn):
    disks = [{"size": "64", "model": "virtio"}, {"size": "64", "model": "virtio", "boot": "true"}]
    disks += [{"size": "64", "model": "virtio"}]
    uuid = cn.add(brand="bhyve", image="", ram=1024, state="stopped", disks=disks)
    before = cn.vm(uuid)["disks"]
    assert not any("pci_slot" in disk or "uuid" in disk for disk in before)
    cn.ok("start", uuid)
    after = cn.vm(uuid)["disks"]
    slots = {disk["path"]: disk["pci_slot"] for disk in after}
    assert [slots[disk["path"]] for disk in before] == ["0:5:0", "0:4:0", "0:5:1"]
    assert len({disk["uuid"] for disk in after}) == 3
    cn.ok("stop", "-F", uuid)
    cn.forget_commands()
    cn.ok("start", uuid)
    assert [disk["uuid"] for disk in cn.vm(uuid)["disks"]] == [disk["uuid"] for disk in after]
    assert not [line for line in cn.commands() if line == f"zonecfg -u {uuid}"]


def test_bhyve_with_two_disks_in_a_slot_is_not_started(cn):
    disks = [
        {"size": "64", "model": "virtio", "pci-slot": "0:4:0"},
        {"size": "64", "model": "virtio", "pci-slot": "0:4:0"},
    ]
    uuid = cn.add(brand="bhyve", image="", ram=1024, state="stopped", disks=disks)
    assert 'VM has multiple disks in pci_slot "0:4:0": ' in cn.fails("start", uuid)
    assert cn.vm(uuid)["state"] == "stopped"


def test_bhyve_with_two_boot_disks_is_not_started_and_both_are_named(cn):
    disks = [{"size": "64", "model": "virtio", "boot": "true"}] * 2
    uuid = cn.add(brand="bhyve", image="", ram=1024, state="stopped", disks=disks)
    text = cn.fails("start", uuid)
    assert text.startswith(f"Unable to start VM {uuid}: multiple boot disks: ")
    assert all(f"/dev/zvol/rdsk/zones/{uuid}/disk{number}" in text for number in (0, 1))
    assert cn.vm(uuid)["state"] == "stopped"


def test_container_that_is_started_by_hand_counts_its_restarts_anew(cn):
    uuid = cn.create(docker=True, internal_metadata={"docker:restartcount": 3})["uuid"]
    assert cn.api.start(uuid)["internal_metadata"]["docker:restartcount"] == 0
    cn.api.delete(uuid)


# Stop.


@pytest.mark.parametrize("word", ["stop", "halt"])
def test_stopped_vm_shows_how_it_ended(cn, running, word):
    cn.forget_commands()
    assert cn.ok(word, running) == f"Successfully completed stop for VM {running}"
    vm = cn.vm(running)
    assert (vm["state"], vm["zone_state"], vm["autoboot"], vm["zoneid"]) == ("stopped", "installed", False, None)
    assert "exit_status" in vm
    assert "exit_timestamp" in vm
    assert "pid" not in vm
    assert cn.commands() == [
        f"zonecfg -u {running} set autoboot=false",
        f"zlogin {running} /usr/sbin/shutdown -y -g 0 -i 5",
        f"zonecfg -u {running} set autoboot=false",
    ]


def test_lx_is_shut_down_its_own_way(cn):
    uuid = cn.add(brand="lx", image=LX_IMAGE)
    cn.forget_commands()
    cn.api.stop(uuid)
    assert f"zlogin {uuid} /sbin/shutdown -h now" in cn.commands()


def test_zone_that_does_not_shut_down_is_halted(cn, running, monkeypatch):
    monkeypatch.setattr(stopping, "SHUTDOWN_LIMIT", 0.3)
    cn.control.fault("zlogin", "fail", match="shutdown")
    cn.forget_commands()
    assert cn.api.stop(running)["state"] == "stopped"
    assert f"zoneadm -z {running} halt" in cn.commands()


@pytest.mark.parametrize("options", [[], ["-F"]])
def test_stopping_what_does_not_run_is_no_failure(cn, stopped, options):
    done = cn.vmadm("stop", *options, stopped)
    assert tuple(done) == (0, "", f"VM {stopped} is already not 'running' (currently: stopped)\n")
    with pytest.raises(AlreadyInState):
        cn.api.stop(stopped, force=bool(options))


def test_stop_switches_autoboot_off_even_if_the_vm_does_not_run(cn):
    uuid = cn.add(state="stopped", autoboot=True)
    cn.vmadm("stop", uuid)
    assert cn.vm(uuid)["autoboot"] is False


def test_forced_stop(cn, running):
    cn.forget_commands()
    assert cn.ok("stop", "-F", running) == f"Successfully completed stop for VM {running}"
    assert (cn.vm(running)["state"], cn.vm(running)["autoboot"]) == ("stopped", False)
    assert cn.commands() == [f"zoneadm -u {running} halt -X", f"zonecfg -u {running} set autoboot=false"]


def test_timeout_is_not_for_os_vms(cn, running):
    assert cn.fails("stop", "-t", "5", running) == (
        "first of 1 error: Timeout option is only supported for bhyve, KVM and docker containers."
    )
    assert cn.vm(running)["state"] == "running"


@pytest.mark.parametrize(("options", "text"), [([], "VM {} not found"), (["-F"], "bad statusCode: 404")])
def test_stop_of_an_unknown_vm(cn, options, text):
    assert cn.fails("stop", *options, NOBODY) == text.format(NOBODY)


def test_failing_autoboot_fails_a_graceful_stop_and_the_vm_runs_on(cn, running):
    cn.control.fault("zonecfg", "fail", match="autoboot=false", stderr="zonecfg: busy\n")
    assert cn.fails("stop", running) == "Command failed: zonecfg: busy"
    assert cn.vm(running)["state"] == "running"


def test_failing_halt_fails_a_forced_stop(cn, running):
    cn.control.fault("zoneadm", "fail", match="halt", stderr="zoneadm: stuck\n")
    assert cn.fails("stop", "-F", running) == "first of 1 error: Command failed: zoneadm: stuck"


def test_docker_container_gets_sigterm_and_is_halted(cn):
    uuid = cn.add(attrs={"docker": "true", "restart-init": "false"})
    pid = cn.vm(uuid)["pid"]
    cn.forget_commands()
    assert cn.api.stop(uuid, timeout=SOON)["state"] == "stopped"
    assert cn.commands() == [
        f"zonecfg -u {uuid} set autoboot=false",
        f"kill -TERM {pid}",
        f"pwait {pid}",
        f"zoneadm -u {uuid} halt -X",
    ]


def test_docker_container_that_ignores_sigterm_is_killed(cn):
    uuid = cn.add(attrs={"docker": "true", "restart-init": "false"})
    pid = cn.vm(uuid)["pid"]
    cn.control.fault("kill", "fail", match="-TERM", exit=0)
    cn.forget_commands()
    assert cn.api.stop(uuid, timeout=0.2)["state"] == "stopped"
    assert f"kill -KILL {pid}" in cn.commands()


def test_bhyve_stops_by_its_power_button(cn):
    uuid = cn.add(brand="bhyve", image="", ram=1024)
    cn.forget_commands()
    vm = cn.api.stop(uuid)
    assert vm["state"] == "stopped"
    assert f"zoneadm -u {uuid} halt -X" not in cn.commands()


def test_kvm_is_stopped_by_force_where_there_is_no_vmadmd(cn):
    uuid = cn.add(brand="kvm", image="", ram=1024)
    assert "vmadmd" in cn.fails("stop", uuid)
    cn.ok("stop", "-F", uuid)
    vm = cn.vm(uuid)
    assert (vm["state"], vm["autoboot"]) == ("stopped", False)
    cn.ok("start", uuid)
    assert cn.vm(uuid)["autoboot"] is True


# Reboot.


@pytest.mark.parametrize(
    ("options", "command"),
    [
        ([], "zlogin {} /usr/sbin/shutdown -y -g 0 -i 6"),
        (["-F"], "zoneadm -u {} reboot -X"),
    ],
)
def test_rebooted_vm_runs_anew(cn, running, options, command):
    before = cn.vm(running)
    cn.forget_commands()
    assert cn.ok("reboot", *options, running) == f"Successfully completed reboot for VM {running}"
    after = cn.vm(running)
    assert after["state"] == "running"
    assert after["pid"] != before["pid"]
    assert after["zoneid"] != before["zoneid"]
    assert cn.commands() == [command.format(running)]


def test_bhyve_is_rebooted_by_stopping_and_starting(cn):
    uuid = cn.add(brand="bhyve", image="", ram=1024)
    before = cn.vm(uuid)["zoneid"]
    assert cn.api.reboot(uuid)["state"] == "running"
    assert cn.vm(uuid)["zoneid"] != before


def test_stopped_docker_container_is_started_by_a_reboot(cn):
    uuid = cn.add(state="stopped", attrs={"docker": "true", "restart-init": "false"})
    assert cn.api.reboot(uuid)["state"] == "running"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ([], 'Cannot reboot vm from state "stopped", must be "running"'),
        (["-F"], 'Cannot reset vm from state "stopped", must be "running".'),
    ],
)
def test_reboot_of_what_does_not_run(cn, stopped, options, text):
    assert cn.fails("reboot", *options, stopped) == text


def test_reboot_of_an_unknown_vm(cn):
    assert cn.fails("reboot", NOBODY) == "bad statusCode: 404"


def test_reboot_that_does_not_happen_is_reported(cn, running, monkeypatch):
    monkeypatch.setattr(lifecycle, "REBOOT_LIMIT", 0.3)
    cn.control.fault("zlogin", "fail", match="shutdown")
    with pytest.raises(VmadmError, match="^timed out waiting for zone to reboot$"):
        cn.api.reboot(running)


def test_reboot_with_a_nic_tag_that_is_gone(cn):
    uuid = cn.add(nics=[{"interface": "net0", "mac": "2:8:20:1:1:2", "nic_tag": "gone"}])
    assert cn.fails("reboot", uuid) == 'Cannot reboot vm: Invalid nic tag "gone"'


# Kill.


@pytest.mark.parametrize(
    ("words", "signal", "sent"),
    [
        ([], "SIGTERM", "-TERM"),
        (["-9"], "9", "-9"),
        (["-HUP"], "HUP", "-HUP"),
        (["-SIGKILL"], "SIGKILL", "-KILL"),
        (["-s", "HUP"], "HUP", "-HUP"),
        (["-s", "SIGUSR1"], "SIGUSR1", "-USR1"),
        (["-s", "15"], "15", "-15"),
    ],
)
def test_signal_reaches_init(cn, words, signal, sent):
    uuid = cn.add()
    pid = cn.vm(uuid)["pid"]
    cn.forget_commands()
    assert cn.ok("kill", *words, uuid) == f'Sent signal "{signal}" to init process for VM {uuid}'
    assert cn.commands() == [f"kill {sent} {pid}"]


def test_init_of_a_whole_system_is_started_anew(cn, running):
    cn.ok("kill", "-9", running)
    eventually("a new init", lambda: cn.vm(running).get("init_restarts") == 1)


def test_unknown_signal(cn, running):
    assert cn.fails("kill", "-s", "NOSUCH", running) == 'Unknown signal "NOSUCH"'
    assert cn.fails("kill", "-NOSUCH", running) == 'Unknown signal "NOSUCH"'


def test_nothing_to_signal(cn, stopped):
    assert cn.fails("kill", stopped) == f"Cannot find running init PID for VM {stopped}"
    with pytest.raises(WrongState):
        cn.api.kill(stopped)
    assert cn.fails("kill", NOBODY) == "bad statusCode: 404"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["kill"], "Invalid or missing argument UUID"),
        (["kill", NOBODY.upper()], "Invalid or missing argument UUID"),
        (["kill", NOBODY, "x"], 'Unexpected args: ["x"]'),
        (["kill", "-9", NOBODY, "x"], "Too many arguments."),
    ],
)
def test_wrong_words_for_kill(cn, words, text):
    done = cn.vmadm(*words)
    assert (done.code, done.err.splitlines()[0]) == (2, text)


# Waiting.


def test_wait_ends_although_every_event_is_lost(own_cn):
    uuid = own_cn.add()
    own_cn.control.drop_events(None)
    assert own_cn.api.stop(uuid)["state"] == "stopped"
    assert own_cn.api.start(uuid)["state"] == "running"
    assert own_cn.api.reboot(uuid)["state"] == "running"


def test_vm_that_is_deleted_while_it_is_waited_for(cn, running, monkeypatch):
    cn.control.set_pace(boot=0.05, shutdown=30)
    child = cn.start_vmadm("stop", running)
    eventually("it was asked to shut down", lambda: [c for c in cn.commands() if f"zlogin {running}" in c])
    cn.control.remove_vm(running)
    said = ended(child)
    cn.control.set_pace(shutdown=0.05)
    assert said == (1, f"VM {running} was deleted meanwhile")


def test_tool_that_is_killed_is_a_failure(cn, running):
    cn.control.fault("zoneadm", "die", match="halt")
    with pytest.raises(ToolFailed, match="zoneadm ended with signal 9"):
        cn.api.stop(running, force=True)
