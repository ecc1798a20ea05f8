# SPDX-License-Identifier: MPL-2.0
"""Events that are lost, doubled, late or out of order on request."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from mockcn.process import MockNode
from support.examples import few

from .conftest import Follower


def publish(node: MockNode, *names: str) -> None:
    for name in names:
        node.control.publish("status", "change", {"zonename": name}, "com.sun:zones:status")


def names(follower: Follower, count: int) -> list[Any]:
    return [follower.record()["data"]["zonename"] for _ in range(count)]


def test_dropped_events_never_come(node: MockNode, zone_events: Follower) -> None:
    node.control.drop_events(2)
    publish(node, "a", "b", "c")
    assert names(zone_events, 1) == ["c"]


def test_overflow_loses_the_next_events_of_all_sorts(node: MockNode, zone_events: Follower) -> None:
    node.control.overflow(3)
    publish(node, "a")
    node.run("zfs", "create", "zones/x", check=True)
    publish(node, "b", "c")
    assert names(zone_events, 1) == ["c"]


def test_only_events_that_match_are_touched(node: MockNode, zone_events: Follower) -> None:
    node.control.drop_events(None, match="'b'")
    publish(node, "a", "b", "c", "b", "d")
    assert names(zone_events, 3) == ["a", "c", "d"]


def test_duplicated_event_comes_twice(node: MockNode, zone_events: Follower) -> None:
    node.control.duplicate_events(1)
    publish(node, "a", "b")
    assert names(zone_events, 3) == ["a", "a", "b"]


def test_delayed_event_comes_after_later_ones(node: MockNode, zone_events: Follower) -> None:
    node.control.delay_events(0.2)
    publish(node, "a", "b")
    assert names(zone_events, 2) == ["b", "a"]


def test_reordered_event_changes_places_with_the_next(node: MockNode, zone_events: Follower) -> None:
    node.control.reorder_events(2)
    publish(node, "a", "b", "c")
    assert names(zone_events, 3) == ["b", "a", "c"]


def test_reordered_event_without_a_successor_is_not_lost(node: MockNode, zone_events: Follower) -> None:
    node.control.reorder_events(1)
    publish(node, "a")
    assert names(zone_events, 1) == ["a"]


def test_cleared_rules_let_everything_through(node: MockNode, zone_events: Follower) -> None:
    node.control.drop_events(None)
    publish(node, "a")
    node.control.clear_event_rules()
    publish(node, "b")
    assert names(zone_events, 1) == ["b"]


def test_chance_is_the_same_for_the_same_seed(node: MockNode, zone_events: Follower) -> None:
    node.control.drop_events(None, chance=0.5)
    publish(node, *(str(number) for number in range(40)))
    node.control.clear_event_rules()
    publish(node, "end")
    seen = []
    while (name := names(zone_events, 1)[0]) != "end":
        seen.append(name)
    assert 5 < len(seen) < 35
    assert seen == sorted(seen, key=int)


@pytest.mark.parametrize("tool", few(["-c com.sun:zones:status", "EC_zfs"], 1))
def test_subscriber_that_does_not_read_holds_up_no_other(node: MockNode, tool: str, zone_events: Follower) -> None:
    sleeper = node.popen("sysevent", "-rj", *tool.split())
    try:
        while node.control.sysevent_subscribers() < 2:
            pass
        for _ in range(50):
            publish(node, *["x" * 2000] * 20)
        assert len(names(zone_events, 1000)) == 1000
    finally:
        sleeper.kill()
        sleeper.communicate()


def test_mark_comes_behind_all_that_has_happened(node: MockNode, follow: Callable[..., Follower]) -> None:
    """In each stream, and means nothing there."""
    zones = follow("sysevent", "-rj", "-c", "com.sun:zones:status")
    pools = follow("sysevent", "-rj", "EC_zfs", "ESC_ZFS_history_event")
    files = follow("fswatcher", "-rj")
    zone = node.control.vms()[0]
    xml = f"/etc/zones/{zone['zonename']}.xml"
    assert files.child.stdin is not None
    files.child.stdin.write(f"1 WATCH {xml}\n".encode())
    files.child.stdin.flush()
    assert [files.record().get("key") for _ in range(2)] == [None, 1]
    assert zones.record()["type"] == pools.record()["type"] == "ready"
    publish(node, "a")
    node.run("zfs", "create", "zones/x", check=True)
    os.utime(node.root + xml, (1, 1))
    node.control.mark()
    assert [zones.record().get("data"), zones.record()["class"]] == [{"zonename": "a"}, "mark"]
    assert [pools.record()["class"], pools.record()["class"]] == ["EC_zfs", "mark"]
    assert [files.record().get("pathname"), files.record()["type"]] == [xml, "response"]
