# SPDX-License-Identifier: MPL-2.0
"""VMs come, change under several sources at once, and go."""

import os
import uuid

import pytest

from support.following import Follow, cause_of, part
from support.running_daemon import RunningDaemon, eventually
from support.settling import is_idle

pytest_plugins = ["support.followers"]


def test_whole_life_of_a_vm_comes_out_as_create_modifies_delete(follow):
    zone = str(uuid.uuid4())
    follow.control.add_vm(uuid=zone, alias="mayfly", snapshots=["vmsnap-a"], delegated=True, files={"tags": {"n": 1}})
    came = follow.until(zone, lambda vm: vm.get("state") == "running" and vm["tags"] and vm["snapshots"])
    assert [event["type"] for event in came] == ["create"] + ["modify"] * (len(came) - 1)
    assert part(follow.vms[zone], "alias", "tags", "quota") == {"alias": "mayfly", "tags": {"n": 1}, "quota": 10}
    follow.settle()
    follow.control.remove_vm(zone)
    came = follow.until(zone, lambda vm: not vm)
    assert [event["type"] for event in came] == ["modify"] * (len(came) - 1) + ["delete"]
    assert came[-1]["last"]["alias"] == "mayfly"
    assert follow.daemon.get(f"/vms/{zone}").status == 404
    follow.nothing()


def test_vm_is_followed_from_all_three_sources_as_soon_as_it_is_created(follow):
    zone = follow.add()
    follow.control.write_config(zone, "tags", {"n": 1})
    assert follow.modified(zone) == [("tags.n", "added", 1)]
    follow.zfs("set", "quota=20G", f"zones/{zone}")
    assert follow.modified(zone) == [("quota", "changed", 10, 20)]
    follow.control.init_restart(zone)
    assert ("init_restarts", "changed", 0, 1) in follow.modified(zone)


def test_change_made_while_the_vm_is_being_created_is_not_lost(follow):
    """Its watches stand before its files are read (S9)."""
    zone = str(uuid.uuid4())
    follow.control.fault("zfs", "hold", match=f"-d 1 zones/{zone}", times=1)
    follow.control.add_vm(uuid=zone, state="stopped", files={"tags": {"n": 1}})
    eventually("it is being read", lambda: follow.control.held("zfs"))
    follow.control.write_config(zone, "tags", {"n": 2})
    follow.control.step("zfs")
    follow.until(zone, lambda vm: vm.get("tags") == {"n": 2})
    follow.nothing()


def test_creation_does_not_wait_for_a_file_watcher_that_does_not_answer(node, daemon):
    """Bugs R4, H2: create and delete come although no watch can be set."""
    follow = Follow(node, daemon, "none")
    follow.control.kill_child("fswatcher", 19)
    zone = str(uuid.uuid4())
    follow.control.add_vm(uuid=zone, alias="watched-later", state="configured")
    assert (follow.next()["type"], follow.events[-1]["zonename"]) == ("create", zone)
    follow.control.remove_vm(zone)
    assert follow.until(zone, lambda vm: not vm)[-1]["type"] == "delete"
    follow.control.kill_child("fswatcher", 18)


def test_zone_that_is_deleted_is_gone_by_whichever_way_is_faster_and_once(follow):
    """Its XML goes, and zoneadm says so: two sources, one delete."""
    zone = follow.add(state="configured")
    follow.control.delete_zone(zone)
    event = follow.next()
    assert (event["type"], event["zonename"], event["uuid"]) == ("delete", zone, zone)
    assert event["cause"]["source"] in ("zone", "file")
    follow.nothing()


@pytest.mark.parametrize("lost", ["zone event", "file event"])
def test_deletion_is_seen_if_one_of_its_two_events_is_lost(follow, lost):
    zone = follow.add(state="configured")
    if lost == "zone event":
        follow.control.drop_events(match=zone)
    else:
        follow.deafen(zone)
    follow.control.delete_zone(zone)
    event = follow.next()
    assert (event["type"], event["zonename"]) == ("delete", zone)
    if lost == "zone event":
        assert cause_of(event) == {"source": "file", "path": f"/etc/zones/{zone}.xml"}
    else:
        assert cause_of(event) == {"source": "zone", "state": ""}
    follow.nothing()


def test_change_before_a_late_watch_stands_is_not_lost(follow):
    """The file watcher is busy for longer than a reading waits for it."""
    zone = str(uuid.uuid4())
    follow.control.tell("fswatcher", "slow", seconds=5)
    follow.control.add_vm(uuid=zone, state="stopped")
    follow.until(zone, lambda vm: vm.get("zone_state") == "installed")
    eventually("it has been read", lambda: is_idle(follow.daemon))
    follow.control.write_config(zone, "tags", {"late": True})
    follow.until(zone, lambda vm: vm["tags"] == {"late": True})
    follow.nothing()


def test_zone_of_the_same_uuid_that_comes_again_is_a_new_vm(follow):
    zone = follow.add(state="stopped", alias="first")
    follow.control.remove_vm(zone)
    follow.until(zone, lambda vm: not vm)
    follow.control.add_vm(uuid=zone, state="stopped", alias="second")
    follow.until(zone, lambda vm: vm.get("alias") == "second" and vm.get("state") == "stopped")
    assert follow.daemon.vms()[-1]["zonename"] == zone
    follow.control.set_attr(zone, "alias", "YmFy")
    follow.until(zone, lambda vm: vm["alias"] == "bar")
    follow.nothing()


