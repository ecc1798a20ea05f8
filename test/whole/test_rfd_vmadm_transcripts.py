# SPDX-License-Identifier: MPL-2.0
"""The examples of RFD 39 with vmadm itself: `vminfo events` beside it shows the RFD's lines in the RFD's order.

Each step starts from a zone file that is long unchanged, so that last_modified has something to change from. Dates are
compared as <date>, and so is what differs from node to node: zoneid, pid, expiry. Younger than the RFD are
init_restarts and the mark `provisioning`, whose lines may stand between; the addresses of the nic are lost in the
RFD's text."""

import os
import queue
import re
import subprocess
import threading

import pytest

from support.running_daemon import SBIN, SOON, eventually
from support.settling import settle
from support.writing import IMAGE, QUICK

pytest_plugins = ["support.writers"]

VM = "698fed0c-b754-4073-e230-9f37c6b4d79f"
LONG_AGO = 1523466233  # seconds since the epoch
YOUNGER = ("init_restarts", "provisioning ")

DATE = re.compile(r'"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"')
EPOCH = '"1970-01-01T00:00:00.000Z"'


class Terminal:
    """`vminfo events` in a second terminal."""

    def __init__(self, cn):
        self._process = subprocess.Popen(
            [os.path.join(SBIN, "vminfo"), "events", "-r"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            env=cn.environ,
        )
        self._lines = queue.Queue()
        threading.Thread(target=self._pump, daemon=True).start()
        assert self._line() == "ready"

    def _pump(self):
        for line in self._process.stdout:
            self._lines.put(line)

    def _line(self):
        """The next line without its time, and without what differs from run to run."""
        when, _, text = self._lines.get(timeout=SOON).rstrip("\n").partition(" ")
        assert re.fullmatch(r"\[\d\d:\d\d:\d\d\.\d{3}Z\]", when), when
        text = DATE.sub(lambda found: found[0] if found[0] == EPOCH else "<date>", text)
        for name in ("zoneid", "pid", "transition_expire"):
            if f" {name} " in text:
                text = re.sub(r"\b[1-9]\d*(?= ->|$)", "<number>", text)
        return text

    def expect(self, wanted, *, between=YOUNGER):
        """The lines to come are these, in this order; such that hold one of `between` may stand between them."""
        for line in wanted:
            found = self._line()
            while found != line and any(text in found for text in between):
                found = self._line()
            assert found == line

    def expect_in_any_order(self, wanted, *, between=YOUNGER):
        """As expect(), where a reading can come between steps that make no event of their own."""
        left = list(wanted)
        while left:
            found = self._line()
            if found in left:
                left.remove(found)
            else:
                assert any(text in found for text in between), (found, left)

    def close(self):
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


def grow_old(cn, uuid):
    """All files of the VM are long unchanged, and the daemon knows it."""
    paths = [
        f"{cn.root}/etc/zones/{uuid}.xml",
        *(
            f"{cn.root}/zones/{uuid}/{name}"
            for name in ("lastexited", "config/metadata.json", "config/tags.json", "config/routes.json")
        ),
    ]
    for path in paths:
        if os.path.exists(path):
            os.utime(path, (LONG_AGO, LONG_AGO))
    return cn.daemon.get(f"/vms/{uuid}?fresh=true").json()


@pytest.fixture
def terminal(cn):
    opened = None

    def open_one():
        nonlocal opened
        opened = Terminal(cn)
        return opened

    yield open_one
    if opened is not None:
        opened.close()


@pytest.fixture
def step_by_step(cn):
    """The node, whose zoneadm and guests a test may hold."""
    yield cn
    cn.control.clear_faults()
    cn.control.set_pace(**QUICK)


def test_creation_then_quota_then_zfs_behind_vmadms_back(step_by_step, terminal):
    uuid = "c4103a37-356c-4898-fe9e-bc61fd3f7ac8"
    # Each step waits for the lines of the one before: those that follow each other at once can come in one event.
    step_by_step.control.fault("zoneadm", "hold", at="each", times=None)
    step_by_step.control.set_pace(guest=None)
    cn, beside = step_by_step, terminal()
    payload = {"brand": "joyent-minimal", "image_uuid": IMAGE, "alias": "foo", "uuid": uuid}
    command = cn.start_vmadm("create", payload=payload)

    def step(times, *lines, expect=beside.expect):
        settle(cn.daemon)  # a reading that is still going on would see half of what comes now
        for _ in range(times):
            cn.control.step("zoneadm")
        last_modified = "last_modified"  # where the second changes is chance; the RFD shows it in the last event, too
        expect(lines, between=(*YOUNGER, last_modified))

    def next_call(word):
        eventually(f"zoneadm {word}", lambda: any(word in call["argv"] for call in cn.control.calls("zoneadm")))

    step(0, "c4103a37 foo create")
    next_call("install")
    step(1, 'c4103a37 foo modify: zone_state changed :: "configured" -> "incomplete"')
    step(
        1,
        "c4103a37 foo modify: quota added :: undefined -> 0",
        "c4103a37 foo modify: zfs_root_recsize added :: undefined -> 131072",
        f'c4103a37 foo modify: zfs_filesystem added :: undefined -> "zones/{uuid}"',
        'c4103a37 foo modify: zpool added :: undefined -> "zones"',
    )
    step(1, "c4103a37 foo modify: quota changed :: 0 -> 10")
    step(2, 'c4103a37 foo modify: zone_state changed :: "incomplete" -> "installed"')
    next_call("boot")
    step(
        2,
        'c4103a37 foo modify: zone_state changed :: "installed" -> "ready"',
        "c4103a37 foo modify: zoneid changed :: null -> <number>",
        'c4103a37 foo modify: boot_timestamp added :: undefined -> "1970-01-01T00:00:00.000Z"',
        "c4103a37 foo modify: pid added :: undefined -> 0",
    )
    step(
        2,
        'c4103a37 foo modify: zone_state changed :: "ready" -> "running"',
        'c4103a37 foo modify: boot_timestamp changed :: "1970-01-01T00:00:00.000Z" -> <date>',
        "c4103a37 foo modify: pid changed :: 0 -> <number>",
        expect=beside.expect_in_any_order,  # the kernel notes the time before it runs, and vmadm has it read
    )
    services = f"{cn.root}/zones/{uuid}/root/var/svc"
    os.rename(f"{services}/provisioning", f"{services}/provision_success")
    step(
        0,
        'c4103a37 foo modify: state changed :: "provisioning" -> "running"',
        'c4103a37 foo modify: transition_to removed :: "running" -> undefined',
        "c4103a37 foo modify: transition_expire removed :: <number> -> undefined",
    )
    said = command.communicate(timeout=SOON)
    assert (command.returncode, *said) == (0, "", f"Successfully created VM {uuid}\n")
    beside.close()
    cn.control.clear_faults()
    assert cn.vm(uuid)["state"] == "running"

    grow_old(cn, uuid)
    beside = terminal()
    assert cn.ok("update", uuid, "quota=20") == f"Successfully updated VM {uuid}"
    beside.expect(
        [
            "c4103a37 foo modify: quota changed :: 10 -> 20",
            "c4103a37 foo modify: last_modified changed :: <date> -> <date>",
        ]
    )
    cn.node.run("zfs", "set", "quota=10G", f"zones/{uuid}", check=True)
    beside.expect(["c4103a37 foo modify: quota changed :: 20 -> 10"])


def test_updates_of_alias_memory_quota_and_a_nic(cn, terminal):
    payload = {"brand": "joyent-minimal", "image_uuid": IMAGE, "alias": "foo", "uuid": VM}
    assert cn.ok("create", payload=payload) == f"Successfully created VM {VM}"
    grow_old(cn, VM)
    beside = terminal()

    assert cn.ok("update", VM, "alias=bar") == f"Successfully updated VM {VM}"
    beside.expect(
        [
            '698fed0c bar modify: alias changed :: "foo" -> "bar"',
            "698fed0c bar modify: last_modified changed :: <date> -> <date>",
        ]
    )
    grow_old(cn, VM)
    beside.expect(["698fed0c bar modify: last_modified changed :: <date> -> <date>"])

    assert cn.ok("update", VM, "max_physical_memory=128") == f"Successfully updated VM {VM}"
    beside.expect(
        [
            "698fed0c bar modify: max_physical_memory changed :: 256 -> 128",
            "698fed0c bar modify: max_locked_memory changed :: 256 -> 128",
            "698fed0c bar modify: tmpfs changed :: 256 -> 128",
            "698fed0c bar modify: last_modified changed :: <date> -> <date>",
        ]
    )
    grow_old(cn, VM)
    beside.expect(["698fed0c bar modify: last_modified changed :: <date> -> <date>"])

    assert cn.ok("update", VM, "quota=20") == f"Successfully updated VM {VM}"
    beside.expect(
        [
            "698fed0c bar modify: quota changed :: 10 -> 20",
            "698fed0c bar modify: last_modified changed :: <date> -> <date>",
        ]
    )
    grow_old(cn, VM)
    beside.expect(["698fed0c bar modify: last_modified changed :: <date> -> <date>"])

    nics = {
        "add_nics": [
            {
                "physical": "net1",
                "index": 1,
                "nic_tag": "external",
                "mac": "b2:1e:ba:a5:6e:71",
                "ip": "10.88.88.70",
                "netmask": "255.255.255.0",
                "gateway": "10.88.88.2",
            }
        ]
    }
    assert cn.ok("update", VM, payload=nics) == f"Successfully updated VM {VM}"
    beside.expect(
        [
            '698fed0c bar modify: nics.* added :: undefined -> {"interface":"net0","mac":"b2:1e:ba:a5:6e:71",'
            '"nic_tag":"external","gateway":"10.88.88.2","gateways":["10.88.88.2"],"netmask":"255.255.255.0",'
            '"ip":"10.88.88.70","ips":["10.88.88.70/24"]}',
            "698fed0c bar modify: last_modified changed :: <date> -> <date>",
        ]
    )
