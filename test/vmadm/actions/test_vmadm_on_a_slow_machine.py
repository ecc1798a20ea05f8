# SPDX-License-Identifier: MPL-2.0
"""Writes on a machine on which every command takes long: they wait for what happens, not for a time that somebody once
thought enough (OS-7749, issue 837 of the original)."""

import pytest

from support.writing import IMAGE, written_node

pytest_plugins = ["support.writers"]

SLOW = 0.15  # seconds; otherwise each takes some milliseconds
SLOW_ZONES = {"boot": 0.5, "guest": 0.5, "shutdown": 0.5, "halt": 0.5}  # seconds; otherwise some 50 ms
TOOLS = ("zoneadm", "zonecfg", "kstat")


@pytest.fixture
def slow_cn():
    with written_node(2, SLOW_ZONES) as made:
        for tool in TOOLS:
            made.control.fault(tool, "slow", seconds=SLOW, times=None)
        yield made


@pytest.mark.long
def test_vm_is_provisioned_and_stopped_however_slow_the_commands_are(slow_cn):
    cn = slow_cn
    payload = {"brand": "joyent-minimal", "image_uuid": IMAGE, "alias": "slow", "max_physical_memory": 256, "quota": 10}
    made = cn.vmadm("create", payload=payload)
    assert (made.code, made.out) == (0, ""), made
    uuid = made.err.split()[-1]
    assert cn.vm(uuid)["state"] == "running"
    cn.ok("stop", uuid)
    assert cn.vm(uuid)["state"] == "stopped"
    cn.ok("start", uuid)
    assert cn.vm(uuid)["state"] == "running"
    cn.ok("reboot", uuid)
    assert cn.vm(uuid)["state"] == "running"


def test_event_says_how_late_it_is(slow_cn):
    """A latency that a client sees is one that an operator can bound."""
    cn = slow_cn
    zone = cn.daemon.vms()[0]["zonename"]
    stream = cn.daemon.events("?vms=false")
    cn.control.init_restart(zone)
    event = stream.until(lambda event: event["zonename"] == zone)
    stream.close()
    assert event["cause"]["source"] == "zone"
    assert event["cause"]["latency_ms"] >= SLOW * 1000