def test_vm_of_which_no_zone_event_tells_is_seen(follow):
    zone = str(uuid.uuid4())
    follow.control.drop_events(times=None, match=zone)
    follow.control.add_vm(uuid=zone, state="stopped", alias="silent")
    follow.control.clear_event_rules()
    event = follow.next()
    assert (event["type"], event["zonename"], event["vm"]["alias"]) == ("create", zone, "silent")
    assert cause_of(event) == {"source": "file", "path": "/etc/zones"}
    assert event["vm"]["zfs_filesystem"] == f"zones/{zone}"
    follow.nothing()


def test_zone_that_is_made_and_deleted_at_once_leaves_no_trace(follow):
    zone = str(uuid.uuid4())
    follow.control.fault("zoneadm", "hold", match=zone, times=1)
    follow.control.add_vm(uuid=zone, state="configured")
    eventually("it is being looked for", lambda: follow.control.held("zoneadm"))
    follow.control.delete_zone(zone)
    follow.control.step("zoneadm")
    follow.nothing()
    assert follow.daemon.vm(zone) is None
    assert zone not in follow.daemon.status()["zoneErrors"]
    eventually("nothing of it is watched", lambda: zone not in str(follow.daemon.status()["fswatcher"]))


def test_vm_that_cannot_be_loaded_is_created_when_it_can(follow):
    """Bug S3: what fails is tried again, and hides nobody else (C13)."""
    zone = str(uuid.uuid4())
    follow.control.fault("zfs", "fail", match=f"-d 1 zones/{zone}", stderr="internal error\n", times=None)
    follow.control.add_vm(uuid=zone, state="stopped")
    eventually("the error is shown", lambda: zone in follow.daemon.status()["zoneErrors"])
    error = follow.daemon.status()["zoneErrors"][zone]
    assert error["tries"] >= 1
    assert "zfs" in error["err"]
    follow.nothing_by_files()
    follow.control.clear_faults("zfs")
    event = follow.next()
    assert (event["type"], event["zonename"], event["vm"]["state"]) == ("create", zone, "stopped")
    eventually("the error is forgotten", lambda: zone not in follow.daemon.status()["zoneErrors"])


def test_zone_that_moves_to_another_zonepath_is_read_and_watched_there(follow):
    zone = follow.add(state="stopped", files={"tags": {"n": 1}})
    follow.zfs("create", "-p", f"tank/{zone}")
    os.mkdir(follow.control.real(f"/tank/{zone}/config"))
    with open(follow.control.real(f"/tank/{zone}/config/tags.json"), "w", encoding="ascii") as file:
        file.write('{"n": 2}')
    follow.settle()
    row = follow.control.order("zones")
    assert any(z["zonename"] == zone for z in row)
    follow.control.fault(
        "zoneadm",
        "garbage",
        match=zone,
        times=1,
        exit=0,
        bytes=f"-:{zone}:installed:/tank/{zone}:{zone}:joyent-minimal:excl:77\n",
    )
    follow.control.publish(
        "status",
        "change",
        {"zonename": zone, "newstate": "installed", "oldstate": "incomplete"},
        channel="com.sun:zones:status",
    )
    follow.until(zone, lambda vm: vm["zonepath"] == f"/tank/{zone}")
    assert part(follow.vms[zone], "tags", "zpool", "zfs_filesystem") == {
        "tags": {"n": 2},
        "zpool": "tank",
        "zfs_filesystem": f"tank/{zone}",
    }
    follow.settle()
    watched = follow.daemon.status()["fswatcher"]
    assert f"/tank/{zone}/config/tags.json" in watched["watching"]
    assert not any(path.startswith(f"/zones/{zone}") for path in watched["watching"] + watched["not_yet_watching"])


def test_zone_that_appears_while_the_daemon_starts_is_served_and_watched(node):
    """Bug S10: between the list of zones and the load."""
    node.control.fault("zfs", "hold", match="list", times=1)
    with RunningDaemon(node.root).start(wait=False) as daemon:
        eventually("the load has begun", lambda: node.control.held("zfs"))
        zone = node.control.add_vm(state="stopped", files={"tags": {"n": 1}})["zonename"]
        node.control.write_config(zone, "tags", {"n": 2})
        node.control.step("zfs")
        eventually("the daemon answers", daemon.answers)
        eventually("the VM is served", lambda: (daemon.vm(zone) or {}).get("tags") == {"n": 2})
        node.control.write_config(zone, "tags", {"n": 3})
        eventually("the VM is followed", lambda: daemon.vm(zone)["tags"] == {"n": 3})


@pytest.mark.vms(30)
def test_zone_that_goes_while_the_daemon_starts_is_not_served_for_long(node):
    [zone] = [zone["zonename"] for zone in node.control.vms() if zone["zonename"] == "pagila-standby"]
    node.control.fault("zfs", "hold", match="list", times=1)
    with RunningDaemon(node.root).start(wait=False) as daemon:
        eventually("the load has begun", lambda: node.control.held("zfs"))
        node.control.remove_vm(zone)
        node.control.step("zfs")
        eventually("the daemon answers", daemon.answers)
        eventually("the VM is gone", lambda: daemon.vm(zone) is None)
        assert len(daemon.vms()) == 29
        eventually("no error remains", lambda: daemon.status()["zoneErrors"] == {})


def test_two_vms_change_at_once_and_each_has_its_own_events(follow):
    one, other = follow.add(), follow.add()
    for number in range(3):
        follow.control.write_config(one, "tags", {"n": number})
        follow.control.write_config(other, "tags", {"m": number})
    while (follow.vms[one]["tags"], follow.vms[other]["tags"]) != ({"n": 2}, {"m": 2}):
        assert follow.next()["zonename"] in (one, other)
    follow.nothing()
