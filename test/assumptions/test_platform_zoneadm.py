# SPDX-License-Identifier: MPL-2.0
"""zoneadm list as the loader uses it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mockcn.process import MockNode


def fields(line: str) -> list[str]:
    return line.split(":")


def test_list_of_all_has_eight_fields_a_line_and_the_global_zone_first(quiet_node: MockNode) -> None:
    lines = quiet_node.run("zoneadm", "list", "-p", "-c", check=True).stdout.splitlines()
    assert lines[0].startswith("0:global:running:/::")
    assert {len(fields(line)) for line in lines} == {8}
    assert len(lines) == 1 + len(quiet_node.control.zones())


def test_zone_in_the_kernel_has_a_zoneid_and_any_other_a_dash(quiet_node: MockNode) -> None:
    for line in quiet_node.run("zoneadm", "list", "-p", "-c").stdout.splitlines():
        zoneid, _, state, *_ = fields(line)
        assert zoneid.isdigit() == (state in ("ready", "running", "shutting_down", "down"))


def test_list_without_c_has_only_running_zones(quiet_node: MockNode) -> None:
    states = {fields(line)[2] for line in quiet_node.run("zoneadm", "list", "-p").stdout.splitlines()}
    assert states == {"running"}


def test_list_i_has_installed_zones_but_no_configured_or_incomplete_one(quiet_node: MockNode) -> None:
    states = {fields(line)[2] for line in quiet_node.run("zoneadm", "list", "-p", "-i").stdout.splitlines()}
    assert states == {"running", "installed"}


def test_list_n_leaves_the_global_zone_out(quiet_node: MockNode) -> None:
    assert "global" not in quiet_node.run("zoneadm", "list", "-n", "-c").stdout.split()


def test_one_zone_is_listed_in_whatever_state(quiet_node: MockNode) -> None:
    for zone in quiet_node.control.vms():
        done = quiet_node.run("zoneadm", "-z", zone["uuid"], "-u", zone["uuid"], "list", "-p")
        assert fields(done.stdout.rstrip("\n"))[1:3] == [zone["zonename"], zone["state"]]


def test_uuid_wins_over_the_name(quiet_node: MockNode) -> None:
    one, other = [zone for zone in quiet_node.control.vms() if zone["state"] == "running"][:2]
    done = quiet_node.run("zoneadm", "-z", one["zonename"], "-u", other["uuid"], "list", "-p", check=True)
    assert fields(done.stdout)[1] == other["zonename"]


def test_zone_without_uuid_has_an_empty_field(quiet_node: MockNode) -> None:
    done = quiet_node.run("zoneadm", "-z", "buildbox", "list", "-p", check=True)
    assert fields(done.stdout)[:5] == ["-", "buildbox", "configured", "/zones/buildbox", ""]


@pytest.mark.parametrize("words", [["-z", "nope"], ["-z", "nope", "-u", "nope"]])
def test_unknown_zone_is_one_line_and_status_1(words: list[str], quiet_node: MockNode) -> None:
    done = quiet_node.run("zoneadm", *words, "list", "-p")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "zoneadm: nope: No such zone configured\n")


def test_c_is_refused_together_with_a_zone(quiet_node: MockNode) -> None:
    assert quiet_node.run("zoneadm", "-z", "buildbox", "list", "-p", "-c").returncode != 0


def test_colon_in_a_zonepath_is_escaped(node: MockNode) -> None:
    node.control.add_vm(zonename="odd", state="configured", pool="zones/a:b")
    done = node.run("zoneadm", "-z", "odd", "list", "-p", check=True)
    assert "/zones/a\\:b/odd" in done.stdout


def test_shared_stack_is_distinguished_from_an_exclusive_one(node: MockNode) -> None:
    zone = node.control.vms()[0]
    assert fields(node.run("zoneadm", "-z", zone["zonename"], "list", "-p").stdout)[6] == "excl"
    node.control.edit_xml(zone["zonename"], lambda text: text.replace('ip-type="exclusive"', 'ip-type="shared"'))
    assert fields(node.run("zoneadm", "-z", zone["zonename"], "list", "-p").stdout)[6] == "shared"


def test_table_for_people_has_a_heading(quiet_node: MockNode) -> None:
    assert quiet_node.run("zoneadm", "list", "-v").stdout.split()[:6] == ["ID", "NAME", "STATUS", "PATH", "BRAND", "IP"]


@pytest.mark.parametrize("words", [["list", "-x"], ["-q"], []])
def test_wrong_words_give_usage_and_a_failing_status(words: list[str], fails: Callable[..., tuple[int, str]]) -> None:
    status, said = fails("zoneadm", *words)
    assert status == 2
    assert "usage:" in said


def test_boot_and_halt_of_a_zone_in_the_wrong_state_say_so(quiet_node: MockNode) -> None:
    node = quiet_node  # nothing comes of them
    zones = {zone["state"]: zone["zonename"] for zone in node.control.vms()}
    running, configured, stopped = zones["running"], zones["configured"], zones["installed"]
    done = node.run("zoneadm", "-z", running, "boot")
    assert (done.returncode, done.stderr) == (1, f"zoneadm: zone '{running}': zone is already booted\n")
    done = node.run("zoneadm", "-z", configured, "boot")
    assert (done.returncode, done.stderr) == (1, f"zoneadm: zone '{configured}': must be installed before boot.\n")
    done = node.run("zoneadm", "-z", stopped, "halt")
    assert (done.returncode, done.stderr) == (0, f"zoneadm: zone '{stopped}': zone is already halted\n")
