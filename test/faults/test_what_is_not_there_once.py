# SPDX-License-Identifier: MPL-2.0
"""zoneadm says of a zone that there is no such zone: that is believed when the index of zones does not name it either,
and at once. So it is with what one reading of a VM lacks, and with the XML of zones whose folder is away."""

import os
import signal

import pytest

from support.convergence import refreshes
from support.running_daemon import eventually

pytestmark = pytest.mark.vms(4)


@pytest.fixture
def zone(daemon):
    return next(vm["uuid"] for vm in daemon.vms() if vm["zonename"] == vm["uuid"] and vm["state"] == "running")


def deny(node, zone, times):
    said = f"zoneadm: {zone}: No such zone configured\n"
    node.control.fault("zoneadm", "fail", match=f"-z {zone} ", stderr=said, times=times)


def next_event(node, daemon, stream, witness):
    """The next event of the stream, be it that of a change of another VM behind all that was done."""
    node.control.write_config(witness, "tags", {"what": "comes next"})
    return stream.next()


@pytest.mark.parametrize("times", [1, 2, 3])
def test_vm_that_the_index_names_is_served_on(node, daemon, zone, times):
    before, witness = daemon.vm(zone), next(vm["uuid"] for vm in daemon.vms() if vm["uuid"] != zone)
    stream = daemon.events("?vms=false")
    deny(node, zone, times)
    assert daemon.get(f"/vms/{zone}?fresh=true").status == 200
    assert daemon.vm(zone) == before
    assert next_event(node, daemon, stream, witness)["zonename"] == witness
    stream.close()


def test_vm_that_zoneadm_denies_for_long_is_unreadable_and_kept(node, daemon, zone):
    before, witness = daemon.vm(zone), next(vm["uuid"] for vm in daemon.vms() if vm["uuid"] != zone)
    stream = daemon.events("?vms=false")
    deny(node, zone, None)
    answer = daemon.get(f"/vms/{zone}?fresh=true&timeout=5")
    assert answer.status == 504 and b"/etc/zones/index names it" in answer.body
    assert "No such zone configured" in daemon.status()["zoneErrors"][zone]["err"]
    assert daemon.vm(zone) == before
    assert next_event(node, daemon, stream, witness)["zonename"] == witness
    node.control.clear_faults()
    eventually("it is read again", lambda: not daemon.status()["zoneErrors"])
    stream.close()


def test_vm_that_the_index_names_no_more_is_deleted_once(node, daemon, zone):
    witness = next(vm["uuid"] for vm in daemon.vms() if vm["uuid"] != zone)
    stream = daemon.events("?vms=false")
    node.control.halt(zone)
    eventually("it is halted", lambda: daemon.vm(zone)["state"] == "stopped")
    node.run("zonecfg", "-z", zone, "delete", "-F", check=True)
    assert daemon.get(f"/vms/{zone}?fresh=true").status == 404
    assert stream.until(lambda event: event["type"] == "delete")["zonename"] == zone
    eventually("nothing is left of it", lambda: not daemon.status()["zoneErrors"] and not daemon.status()["reloading"])
    assert next_event(node, daemon, stream, witness)["zonename"] == witness
    stream.close()


def test_no_vm_is_gone_with_the_folder_of_all_zones(node, daemon, zone):
    """Moved away for a moment, to be put back or replaced, while one VM is read anew, and then all of them."""
    before, vms = daemon.vm(zone), daemon.get("/vms").body
    witness = next(vm["uuid"] for vm in daemon.vms() if vm["uuid"] != zone)
    stream = daemon.events("?vms=false")
    folder = node.control.real("/etc/zones")
    os.rename(folder, f"{folder}.away")
    answer = daemon.get(f"/vms/{zone}?fresh=true&timeout=5")
    assert answer.status == 504 and b"nor is there /etc/zones/index" in answer.body
    daemon.process.send_signal(signal.SIGHUP)
    eventually("all was read anew", lambda: refreshes(daemon))
    assert daemon.vm(zone) == before
    assert set(daemon.status()["zoneErrors"]) == {vm["zonename"] for vm in daemon.vms()}
    eventually("it is no secret", lambda: "the index of zones cannot be read: ENOENT" in str(daemon.status()["health"]))
    os.rename(f"{folder}.away", folder)
    eventually("all can be read", lambda: not daemon.status()["zoneErrors"])
    eventually("all is well", lambda: daemon.status()["health"]["status"] == "ok")
    assert daemon.get("/vms").body == vms
    assert next_event(node, daemon, stream, witness)["zonename"] == witness
    stream.close()


@pytest.mark.parametrize("tool, words, lines", [("kstat", "-i", 10), ("zfs", "-d 1", 1)])
def test_statistics_and_snapshots_that_one_reading_lacks_are_not_gone(node, daemon, zone, tool, words, lines):
    node.run("zfs", "snapshot", f"zones/{zone}@vmsnap-kept", check=True)
    before = eventually("it is served", lambda: [vm for vm in [daemon.vm(zone)] if vm["snapshots"]])[0]
    witness = next(vm["uuid"] for vm in daemon.vms() if vm["uuid"] != zone)
    stream = daemon.events("?vms=false")
    node.control.fault(tool, "cut", match=words, lines=lines, times=1)
    assert daemon.get(f"/vms/{zone}?fresh=true").json() == before
    assert next_event(node, daemon, stream, witness)["zonename"] == witness
    stream.close()


def test_snapshot_of_whose_end_an_event_tells_costs_one_listing(node, daemon, zone):
    node.run("zfs", "snapshot", f"zones/{zone}@vmsnap-gone", check=True)
    eventually("it is served", lambda: daemon.vm(zone)["snapshots"])
    eventually("all is done", lambda: not daemon.status()["reloading"])
    node.control.forget_calls()
    node.run("zfs", "destroy", f"zones/{zone}@vmsnap-gone", check=True)
    eventually("it is gone", lambda: not daemon.vm(zone)["snapshots"])
    assert [call["argv"][0] for call in node.control.calls("zfs")] == ["destroy", "list"]
