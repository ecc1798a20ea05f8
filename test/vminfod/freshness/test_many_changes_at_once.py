# SPDX-License-Identifier: MPL-2.0
"""Changes of many VMs at once: how many commands they cost, and what one VM that cannot be read costs the others."""

import itertools
import re
import time

import pytest

from bench.changes import history_event
from support.convergence import assert_converges
from support.examples import more
from support.running_daemon import RunningDaemon, eventually
from support.settling import settle
from vmload.slots import PATIENCE

pytestmark = pytest.mark.vms(30)

AT_ONCE = 4  # lists of a pool that make progress at once
ON_ITS_WAY = "ESC_ZFS_history_event"


def vms_with_quota(daemon, count):
    """Zone names in order, whose root dataset is called like the zone, and whose quota is that of it."""
    names = [
        vm["zonename"]
        for vm in daemon.vms()
        if vm.get("zfs_filesystem") == f"zones/{vm['zonename']}" and vm["brand"] != "bhyve" and "quota" in vm
    ]
    assert len(names) >= count
    return sorted(names)[:count]


def set_all(node, zones, quota):
    """Set the quota of all of them, of which the daemon does not hear."""
    node.control.drop_events(None, match=ON_ITS_WAY)
    for zone in zones:
        node.run("zfs", "set", f"quota={quota}g", f"zones/{zone}", check=True)
    node.control.clear_event_rules()
    node.control.forget_calls()


def announce(node, zones, quota):
    """The events of it, all in the same moment."""
    lines = [history_event(f"zones/{zone}", details=f"quota={quota << 30}") + "\n" for zone in zones]
    node.control.raw_line("".join(lines), match=ON_ITS_WAY)


def announce_to_those_that_wait(node, daemon, zones, quota):
    """The same, while all slots are taken by lists of the first of these zones. The lists of the others begin when
    those are let()."""
    for number, zone in enumerate(zones[:AT_ONCE], 1):
        node.control.fault("zfs", "hold", match=f"zones/{zone}")
        announce(node, [zone], quota)
        eventually("it has begun", lambda number=number: len(node.control.children("zfs")) == number)
    announce(node, zones[AT_ONCE:], quota)
    eventually("all wait", lambda: set(zones) <= set(daemon.status()["reloading"]))


def let(node):
    for _ in range(AT_ONCE):
        node.control.step("zfs")


def see_all(stream, zones, quota):
    left = set(zones)
    while left:
        event = stream.next()
        if event["vm"]["quota"] == quota:
            left.discard(event["zonename"])


def lists(node):
    """The datasets that each list was about."""
    return names_in(node.control.calls("zfs"))


def names_in(calls):
    asked = [call["argv"] for call in calls if call["argv"][:1] == ["list"]]
    return [argv[argv.index("-d") + 2 :] for argv in asked]


def test_those_that_wait_for_a_list_share_the_next(node, daemon):
    zones = vms_with_quota(daemon, 14)
    stream = daemon.events()
    quotas = itertools.count(100)

    def changed_while_slots_are_taken():
        """Not if that took so long that lists were begun beside those that are held."""
        quota = next(quotas)
        set_all(node, zones, quota)
        began = time.monotonic()
        announce_to_those_that_wait(node, daemon, zones, quota)
        let(node)
        were_taken = time.monotonic() < began + PATIENCE
        see_all(stream, zones, quota)
        settle(daemon)
        return were_taken

    eventually("all of them wait for one list", changed_while_slots_are_taken)
    assert len(lists(node)) <= AT_ONCE + 3
    assert {name for names in lists(node) for name in names} >= {f"zones/{zone}" for zone in zones}
    assert_converges(daemon)
    stream.close()


@pytest.mark.parametrize("kind", ["hang", *more("fail")])
def test_one_whose_list_goes_wrong_costs_only_itself(node, daemon, kind):
    *zones, victim = vms_with_quota(daemon, 14)
    before = daemon.vm(victim)
    stream = daemon.events()
    set_all(node, [*zones, victim], 72)
    node.control.fault("zfs", kind, match=f"zones/{victim}", times=None)
    announce_to_those_that_wait(node, daemon, [*zones, victim], 72)
    let(node)
    see_all(stream, zones, 72)
    assert daemon.vm(victim) == before
    if kind == "hang":
        alone = [f"zones/{victim}"]
        eventually("a list of it alone hangs", lambda: alone in names_in(node.control.children("zfs")))
    node.control.clear_faults()
    if kind == "hang":
        eventually("that is killed", lambda: node.control.kill_child("zfs", match=victim))
    see_all(stream, [victim], 72)
    settle(daemon)
    assert_converges(daemon)
    stream.close()


def test_those_that_go_meanwhile_are_gone_and_the_others_are_read(node, daemon):
    *zones, one, other = vms_with_quota(daemon, 14)
    stream = daemon.events()
    set_all(node, [*zones, one, other], 73)
    announce_to_those_that_wait(node, daemon, [*zones, one, other], 73)
    for zone in (one, other):
        node.control.remove_vm(zone)
    let(node)
    eventually("they are gone", lambda: not {one, other} & {vm["zonename"] for vm in daemon.vms()})
    settle(daemon)
    assert all(daemon.vm(zone)["quota"] == 73 for zone in zones)
    assert_converges(daemon)
    stream.close()


def test_fresh_read_waits_for_a_list_that_began_after_it(node, daemon):
    zones = vms_with_quota(daemon, 14)
    asking = zones[-1]
    set_all(node, zones, 74)
    node.control.fault("zfs", "hold", match="list", times=None, when="after")
    announce(node, zones, 74)
    eventually("a list of several has begun", lambda: any(f"zones/{asking}" in names for names in lists(node)))
    node.control.drop_events(None, match=ON_ITS_WAY)
    node.run("zfs", "set", "quota=75g", f"zones/{asking}", check=True)
    fresh = daemon.raw().send(f"GET /vms/{asking}?fresh=true HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    node.control.clear_faults()
    answer = fresh.answer()
    assert (answer.status, answer.json()["quota"]) == (200, 75)
    node.control.clear_event_rules()


def tasks_so_far(daemon):
    [count] = re.findall(rb"^vminfod_task_run_seconds_count (\d+)", daemon.get("/metrics").body, re.M)
    return int(count)


def test_changes_of_vms_in_a_storm_of_foreign_events_are_seen_and_the_storm_is_no_task(node):
    """At the level at which a daemon logs: of foreign events not even a record is made."""
    with RunningDaemon(node.root, "--log-level", "info").start() as daemon:
        zones = vms_with_quota(daemon, 6)
        stream = daemon.events()
        set_all(node, zones, 76)
        settle(daemon)
        before = tasks_so_far(daemon)
        for zone in zones:
            foreign = [history_event(f"zones/cores/{number}", "create") + "\n" for number in range(300)]
            node.control.raw_line("".join(foreign), match=ON_ITS_WAY)
            announce(node, [zone], 76)
            node.control.raw_line("".join(foreign), match=ON_ITS_WAY)
        see_all(stream, zones, 76)
        settle(daemon)
        assert tasks_so_far(daemon) - before < 300
        assert_converges(daemon)
        stream.close()
