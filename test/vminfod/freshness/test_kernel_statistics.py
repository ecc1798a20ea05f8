# SPDX-License-Identifier: MPL-2.0
"""When the daemon reads the kernel's statistics of a zone (docs/platform.md, "Kernel statistics"), and from where:
libkstat where there is one, else the command."""

import os

import pytest

from support.libkstat import LibKstat, value_of
from support.running_daemon import RunningDaemon, eventually

pytest_plugins = ["support.followers"]


def new_xml(follow, zone):
    follow.control.set_attr(zone, "alias", "YmFy")


def new_tags(follow, zone):
    follow.control.write_config(zone, "tags", {"new": 1})


def new_metadata(follow, zone):
    follow.control.write_config(zone, "metadata", {"customer_metadata": {"new": 1}})


def new_routes(follow, zone):
    follow.control.write_config(zone, "routes", {"10.0.0.0/8": "nics[0]"})


def new_quota(follow, zone):
    follow.zfs("set", "quota=77G", f"zones/{zone}")


def new_snapshot(follow, zone):
    follow.zfs("snapshot", f"zones/{zone}@vmsnap-new")


@pytest.mark.parametrize("change", [new_xml, new_tags, new_metadata, new_routes, new_quota, new_snapshot])
def test_they_are_not_read_for_what_cannot_change_them(follow, change):
    zone = follow.add(files={"tags": {}, "metadata": {}, "routes": {}})
    pid = follow.vms[zone]["pid"]
    follow.control.forget_calls()
    change(follow, zone)
    follow.modified(zone)
    follow.settle()
    assert (follow.read("kstat"), follow.vms[zone]["pid"]) == (0, pid)


@pytest.mark.parametrize("state", ["incomplete", "configured"])
def test_state_of_a_zone_that_the_kernel_does_not_have_is_no_reason_to_read_them(follow, state):
    zone = follow.add(state="stopped")
    follow.control.forget_calls()
    follow.control.set_index_state(zone, state)
    follow.until(zone, lambda vm: vm["zone_state"] == state)
    follow.settle()
    assert follow.read("kstat") == 0


def test_restart_of_init_is_one_reading_of_them(follow):
    zone = follow.add()
    follow.control.forget_calls()
    follow.control.init_restart(zone)
    follow.modified(zone)
    follow.settle()
    assert follow.read("kstat") == 1


# With the library.


def printed(node):
    return node.run("kstat", "-p", "-m", "zones", "-c", "zone_misc", check=True).stdout


@pytest.fixture
def library(node, compiled_libkstat):
    library = LibKstat(node.root, compiled_libkstat)
    library.kernel_of(printed(node))
    yield library
    assert [call for call in library.calls() if call.startswith("MISUSE")] == []


def commands(node):
    """How often the daemon asked the command since forget_calls()."""
    return len(node.control.calls("kstat"))


def test_daemon_with_the_library_serves_the_same_bytes_without_the_command(node, library):
    node.control.forget_calls()
    with RunningDaemon(node.root).start() as running:
        by_library = running.get("/vms").body
        assert commands(node) == 0
    library.remove()
    with RunningDaemon(node.root).start() as running:
        by_command = running.get("/vms").body
        assert commands(node) > 0
    assert by_library == by_command
    assert by_library.count(b'"boot_timestamp"') > 5


def test_daemon_follows_zone_events_by_the_library(node, library, alone):
    zone, old = alone.witness, alone.vms[alone.witness]
    node.control.init_restart(zone)
    now = printed(node)
    node.control.forget_calls()
    library.kernel_of(now)  # the stand-in's kernel learns of it after the node's has told
    node.control.publish(
        "status",
        "change",
        {"zonename": zone, "newstate": "running", "oldstate": "ready", "zoneid": old["zoneid"], "when": 1},
        channel="com.sun:zones:status",
        vendor="sun.com",
    )
    alone.until(zone, lambda vm: vm["init_restarts"] == old["init_restarts"] + 1)
    assert alone.vms[zone]["pid"] == int(value_of(now, f"zones:{old['zoneid']}:", "init_pid")) != old["pid"]
    alone.settle()
    assert commands(node) == 0


def test_fresh_read_asks_the_library(node, library, daemon):
    zone = next(vm["zonename"] for vm in daemon.vms() if "pid" in vm and vm["zonename"] == vm["uuid"])
    node.control.forget_calls()
    before = len(library.calls())
    assert daemon.get(f"/vms/{zone}?fresh=true").status == 200
    assert "kstat_read" in library.calls()[before:]
    assert commands(node) == 0


def test_library_that_begins_to_fail_costs_no_vm_its_freshness_and_is_logged(node, library, alone):
    zone, old = alone.witness, alone.vms[alone.witness]
    os.unlink(f"{library.path}.kernel")
    node.control.init_restart(zone)
    alone.until(zone, lambda vm: vm["init_restarts"] == old["init_restarts"] + 1)
    eventually("the log says so", lambda: b"the command kstat is used instead" in alone.daemon.raw_log())
    library.kernel_of(printed(node))
    node.control.forget_calls()
    assert alone.daemon.get(f"/vms/{zone}?fresh=true").status == 200
    assert commands(node) == 0
