# SPDX-License-Identifier: MPL-2.0
"""The sysevent tool, and what zones say on their channel."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from mockcn.process import MockNode

from .conftest import Follower

DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def states(follower: Follower, count: int) -> list[tuple[str, str]]:
    """(old, new) of the next events."""
    return [
        (record["data"]["oldstate"], record["data"]["newstate"]) for record in (follower.record() for _ in range(count))
    ]


@pytest.fixture
def stopped(node: MockNode) -> str:
    return str(node.control.add_vm(state="stopped")["uuid"])


def test_ready_line_comes_first_without_white_space(follow: Callable[..., Follower]) -> None:
    line = follow("sysevent", "-rj", "-c", "com.sun:zones:status").line()
    assert re.fullmatch(rb'\{"date":"[^"]+","type":"ready"\}\n', line)
    assert DATE.fullmatch(json.loads(line)["date"])


def test_event_published_after_the_ready_line_is_not_missed(
    node: MockNode, zone_events: Follower, stopped: str
) -> None:
    node.control.boot(stopped)
    assert zone_events.record()["data"]["zonename"] == stopped


def test_boot_goes_through_the_kernels_states(node: MockNode, stopped: str, zone_events: Follower) -> None:
    node.control.boot(stopped)
    assert states(zone_events, 4) == [
        ("uninitialized", "initialized"),
        ("initialized", "ready"),
        ("ready", "ready"),
        ("ready", "running"),
    ]


def test_halt_goes_through_the_kernels_states_and_leaves_the_zone_installed(
    node: MockNode, stopped: str, zone_events: Follower
) -> None:
    node.run("zoneadm", "-z", stopped, "boot", check=True)
    states(zone_events, 4)
    node.run("zoneadm", "-z", stopped, "halt", check=True)
    assert states(zone_events, 4) == [
        ("running", "shutting_down"),
        ("shutting_down", "shutting_down"),
        ("shutting_down", "shutting_down"),
        ("shutting_down", "uninitialized"),
    ]
    assert node.run("zoneadm", "-z", stopped, "list", "-p").stdout.split(":")[2] == "installed"


def test_members_of_a_zone_event_are_in_order(node: MockNode, stopped: str, zone_events: Follower) -> None:
    node.control.boot(stopped)
    record = zone_events.record()
    assert list(record) == ["date", "type", "vendor", "publisher", "class", "subclass", "pid", "data", "channel"]
    assert list(record["data"]) == ["zonename", "newstate", "oldstate", "zoneid", "when"]
    assert (
        record["vendor"],
        record["publisher"],
        record["class"],
        record["subclass"],
        record["pid"],
        record["channel"],
    ) == ("sun.com", "kernel", "status", "change", 0, "com.sun:zones:status")


def test_configuring_and_deleting_a_zone_publish_here_too(node: MockNode, zone_events: Follower) -> None:
    uuid = node.control.add_vm(state="configured")["uuid"]
    assert states(zone_events, 1) == [("", "configured")]
    node.control.set_index_state(uuid, "incomplete")
    node.control.set_index_state(uuid, "configured")
    node.control.delete_zone(uuid)
    assert states(zone_events, 3) == [("configured", "incomplete"), ("incomplete", "configured"), ("configured", "")]


def test_restart_of_init_says_how_many_there_were(node: MockNode, stopped: str, zone_events: Follower) -> None:
    node.control.boot(stopped)
    states(zone_events, 4)
    for expected in (1, 2):
        node.control.init_restart(stopped)
        record = zone_events.record()
        assert (record["class"], record["subclass"], record["data"]["restarts"]) == ("init", "restart", expected)


def test_event_without_attributes_has_no_data(node: MockNode, zone_events: Follower) -> None:
    node.control.ping()
    record = zone_events.record()
    assert "data" not in record
    assert record["subclass"] == "ping"


def test_state_is_there_when_its_event_is_seen(node: MockNode, stopped: str, zone_events: Follower) -> None:
    node.control.boot(stopped, pace=0.05)
    while zone_events.record()["data"]["newstate"] != "running":
        pass
    assert node.run("zoneadm", "-z", stopped, "list", "-p").stdout.split(":")[2] == "running"


def test_class_and_subclass_select(node: MockNode, follow: Callable[..., Follower]) -> None:
    chosen = follow("sysevent", "-rj", "EC_zfs", "ESC_ZFS_history_event")
    everything = follow("sysevent", "-rj")
    chosen.record(), everything.record()
    node.control.publish("EC_zfs", "ESC_ZFS_scrub_start", {"pool_name": "zones"}, vendor="SUNW", publisher="zfs")
    node.control.publish("EC_dev_add", "disk", {"n": 1})
    node.run("zfs", "create", "zones/x", check=True)
    assert chosen.record()["data"]["history_dsname"] == "zones/x"
    assert [everything.record()["subclass"] for _ in range(3)] == [
        "ESC_ZFS_scrub_start",
        "disk",
        "ESC_ZFS_history_event",
    ]


def test_other_characters_than_ascii_are_escaped(node: MockNode, zone_events: Follower) -> None:
    node.control.publish("status", "change", {"zonename": "\u00e9", "big": 2**64 - 1}, "com.sun:zones:status")
    line = zone_events.line()
    assert b'"zonename":"\\u00e9","big":18446744073709551615' in line


def test_text_mode_is_for_people(node: MockNode, follow: Callable[..., Follower]) -> None:
    follower = follow("sysevent", "-r", "-c", "com.sun:zones:status")
    assert b"ready" in follower.line()
    node.control.ping()
    assert b"status ping" in follower.line()


@pytest.mark.parametrize(("words", "status"), [(["-h"], 0), (["-x"], 1), (["-c"], 1)])
def test_usage(node: MockNode, words: list[str], status: int) -> None:
    done = node.run("sysevent", *words)
    assert done.returncode == status
    assert "usage:" in (done.stdout if status == 0 else done.stderr)


def test_pool_that_comes_or_goes_has_events_without_a_dataset(node: MockNode, follow: Callable[..., Follower]) -> None:
    follower = follow("sysevent", "-rj", "EC_zfs")
    follower.record()
    node.control.pool_export("tank")
    node.control.pool_import("tank")
    records: list[dict[str, Any]] = [follower.record() for _ in range(4)]
    assert all("history_dsname" not in record["data"] for record in records)
    assert {record["data"]["pool_name"] for record in records} == {"tank"}
    assert node.run("zfs", "list", "-H", "-o", "name", "-d", "0", "tank").stdout == "tank\n"
