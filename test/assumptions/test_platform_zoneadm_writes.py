# SPDX-License-Identifier: MPL-2.0
"""zoneadm and what goes on in zones, as vmadm uses it: states, files, datasets and the events of each step in order."""

from __future__ import annotations

import os
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mockcn import process
from mockcn.process import MockNode
from support.zonemaking import SMARTOS, attr, configured, index_line, installed, new_uuid, running, state, until

from .conftest import WITHIN, Follower, ZfsEvents

BOOT = [("uninitialized", "initialized"), ("initialized", "ready"), ("ready", "ready"), ("ready", "running")]
HALT = [
    ("running", "shutting_down"),
    ("shutting_down", "shutting_down"),
    ("shutting_down", "shutting_down"),
    ("shutting_down", "uninitialized"),
]
DOCKER = (
    'add attr; set name="docker"; set type=string; set value="true"; end',
    'add attr; set name="restart-init"; set type=string; set value="false"; end',
)


@pytest.fixture(scope="module")
def node() -> Iterator[MockNode]:
    """One node for all of this file: each test makes its own zones. Guests take a moment, so that it can be seen."""
    seconds = {"install": 0.0, "boot": 0.0, "halt": 0.0, "shutdown": 0.05, "guest": 0.05}
    with (
        tempfile.TemporaryDirectory(prefix="cn-") as folder,
        process.start(folder + "/node", vms=2, seconds=seconds) as running_node,
    ):
        yield running_node


@pytest.fixture
def zfs_events(node: MockNode, follow: Callable[..., Follower]) -> ZfsEvents:
    """ZFS history, subscribed, with nothing read yet; its marks are set on a dataset of this test's own."""
    marker = f"zones/marker-{new_uuid()}"
    node.run("zfs", "create", marker, check=True)
    follower = follow("sysevent", "-rj", "EC_zfs", "ESC_ZFS_history_event")
    assert follower.record()["type"] == "ready"
    return ZfsEvents(node, follower, marker)


def changes(events: Follower, zone: str, last: str) -> list[tuple[str, str]]:
    """(oldstate, newstate) of the zone's events up to the one with newstate `last`."""
    seen: list[tuple[str, str]] = []
    while not seen or seen[-1][1] != last:
        data = events.record()["data"]
        if data["zonename"] == zone:
            seen.append((data["oldstate"], data["newstate"]))
    return seen


def kstat(node: MockNode, zone: str) -> dict[str, str]:
    """The zone's statistics by name; {} when it is not in the kernel."""
    zoneid = node.run("zoneadm", "-z", zone, "list", "-p").stdout.split(":")[0]
    lines = node.run("kstat", "-p", "-m", "zones", "-c", "zone_misc", "-i", zoneid).stdout.splitlines()
    return {line.split("\t")[0].split(":")[3]: line.split("\t")[1] for line in lines}


def fails(node: MockNode, zone: str, *words: str) -> tuple[int, str]:
    done = node.run("zoneadm", "-u", zone, *words)
    assert done.stdout == ""
    return done.returncode, done.stderr


def lastexited(node: MockNode, zone: str) -> list[str]:
    return node.read(f"/zones/{zone}/lastexited").split()


# -- install and uninstall ---------------------------------------------------------------------------------------------


def test_install_clones_the_image_sets_the_quota_and_makes_a_cores_dataset(
    node: MockNode, zfs_events: ZfsEvents
) -> None:
    zone = configured(node)
    done = node.run("zoneadm", "-z", zone, "install", "-q", "10", "-t", SMARTOS, "-x", "nodataset")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    passed = zfs_events.passed()
    assert [(dataset, action) for dataset, action, _ in passed] == [
        (f"zones/{zone}", "clone"),
        (f"zones/{zone}", "set"),
        (f"zones/cores/{zone}", "create"),
        (f"zones/cores/{zone}", "set"),
        (f"zones/cores/{zone}", "set"),
    ]
    assert passed[0][2].startswith(f"origin=zones/{SMARTOS}@final")
    assert passed[1][2] == f"quota={10 << 30}"
    assert index_line(node, zone) == f"{zone}:installed:/zones/{zone}:{zone}"


