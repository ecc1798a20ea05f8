# SPDX-License-Identifier: MPL-2.0
"""The transcripts of RFD 39: the same changes on the mock node give the same lines of `vminfo events`.

Each file gets the date that the RFD shows for it, so that everything but the time in brackets can be compared. In the
RFD's text the addresses of the nic are lost; here they are example addresses. What vmadm does is done by hand: the XML
is replaced in one step as zonecfg does it, and zfs is run."""

import base64
import os
import subprocess
import time
from datetime import datetime, timezone

import pytest

from support.running_daemon import SBIN, eventually

VM = "698fed0c-b754-4073-e230-9f37c6b4d79f"
XML = f"/etc/zones/{VM}.xml"

pytest_plugins = ["support.followers"]


def seconds(date):
    return datetime.strptime(date, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc).timestamp()


class Terminal:
    """`vminfo events` in a second terminal."""

    def __init__(self, port):
        self._process = subprocess.Popen(
            [os.path.join(SBIN, "vminfo"), "events", "-r"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "VMINFOD_PORT": str(port)},
        )
        assert self.lines(1) == ["ready"]

    def lines(self, count):
        """The next `count` lines without their times; AssertionError if a line has none."""
        found = []
        for _ in range(count):
            when, _, text = self._process.stdout.readline().rstrip("\n").partition(" ")
            time.strptime(when, "[%H:%M:%S.%fZ]")
            found.append(text)
        return found

    def close(self):
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


def rewrite(node, change, date):
    """Replace the VM's XML by what `change` makes of it, as zonecfg does, with the RFD's date."""
    path = node.control.real(XML)
    text = change(node.control.read_xml(VM))
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write(text)
    os.utime(path + ".new", (seconds(date), seconds(date)))
    os.rename(path + ".new", path)


def in_base64(text):
    return base64.b64encode(text.encode()).decode()


def limit(name, mib):
    return f'<rctl name="{name}">\n    <rctl-value priv="privileged" limit="{mib << 20}" action="deny"/>'


@pytest.fixture
def terminal(shared_node, shared_daemon):
    """The RFD's VM, as old as it was before the first transcript, and a terminal."""
    control = shared_node.control
    if any(zone["zonename"] == VM for zone in control.vms()):
        control.remove_vm(VM)
        eventually("the VM of the test before is gone", lambda: shared_daemon.vm(VM) is None)
    control.add_vm(uuid=VM, brand="joyent-minimal", alias="foo", ram=256, quota=10)
    for name in (XML, *(f"/zones/{VM}/config/{file}.json" for file in ("metadata", "routes", "tags"))):
        if os.path.exists(control.real(name)):
            os.utime(control.real(name), (seconds("2018-04-11T17:03:53"),) * 2)
    assert shared_daemon.get(f"/vms/{VM}?fresh=true").json()["last_modified"] == "2018-04-11T17:03:53.000Z"
    eventually("the VM is settled", lambda: not shared_daemon.status()["reloading"])
    opened = Terminal(shared_daemon.port)
    yield opened
    opened.close()


def test_lines_of_the_updates_of_one_vm(shared_node, terminal):
    # vmadm update UUID alias=bar
    rewrite(shared_node, lambda xml: xml.replace(in_base64("foo"), in_base64("bar")), "2018-04-11T17:04:44")
    assert terminal.lines(2) == [
        '698fed0c bar modify: alias changed :: "foo" -> "bar"',
        '698fed0c bar modify: last_modified changed :: "2018-04-11T17:03:53.000Z" -> "2018-04-11T17:04:44.000Z"',
    ]

    # vmadm update UUID max_physical_memory=128: swap keeps its least value.
    def less_memory(xml):
        for name in ("zone.max-physical-memory", "zone.max-locked-memory"):
            assert limit(name, 256) in xml
            xml = xml.replace(limit(name, 256), limit(name, 128))
        tmpfs = '<attr name="tmpfs" type="string" value="%d"'
        return xml.replace(tmpfs % 256, tmpfs % 128)

    rewrite(shared_node, less_memory, "2018-04-11T17:07:37")
    assert terminal.lines(4) == [
        "698fed0c bar modify: max_physical_memory changed :: 256 -> 128",
        "698fed0c bar modify: max_locked_memory changed :: 256 -> 128",
        "698fed0c bar modify: tmpfs changed :: 256 -> 128",
        '698fed0c bar modify: last_modified changed :: "2018-04-11T17:04:44.000Z" -> "2018-04-11T17:07:37.000Z"',
    ]

    # vmadm update UUID quota=20: zfs first, then it touches the XML.
    shared_node.run("zfs", "set", "quota=20G", f"zones/{VM}", check=True)
    assert terminal.lines(1) == ["698fed0c bar modify: quota changed :: 10 -> 20"]
    rewrite(shared_node, lambda xml: xml, "2018-04-11T17:09:42")
    assert terminal.lines(1) == [
        '698fed0c bar modify: last_modified changed :: "2018-04-11T17:07:37.000Z" -> "2018-04-11T17:09:42.000Z"',
    ]

    # vmadm update UUID < nics.json
    def another_nic(xml):
        values = {
            "gateway": "10.88.88.2",
            "gateways": "10.88.88.2",
            "netmask": "255.255.255.0",
            "ip": "10.88.88.70",
            "ips": "10.88.88.70/24",
        }
        attributes = "".join(f'<net-attr name="{name}" value="{value}"/>' for name, value in values.items())
        return xml.replace(
            "</zone>",
            '<network physical="net0" mac-addr="b2:1e:ba:a5:6e:71" global-nic="external">'
            f"{attributes}</network></zone>",
        )

    rewrite(shared_node, another_nic, "2018-04-11T17:12:24")
    assert terminal.lines(2) == [
        '698fed0c bar modify: nics.* added :: undefined -> {"interface":"net0","mac":"b2:1e:ba:a5:6e:71",'
        '"nic_tag":"external","gateway":"10.88.88.2","gateways":["10.88.88.2"],"netmask":"255.255.255.0",'
        '"ip":"10.88.88.70","ips":["10.88.88.70/24"]}',
        '698fed0c bar modify: last_modified changed :: "2018-04-11T17:09:42.000Z" -> "2018-04-11T17:12:24.000Z"',
    ]


