# SPDX-License-Identifier: MPL-2.0
"""Firewall rules follow their VMs (docs/vmadm.md, "Firewall"): what the packet filters of the node's zones have after
vmadm has made, changed or deleted a VM, and what is said where fwadm fails."""

import json
import os

import pytest

from support.writing import IMAGE, written_node
from vmadm import VmadmError

pytest_plugins = ["support.writers"]

NIC = {"nic_tag": "external", "ip": "10.2.121.70", "netmask": "255.255.0.0"}
FIREWALLED = {"firewall-enabled": "true"}


@pytest.fixture
def bare_cn():
    """A node without any firewall."""
    with written_node(vms=0) as own:
        yield own


def nic(number):
    return {"nic_tag": "external", "ip": f"10.2.122.{number}", "netmask": "255.255.0.0"}


def add_rule(cn, text):
    done = cn.node.run("fwadm", "add", "-f", "-", stdin=json.dumps({"rule": text, "enabled": True}), check=True)
    return done.stdout.splitlines()[1].split()[0]


def filtered(cn, uuid):
    """What the zone's packet filter lets in or stops, without what every zone has."""
    lines = cn.node.run("ipfstat", "-io", "-G", uuid).stdout.splitlines()
    return [line for line in lines if line not in ("block in all", "pass out all keep state")]


def fwadm_calls(cn):
    return [line for line in cn.commands() if line.startswith(("fwadm", "ipf "))]


# A rule follows its VM.


def test_rule_of_a_tag_applies_from_when_the_tag_is_there_until_it_goes(cn):
    uuid = cn.add(attrs=FIREWALLED)
    add_rule(cn, "FROM any TO tag blog ALLOW tcp PORT 80")
    cn.forget_commands()
    cn.ok("update", uuid, payload={"set_tags": {"blog": True}})
    assert filtered(cn, uuid) == ["pass in quick proto tcp from any to any port = 80"]
    assert fwadm_calls(cn) == ["fwadm update -f -"]
    cn.ok("update", uuid, payload={"remove_tags": ["blog"]})
    assert filtered(cn, uuid) == []


def test_address_of_a_new_nic_reaches_the_vms_that_let_it_in(cn):
    db = cn.add(attrs=FIREWALLED, files={"tags": {"store": 1}})
    add_rule(cn, "FROM tag frontend TO tag store ALLOW tcp PORT 5432")
    uuid = cn.create(tags={"frontend": "yes"}, nics=[nic(1)])["uuid"]
    allowed = "pass in quick proto tcp from {} to any port = 5432"
    assert filtered(cn, db) == [allowed.format("10.2.122.1")]
    vm = cn.api.update(uuid, add_nics=[nic(2)])
    assert filtered(cn, db) == [allowed.format(f"10.2.122.{number}") for number in (1, 2)]
    cn.api.update(uuid, update_nics=[{"mac": vm["nics"][1]["mac"], "ip": "10.2.122.3", "netmask": "255.255.0.0"}])
    assert filtered(cn, db) == [allowed.format(f"10.2.122.{number}") for number in (1, 3)]
    cn.api.update(uuid, remove_nics=[vm["nics"][0]["mac"]])
    assert filtered(cn, db) == [allowed.format("10.2.122.3")]
    cn.api.delete(uuid)
    assert filtered(cn, db) == []


def test_firewall_is_switched_on_and_off(cn):
    uuid = cn.add(files={"tags": {"mail": True}})
    add_rule(cn, "FROM any TO tag mail ALLOW tcp PORT 25")
    assert filtered(cn, uuid) == ["filter is off"]
    cn.ok("update", uuid, "firewall_enabled=true")
    assert filtered(cn, uuid) == ["pass in quick proto tcp from any to any port = 25"]
    cn.forget_commands()
    cn.ok("update", uuid, "firewall_enabled=false")
    assert filtered(cn, uuid) == ["filter is off"]
    assert fwadm_calls(cn) == [f"ipf -GD {uuid}"]
    files = os.listdir(f"{cn.root}/zones/{uuid}/config")
    assert {"ipf.conf.old", "ipf6.conf.old"} <= set(files)
    assert not {"ipf.conf", "ipf6.conf"} & set(files)
    cn.api.reboot(uuid)
    assert filtered(cn, uuid) == ["filter is off"]


def test_new_vm_filters_from_its_first_boot_on(cn):
    add_rule(cn, "FROM any TO tag shop ALLOW tcp PORT 443")
    vm = cn.create(firewall_enabled=True, tags={"shop": True}, nics=[nic(9)], autoboot=True)
    assert filtered(cn, vm["uuid"]) == ["pass in quick proto tcp from any to any port = 443"]