def test_install_goes_through_incomplete(node: MockNode, zone_events: Follower) -> None:
    zone = installed(node)
    assert changes(zone_events, zone, "installed") == [
        ("", "configured"),
        ("configured", "incomplete"),
        ("incomplete", "installed"),
    ]


def test_quota_zero_is_no_quota(node: MockNode) -> None:
    zone = installed(node, quota=0)
    assert node.run("zfs", "get", "-Hpo", "value", "quota", f"zones/{zone}").stdout == "0\n"


def test_zone_of_the_second_pool_is_installed_there(node: MockNode) -> None:
    zone = installed(node, pool="tank")
    origin = node.run("zfs", "get", "-Ho", "value", "origin", f"tank/{zone}").stdout
    assert origin == f"tank/{SMARTOS}@final\n"
    assert node.run("zfs", "list", "-H", "-o", "name", f"tank/cores/{zone}").returncode == 0


def test_installed_zonepath_is_private_and_has_the_images_files(node: MockNode) -> None:
    zone = installed(node)
    zonepath = f"{node.root}/zones/{zone}"
    assert stat.S_IMODE(os.stat(zonepath).st_mode) == 0o700
    assert os.path.isdir(zonepath + "/root/var/svc")
    assert '"var_svc_provisioning": true' in node.read(f"/zones/{zone}/root/var/zoneinit/zoneinit.json")


def test_bhyve_zone_keeps_the_dataset_that_is_there_and_gets_a_refquota(node: MockNode) -> None:
    zone = new_uuid()
    node.run("zfs", "create", f"zones/{zone}", check=True)
    node.run("zfs", "create", "-V", "10240M", f"zones/{zone}/disk0", check=True)
    configured(node, brand="bhyve", zone=zone)
    node.run("zoneadm", "-z", zone, "install", "-q", "1", "-x", "nodataset", check=True)
    shown = node.run("zfs", "get", "-Hpo", "value", "quota,refquota", f"zones/{zone}").stdout
    assert shown == f"0\n{1 << 30}\n"


def test_image_that_is_not_there_leaves_the_zone_incomplete(node: MockNode) -> None:
    zone = configured(node)
    missing = new_uuid()
    assert fails(node, zone, "install", "-q", "10", "-t", missing, "-x", "nodataset") == (
        1,
        f"cannot open 'zones/{missing}': dataset does not exist\n",
    )
    assert state(node, zone) == "incomplete"
    assert fails(node, zone, "install", "-q", "10") == (
        1,
        f"zoneadm: zone '{zone}': zone is incomplete; uninstall required.\n",
    )
    assert fails(node, zone, "uninstall", "-F") == (0, "")
    assert state(node, zone) == "configured"


def test_lofs_source_that_is_not_there_leaves_the_zone_configured(node: MockNode) -> None:
    zone = configured(node, "add fs", "set dir=/data", "set special=/zones/nowhere", "set type=lofs", "end")
    status, text = fails(node, zone, "install", "-q", "10", "-t", SMARTOS)
    assert status == 1
    assert text.startswith("could not verify fs /data: could not access /zones/nowhere: No such file or directory\n")
    assert state(node, zone) == "configured"


def test_installed_zone_cannot_be_installed(node: MockNode) -> None:
    zone = installed(node)
    assert fails(node, zone, "install", "-q", "10") == (1, f"zoneadm: zone '{zone}': is already installed.\n")


def test_uninstall_destroys_the_datasets_and_keeps_xml_and_uuid(
    node: MockNode, zfs_events: ZfsEvents, zone_events: Follower
) -> None:
    zone = installed(node)
    node.run("zfs", "create", f"zones/{zone}/data", check=True)
    node.run("zfs", "snapshot", f"zones/{zone}@vmsnap-a", check=True)
    zfs_events.passed()
    assert fails(node, zone, "uninstall", "-F") == (0, "")
    assert [(name, action) for name, action, _ in zfs_events.passed()] == [
        (f"zones/cores/{zone}", "destroy"),
        (f"zones/{zone}/data", "destroy"),
        (f"zones/{zone}@vmsnap-a", "destroy"),
        (f"zones/{zone}", "destroy"),
    ]
    assert changes(zone_events, zone, "installed")
    assert changes(zone_events, zone, "configured") == [("installed", "incomplete"), ("incomplete", "configured")]
    assert index_line(node, zone) == f"{zone}:configured:/zones/{zone}:{zone}"
    assert attr(node, zone, "vm-version") == "1"
    assert not os.path.exists(f"{node.root}/zones/{zone}")


