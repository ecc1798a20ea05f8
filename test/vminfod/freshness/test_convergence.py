# SPDX-License-Identifier: MPL-2.0
"""Convergence: when changes stop, what is served is what a fresh load of the node gives (design invariant 1).

Without faults at once; when events were lost, or tools failed for a while, after at most one full refresh."""

import pytest

from support.convergence import Listener, assert_converges, await_refresh, differences
from support.examples import examples
from support.running_daemon import RunningDaemon, eventually
from support.settling import settle

pytestmark = pytest.mark.vms(30)

TOOLS = ("zoneadm", "zfs", "kstat")
OFTEN = "0.5"  # seconds between refreshes, where a test waits for the next one


@pytest.fixture
def refreshing(node):
    """A daemon that refreshes often."""
    with RunningDaemon(node.root, "--refresh-interval", OFTEN).start() as running:
        yield running


def end_of_run(daemon, listener):
    """After all faults are over: everything is right again, on the stream as in /vms."""
    await_refresh(daemon)
    assert_converges(daemon)
    answer = daemon.get("/vms")
    listener.caught_up(int(answer.headers["x-vminfod-rev"]))
    assert {vm["zonename"]: vm for vm in answer.json()} == listener.at[int(answer.headers["x-vminfod-rev"])]
    listener.close()


@pytest.mark.parametrize("seed", [3, pytest.param(404, marks=pytest.mark.more)])
def test_events_alone_keep_everything_right(node, daemon, seed):
    for part in range(3):
        node.control.churn(examples(200), seed=seed + part)
        assert_converges(daemon)
    causes = {record["cause"]["source"] for record in daemon.logged("full refresh starts")}
    assert causes <= {"zfs"}, "only what concerns all VMs, such as a promote, makes the daemon look at all of them"
    errors = [record for record in daemon.logged("", level=50) if "has no uuid" not in record["msg"]]
    assert not errors, f"{errors[0]}"


def test_duplicated_and_reordered_and_late_events_do_no_harm(node, daemon):
    control = node.control
    control.duplicate_events(times=None, chance=0.3)
    control.reorder_events(times=None, chance=0.3)
    control.delay_events(0.3, times=None, chance=0.2)
    listener = Listener(daemon)
    control.churn(examples(400), seed=7)
    control.clear_event_rules()
    eventually("the events that were held back have come", lambda: not differences(daemon))
    assert_converges(daemon)
    assert listener.error is None
    listener.close()
    assert not daemon.logged("lost events")


def test_lost_events_are_made_up_for_by_one_refresh(node, refreshing):
    node.control.drop_events(times=None, chance=0.5)
    listener = Listener(refreshing)
    node.control.churn(examples(400), seed=11)
    node.control.clear_event_rules()
    end_of_run(refreshing, listener)


def test_all_events_lost_are_made_up_for_by_one_refresh(node, refreshing):
    node.control.tell("fswatcher", "deaf", path="/")
    node.control.drop_events(times=None)
    listener = Listener(refreshing)
    node.control.churn(examples(300), seed=12)
    node.control.clear_event_rules()
    end_of_run(refreshing, listener)


def test_children_killed_midway_cost_nothing_that_lasts(node, daemon):
    listener = Listener(daemon)
    for part, (tool, match) in enumerate([("sysevent", "zones:status"), ("sysevent", "EC_zfs"), ("fswatcher", "")]):
        node.control.churn(40, seed=20 + part)
        assert node.control.kill_child(tool, match=match)
        node.control.churn(40, seed=30 + part)
    eventually(
        "all children are back",
        lambda: all(
            child["state"] == "up" and child["restarts"] == 1 for child in daemon.status()["children"].values()
        ),
    )
    end_of_run(daemon, listener)


@pytest.mark.parametrize(
    "kind, options",
    [
        ("fail", {"stderr": "cannot allocate memory\n"}),
        pytest.param("cut", {"bytes_out": 30}, marks=pytest.mark.more),
    ],
)
def test_tools_that_fail_for_a_while_cost_nothing_that_lasts(node, refreshing, kind, options):
    listener = Listener(refreshing)
    before = set(listener.vms)
    added = {line.split()[1] for line in node.control.churn(5, seed=40, kinds=["vm_add"])}
    for part, tool in enumerate(TOOLS):
        node.control.fault(tool, kind, times=8, **options)
        node.control.churn(40, seed=41 + part, kinds=["alias", "boot", "halt", "zfs_set", "snapshot", "config"])
    node.control.clear_faults()
    settle(refreshing)
    end_of_run(refreshing, listener)
    assert before <= set(listener.vms), f"nothing was removed, {added} were added"
    assert "delete" not in kinds_of_events(refreshing)


def kinds_of_events(daemon):
    return [record["msg"].split('"')[1] for record in daemon.logged("emitting")]