# When it is called, and when not.


def test_other_changes_and_the_life_of_a_vm_call_no_fwadm(cn):
    uuid = cn.add(attrs=FIREWALLED, nics=[])
    cn.forget_commands()
    cn.api.update(uuid, alias="other", quota=11, set_customer_metadata={"a": "b"})
    cn.api.create_snapshot(uuid, "s")
    for act in (cn.api.stop, cn.api.start, cn.api.reboot):
        act(uuid)
    assert fwadm_calls(cn) == []


def test_nothing_is_called_where_no_vm_has_a_firewall(bare_cn):
    uuid = bare_cn.create(nics=[NIC])["uuid"]
    bare_cn.api.update(uuid, set_tags={"a": 1}, add_nics=[nic(1)])
    bare_cn.api.delete(uuid)
    assert fwadm_calls(bare_cn) == []


def test_nothing_is_called_on_a_node_without_fwadm(bare_cn):
    os.unlink(f"{bare_cn.root}/usr/sbin/fwadm")
    uuid = bare_cn.create(nics=[NIC], firewall_enabled=True)["uuid"]
    assert bare_cn.api.update(uuid, set_tags={"a": 1})["tags"] == {"a": 1}
    assert not bare_cn.api.update(uuid, firewall_enabled=False)["firewall_enabled"]
    bare_cn.api.delete(uuid)
    assert fwadm_calls(bare_cn) == []


# Where it fails.


@pytest.mark.parametrize(
    ("payload", "doing"),
    [
        ({"set_tags": {"c": "d"}}, "updating firewall rules"),
        ({"add_nics": [NIC]}, "updating firewall rules"),
        ({"firewall_enabled": True}, "enabling firewall"),
    ],
)
def test_failing_fwadm_fails_the_update_and_the_change_stays(cn, payload, doing):
    uuid = cn.add(attrs=FIREWALLED)
    cn.control.fault("fwadm", "fail", match="update", stderr="no space\n")
    assert cn.fails("update", uuid, payload=payload) == (
        f"Error {doing} for VM: Command failed: no space; the change was made: repeat the command, or run fwadm update"
    )
    vm = cn.vm(uuid)
    assert vm["tags"] == payload.get("set_tags", {})
    assert len(vm["nics"]) == len(payload.get("add_nics", []))
    if "add_nics" not in payload:
        cn.ok("update", uuid, payload=payload)


def test_failing_ipf_is_reported(cn):
    uuid = cn.add(attrs=FIREWALLED)
    cn.control.fault("ipf", "fail", stderr="ioctl(SIOCFRENB): Device busy\n")
    text = cn.fails("update", uuid, "firewall_enabled=false")
    assert text.startswith("Error disabling firewall for VM: Command failed: ioctl(SIOCFRENB): Device busy; the change")
    assert not cn.vm(uuid)["firewall_enabled"]


def test_create_and_delete_report_a_failing_fwadm_and_succeed(cn):
    cn.add(attrs=FIREWALLED)
    cn.control.fault("fwadm", "fail", times=2, stderr="no luck\n")
    payload = {"brand": "joyent-minimal", "image_uuid": IMAGE, "autoboot": False, "nics": [nic(20)]}
    first, last = cn.ok("create", payload=payload).splitlines()
    uuid = last.rpartition(" ")[2]
    assert first == f"could not add firewall rules for VM {uuid}: Command failed: no luck; run fwadm update"
    assert cn.vm(uuid)["state"] == "stopped"
    first, last = cn.ok("delete", uuid).splitlines()
    assert "no luck; run fwadm update" in first
    assert last == f"Successfully deleted VM {uuid}"
    assert cn.is_gone(uuid)


def test_lock_of_the_rules_that_cannot_be_had_is_reported(cn):
    uuid = cn.add(attrs=FIREWALLED)
    lock = f"{cn.root}/var/fw/.lockfile"
    os.makedirs(os.path.dirname(lock), exist_ok=True)
    if os.path.exists(lock):
        os.unlink(lock)
    os.mkdir(lock)
    with pytest.raises(VmadmError, match=r"Error disabling firewall for VM: cannot open .*/var/fw/.lockfile: Is a dir"):
        cn.api.update(uuid, firewall_enabled=False)
    os.rmdir(lock)
    assert not cn.api.update(uuid, firewall_enabled=False)["firewall_enabled"]