def test_uninstall_refuses_configured_and_running_zones(node: MockNode) -> None:
    zone = configured(node)
    assert fails(node, zone, "uninstall", "-F") == (1, f"zoneadm: zone '{zone}': is already in state 'configured'.\n")
    zone = running(node)
    assert fails(node, zone, "uninstall", "-F") == (
        1,
        f"zoneadm: zone '{zone}': uninstall operation is invalid for running zones.\n",
    )
    assert state(node, zone) == "running"


def test_held_snapshot_stops_the_uninstall_halfway(node: MockNode) -> None:
    zone = installed(node)
    node.run("zfs", "snapshot", f"zones/{zone}@indestructible", check=True)
    node.run("zfs", "hold", "do_not_destroy", f"zones/{zone}@indestructible", check=True)
    status, text = fails(node, zone, "uninstall", "-F")
    assert (status, "dataset is busy" in text) == (1, True)
    assert state(node, zone) == "incomplete"


def test_detach_and_attach(node: MockNode) -> None:
    zone = installed(node)
    assert fails(node, zone, "detach") == (0, "")
    assert state(node, zone) == "configured"
    assert fails(node, zone, "detach") == (1, f"zoneadm: zone '{zone}': must be installed before detach.\n")
    assert fails(node, zone, "attach") == (0, "")
    assert state(node, zone) == "installed"


# -- boot and halt -----------------------------------------------------------------------------------------------------


def test_boot_publishes_each_step(node: MockNode, zone_events: Follower) -> None:
    zone = installed(node)
    assert changes(zone_events, zone, "installed")
    assert fails(node, zone, "boot", "-X") == (0, "")
    assert changes(zone_events, zone, "running") == BOOT
    assert state(node, zone) == "running"


def test_ready_zone_has_neither_init_nor_boot_time(node: MockNode) -> None:
    zone = installed(node)
    assert fails(node, zone, "ready") == (0, "")
    assert state(node, zone) == "ready"
    shown = kstat(node, zone)
    assert (shown["init_pid"], shown["boot_time"]) == ("0", "0")
    assert fails(node, zone, "boot") == (0, "")
    shown = kstat(node, zone)
    assert int(shown["init_pid"]) > 1
    assert abs(int(shown["boot_time"]) - time.time()) < WITHIN


def test_each_boot_gives_another_zoneid_and_pid(node: MockNode) -> None:
    zone = running(node)
    first = (node.run("zoneadm", "-z", zone, "list", "-p").stdout.split(":")[0], kstat(node, zone)["init_pid"])
    assert fails(node, zone, "reboot", "-X") == (0, "")
    second = (node.run("zoneadm", "-z", zone, "list", "-p").stdout.split(":")[0], kstat(node, zone)["init_pid"])
    assert first[0] != second[0]
    assert first[1] != second[1]


def test_zone_boots_over_time(node: MockNode, zone_events: Follower) -> None:
    zone = installed(node)
    assert changes(zone_events, zone, "installed")
    node.control.set_pace(boot=60)
    try:
        boot = node.popen("zoneadm", "-u", zone, "boot")
        assert changes(zone_events, zone, "ready") == BOOT[:2]
        assert state(node, zone) == "ready"
        assert boot.poll() is None
        boot.kill()
        boot.communicate()
    finally:
        node.control.set_pace(boot=0)


@pytest.mark.parametrize(
    "make, text", [(configured, "must be installed before boot."), (running, "zone is already booted")]
)
def test_boot_is_refused_in_the_wrong_state(node: MockNode, make: Callable[[MockNode], str], text: str) -> None:
    zone = make(node)
    assert fails(node, zone, "boot", "-X") == (1, f"zoneadm: zone '{zone}': {text}\n")


def test_halt_publishes_each_step_and_writes_lastexited(node: MockNode, zone_events: Follower) -> None:
    zone = running(node)
    assert changes(zone_events, zone, "running")
    before = time.time()
    assert fails(node, zone, "halt", "-X") == (0, "")
    assert changes(zone_events, zone, "uninitialized") == HALT
    when, status = lastexited(node, zone)
    assert before - 1 < float(when) < time.time() + 1
    assert status == "-1"
    assert (state(node, zone), kstat(node, zone)) == ("installed", {})


