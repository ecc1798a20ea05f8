# SPDX-License-Identifier: MPL-2.0
"""A tool that hangs for one VM costs that VM its freshness until the tool's time limit, and no other VM anything."""

import re

import pytest

from support.convergence import assert_converges
from support.examples import more
from support.running_daemon import RunningDaemon, eventually
from support.settling import settle

pytest_plugins = ["support.onenode"]
pytestmark = pytest.mark.long

SHORT = "3"  # seconds that a command about one zone has, where a test waits for that; one that is well needs less
LONG = "600"  # seconds, where nothing is to end by itself
MANY = 6  # more than run at once


@pytest.fixture
def node(one_node):
    """One for all tests of this file, well again after each."""
    yield one_node
    one_node.control.clear_faults()
    one_node.control.clear_event_rules()


@pytest.fixture
def daemon(node):
    """What hangs does so until the test lets it go."""
    with RunningDaemon(node.root, "--zone-limit", LONG).start() as running:
        yield running


@pytest.fixture
def impatient(node):
    with RunningDaemon(node.root, "--zone-limit", SHORT).start() as running:
        yield running


def healthy_vms(node, daemon):
    """VMs in order that run in zones named by their uuid, so that all tools are asked about them, and that show a
    quota, which hardware VMs do not."""
    return sorted(
        vm["uuid"]
        for vm in daemon.vms()
        if (vm["zonepath"], vm["zone_state"]) == (f"/zones/{vm['uuid']}", "running")
        and vm["brand"] not in ("kvm", "bhyve")
    )


def hang(node, tool, uuid):
    """`tool` hangs from now on when the daemon asks it about the VM; kstat is asked by the zone's number."""
    zoneid = next(zone["zoneid"] for zone in node.control.zones() if zone["uuid"] == uuid)
    words = {"kstat": f"-i {zoneid}", "zfs": f"-d 1 zones/{uuid}", "zoneadm": uuid}
    node.control.fault(tool, "hang", match=words[tool], times=None)


def change_all_ways(node, daemon, stream, uuid):
    """A change from each source to a healthy VM, each seen on the stream."""

    def comes(check):
        stream.until(lambda event: event["zonename"] == uuid and check(event["vm"]))

    restarts, number = daemon.vm(uuid)["init_restarts"], daemon.vm(uuid)["quota"] + 1
    node.run("zfs", "set", f"quota={number}G", f"zones/{uuid}", check=True)
    comes(lambda vm: vm["quota"] == number)
    node.control.write_config(uuid, "tags", {"number": number})
    comes(lambda vm: vm["tags"] == {"number": number})
    node.control.init_restart(uuid)
    comes(lambda vm: vm["init_restarts"] == restarts + 1)


@pytest.mark.parametrize("tool", ["zoneadm", "kstat", *more("zfs")])
def test_tool_that_hangs_for_one_vm_holds_up_no_other(node, daemon, tool):
    victim, other, *_ = healthy_vms(node, daemon)
    hang(node, tool, victim)
    fresh = daemon.raw().send(f"GET /vms/{victim}?fresh=true HTTP/1.1\r\n\r\n".encode())
    eventually(f"{tool} hangs", lambda: node.control.children(tool))
    old = daemon.vm(victim)
    stream = daemon.events()
    for _ in range(3):
        change_all_ways(node, daemon, stream, other)
    assert daemon.get("/ping").status == 200
    assert daemon.get(f"/vms/{other}?fresh=true").status == 200
    assert node.control.children(tool), "it still hangs"
    status = daemon.status()
    assert (status["state"], status["status"]) == ("running", "working")
    assert victim in status["reloading"]
    assert status["queue"]["vasync_queue"]["npending"] == 0
    assert daemon.vm(victim) == old, "what is served of it is what was read last"
    assert {event["zonename"] for event in stream.seen} == {other}
    fresh.close()
    stream.close()


