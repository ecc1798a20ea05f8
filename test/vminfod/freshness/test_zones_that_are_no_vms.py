# SPDX-License-Identifier: MPL-2.0
"""Zones that are no VMs make no events, whatever could not be read of them."""

import pytest

from support.running_daemon import eventually

NO_VM = "buildbox"


@pytest.mark.vms(30)
def test_zone_that_could_not_be_asked_about_and_is_no_vm_is_not_deleted(node, daemon):
    uuid = next(vm["uuid"] for vm in daemon.vms() if vm["brand"] == "joyent")
    stream = daemon.events("?vms=false")
    node.control.fault("zoneadm", "fail", match=NO_VM, stderr="no memory\n", times=1)
    daemon.get(f"/vms/{NO_VM}?fresh=true&timeout=1")
    eventually("it is known to be none", lambda: not daemon.status()["zoneErrors"] and not daemon.status()["reloading"])
    assert node.control.call_counts()["zoneadm"] >= 2
    node.control.write_config(uuid, "tags", {"what": "comes next"})
    event = stream.next()
    stream.close()
    assert (event["type"], event["zonename"]) == ("modify", uuid)