def test_halted_zone_says_so_with_status_0(node: MockNode) -> None:
    zone = installed(node)
    assert fails(node, zone, "halt", "-X") == (0, f"zoneadm: zone '{zone}': zone is already halted\n")


def test_reboot_needs_a_running_zone(node: MockNode) -> None:
    zone = installed(node)
    assert fails(node, zone, "reboot", "-X") == (1, f"zoneadm: zone '{zone}': not running\n")


def test_reboot_publishes_halt_and_boot(node: MockNode, zone_events: Follower) -> None:
    zone = running(node)
    assert changes(zone_events, zone, "running")
    assert fails(node, zone, "reboot", "-X") == (0, "")
    assert changes(zone_events, zone, "running") == HALT + BOOT


def test_unknown_zone_has_the_texts_that_callers_match(node: MockNode) -> None:
    zone = new_uuid()
    assert fails(node, zone, "boot", "-X") == (1, "zoneadm: no zone specified\n")
    done = node.run("zoneadm", "-z", zone, "boot")
    assert (done.returncode, done.stderr) == (1, f"zoneadm: {zone}: No such zone configured\n")


def test_two_zoneadms_on_one_zone_follow_each_other(node: MockNode) -> None:
    zone = installed(node)
    node.control.set_pace(boot=0.3)
    try:
        boot = node.popen("zoneadm", "-u", zone, "boot")
        until("the zone is ready", lambda: state(node, zone) == "ready")
        assert fails(node, zone, "halt") == (0, "")
        assert boot.communicate(timeout=WITHIN)[1] == b""
        assert boot.returncode == 0
    finally:
        node.control.set_pace(boot=0)
    assert state(node, zone) == "installed"
    assert lastexited(node, zone)[1] == "-1"


# -- inside of zones ---------------------------------------------------------------------------------------------------


def marker(node: MockNode, zone: str) -> str:
    return f"{node.root}/zones/{zone}/root/var/svc/provisioning"


def test_guest_takes_the_provisioning_marker_away_after_the_boot(node: MockNode) -> None:
    zone = installed(node)
    with open(marker(node, zone), "w", encoding="ascii"):
        pass
    assert fails(node, zone, "boot") == (0, "")
    until("the marker is gone", lambda: not os.path.exists(marker(node, zone)))
    assert os.path.exists(f"{node.root}/zones/{zone}/root/var/svc/provision_success")


def test_guest_that_never_gets_ready_leaves_the_marker(node: MockNode) -> None:
    zone = installed(node)
    with open(marker(node, zone), "w", encoding="ascii"):
        pass
    node.control.set_pace(guest=None)
    try:
        assert fails(node, zone, "boot") == (0, "")
    finally:
        node.control.set_pace(guest=0.05)
    other = running(node)  # by the time that another guest is done, this one would have been
    with open(marker(node, other), "w", encoding="ascii"):
        pass
    assert fails(node, other, "reboot") == (0, "")
    until("the other's marker is gone", lambda: not os.path.exists(marker(node, other)))
    assert os.path.exists(marker(node, zone))


@pytest.mark.parametrize(
    "command",
    [
        ["/usr/sbin/shutdown", "-y", "-g", "0", "-i", "5"],
        ["/usr/sbin/shutdown -y -g 0 -i 5"],
        ["/sbin/shutdown", "-h", "now"],
        ["/usr/sbin/init", "5"],
    ],
)
def test_zone_that_is_asked_to_shut_down_halts_in_a_while(node: MockNode, command: list[str]) -> None:
    zone = running(node)
    done = node.run("zlogin", zone, *command)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    until("the zone has halted", lambda: state(node, zone) == "installed")
    assert lastexited(node, zone)[1] == "-1"


@pytest.mark.parametrize(
    "command",
    [["/usr/sbin/shutdown", "-y", "-g", "0", "-i", "6"], ["/sbin/shutdown", "-r", "now"], ["/usr/sbin/reboot"]],
)
def test_zone_that_is_asked_to_reboot_comes_back(node: MockNode, zone_events: Follower, command: list[str]) -> None:
    zone = running(node)
    assert changes(zone_events, zone, "running")
    assert node.run("zlogin", zone, *command).returncode == 0
    assert changes(zone_events, zone, "running") == HALT + BOOT