@pytest.mark.parametrize("asks", ["an event", "a fresh read"])
def test_rest_of_a_vm_is_served_while_zfs_hangs_for_it(node, daemon, asks):
    victim, *_ = healthy_vms(node, daemon)
    node.control.fault("zfs", "hold", match=f"-d 1 zones/{victim}", times=None)
    quota = daemon.vm(victim)["quota"] + 1
    node.run("zfs", "set", f"quota={quota}G", f"zones/{victim}", check=True)
    fresh = daemon.raw()
    if asks == "a fresh read":
        fresh.send(f"GET /vms/{victim}?fresh=true&timeout=60 HTTP/1.1\r\n\r\n".encode())
    eventually("zfs hangs", lambda: node.control.children("zfs"))
    stream = daemon.events()
    for number in (1, 2):
        node.control.write_config(victim, "tags", {"meanwhile": number})
        event = stream.until(lambda event, number=number: event["vm"]["tags"] == {"meanwhile": number})
        assert event["vm"]["quota"] == quota - 1, "what zfs said before"
    node.control.halt(victim)
    stream.until(lambda event: event["vm"]["zone_state"] == "installed")
    eventually("what hangs is named", lambda: f"zfs list of {victim} runs " in daemon.get("/health").body.decode())
    assert victim in daemon.status()["reloading"] and node.control.children("zfs"), "it still hangs"
    node.control.clear_faults("zfs")
    stream.until(lambda event: event["vm"]["quota"] == quota)
    if asks == "a fresh read":
        answer = fresh.answer().json()
        assert (answer["quota"], answer["tags"], answer["zone_state"]) == (quota, {"meanwhile": 2}, "installed")
    assert_converges(daemon)
    node.control.boot(victim)
    fresh.close()
    stream.close()


def test_disk_that_comes_while_zfs_hangs_is_shown_with_what_zfs_says_of_it(node, daemon):
    """What was served ahead of zfs uses another dataset than the list that hung was about."""
    victim = next(vm["uuid"] for vm in daemon.vms() if vm["brand"] == "bhyve" and vm["zone_state"] == "running")
    node.control.fault("zfs", "hold", match=f"-d 1 zones/{victim}", times=1)
    node.run("zfs", "set", "quota=77G", f"zones/{victim}", check=True)
    eventually("zfs hangs", lambda: node.control.children("zfs"))
    node.run("zfs", "create", "-V", "1G", f"zones/{victim}-more", check=True)
    stream = daemon.events()
    path = f"/dev/zvol/rdsk/zones/{victim}-more"
    device = f'<device match="{path}"><net-attr name="model" value="virtio"/></device></zone>'
    node.control.edit_xml(victim, lambda text: text.replace("</zone>", device))
    event = stream.until(lambda event: any(disk["path"] == path for disk in event["vm"]["disks"]))
    assert [disk["size"] for disk in event["vm"]["disks"] if disk["path"] == path] == [1024]
    assert node.control.children("zfs"), "the list that hangs has not ended"
    node.control.step("zfs")
    assert_converges(daemon)
    stream.close()


@pytest.mark.parametrize("tool", ["zfs", *more("zoneadm")])
def test_tool_that_hangs_for_many_vms_holds_up_no_other(node, daemon, tool):
    """A sick pool has many VMs on it."""
    *victims, other = healthy_vms(node, daemon)[: MANY + 1]
    assert len(victims) == MANY
    for number, victim in enumerate(victims, 1):
        hang(node, tool, victim)
        node.control.init_restart(victim)
        node.run("zfs", "set", "quota=61G", f"zones/{victim}", check=True)
        # Before the next: those that wait together are asked about by one command, which does not hang.
        eventually(f"{tool} hangs for it", lambda number=number: len(node.control.children(tool)) == number)
    stream = daemon.events()
    change_all_ways(node, daemon, stream, other)
    assert len(node.control.children(tool)) == MANY, "they still hang"
    assert set(victims) <= set(daemon.status()["reloading"])
    stream.close()


