# SPDX-License-Identifier: MPL-2.0
"""A large node: 1,000 VMs with 50,000 snapshots. What matters here is the order of happenings; how long they take is
measured in bench/refresh.py."""

import os
import shutil
import tempfile

import pytest

from mockcn import process
from support.convergence import assert_converges, refreshes
from support.deadlines import SOON
from support.running_daemon import RunningDaemon, eventually

VMS, SNAPSHOTS = 1000, 50_000


@pytest.fixture(scope="module")
def large_node():
    folder = tempfile.mkdtemp(prefix="cn-")
    with process.start(os.path.join(folder, "node"), vms=VMS, snapshots=SNAPSHOTS) as running:
        yield running
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.more
@pytest.mark.long
def test_change_is_on_the_stream_while_a_refresh_loads_a_thousand_vms(large_node):
    node = large_node
    with RunningDaemon(node.root, "--refresh-interval", "1").start() as daemon:
        vms = daemon.vms()
        assert len(vms) == VMS
        uuid = next(
            vm["uuid"]
            for vm in vms
            if vm["brand"].startswith("joyent")
            and vm["zone_state"] == "running"
            and vm["zonepath"] == f"/zones/{vm['uuid']}"
        )
        stream = daemon.events("?vms=false")
        done = refreshes(daemon)
        eventually("a refresh loads", lambda: daemon.status(full=False)["status"] == "fetching vm cache data")
        node.control.write_config(uuid, "tags", {"during": "refresh"})
        stream.until(lambda event: event["zonename"] == uuid and event["vm"]["tags"] == {"during": "refresh"})
        node.run("zfs", "set", "quota=59G", f"zones/{uuid}", check=True)
        stream.until(lambda event: event["zonename"] == uuid and event["vm"]["quota"] == 59)
        assert daemon.get("/ping").status == 200
        assert refreshes(daemon) == done, "it still loads"
        eventually("it has ended", lambda: refreshes(daemon) > done, within=SOON)
        assert not daemon.status(full=False)["refreshErrors"]
        assert not daemon.logged("lost events")
        assert daemon.vm(uuid)["quota"] == 59
        node.control.fault("zfs", "hold", match="-d 3", times=None)  # no more refreshes, only events
        eventually("the next one hangs", lambda: node.control.held("zfs"))
        assert_converges_by_events(node, daemon, uuid)
        stream.close()


@pytest.mark.long
def test_requests_are_answered_in_the_midst_of_a_comparison(root):
    """The comparison of hundreds of VMs is work of the one loop that answers requests, too: it is done in turns."""
    with (
        process.start(root, vms=400) as node,
        RunningDaemon(node.root, "--refresh-interval", "0.5", "--log-level", "warn").start() as daemon,
    ):
        eventually(
            "a client sees the daemon compare",
            lambda: daemon.status(full=False)["status"] == "comparing vmobj sets",
            within=SOON,
        )
        assert len(daemon.vms()) == 400


def assert_converges_by_events(node, daemon, uuid):
    node.control.churn(50, seed=9, kinds=["alias", "config", "boot", "halt", "zfs_set", "snapshot"])
    node.control.write_config(uuid, "tags", {"all": "over"})
    eventually("the last event has come", lambda: daemon.vm(uuid)["tags"] == {"all": "over"})
    node.control.clear_faults()
    assert_converges(daemon, within=SOON)
