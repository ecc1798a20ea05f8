# SPDX-License-Identifier: MPL-2.0
"""GET /vms with less in it: the properties and the VMs that are asked for, in the order and with the text of /vms."""

import json
from urllib.parse import quote

import pytest

from support.running_daemon import eventually


def listed(daemon, query):
    answer = daemon.get(f"/vms{query}")
    assert answer.status == 200, answer.body
    return answer.json()


@pytest.fixture(scope="module")
def vms(quiet_daemon):
    return quiet_daemon.vms()


def test_fields_leave_in_those_properties_in_each_vms_own_order(quiet_daemon, vms):
    answer = quiet_daemon.get("/vms?fields=state,uuid,quota,tags")
    names = {"state", "uuid", "quota", "tags"}
    expected = [{name: value for name, value in vm.items() if name in names} for vm in vms]
    assert json.dumps(answer.json()) == json.dumps(expected)
    assert {frozenset(vm) for vm in expected} != {frozenset(names)}, "some VMs lack one"
    assert answer.headers["etag"] == quiet_daemon.get("/vms").headers["etag"]


def test_values_are_written_as_in_the_full_list(quiet_daemon):
    full = quiet_daemon.get("/vms").body
    for vm in listed(quiet_daemon, "?fields=customer_metadata"):
        text = json.dumps(vm, ensure_ascii=False, separators=(",", ":"))[1:-1]
        assert text.encode("utf-8", "surrogatepass") in full


@pytest.mark.parametrize(
    "query, meets",
    [
        ("state=running", lambda vm: vm["state"] == "running"),
        ("state=running&brand=bhyve", lambda vm: vm["state"] == "running" and vm["brand"] == "bhyve"),
        ("ram=1024", lambda vm: vm.get("ram") == 1024),
        ("autoboot=true", lambda vm: vm["autoboot"] is True),
        ("nics.*.vlan_id=20", lambda vm: any(nic.get("vlan_id") == 20 for nic in vm.get("nics", []))),
        ("nics.0.primary=true", lambda vm: bool(vm.get("nics")) and vm["nics"][0].get("primary") is True),
        ("state=RUNNING", lambda vm: False),
        ("state=", lambda vm: False),
    ],
)
def test_conditions_leave_in_the_vms_that_meet_all_of_them(quiet_daemon, vms, query, meets):
    assert listed(quiet_daemon, f"?{query}") == [vm for vm in vms if meets(vm)]


def test_members_of_maps_can_be_conditions(quiet_daemon, vms):
    vm = next(vm for vm in vms if vm["tags"] and all("." not in name for name in vm["tags"]))
    name, value = next((name, value) for name, value in vm["tags"].items() if isinstance(value, str))
    found = listed(quiet_daemon, f"?tags.{quote(name)}={quote(value)}&fields=uuid")
    assert found == [{"uuid": other["uuid"]} for other in vms if other["tags"].get(name) == value]


def test_conditions_and_fields_go_together_whether_the_field_is_left_in_or_not(quiet_daemon, vms):
    expected = [{"uuid": vm["uuid"]} for vm in vms if vm["state"] == "running"]
    assert listed(quiet_daemon, "?fields=uuid&state=running") == expected
    assert listed(quiet_daemon, "?state=running&fields=uuid") == expected


@pytest.mark.parametrize(
    "query", ["?", "?x=1", "?full=true", "?fresh=true", "?alias=~^web", "?type=KVM", "?nosuch.name=1&=&%"]
)
def test_what_is_no_condition_is_ignored(quiet_daemon, query):
    assert quiet_daemon.get(f"/vms{query}").body == quiet_daemon.get("/vms").body


def test_vms_without_any_of_the_fields_are_not_listed(quiet_daemon, vms):
    assert listed(quiet_daemon, "?fields=nosuch") == []
    assert len(listed(quiet_daemon, "?fields=docker,quota")) == len(
        [vm for vm in vms if "docker" in vm or "quota" in vm]
    )


def test_fields_without_a_name_are_refused(quiet_daemon):
    answer = quiet_daemon.get("/vms?fields=,")
    assert (answer.status, list(answer.json())) == (400, ["error"])


def test_list_follows_each_change(node, daemon):
    uuid = next(vm["uuid"] for vm in daemon.vms() if vm["zonepath"] == f"/zones/{vm['uuid']}")
    for number in (1, 2):
        node.control.write_config(uuid, "tags", {"number": number})
        eventually("it is served", lambda number=number: daemon.vm(uuid)["tags"] == {"number": number})
        assert listed(daemon, f"?tags.number={number}&fields=uuid") == [{"uuid": uuid}]


def test_tools_ask_for_less_and_say_the_same(quiet_daemon, vms):
    """What they ask for stands in the daemon's log; what they print is checked against the whole list."""
    uuid = next(vm["uuid"] for vm in vms if vm["state"] == "running" and vm.get("alias"))
    alias = next(vm["alias"] for vm in vms if vm["uuid"] == uuid)
    told = quiet_daemon.tool("vmadm", "list", "-p", "-o", "uuid,type,ram,alias", "state=running").stdout
    assert {line.split(":")[0] for line in told.splitlines()} == {v["uuid"] for v in vms if v["state"] == "running"}
    told = quiet_daemon.tool("vmadm", "lookup", f"alias={alias}").stdout.split()
    assert told == [vm["uuid"] for vm in vms if vm.get("alias") == alias]
    told = json.loads(quiet_daemon.tool("vmadm", "lookup", "-j", "type=OS").stdout)
    assert len(told) == len([vm for vm in vms if vm["brand"] not in ("kvm", "bhyve", "lx")])
    urls = [record["req"]["url"] for record in quiet_daemon.logged("request") if "vmload" in str(record["req"])]
    assert any(url.startswith("/vms?") and "fields=" in url and "state=running" in url for url in urls), urls
    assert any(url.startswith("/vms?") and f"alias={quote(alias)}" in url for url in urls), urls
