# SPDX-License-Identifier: MPL-2.0
"""What a guest writes into its metadata costs an event no more than three times the object, whatever it is."""

import json
import os
import platform

import pytest

from support.running_daemon import eventually

pytest_plugins = ["support.followers"]


def many(value, count=20_000):
    return {"customer_metadata": {f"key{number}": value for number in range(count)}}


def test_very_many_keys_that_all_change_are_one_change(follow):
    zone = follow.add(state="stopped")
    follow.control.write_config(zone, "metadata", many("a"))
    follow.until(zone, lambda vm: len(vm["customer_metadata"]) == 20_000)
    follow.control.write_config(zone, "metadata", many("b"))
    follow.until(zone, lambda vm: vm["customer_metadata"]["key7"] == "b")
    event = follow.events[-1]
    [change] = [each for each in event["changes"] if each["path"] != ["last_modified"]]
    assert (change["path"], change["action"]) == (["customer_metadata"], "changed")
    assert change["newValue"] == event["vm"]["customer_metadata"] and change["oldValue"]["key7"] == "a"
    assert len(json.dumps(event)) < 3.1 * len(json.dumps(event["vm"]))


def compact(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


@pytest.mark.parametrize("count", [1, 20])
def test_keys_that_come_and_go_at_once_are_a_change_each(follow, count):
    """As in the original: a client may wait for the path of one of them."""
    zone = follow.add(state="stopped", alias="")
    names = [f"k{number}" for number in range(count)]
    for tags, action in ((dict.fromkeys(names, "v"), "added"), ({}, "removed")):
        follow.control.write_config(zone, "tags", tags)
        follow.until(zone, lambda vm, tags=tags: vm["tags"] == tags)
        found = [change for change in follow.events[-1]["changes"] if change["path"][0] == "tags"]
        assert [(change["path"][1], change["action"]) for change in found] == [(name, action) for name in names]


@pytest.mark.parametrize("count", [60, 100, 400, 900])
def test_event_of_many_short_keys_is_no_larger_than_three_objects(follow, count):
    zone = follow.add(state="stopped", alias="")
    tags = {f"k{number}": "v" for number in range(count)}
    for wanted in (tags, dict.fromkeys(tags, "w"), {}):
        before = follow.daemon.get(f"/vms/{zone}").body
        follow.control.write_config(zone, "tags", wanted)
        follow.until(zone, lambda vm, wanted=wanted: vm["tags"] == wanted)
        event = follow.events[-1]
        assert len(compact(event)) <= 3 * max(len(before), len(compact(event["vm"])))
        found = {tuple(change["path"]) for change in event["changes"] if change["path"][0] == "tags"}
        assert found == {("tags",)} or len(found) == count


def test_paths_in_the_log_are_capped(follow):
    zone = follow.add(state="stopped")
    follow.control.write_config(zone, "metadata", many("a" * 200, 100))
    follow.until(zone, lambda vm: len(vm["customer_metadata"]) == 100)
    follow.settle()
    [record] = [r for r in follow.daemon.logged("emitting") if r["zonename"] == zone and len(r.get("paths", [])) > 10]
    assert len(record["paths"]) == 20
    assert record["morePaths"] in (80, 81)  # the folder's file can change last_modified, too


def test_more_values_than_a_file_may_hold_leave_the_object_as_it_was(follow):
    zone = follow.add(state="stopped")
    follow.control.write_config(zone, "metadata", many("a", 3))
    follow.until(zone, lambda vm: len(vm["customer_metadata"]) == 3)
    follow.control.write_config(zone, "metadata", many("a", 350_000))
    error = eventually("it is refused", lambda: follow.daemon.status()["zoneErrors"].get(zone))
    assert error["code"] == "EFBIG"
    assert len(follow.daemon.vm(zone)["customer_metadata"]) == 3
    assert follow.daemon.get("/health").status == 503
    follow.control.write_config(zone, "metadata", many("b", 4))
    follow.until(zone, lambda vm: len(vm["customer_metadata"]) == 4)
    eventually("all is well", lambda: follow.daemon.get("/health").status == 200)


def sized(size, letter):
    """A metadata.json of just so many bytes: its text, and what it says."""
    start, end = '{"customer_metadata":{"k":"', '"},"internal_metadata":{}}'
    value = letter * (size - len(start) - len(end))
    return f"{start}{value}{end}", {"k": value}


def replace(follow, zone, text):
    path = follow.control.real(f"/zones/{zone}/config/metadata.json")
    with open(f"{path}.new", "w", encoding="ascii") as file:
        file.write(text)
    os.rename(f"{path}.new", path)


def test_file_of_4_mib_is_served_and_one_byte_more_leaves_the_object_as_it_was(follow):
    zone = follow.add(state="stopped")
    text, largest = sized(4 << 20, "a")
    replace(follow, zone, text)
    follow.until(zone, lambda vm: vm["customer_metadata"] == largest)
    cut = follow.daemon.status()["events"]["slowListenersCut"]
    replace(follow, zone, sized((4 << 20) + 1, "b")[0])
    error = eventually("it is refused", lambda: follow.daemon.status()["zoneErrors"].get(zone))
    assert error["code"] == "EFBIG" and f"/zones/{zone}/config/metadata.json" in error["err"]
    assert follow.daemon.vm(zone)["customer_metadata"] == largest
    assert follow.daemon.get("/health").status == 503
    text, small = sized(100, "c")
    replace(follow, zone, text)
    follow.until(zone, lambda vm: vm["customer_metadata"] == small)
    assert [event["vm"]["customer_metadata"] for event in follow.events[-1:]] == [small]
    eventually("all is well", lambda: follow.daemon.get("/health").status == 200)
    assert follow.daemon.status()["events"]["slowListenersCut"] == cut


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this is no GNU C library")
def test_memory_of_large_metadata_goes_back_when_they_are_small_again(follow):
    zones = [follow.add(state="stopped") for _ in range(3)]
    before = follow.daemon.status()
    for letter in "ab":
        for zone in zones:
            text, large = sized(4 << 20, letter)
            replace(follow, zone, text)
            follow.until(zone, lambda vm, large=large: vm["customer_metadata"] == large)
    for zone in zones:
        replace(follow, zone, sized(100, "a")[0])
        follow.until(zone, lambda vm: len(vm["customer_metadata"]["k"]) < 100)
    after = follow.daemon.status()
    kept = after["events"]["ringBytes"] - before["events"]["ringBytes"]
    assert after["memory"]["rss"] - before["memory"]["rss"] - kept < 16 << 20


@pytest.mark.parametrize("path", ["/vms", "/events"])
def test_list_without_unreadable_zones_says_nothing_of_them(quiet_daemon, path):
    if path == "/vms":
        assert "x-vminfod-unreadable" not in quiet_daemon.get(path).headers
    else:
        stream = quiet_daemon.events()
        assert "unreadable" not in stream.ready
        stream.close()


@pytest.mark.parametrize("opening, closing", [("[", "]"), ('{"a":', "}")])
def test_metadata_of_500_levels_are_served_changed_and_printed(follow, opening, closing):
    zone = follow.add(state="stopped", alias="")
    for value in (1, 2):
        text = f'{{"customer_metadata":{{"a":"{value}","x":{opening * 500}{value}{closing * 500}}}}}'
        follow.control.write_config(zone, "metadata", text)
        follow.until(zone, lambda vm, text=text: vm["customer_metadata"] == json.loads(text)["customer_metadata"])
    expected = json.loads(text)["customer_metadata"]
    for words in (("vminfo", "vm", zone), ("vmadm", "get", zone)):
        assert json.loads(follow.daemon.tool(*words).stdout)["customer_metadata"] == expected
    # Much text at the bottom is written in slices.
    text = f'{{"customer_metadata":{{"x":{opening * 500}{json.dumps("y" * 300_000)}{closing * 500}}}}}'
    follow.control.write_config(zone, "metadata", text)
    follow.until(zone, lambda vm: vm["customer_metadata"] == json.loads(text)["customer_metadata"])
