# SPDX-License-Identifier: MPL-2.0
"""What zfs commands change, on disk too, beyond the events that test_platform_recorded_zfs.py compares."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import pytest

from mockcn.process import MockNode

from .conftest import Follower, ZfsEvents


@pytest.fixture
def zone(node: MockNode) -> dict[str, Any]:
    """A VM with a delegated dataset."""
    return node.control.add_vm(brand="joyent", delegated=True, files={"tags": {"a": 1}})


@pytest.fixture
def home(zone: dict[str, Any]) -> str:
    """Its root dataset."""
    return str(zone["zonepath"][1:])


def stopped(node: MockNode, zone: dict[str, Any]) -> None:
    """Halt the zone and unmount its cores, which lie in its root: nothing holds its datasets any more."""
    node.run("zoneadm", "-u", zone["uuid"], "halt", "-X", check=True)
    node.run("zfs", "umount", f"{zone['zonepath']}/cores", check=True)


def test_rollback_puts_the_files_of_the_snapshot_back(
    node: MockNode, zfs: Callable[..., str], zone: dict[str, Any], home: str
) -> None:
    zfs("snapshot", f"{home}@then")
    before = os.stat(f"{node.root}/{home}/config/tags.json").st_mtime_ns
    node.control.write_config(zone["uuid"], "tags", {"a": 2})
    node.control.write_config(zone["uuid"], "routes", {"10.0.0.0/8": "192.0.2.1"})
    node.control.write_lastexited(zone["uuid"], 9)
    zfs("rollback", f"{home}@then")
    assert json.loads(node.read(f"/{home}/config/tags.json")) == {"a": 1}
    assert os.stat(f"{node.root}/{home}/config/tags.json").st_mtime_ns == before
    assert not os.path.exists(f"{node.root}/{home}/config/routes.json")
    assert not os.path.exists(f"{node.root}/{home}/lastexited")


def test_rollback_makes_no_event_on_the_files_watched_before(
    node: MockNode, zfs: Callable[..., str], zone: dict[str, Any], home: str, follow: Callable[..., Follower]
) -> None:
    zfs("snapshot", f"{home}@then")
    node.control.write_config(zone["uuid"], "tags", {"a": 2})
    node.control.write_lastexited(zone["uuid"], 9)
    watcher = follow("fswatcher", "-r", "-j")
    assert watcher.record()["type"] == "ready"
    stdin = watcher.child.stdin
    assert stdin is not None
    for key, path in (
        (1, f"/{home}/config/tags.json"),
        (2, f"/{home}/lastexited"),
        (3, f"/etc/zones/{zone['uuid']}.xml"),
    ):
        stdin.write(f"{key} WATCH {path}\n".encode())
        stdin.flush()
        assert watcher.record()["result"] == "SUCCESS"
    zfs("rollback", f"{home}@then")
    node.control.set_attr(zone["uuid"], "hostname", "after")
    assert watcher.record()["pathname"] == f"/etc/zones/{zone['uuid']}.xml"


def test_rollback_over_newer_snapshots_needs_r(
    node: MockNode, zfs: Callable[..., str], home: str, zfs_events: ZfsEvents
) -> None:
    zfs("snapshot", f"{home}@one")
    zfs("snapshot", f"{home}@two")
    zfs_events.passed()
    refused = node.run("zfs", "rollback", f"{home}@one")
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"cannot rollback to '{home}@one': more recent snapshots or bookmarks exist\n")
    assert refused.stderr.endswith(f"\n{home}@two\n")
    assert zfs_events.passed() == []
    zfs("rollback", "-r", f"{home}@one")
    assert [event[:2] for event in zfs_events.passed()] == [
        (f"{home}@two", "destroy"),
        (f"{home}/%rollback", "clone swap"),
        (f"{home}/%rollback", "destroy"),
    ]


def test_events_carry_the_pool_and_rising_transaction_numbers(
    zfs: Callable[..., str], home: str, zfs_events: ZfsEvents
) -> None:
    zfs_events.records()
    zfs("set", "quota=10g", home)
    zfs("snapshot", f"{home}@now")
    one, two = zfs_events.records()
    assert list(one) == ["date", "type", "vendor", "publisher", "class", "subclass", "pid", "data"]
    assert (one["vendor"], one["publisher"], one["class"], one["subclass"], one["pid"]) == (
        "SUNW",
        "zfs",
        "EC_zfs",
        "ESC_ZFS_history_event",
        0,
    )
    assert list(one["data"]) == [
        "pool_name",
        "pool_guid",
        "history_internal_name",
        "history_hostname",
        "history_dsname",
        "history_internal_str",
        "history_dsid",
        "history_txg",
        "history_time",
    ]
    assert one["data"]["history_internal_str"] == "quota=10737418240"
    assert one["data"]["pool_guid"] == 14466837440529934112
    assert two["data"]["history_txg"] > one["data"]["history_txg"]


def test_history_of_the_pool_as_a_whole_names_no_dataset(node: MockNode, zfs_events: ZfsEvents) -> None:
    zfs_events.passed()
    node.control.scrub("zones")
    assert [event[:2] for event in zfs_events.passed()] == [("-", "scan setup"), ("-", "scan done")]


def test_interrupted_receive_leaves_only_its_beginning(node: MockNode, home: str, zfs_events: ZfsEvents) -> None:
    zfs_events.passed()
    node.control.receive(home, "half", interrupted=True)
    assert zfs_events.passed() == [(f"{home}/%recv", "receive", " ")]
    assert node.control.snapshots_of(home) == []


def test_destroying_a_filesystem_takes_its_files(
    node: MockNode, zfs: Callable[..., str], zone: dict[str, Any], home: str
) -> None:
    stopped(node, zone)
    zfs("destroy", "-r", home)
    assert not os.path.exists(f"{node.root}/{home}")


def test_renamed_filesystem_is_mounted_under_its_new_name(node: MockNode, zfs: Callable[..., str]) -> None:
    zone = node.control.add_vm(brand="joyent", files={"tags": {"a": 1}})  # one with a delegated dataset keeps its name
    home = zone["zonepath"][1:]
    stopped(node, zone)
    zfs("rename", home, "zones/moved")
    assert os.path.exists(f"{node.root}/zones/moved/config/tags.json")
    assert not os.path.exists(f"{node.root}/{home}")


def test_destroying_a_held_snapshot_fails_with_nothing_destroyed(
    node: MockNode, zfs: Callable[..., str], home: str, zfs_events: ZfsEvents
) -> None:
    zfs("snapshot", "-r", f"{home}@keep")
    zfs("hold", "t", f"{home}/data@keep")
    zfs_events.passed()
    done = node.run("zfs", "destroy", "-r", home)
    assert (done.returncode, done.stderr) == (1, f"cannot destroy snapshot {home}/data@keep: dataset is busy\n")
    assert zfs_events.passed() == []


def test_deferred_destroy_waits_for_the_last_hold(
    node: MockNode, zfs: Callable[..., str], home: str, zfs_events: ZfsEvents
) -> None:
    zfs("snapshot", f"{home}@d")
    zfs("hold", "t", f"{home}@d")
    zfs_events.passed()
    zfs("destroy", "-d", f"{home}@d")
    assert node.control.snapshots_of(home) == ["d"]
    zfs("release", "t", f"{home}@d")
    assert node.control.snapshots_of(home) == []
    assert [event[1] for event in zfs_events.passed()] == ["defer_destroy", "release", "destroy"]


def test_clones_stand_in_the_way_of_their_origin_unless_R(node: MockNode, zfs: Callable[..., str], home: str) -> None:
    zfs("snapshot", f"{home}@base")
    zfs("clone", f"{home}@base", "zones/copy")
    done = node.run("zfs", "destroy", f"{home}@base")
    assert (done.returncode, done.stderr) == (
        1,
        f"cannot destroy '{home}@base': snapshot has dependent clones\n"
        "use '-R' to destroy the following datasets:\nzones/copy\n",
    )
    zfs("destroy", "-R", f"{home}@base")
    assert "zones/copy" not in node.control.datasets()


def test_clone_has_the_files_of_its_snapshot(node: MockNode, zfs: Callable[..., str], home: str) -> None:
    zfs("snapshot", f"{home}@base")
    zfs("clone", f"{home}@base", "zones/copy")
    assert json.loads(node.read("/zones/copy/config/tags.json")) == {"a": 1}


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["set", "quota=x", "zones/opt"], 1, "cannot set property for 'zones/opt': bad numeric value 'x'"),
        (
            ["set", "volsize=1g", "zones/opt"],
            1,
            "cannot set property for 'zones/opt': 'volsize' does not apply to datasets of this type",
        ),
        (["set", "creation=1", "zones/opt"], 1, "cannot set property for 'zones/opt': 'creation' is readonly"),
        (["set", "bogus=1", "zones/opt"], 1, "cannot set property for 'zones/opt': invalid property 'bogus'"),
        (
            ["set", "zoned=maybe", "zones/opt"],
            1,
            "cannot set property for 'zones/opt': 'zoned' must be one of 'off | on'",
        ),
        (["create", "zones/opt"], 1, "cannot create 'zones/opt': dataset already exists"),
        (["create", "zones/no/such"], 1, "cannot create 'zones/no/such': parent does not exist"),
        (["create", "zones/a%b"], 1, "cannot create 'zones/a%b': invalid character % in name"),
        (["snapshot", "zones/nope@x"], 2, "cannot open 'zones/nope': dataset does not exist"),
        (["destroy", "zones/nope"], 1, "cannot open 'zones/nope': dataset does not exist"),
        (["destroy", "zones/opt@nope"], 1, "could not find any snapshots to destroy; check snapshot names."),
        (["hold", "t", "zones/opt@nope"], 1, "cannot hold snapshot 'zones/opt@nope': dataset does not exist"),
        (["rename", "zones/opt", "zones/var"], 1, "cannot rename 'zones/opt': dataset already exists"),
        (["promote", "zones/opt"], 1, "cannot promote 'zones/opt': not a cloned filesystem"),
        (["inherit", "quota", "zones/opt"], 2, "'quota' property cannot be inherited"),
        (["frobnicate"], 2, "unrecognized command 'frobnicate'"),
    ],
)
def test_refused_command_says_why_in_its_first_line(
    fails: Callable[..., tuple[int, str]], words: list[str], status: int, said: str
) -> None:
    got, text = fails("zfs", *words)
    assert (got, text.splitlines()[0]) == (status, said)


def test_refused_command_makes_no_event(node: MockNode, zfs_events: ZfsEvents) -> None:
    zfs_events.passed()
    node.run("zfs", "set", "quota=x", "zones/opt")
    node.run("zfs", "destroy", "zones/cores")
    node.run("zfs", "snapshot", "zones/opt@ok", "zones/nope@x")
    assert zfs_events.passed() == []