def test_change_behind_the_back_of_vmadm_is_one_line(shared_node, terminal):
    shared_node.run("zfs", "set", "quota=20G", f"zones/{VM}", check=True)
    assert terminal.lines(1) == ["698fed0c foo modify: quota changed :: 10 -> 20"]
    shared_node.run("zfs", "set", "quota=10G", f"zones/{VM}", check=True)
    assert terminal.lines(1) == ["698fed0c foo modify: quota changed :: 20 -> 10"]


def test_lines_of_a_creation(shared_node, shared_daemon):
    """As far as they are the platform's: when vmadm writes which file in between is left out. The property
    init_restarts is younger than the RFD."""
    zone, control = "c4103a37-356c-4898-fe9e-bc61fd3f7ac8", shared_node.control
    xml, date = control.real(f"/etc/zones/{zone}.xml"), seconds("2018-04-11T17:19:12")
    terminal = Terminal(shared_daemon.port)
    control.add_vm(
        uuid=zone,
        state="configured",
        alias="foo",
        attrs={
            "transition": "provisioning:running:1523467442755",
        },
    )
    assert terminal.lines(1) == ["c4103a37 foo create"]
    before = shared_daemon.vm(zone)["last_modified"]
    control.set_index_state(zone, "incomplete")
    assert terminal.lines(1) == ['c4103a37 foo modify: zone_state changed :: "configured" -> "incomplete"']
    shared_node.run("zfs", "create", f"zones/{zone}", check=True)
    assert terminal.lines(4) == [
        "c4103a37 foo modify: quota added :: undefined -> 0",
        "c4103a37 foo modify: zfs_root_recsize added :: undefined -> 131072",
        f'c4103a37 foo modify: zfs_filesystem added :: undefined -> "zones/{zone}"',
        'c4103a37 foo modify: zpool added :: undefined -> "zones"',
    ]
    shared_node.run("zfs", "set", "quota=10G", f"zones/{zone}", check=True)
    assert terminal.lines(1) == ["c4103a37 foo modify: quota changed :: 0 -> 10"]
    control.set_index_state(zone, "installed")
    assert terminal.lines(1) == ['c4103a37 foo modify: zone_state changed :: "incomplete" -> "installed"']

    control.set_kernel_state(zone, "ready")
    zoneid = next(found["zoneid"] for found in control.vms() if found["zonename"] == zone)
    change = {"zonename": zone, "newstate": "ready", "oldstate": "initialized", "zoneid": zoneid, "when": 1}
    control.publish("status", "change", change, channel="com.sun:zones:status")
    assert terminal.lines(5) == [
        'c4103a37 foo modify: zone_state changed :: "installed" -> "ready"',
        f"c4103a37 foo modify: zoneid changed :: null -> {zoneid}",
        'c4103a37 foo modify: boot_timestamp added :: undefined -> "1970-01-01T00:00:00.000Z"',
        "c4103a37 foo modify: init_restarts added :: undefined -> 0",
        "c4103a37 foo modify: pid added :: undefined -> 0",
    ]

    def finished(text):
        return "\n".join(line for line in text.split("\n") if "transition" not in line)

    with open(xml + ".new", "w", encoding="utf-8") as file:
        file.write(finished(control.read_xml(zone)))
    os.utime(xml + ".new", (date, date))
    os.rename(xml + ".new", xml)
    assert terminal.lines(4) == [
        'c4103a37 foo modify: state changed :: "provisioning" -> "ready"',
        'c4103a37 foo modify: transition_to removed :: "running" -> undefined',
        "c4103a37 foo modify: transition_expire removed :: 1523467442755 -> undefined",
        f'c4103a37 foo modify: last_modified changed :: "{before}" -> "2018-04-11T17:19:12.000Z"',
    ]
    terminal.close()