def test_hanging_tools_are_killed_at_their_limit_reported_and_tried_again(node, impatient):
    tools = ["zfs", "zoneadm", "kstat"]
    victims = dict(zip(tools, healthy_vms(node, impatient)))
    for tool, victim in victims.items():
        hang(node, tool, victim)
        quota = impatient.vm(victim)["quota"] + 1
        node.control.init_restart(victim)
        node.run("zfs", "set", f"quota={quota}G", f"zones/{victim}", check=True)
        eventually("it hangs", lambda tool=tool: node.control.children(tool))
    for tool, victim in victims.items():
        error = eventually("status tells", lambda victim=victim: impatient.status()["zoneErrors"].get(victim))
        assert error["code"] == "ETIMEDOUT"
        assert error["err"] == f"{tool} did not end within {SHORT} s and was killed"
    told = {record["zonename"] for record in impatient.logged("cannot read a zone", level=50)}
    assert told >= set(victims.values())
    node.control.clear_faults()
    eventually("all are fresh again", lambda: not impatient.status()["zoneErrors"])
    assert_converges(impatient)
    eventually("none of them runs on", lambda: not any(map(node.control.children, tools)))


def test_fresh_read_of_a_vm_that_hangs_ends_at_its_timeout(node, daemon):
    victim = healthy_vms(node, daemon)[0]
    hang(node, "zfs", victim)
    said = rf"VM not read within 0\.3 s: waiting for zfs list of {victim}, which runs \d+\.\d s"

    def says_so():
        """Where it has come so far: on a busy machine not at first."""
        answer = daemon.get(f"/vms/{victim}?fresh=true&timeout=0.3")
        assert answer.status == 504
        return re.fullmatch(said, answer.body.decode())

    eventually("it says what it waits for", says_so)
    assert daemon.vm(victim)["uuid"] == victim


def test_refresh_goes_round_a_vm_that_hangs(node):
    """What the others missed is made up for while it hangs."""
    with RunningDaemon(node.root, "--refresh-interval", "1").start() as daemon:
        victim, other, *_ = healthy_vms(node, daemon)
        hang(node, "zfs", victim)
        node.run("zfs", "set", "quota=63G", f"zones/{victim}", check=True)
        eventually("zfs hangs", lambda: node.control.children("zfs"))
        node.control.drop_events(times=None)
        node.run("zfs", "set", "quota=64G", f"zones/{other}", check=True)
        eventually("the refresh has found it", lambda: daemon.vm(other)["quota"] == 64)
        assert daemon.vm(victim)["quota"] != 63
        assert not daemon.status()["refreshErrors"]


def test_refresh_whose_list_hangs_fails_at_the_time_limit(node):
    with RunningDaemon(node.root, "--refresh-interval", "0.5", "--node-limit", "5").start() as daemon:
        node.control.fault("zfs", "hang", match="-d 3", times=1)
        [error] = eventually("the refresh has failed", lambda: daemon.status()["refreshErrors"])
        assert error["err"] == "zfs did not end within 5 s and was killed"
        eventually("the next one succeeds", lambda: len(daemon.logged("full refresh ended")) >= 2)
        settle(daemon)
        assert_converges(daemon)


def test_refresh_whose_list_hangs_leaves_events_alone(node):
    with RunningDaemon(node.root, "--refresh-interval", "0.5").start() as daemon:
        uuid = healthy_vms(node, daemon)[0]
        node.control.fault("zfs", "hang", match="-d 3", times=1)
        eventually("the list hangs", lambda: node.control.children("zfs"))
        assert daemon.status()["state"] == "running"
        stream = daemon.events()
        change_all_ways(node, daemon, stream, uuid)
        assert node.control.children("zfs"), "it still hangs"
        assert daemon.status()["status"] == "fetching vm cache data"
        assert node.control.kill_child("zfs", match="-d 3")
        eventually("the refresh has failed", lambda: daemon.status()["refreshErrors"])
        eventually("the next one succeeds", lambda: len(daemon.logged("full refresh ended")) >= 2)
        settle(daemon)
        assert_converges(daemon)
        stream.close()


def test_kernel_statistics_that_hang_at_the_start_are_reported_in_one_line(node):
    node.control.fault("kstat", "hang", times=1)
    daemon = RunningDaemon(node.root, "--zone-limit", SHORT).start(wait=False)
    assert daemon.wait() == 1
    assert daemon.stderr == b"vminfod: cannot load the node: kstat did not end within 3 s and was killed\n"