def test_shutdown_is_not_over_when_zlogin_returns(node: MockNode) -> None:
    zone = running(node)
    node.control.set_pace(shutdown=60)
    try:
        assert node.run("zlogin", zone, "/sbin/shutdown", "-h", "now").returncode == 0
    finally:
        node.control.set_pace(shutdown=0.05)
    assert state(node, zone) == "running"
    assert fails(node, zone, "halt") == (0, "")


@pytest.mark.parametrize(
    "command",
    [
        ["/usr/sbin/svcadm", "disable", "-st", "svc:/smartdc/mdata:fetch"],
        ["ls"],
        ["/usr/sbin/mount", "-F", "tmpfs", "-o", "remount,size=128m", "/tmp"],
    ],
)
def test_other_commands_in_a_zone_succeed_without_a_word(node: MockNode, command: list[str]) -> None:
    zone = running(node)
    done = node.run("zlogin", zone, *command)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert state(node, zone) == "running"


def test_login_to_a_zone_that_does_not_run_is_refused(node: MockNode) -> None:
    zone = installed(node)
    done = node.run("zlogin", zone, "ls")
    assert (done.returncode, done.stderr) == (
        1,
        f"zlogin: login allowed only to running zones ({zone} is 'installed').\n",
    )


@pytest.mark.parametrize("number, name", [(15, "-TERM"), (9, "-9"), (9, "-SIGKILL")])
def test_signal_that_ends_a_containers_init_ends_the_zone(node: MockNode, number: int, name: str) -> None:
    zone = running(node, *DOCKER)
    pid = kstat(node, zone)["init_pid"]
    assert node.run("kill", name, pid).returncode == 0
    assert node.run("pwait", pid).returncode == 0
    until("the zone has halted", lambda: state(node, zone) == "installed")
    assert lastexited(node, zone)[1] == str(number)


def test_killed_init_of_a_whole_system_is_started_anew(node: MockNode, zone_events: Follower) -> None:
    zone = running(node)
    assert changes(zone_events, zone, "running")
    pid = kstat(node, zone)["init_pid"]
    assert node.run("kill", "-s", "KILL", pid).returncode == 0
    record: dict[str, Any] = zone_events.record()
    assert (record["class"], record["subclass"], record["data"]["restarts"]) == ("init", "restart", 1)
    assert state(node, zone) == "running"
    assert kstat(node, zone)["init_pid"] != pid


def test_terminated_bhyve_vm_shuts_down(node: MockNode) -> None:
    zone = configured(node, brand="bhyve")
    node.run("zoneadm", "-z", zone, "install", "-q", "1", "-x", "nodataset", check=True)
    assert fails(node, zone, "boot") == (0, "")
    pid = kstat(node, zone)["init_pid"]
    assert node.run("kill", pid).returncode == 0
    assert node.run("pwait", pid, timeout=WITHIN).returncode == 0
    until("the zone has halted", lambda: state(node, zone) == "installed")
    assert lastexited(node, zone)[1] == "0"


def test_init_that_has_ended_has_the_pid_minus_one(node: MockNode) -> None:
    zone = running(node)
    node.control.set_pace(halt=60)
    try:
        halt: subprocess.Popen[bytes] = node.popen("zoneadm", "-u", zone, "halt")
        until("init has ended", lambda: kstat(node, zone).get("init_pid") == "4294967295")
        assert state(node, zone) == "shutting_down"
        halt.kill()
        halt.communicate()
    finally:
        node.control.set_pace(halt=0)


@pytest.mark.parametrize(
    "words, status, text",
    [
        (["99999999"], 1, "kill: 99999999: no such process\n"),
        (["-0", "99999999"], 1, "kill: 99999999: no such process\n"),
    ],
)
def test_signal_to_no_process_is_an_error(node: MockNode, words: list[str], status: int, text: str) -> None:
    done = node.run("kill", *words)
    assert (done.returncode, done.stderr) == (status, text)


def test_unknown_signal_is_a_usage_error(node: MockNode) -> None:
    done = node.run("kill", "-NONSENSE", "1")
    assert done.returncode == 2
    assert done.stderr.startswith("kill: NONSENSE: bad signal\n")
