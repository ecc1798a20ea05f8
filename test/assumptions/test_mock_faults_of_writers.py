# SPDX-License-Identifier: MPL-2.0
"""Faults of the tools that write: at their start, and before a step in the middle of their work."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator

import pytest

from mockcn import process
from mockcn.control import OrderRefused
from mockcn.process import MockNode
from support.zonemaking import (
    SMARTOS,
    attr,
    configured,
    index_line,
    installed,
    new_uuid,
    running,
    script,
    state,
    until,
    xml_path,
)

from .conftest import WITHIN


@pytest.fixture(scope="module")
def shared() -> Iterator[MockNode]:
    with (
        tempfile.TemporaryDirectory(prefix="cn-") as folder,
        process.start(folder + "/node", vms=2, seconds={"install": 0, "boot": 0, "halt": 0}) as running_node,
    ):
        yield running_node


@pytest.fixture
def node(shared: MockNode) -> Iterator[MockNode]:
    """One node for all of this file, without what the test before had ordered."""
    yield shared
    shared.control.clear_faults()
    shared.control.set_pace(install=0, boot=0, halt=0)


def install(node: MockNode, zone: str) -> tuple[int, str]:
    done = node.run("zoneadm", "-z", zone, "install", "-q", "10", "-t", SMARTOS, "-x", "nodataset")
    return done.returncode, done.stderr


# -- zonecfg -----------------------------------------------------------------------------------------------------------


def test_failing_zonecfg_changes_nothing(node: MockNode) -> None:
    zone = configured(node)
    node.control.fault("zonecfg", "fail", match=zone, stderr="zonecfg: out of memory\n", exit=1)
    done = node.run("zonecfg", "-u", zone, "remove attr name=vm-version")
    assert (done.returncode, done.stderr) == (1, "zonecfg: out of memory\n")
    assert attr(node, zone, "vm-version") == "1"
    assert node.run("zonecfg", "-u", zone, "remove attr name=vm-version").returncode == 0


def test_fault_before_the_commit_leaves_no_zone(node: MockNode) -> None:
    zone = new_uuid()
    node.control.fault("zonecfg", "die", at="commit")
    assert node.run("zonecfg", "-z", zone, stdin=script(zone)).returncode == -9
    assert not os.path.exists(xml_path(node, zone))
    assert index_line(node, zone) is None


def test_zonecfg_that_is_killed_while_it_waits_changes_nothing(node: MockNode) -> None:
    zone = configured(node)
    node.control.fault("zonecfg", "hang", at="commit")
    child = node.popen("zonecfg", "-u", zone, "remove attr name=vm-version")
    until("zonecfg runs", lambda: node.control.children("zonecfg"))
    child.kill()
    child.communicate()
    until("the node has noticed", lambda: not node.control.children("zonecfg"))
    assert attr(node, zone, "vm-version") == "1"


def test_zonecfg_that_is_killed_while_it_reads_changes_nothing(node: MockNode) -> None:
    zone = configured(node)
    child = node.popen("zonecfg", "-u", zone)
    assert child.stdin is not None
    child.stdin.write(b"remove attr name=vm-version\n")
    child.stdin.flush()
    until("zonecfg runs", lambda: node.control.children("zonecfg"))
    child.kill()
    child.communicate()
    until("the node has noticed", lambda: not node.control.children("zonecfg"))
    assert attr(node, zone, "vm-version") == "1"


# -- zoneadm -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "step, left, dataset",
    [
        ("incomplete", "configured", False),
        ("cloned", "incomplete", False),
        ("quota", "incomplete", True),
        ("cores", "incomplete", True),
        ("installed", "incomplete", True),
    ],
)
def test_install_that_fails_halfway_leaves_what_was_done(node: MockNode, step: str, left: str, dataset: bool) -> None:
    zone = configured(node)
    node.control.fault("zoneadm", "fail", match="install", at=step, stderr="zoneadm: no luck\n")
    assert install(node, zone) == (1, "zoneadm: no luck\n")
    assert state(node, zone) == left
    assert (node.run("zfs", "list", "-H", f"zones/{zone}").returncode == 0) == dataset
    if left == "incomplete":
        assert node.run("zoneadm", "-u", zone, "uninstall", "-F").returncode == 0
    assert install(node, zone) == (0, "")


def test_install_that_is_killed_stops_where_it_is(node: MockNode) -> None:
    zone = configured(node)
    node.control.fault("zoneadm", "hang", match="install", at="quota")
    child = node.popen("zoneadm", "-z", zone, "install", "-q", "10", "-t", SMARTOS)
    until("the clone is made", lambda: node.run("zfs", "list", "-H", f"zones/{zone}").returncode == 0)
    child.kill()
    child.communicate()
    until("the node has noticed", lambda: not node.control.children("zoneadm"))
    assert state(node, zone) == "incomplete"
    assert node.run("zfs", "get", "-Hpo", "value", "quota", f"zones/{zone}").stdout == "0\n"


@pytest.mark.parametrize("step, left", [("destroyed", "incomplete"), ("configured", "incomplete")])
def test_uninstall_that_fails_halfway_can_be_done_again(node: MockNode, step: str, left: str) -> None:
    zone = installed(node)
    node.control.fault("zoneadm", "fail", match="uninstall", at=step)
    assert node.run("zoneadm", "-u", zone, "uninstall", "-F").returncode == 1
    assert state(node, zone) == left
    assert node.run("zoneadm", "-u", zone, "uninstall", "-F").returncode == 0
    assert state(node, zone) == "configured"


@pytest.mark.parametrize("step, left", [("initialized", "installed"), ("booting", "ready"), ("running", "ready")])
def test_boot_that_fails_halfway_leaves_the_zone_there(node: MockNode, step: str, left: str) -> None:
    zone = installed(node)
    node.control.fault("zoneadm", "fail", match="boot", at=step)
    assert node.run("zoneadm", "-u", zone, "boot", "-X").returncode == 1
    assert state(node, zone) == left


def test_boot_goes_on_when_its_zoneadm_is_killed(node: MockNode) -> None:
    zone = installed(node)
    node.control.set_pace(boot=0.2)
    child = node.popen("zoneadm", "-u", zone, "boot")
    until("the zone is ready", lambda: state(node, zone) == "ready")
    child.kill()
    child.communicate()
    until("the zone runs", lambda: state(node, zone) == "running")


def test_slow_halt_is_delivered_late_but_done(node: MockNode) -> None:
    zone = running(node)
    node.control.fault("zoneadm", "slow", match="halt", at="down", seconds=0.2)
    assert node.run("zoneadm", "-u", zone, "halt").returncode == 0
    assert state(node, zone) == "installed"


# -- the others --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tool, words",
    [
        ("imgadm", ["get", "-P", "zones", SMARTOS]),
        ("nictagadm", ["exists", "-l", "external"]),
        ("zpool", ["list", "-H", "-p", "-o", "name"]),
        ("prctl", ["-n", "zone.max-lwps"]),
        ("zlogin", ["z", "ls"]),
        ("dladm", ["show-vnic"]),
        ("svccfg", ["-s", "x"]),
        ("mount", []),
        ("umount", ["/x"]),
        ("pwait", ["1"]),
        ("kill", ["1"]),
    ],
)
def test_every_tool_can_be_made_to_fail(node: MockNode, tool: str, words: list[str]) -> None:
    node.control.fault(tool, "fail", stderr=f"{tool}: broken\n", exit=7)
    done = node.run(tool, *words, timeout=WITHIN)
    assert (done.returncode, done.stdout, done.stderr) == (7, "", f"{tool}: broken\n")


@pytest.mark.parametrize("values", [{"boot": -1}, {"boot": "soon"}, {"nap": 1}, {"boot": None}])
def test_pace_that_makes_no_sense_is_refused(node: MockNode, values: dict[str, object]) -> None:
    with pytest.raises(OrderRefused):
        node.control.order("set_pace", **values)


def test_nic_tags_can_be_set(node: MockNode) -> None:
    node.control.set_nic_tags([["only", "-", "-", "etherstub"]])
    assert node.run("nictagadm", "list", "-p", "-d", ",").stdout == "only,-,-,etherstub\n"
    assert node.run("nictagadm", "exists", "-l", "external").stderr == "external\n"


@pytest.mark.parametrize("when", ["before", "after"])
def test_tool_that_is_held_answers_when_it_is_let_go(shared: MockNode, when: str) -> None:
    zone = configured(shared)
    shared.control.fault("zoneadm", "hold", match="list", when=when)
    child = shared.popen("zoneadm", "-z", zone, "list", "-p")
    until("it is called", lambda: shared.control.children("zoneadm") != [])
    assert child.poll() is None
    assert shared.control.step("zoneadm") == 1
    assert f":{zone}:configured:".encode() in child.communicate(timeout=WITHIN)[0]
    shared.control.clear_faults()


def test_tool_that_is_held_takes_one_step_at_a_time(shared: MockNode) -> None:
    zone = configured(shared)
    shared.control.fault("zoneadm", "hold", match="install", at="each")
    child = shared.popen("zoneadm", "-z", zone, "install", "-q", "10", "-t", SMARTOS, "-x", "nodataset")
    until("it is called", lambda: shared.control.children("zoneadm") != [])
    assert shared.control.step("zoneadm") == 1
    until("the first step", lambda: state(shared, zone) == "incomplete")
    assert f"zones/{zone}" not in shared.control.datasets()
    shared.control.step("zoneadm")
    until("the second step", lambda: f"zones/{zone}" in shared.control.datasets())
    assert child.poll() is None
    shared.control.clear_faults()
    assert child.wait(WITHIN) == 0
    assert state(shared, zone) == "installed"
