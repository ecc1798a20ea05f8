# SPDX-License-Identifier: MPL-2.0
"""Zone statistics, and the files that the platform writes."""

from __future__ import annotations

import json
import os
import re
import time
from collections import defaultdict

import pytest

from mockcn.process import MockNode


def groups(node: MockNode) -> dict[str, dict[str, str]]:
    """Statistics by instance; each line has the four parts."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for line in node.run("kstat", "-p", "-m", "zones", "-c", "zone_misc", check=True).stdout.splitlines():
        left, _, value = line.partition("\t")
        module, instance, name, statistic = left.split(":")
        assert module == "zones"
        assert len(name) <= 30
        found[instance][statistic] = value
    return found


@pytest.fixture
def zone(node: MockNode) -> str:
    return str(node.control.add_vm(state="stopped")["uuid"])


def test_only_zones_in_the_kernel_have_statistics(quiet_node: MockNode) -> None:
    shown = {values["zonename"] for values in groups(quiet_node).values()}
    running = {zone["zonename"] for zone in quiet_node.control.zones() if zone["zoneid"] is not None}
    assert shown == running | {"global"}


def test_name_is_cut_and_the_statistic_is_not(quiet_node: MockNode) -> None:
    lines = quiet_node.run("kstat", "-p", "-m", "zones", "-c", "zone_misc").stdout.splitlines()
    names = {line.split(":")[2] for line in lines}
    assert all(len(name) == 30 for name in names if "-" in name and name != "pagila-standby")
    assert all(
        len(values["zonename"]) == 36
        for values in groups(quiet_node).values()
        if values["zonename"] not in ("global", "pagila-standby")
    )


def test_each_boot_has_another_zoneid_and_pid(node: MockNode, zone: str) -> None:
    seen = []
    for _ in range(2):
        node.run("zoneadm", "-z", zone, "boot", check=True)
        instance, values = next((key, values) for key, values in groups(node).items() if values["zonename"] == zone)
        assert abs(int(values["boot_time"]) - time.time()) < 60
        seen.append((instance, values["init_pid"], values["init_restarts"]))
        node.run("zoneadm", "-z", zone, "halt", check=True)
    assert seen[0][0] != seen[1][0]
    assert seen[0][1] != seen[1][1]
    assert [restarts for *_, restarts in seen] == ["0", "0"]


def test_restart_of_init_counts_and_gives_a_new_pid(node: MockNode, zone: str) -> None:
    node.control.boot(zone)
    before = next(values for values in groups(node).values() if values["zonename"] == zone)
    node.control.init_restart(zone)
    after = next(values for values in groups(node).values() if values["zonename"] == zone)
    assert (after["init_restarts"], after["boot_time"]) == ("1", before["boot_time"])
    assert after["init_pid"] != before["init_pid"]
    assert not os.path.exists(f"{node.root}/zones/{zone}/lastexited")


@pytest.mark.parametrize("status", [-1, 0, 3328, 139])
def test_lastexited_holds_the_time_and_the_wait_status(node: MockNode, zone: str, status: int) -> None:
    node.control.boot(zone)
    node.control.halt(zone, status=status)
    found = re.fullmatch(r"(\d+)\.\d{1,6} (-?\d+)\n", node.read(f"/zones/{zone}/lastexited"))
    assert found is not None
    assert abs(int(found[1]) - time.time()) < 60
    assert int(found[2]) == status


def test_microseconds_are_not_padded(node: MockNode, zone: str) -> None:
    node.control.write_lastexited(zone, -1, when=1773403317.052104)
    assert node.read(f"/zones/{zone}/lastexited") == "1773403317.52104 -1\n"


def test_xml_is_replaced_by_another_file(node: MockNode, zone: str) -> None:
    path = f"{node.root}/etc/zones/{zone}.xml"
    before = os.stat(path).st_ino
    with open(path, encoding="utf-8") as held:
        node.control.set_attr(zone, "hostname", "other")
        assert "other" not in held.read()
    assert os.stat(path).st_ino != before
    assert '<attr name="hostname" type="string" value="other"/>' in node.read(f"/etc/zones/{zone}.xml")


def test_index_has_a_line_for_each_zone_with_its_stored_state(quiet_node: MockNode) -> None:
    zone = next(vm for vm in quiet_node.control.vms() if vm["state"] == "installed" and vm["zonename"] == vm["uuid"])[
        "uuid"
    ]
    lines = [line for line in quiet_node.read("/etc/zones/index").splitlines() if not line.startswith("#")]
    assert lines[0] == "global:installed:/"
    assert f"{zone}:installed:/zones/{zone}:{zone}" in lines
    assert "buildbox:configured:/zones/buildbox:" in lines
    assert {line.split(":")[1] for line in lines} == {"configured", "incomplete", "installed"}


def test_deleted_zone_leaves_no_xml_and_no_index_line(node: MockNode, zone: str) -> None:
    node.control.remove_vm(zone)
    assert zone not in node.read("/etc/zones/index")
    assert not os.path.exists(f"{node.root}/etc/zones/{zone}.xml")
    assert not os.path.exists(f"{node.root}/zones/{zone}")


def test_sysinfo_is_json_with_the_identity_of_the_node(quiet_node: MockNode) -> None:
    sysinfo = json.loads(quiet_node.read("/tmp/.sysinfo.json"))
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", sysinfo["UUID"])
    assert sysinfo["Live Image"] == "20260312T000000Z"
    assert sysinfo["Bhyve Capable"] is True
    assert re.fullmatch(r"[0-9.]+", sysinfo["Admin IP"])
