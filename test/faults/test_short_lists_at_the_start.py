# SPDX-License-Identifier: MPL-2.0
"""A daemon that starts while a tool leaves something out, and ends well: what else names it is believed more. All VMs
are served whole from the first answer on, or named as unreadable, and whoever mirrors them loses none."""

import os
import shutil
import tempfile

import pytest

from mockcn import process
from support.convergence import fresh_load, served
from support.deadlines import SOON
from support.running_daemon import RunningDaemon, eventually
from vminfod.client import VminfodWatcher

ZONES, DATASETS, STATISTICS = "list -p -c", "-d 3", "-p -m zones -c zone_misc"  # words of a list of all

CUTS = {  # tool, words, lines that come through, how often
    "zones once": ("zoneadm", ZONES, 5, 1),
    "zones twice": ("zoneadm", ZONES, 5, 2),
    "zones always": ("zoneadm", ZONES, 5, None),
    "all zones": ("zoneadm", ZONES, 1, None),
    "most datasets": ("zfs", DATASETS, 6, 1),
    "some datasets": ("zfs", DATASETS, 60, 1),
    "datasets always": ("zfs", DATASETS, 6, None),
    "most statistics": ("kstat", STATISTICS, 30, 1),
    "a part of a zone's statistics": ("kstat", STATISTICS, 60, 1),
}


@pytest.fixture(scope="module")
def node():
    folder = tempfile.mkdtemp(prefix="cn-")
    with process.start(os.path.join(folder, "node"), vms=31) as running:
        yield running
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def truth(node):
    return fresh_load(node.root)


@pytest.fixture(autouse=True)
def no_faults(node):
    yield
    node.control.clear_faults()


@pytest.mark.parametrize("cut", CUTS.values(), ids=list(CUTS))
def test_all_vms_are_served_whole_from_the_first_answer_on(node, truth, cut):
    tool, words, lines, times = cut
    node.control.fault(tool, "cut", match=words, lines=lines, times=times)
    with RunningDaemon(node.root).start() as daemon:
        answer = daemon.get("/vms")
        assert {vm["zonename"]: vm for vm in answer.json()} == truth
        assert "x-vminfod-unreadable" not in answer.headers
        assert daemon.get("/health").status == 200
        assert daemon.logged("the load lacks what should be there") != [] or (tool, times) == ("zoneadm", 1)
        assert not daemon.logged("emitting")


def test_zone_that_the_list_lacks_and_that_cannot_be_read_alone_is_named_until_it_can_be_read(node, truth):
    missing = [vm["zonename"] for vm in node.control.vms()][-2:]
    gone = []
    with RunningDaemon(node.root).start() as first:
        watcher = VminfodWatcher("mirror", port=first.port)
        watcher.on("delete", lambda vm: gone.append(vm["zonename"]))
        eventually("it mirrors all", lambda: watcher.vms() == truth)
    node.control.fault("zoneadm", "cut", match=ZONES, lines=5, times=None)
    for zonename in missing:
        node.control.fault("zoneadm", "fail", match=f"-z {zonename} ", stderr="no memory\n", times=None)
    with RunningDaemon(node.root, port=first.port).start() as second:
        answer = second.get("/vms")
        assert sorted(answer.headers["x-vminfod-unreadable"].split(",")) == sorted(missing)
        assert served(second) == {name: vm for name, vm in truth.items() if name not in missing}
        assert second.get("/health").status == 503
        node.control.clear_faults()
        eventually("all are served", lambda: served(second) == truth)
        head = second.get("/ping").headers
        watcher.wait_for_rev(int(head["x-vminfod-rev"]), SOON, epoch=head["x-vminfod-epoch"])
        assert gone == [] and watcher.vms() == truth
        watcher.stop()


def test_zone_whose_datasets_are_lacking_and_cannot_be_listed_alone_is_not_served_without_them(node, truth):
    lacks = [name for name, vm in truth.items() if vm["zonepath"] == f"/zones/{name}" and vm.get("quota")][-1]
    node.control.fault("zfs", "cut", match=DATASETS, lines=6, times=1)
    node.control.fault("zfs", "fail", match=f"zones/{lacks}", stderr="no memory\n", times=None)
    with RunningDaemon(node.root).start() as daemon:
        answer = daemon.get("/vms")
        assert lacks in answer.headers["x-vminfod-unreadable"].split(",")
        assert lacks not in {vm["zonename"] for vm in answer.json()}
        node.control.clear_faults()
        eventually("all are served", lambda: served(daemon) == truth)


def test_node_that_lacks_nothing_costs_no_further_command(node, truth):
    node.control.forget_calls()
    with RunningDaemon(node.root).start() as daemon:
        assert served(daemon) == truth
        assert node.control.call_counts() == {**node.control.call_counts(), "zoneadm": 2, "zfs": 1, "kstat": 1}
        assert not daemon.logged("the load lacks what should be there")


def test_zone_without_a_uuid_that_only_the_index_names_is_no_vm(node, truth):
    index = node.control.real("/etc/zones/index")
    with open(index, encoding="utf-8") as file:
        text = file.read()
    try:
        with open(index, "w", encoding="utf-8") as file:
            file.write(text + "buildbox:installed:/zones/buildbox:\n")
        node.control.forget_calls()
        with RunningDaemon(node.root).start() as daemon:
            answer = daemon.get("/vms")
            assert "x-vminfod-unreadable" not in answer.headers
            assert served(daemon) == truth
            assert node.control.call_counts()["zoneadm"] == 2
    finally:
        with open(index, "w", encoding="utf-8") as file:
            file.write(text)
