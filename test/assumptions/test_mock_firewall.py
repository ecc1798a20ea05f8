# SPDX-License-Identifier: MPL-2.0
"""The mock node's fwadm: which VMs a rule is about, and what the packet filter of each has of it."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator

import pytest

from mockcn import process
from mockcn.process import MockNode
from mockcn.state import fwrules
from mockcn.state.fwrules import BadRule, Machine

WEB_RULE = "FROM any TO tag web ALLOW tcp PORT 80"


@pytest.fixture(scope="module")
def node() -> Iterator[MockNode]:
    with (
        tempfile.TemporaryDirectory(prefix="cn-") as folder,
        process.start(folder + "/node", vms=1, seconds={"install": 0, "boot": 0, "halt": 0}) as running,
    ):
        yield running


@pytest.fixture(autouse=True)
def _no_rules_left(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "node" in request.fixturenames:
        node = request.getfixturevalue("node")
        for rule in json.loads(node.run("fwadm", "list", "-j").stdout):
            node.run("fwadm", "delete", rule["uuid"], check=True)


def vm(node: MockNode, address: str = "10.0.0.1", firewall: bool = True, **fields: object) -> str:
    nic = {"mac": "b2:00:00:00:00:01", "ip": address, "ips": f"{address}/24"}
    attrs = {"firewall-enabled": "true"} if firewall else {}
    uuid: str = node.control.add_vm(nics=[nic], attrs=attrs, **fields)["uuid"]
    return uuid


def add(node: MockNode, text: str, **fields: object) -> str:
    rule = {"rule": text, "enabled": True, **fields}
    done = node.run("fwadm", "add", "-f", "-", stdin=json.dumps(rule))
    assert done.returncode == 0, done.stderr
    return str(done.stdout.splitlines()[1].split()[0])


def filtered(node: MockNode, uuid: str) -> list[str]:
    return node.run("ipfstat", "-io", "-G", uuid).stdout.splitlines()


def test_rule_reaches_running_vms_that_have_a_firewall_and_the_tag(node: MockNode) -> None:
    web, other, open_one = (
        vm(node, files={"tags": {"web": True}}),
        vm(node, files={"tags": {"db": True}}),
        vm(node, firewall=False, files={"tags": {"web": True}}),
    )
    rule = add(node, WEB_RULE)
    assert filtered(node, web)[0] == "pass in quick proto tcp from any to any port = 80"
    assert filtered(node, web)[1:] == ["block in all", "pass out all keep state"]
    assert [filtered(node, each) for each in (other, open_one)] == [["filter is off"]] * 2
    assert set(node.run("fwadm", "vms", rule).stdout.split()) == {web, open_one}
    assert node.run("fwadm", "rules", web).stdout == f"{rule} true {WEB_RULE}\n"


def test_update_of_one_vm_reaches_the_other_side_of_its_rules(node: MockNode) -> None:
    db, app = vm(node, "10.0.0.5", files={"tags": {"role": "db"}}), vm(node, "10.0.0.6")
    add(node, 'FROM tag app TO tag "role" = "db" ALLOW tcp (PORT 5432 AND PORT 5433)')
    node.control.write_config(app, "tags", {"app": True})
    assert "10.0.0.6" not in "\n".join(filtered(node, db))
    asked = json.dumps({"localVMs": [{"uuid": app}]})
    node.run("fwadm", "update", "-f", "-", stdin=asked, check=True)
    assert filtered(node, db)[:2] == [
        "pass in quick proto tcp from 10.0.0.6 to any port = 5432",
        "pass in quick proto tcp from 10.0.0.6 to any port = 5433",
    ]


def test_stopped_vm_filters_from_its_next_boot_on(node: MockNode) -> None:
    uuid = vm(node, state="stopped", files={"tags": {"web": True}})
    add(node, WEB_RULE)
    assert node.run("ipfstat", "-io", "-G", uuid).stderr == f"Could not find running zone: {uuid}\n"
    node.control.boot(uuid)
    assert filtered(node, uuid)[0].endswith("port = 80")


def test_rule_that_is_changed_switched_off_or_deleted_no_longer_filters(node: MockNode) -> None:
    uuid = vm(node, files={"tags": {"web": True}})
    rule = add(node, WEB_RULE)
    node.run("fwadm", "update", rule, "rule=FROM any TO tag web ALLOW tcp PORT 443", check=True)
    assert filtered(node, uuid)[0].endswith("port = 443")
    node.run("fwadm", "disable", rule, check=True)
    assert filtered(node, uuid) == ["block in all", "pass out all keep state"]
    node.run("fwadm", "enable", rule, check=True)
    node.run("fwadm", "delete", rule, check=True)
    assert filtered(node, uuid) == ["block in all", "pass out all keep state"]
    assert node.run("fwadm", "list").stdout.splitlines()[1:] == []


def test_firewall_that_is_started_and_stopped(node: MockNode) -> None:
    uuid = vm(node, firewall=False)
    add(node, WEB_RULE)
    assert node.run("fwadm", "status", uuid).stdout == "stopped\n"
    node.run("fwadm", "start", uuid, check=True)
    assert node.run("fwadm", "status", uuid).stdout == "running\n"
    assert 'name="firewall-enabled" type="string" value="true"' in node.read(f"/etc/zones/{uuid}.xml")
    node.run("fwadm", "stop", uuid, check=True)
    assert node.run("fwadm", "status", uuid).stdout == "stopped\n"


def test_node_without_rules_leaves_the_config_of_its_vms_alone(node: MockNode) -> None:
    uuid = vm(node)
    asked = json.dumps({"localVMs": [{"uuid": uuid}]})
    node.run("fwadm", "update", "-f", "-", stdin=asked, check=True)
    assert filtered(node, uuid) == ["filter is off"]
    assert not os.path.exists(f"{node.root}/zones/{uuid}/config/ipf.conf")


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"localVMs": [{"uuid": "nobody"}]}, 'Could not find VM "nobody" in VM list\n'),
        ({"rule": "FROM any TO nothing"}, "unknown target 'nothing'\n"),
        ({}, "Must supply one of: rules, localVMs\n"),
    ],
)
def test_what_makes_no_sense_is_refused(node: MockNode, asked: dict[str, object], text: str) -> None:
    done = node.run("fwadm", "add", "-f", "-", stdin=json.dumps(asked))
    assert (done.returncode, done.stderr) == (1, text)


@pytest.mark.pure
@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("FROM ip 192.0.2.1 TO all vms ALLOW udp PORT all", "pass in quick proto udp from 192.0.2.1 to any"),
        ("FROM (subnet 10.8.0.0/16 OR any) TO vm one ALLOW icmp TYPE 8", "pass in quick proto icmp from any to any"),
        (
            "FROM tag a TO subnet 10.9.0.0/16 BLOCK tcp PORT 25",
            "block out quick proto tcp from any to 10.9.0.0/16 port = 25",
        ),
        ("FROM any TO tag a = 2 ALLOW tcp PORT 1", None),
        ("FROM any TO tag b ALLOW tcp PORT 1", None),
        ("FROM any TO ip 10.0.0.1 ALLOW ah", "pass in quick proto ah from any to any"),
    ],
)
def test_lines_of_a_rule(text: str, line: str | None) -> None:
    one = Machine("one", "me", True, {"a": 1}, ("10.0.0.1",))
    rule = fwrules.parse({"uuid": "r", "rule": text, "enabled": True})
    assert rule.lines(one, [one]) == ([] if line is None else [line])
    assert fwrules.parse({"rule": text, "enabled": True, "owner_uuid": "another"}).lines(one, [one]) == []


@pytest.mark.pure
@pytest.mark.parametrize("text", ["", "FROM any", "FROM any TO any PASS tcp", "FROM any TO any ALLOW gopher", "TO any"])
def test_text_that_is_no_rule(text: str) -> None:
    with pytest.raises(BadRule):
        fwrules.parse({"rule": text})
