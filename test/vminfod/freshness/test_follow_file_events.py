# SPDX-License-Identifier: MPL-2.0
"""What the file watcher tells, from the file on the node to /vms and /events (docs/platform.md, "File watcher" and
"Files of a VM")."""

import base64
import json
import os
import re
import shutil
import signal
import uuid

import pytest

from support.examples import few
from support.following import cause_of, changes, part
from support.running_daemon import eventually
from support.settling import settle

pytest_plugins = ["support.followers"]

SYSINFO = "/tmp/.sysinfo.json"
KERNEL = ("zoneadm", "kstat", "zfs")


def xml_path(zone):
    return f"/etc/zones/{zone}.xml"


def commands(follow):
    """Which commands the daemon ran since forget_calls(): tools that run all the time aside."""
    return sorted({call["tool"] for call in follow.control.calls()} & set(KERNEL))


def watched(follow):
    dump = follow.daemon.status()["fswatcher"]
    return set(dump["watching"]) | set(dump["not_yet_watching"])


def told_by(event, path):
    """Whether a watch of the file, or of the folder that it appeared in, made the event."""
    return cause_of(event) in ({"source": "file", "path": path}, {"source": "file", "path": os.path.dirname(path)})


def five_files(zone, zonepath=None):
    zonepath = zonepath or f"/zones/{zone}"
    return {
        xml_path(zone),
        f"{zonepath}/lastexited",
        *(f"{zonepath}/config/{name}.json" for name in ("metadata", "routes", "tags")),
    }


# The zone's XML.


def test_change_of_the_xml_is_one_modify(follow):
    zone = follow.add()
    follow.control.forget_calls()
    follow.control.set_attr(zone, "alias", "YmFy")
    assert follow.modified(zone) == [("alias", "changed", "foo", "bar")]
    assert cause_of(follow.events[-1]) == {"source": "file", "path": xml_path(zone)}
    follow.settle()
    assert commands(follow) == []
    follow.nothing_by_files()


def test_change_of_the_xml_changes_last_modified_too(follow):
    zone = follow.add(state="configured")
    os.utime(follow.control.real(xml_path(zone)), (1767225600, 1767225600))
    follow.bring_up_to_date(zone)
    follow.control.set_attr(zone, "alias", "YmFy")
    event = follow.next()
    assert [change["prettyPath"] for change in event["changes"]] == ["alias", "last_modified"]
    assert event["changes"][1]["oldValue"] == "2026-01-01T00:00:00.000Z"
    assert event["changes"][1]["newValue"].endswith(".000Z")


def test_xml_written_in_place_is_seen(follow):
    zone = follow.add(state="configured")
    text = follow.control.read_xml(zone).replace('autoboot="true"', 'autoboot="false"')
    with open(follow.control.real(xml_path(zone)), "w", encoding="utf-8") as file:
        file.write(text)
    follow.until(zone, lambda vm: vm["autoboot"] is False)
    follow.nothing_by_files()


def test_xml_replaced_across_file_systems_is_a_change_and_loses_no_vm(follow):
    """Such a replacement deletes the file and writes it anew (OS-7368)."""
    zone = follow.add(state="configured")
    path = follow.control.real(xml_path(zone))
    text = follow.control.read_xml(zone).replace("Zm9v", "YmFy")
    # The daemon's reading, which decides, comes after the new file is in place.
    follow.daemon.process.send_signal(signal.SIGSTOP)
    os.unlink(path)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    follow.daemon.process.send_signal(signal.SIGCONT)
    assert follow.modified(zone) == [("alias", "changed", "foo", "bar")]
    assert cause_of(follow.events[-1]) == {"source": "file", "path": xml_path(zone)}
    follow.nothing_by_files()
    follow.control.set_attr(zone, "alias", "Zm9v")
    assert follow.modified(zone) == [("alias", "changed", "bar", "foo")], "the new file is watched"


def test_xml_that_is_deleted_deletes_the_vm_and_written_again_creates_it(follow):
    """Also when it comes back only later (S8)."""
    zone = follow.add(state="stopped")
    path, text = follow.control.real(xml_path(zone)), follow.control.read_xml(zone)
    os.unlink(path)
    deleted = follow.next()
    assert (deleted["type"], deleted["zonename"]) == ("delete", zone)
    assert cause_of(deleted) == {"source": "file", "path": xml_path(zone)}
    assert follow.daemon.vm(zone) is None
    follow.nothing_by_files()
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    created = follow.next()
    assert (created["type"], created["zonename"]) == ("create", zone)
    assert {**created["vm"], "last_modified": ""} == {**deleted["last"], "last_modified": ""}
    follow.nothing()


def test_files_of_a_folder_that_was_replaced_are_followed(follow):
    """The files in the old one were not touched, so that nothing is told of them."""
    zone = follow.add(files={"tags": {"n": 0}})
    folder = follow.control.real(f"{follow.vms[zone]['zonepath']}/config")
    for number in range(1, 4):
        os.rename(folder, f"{folder}.{number}")
        shutil.copytree(f"{folder}.{number}", folder)
        for value in (10 * number, 10 * number + 1, 10 * number + 2):
            with open(f"{folder}/tags.json", "w", encoding="ascii") as file:
                file.write(json.dumps({"n": value}))
            follow.until(zone, lambda vm, value=value: vm.get("tags") == {"n": value})
    follow.settle()


def test_xml_that_is_cut_between_two_tokens_keeps_the_vm_as_it_was(follow):
    zone = follow.add()
    text = follow.control.read_xml(zone)
    cut = text.index(">", text.rindex("<attr ")) + 1
    follow.control.corrupt(xml_path(zone), keep=len(text[:cut].encode()))
    eventually("the error is shown", lambda: follow.daemon.status()["zoneErrors"].get(zone))
    assert follow.daemon.status()["zoneErrors"][zone]["code"] == "PARSE_ERROR"
    assert follow.daemon.vm(zone) == follow.vms[zone]
    follow.control.edit_xml(zone, text.replace("Zm9v", "YmFy"))
    came = follow.until(zone, lambda vm: vm["alias"] == "bar")
    assert {change[0] for event in came for change in changes(event)} <= {"alias"}, "nothing else went and came back"


@pytest.mark.parametrize("rubbish", few(["", "<zone name=", "\x00\x01", "<?xml version='1.0'?><zones/>"], 2))
def test_xml_that_makes_no_sense_keeps_the_vm_as_it_was(follow, rubbish):
    zone = follow.add(state="configured")
    text = follow.control.read_xml(zone)
    follow.control.corrupt(xml_path(zone), rubbish)
    eventually("the error is shown", lambda: zone in follow.daemon.status()["zoneErrors"])
    assert follow.daemon.vm(zone) == follow.vms[zone]
    follow.control.edit_xml(zone, text.replace("Zm9v", "YmFy"))
    assert follow.modified(zone) == [("alias", "changed", "foo", "bar")]
    eventually("the error is forgotten", lambda: zone not in follow.daemon.status()["zoneErrors"])
    follow.nothing_by_files()


# config/*.json


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("tags", {"role": "db"}, [("tags.role", "added", "db")]),
        ("metadata", {"customer_metadata": {"a": "b"}}, [("customer_metadata.a", "added", "b")]),
        ("metadata", {"internal_metadata": {"a.b": 1}}, [("internal_metadata[a.b]", "added", 1)]),
        ("routes", {"10.0.0.0/8": "nics[0]"}, [("routes[10.0.0.0/8]", "added", "nics[0]")]),
    ],
)
def test_config_file_that_did_not_exist_is_seen_when_it_appears_and_from_then_on(follow, file, content, expected):
    zone = follow.add(files={})
    path = f"/zones/{zone}/config/{file}.json"
    assert path in follow.daemon.status()["fswatcher"]["not_yet_watching"]
    follow.control.forget_calls()
    follow.control.write_config(zone, file, content)
    assert follow.modified(zone) == expected
    assert told_by(follow.events[-1], path)
    follow.settle()
    assert commands(follow) == []
    follow.control.write_config(zone, file, {})
    assert follow.modified(zone) == [(expected[0][0], "removed", expected[0][2])]


def test_config_file_is_seen_replaced_changed_in_place_and_removed(follow):
    zone = follow.add(files={"tags": {"n": 1}})
    follow.control.write_config(zone, "tags", {"n": 2})
    assert follow.modified(zone) == [("tags.n", "changed", 1, 2)]
    follow.control.write_config(zone, "tags", {"n": 3}, in_place=True)
    follow.until(zone, lambda vm: vm["tags"] == {"n": 3})
    follow.control.write_config(zone, "tags", None)
    follow.until(zone, lambda vm: vm["tags"] == {})
    follow.control.write_config(zone, "tags", {"n": 5})
    assert follow.modified(zone) == [("tags.n", "added", 5)]
    follow.nothing_by_files()


def test_config_file_that_makes_no_sense_counts_as_empty_until_it_makes_sense_again(follow):
    """As in the original: a tool that writes in place goes through such a moment each time (docs/platform.md, "JSON
    files")."""
    zone = follow.add(files={"metadata": {"customer_metadata": {"n": 1}}})
    follow.control.corrupt(f"/zones/{zone}/config/metadata.json", '{"customer_metadata": {"n": ')
    assert follow.modified(zone) == [("customer_metadata.n", "removed", 1)]
    follow.control.write_config(zone, "metadata", {"customer_metadata": {"n": 2}})
    assert follow.modified(zone) == [("customer_metadata.n", "added", 2)]


def test_file_of_the_same_content_changes_last_modified_and_nothing_else(follow):
    zone = follow.add(files={"tags": {"n": 1}}, state="stopped")
    path = follow.control.real(f"/zones/{zone}/config/tags.json")
    for old in five_files(zone):
        if os.path.exists(follow.control.real(old)):
            os.utime(follow.control.real(old), (1767225600, 1767225600))
    follow.bring_up_to_date(zone)
    with open(path, encoding="utf-8") as file:
        text = file.read()
    follow.control.write_config(zone, "tags", text)
    event = follow.next()
    assert [change["prettyPath"] for change in event["changes"]] == ["last_modified"]


# lastexited


def test_lastexited_that_did_not_exist_is_seen_when_it_appears_and_from_then_on(follow):
    zone = follow.add(state="stopped")
    follow.bring_up_to_date(zone)
    follow.control.forget_calls()
    follow.control.write_lastexited(zone, 256, 1767300000.5)
    follow.until(zone, lambda vm: vm.get("exit_status") == 1)
    assert follow.vms[zone]["exit_timestamp"] == "2026-01-01T20:40:00.500Z"
    assert told_by(follow.events[-1], f"/zones/{zone}/lastexited")
    follow.settle()
    assert commands(follow) == []
    follow.control.write_lastexited(zone, 9, 1767300001.0)
    follow.until(zone, lambda vm: vm.get("exit_status") == -9)


def test_lastexited_of_a_running_vm_changes_last_modified_only(follow):
    zone = follow.add()
    follow.control.write_lastexited(zone, 0)
    follow.control.write_config(follow.witness, "tags", {"after": zone})
    while (event := follow.next())["zonename"] != follow.witness:
        # Only if another second has begun since the zone's files were made.
        assert (event["zonename"], [change["prettyPath"] for change in event["changes"]]) == (zone, ["last_modified"])
    assert part(follow.vms[zone], "exit_status", "exit_timestamp") == {}


# Which files are watched.


def test_five_files_of_each_vm_their_folders_and_the_sysinfo_are_watched(follow):
    zone = follow.add()
    follow.settle()
    expected = {SYSINFO, "/etc/zones"}
    for vm in follow.vms.values():
        expected |= five_files(vm["zonename"], vm["zonepath"]) | {vm["zonepath"], vm["zonepath"] + "/config"}
    assert five_files(zone) <= expected
    eventually("they are watched, and of those that have gone no more", lambda: watched(follow) == expected)


def test_files_are_watched_under_the_zonepath(follow):
    """A VM on another pool (S5)."""
    zone = follow.add(pool="tank", files={"tags": {"n": 1}}, state="stopped")
    assert follow.vms[zone]["zonepath"] == f"/tank/{zone}"
    follow.control.write_config(zone, "tags", {"n": 2})
    assert follow.modified(zone) == [("tags.n", "changed", 1, 2)]
    follow.control.write_lastexited(zone, 0, 1767300000.5)
    follow.until(zone, lambda vm: vm.get("exit_status") == 0)
    assert not any(path.startswith(f"/zones/{zone}") for path in watched(follow))


def test_files_of_a_vm_that_is_gone_are_watched_no_more(follow):
    zone = follow.add(state="stopped")
    follow.control.remove_vm(zone)
    follow.until(zone, lambda vm: not vm)
    follow.settle()
    eventually("no file of it is watched", lambda: not five_files(zone) & watched(follow))


def test_file_of_no_vm_costs_nothing(follow):
    """An XML that is there before its zone, a VM's other files."""
    zone, known = str(uuid.uuid4()), follow.add()
    stray = [
        follow.control.real(path)
        for path in (
            xml_path(zone),
            f"/zones/{known}/config/other.json",
            f"/zones/{known}/tags.json",
            "/etc/zones/SUNWblank.xml",
        )
    ]
    follow.control.forget_calls()
    for path in stray:
        with open(path, "w", encoding="ascii") as file:
            file.write("{}")
    follow.nothing_by_files()
    assert commands(follow) == []
    for path in stray:
        os.unlink(path)
    follow.nothing_by_files()


# Folders that were replaced: of the files in the old one the file watcher has nothing to report.


def rewrite_alias(follow, zone, alias):
    """In place, so that only a watch of the file itself reports it."""
    path = follow.control.real(xml_path(zone))
    with open(path, encoding="utf-8") as file:
        text = file.read()
    value = base64.b64encode(alias.encode()).decode()
    changed = re.sub(r'(<attr name="alias"[^>]*value=")[^"]*', rf"\g<1>{value}", text)
    assert changed != text
    with open(path, "w", encoding="utf-8") as file:
        file.write(changed)


def replace_folder(folder, *, step=lambda: None):
    os.rename(folder, f"{folder}.old")
    step()
    shutil.copytree(f"{folder}.old", folder)


def test_xml_of_all_zones_is_followed_though_its_folder_was_replaced(alone):
    zones = [vm["zonename"] for vm in alone.vms.values() if vm.get("alias")][:2]
    assert len(zones) == 2
    before = set(alone.vms)
    folder = alone.control.real("/etc/zones")
    for number in range(2):
        replace_folder(folder)
        shutil.rmtree(f"{folder}.old") if number else os.rename(f"{folder}.old", f"{folder}.kept")
        for value in (f"one-{number}", f"two-{number}"):
            for zone in zones:
                rewrite_alias(alone, zone, value)
                alone.until(zone, lambda vm, value=value: vm.get("alias") == value)
    assert set(alone.vms) == before, "none was gone meanwhile"


def test_xml_is_followed_though_its_folder_was_away_for_a_while(alone):
    zone = next(vm["zonename"] for vm in alone.vms.values() if vm.get("alias"))
    folder, xml = alone.control.real("/etc/zones"), xml_path(zone)

    def not_watched():
        eventually("nothing there is watched", lambda: xml in alone.daemon.status()["fswatcher"]["not_yet_watching"])

    replace_folder(folder, step=not_watched)
    for value in ("one", "two"):
        rewrite_alias(alone, zone, value)
        alone.until(zone, lambda vm, value=value: vm.get("alias") == value)


def test_refresh_mends_the_watches_of_a_folder_whose_replacement_was_not_reported(alone):
    """Also where it finds no difference. The folder of XML, and that of a zone's configuration."""
    zone = next(
        vm["zonename"] for vm in alone.vms.values() if vm.get("alias") and vm["zonepath"] == f"/zones/{vm['zonename']}"
    )
    config = f"/zones/{zone}/config"
    alone.control.write_config(zone, "tags", {"n": 0})
    alone.until(zone, lambda vm: vm["tags"] == {"n": 0})
    for path in ("/etc/zones", zone):
        assert alone.control.tell("fswatcher", "lost", path=path) == 1
    settle(alone.daemon)
    replace_folder(alone.control.real("/etc/zones"))
    replace_folder(alone.control.real(config))
    settle(alone.daemon)
    alone.daemon.process.send_signal(signal.SIGHUP)
    eventually("the refresh has looked", lambda: alone.daemon.logged("watching anew what was replaced", level=30))
    for number in (1, 2):
        rewrite_alias(alone, zone, f"name-{number}")
        alone.until(zone, lambda vm, number=number: vm.get("alias") == f"name-{number}")
        alone.control.write_config(zone, "tags", {"n": number}, in_place=True)
        alone.until(zone, lambda vm, number=number: vm["tags"] == {"n": number})


def test_refresh_mends_the_watch_of_sysinfo_whose_folder_was_replaced(alone):
    replace_folder(alone.control.real("/tmp"))
    alone.daemon.process.send_signal(signal.SIGHUP)
    eventually("the refresh has looked", lambda: alone.daemon.logged("watching anew what was replaced", level=30))
    path = alone.control.real(SYSINFO)
    for name in ("moved", "moved again"):
        with open(path, encoding="utf-8") as file:
            known = json.load(file)
        with open(path, "w", encoding="utf-8") as file:
            json.dump({**known, "Datacenter Name": name}, file)
        eventually("all VMs show it", lambda name=name: {vm["datacenter_name"] for vm in alone.daemon.vms()} == {name})


# The sysinfo file concerns all VMs.


def test_sysinfo_that_changes_changes_every_vm(alone):
    """Bug S2."""
    alone.control.write_sysinfo({**alone.control.sysinfo(), "Datacenter Name": "moved"})
    zones = set(alone.vms)
    for _ in range(len(zones)):
        event = alone.next()
        assert [change["prettyPath"] for change in event["changes"]] == ["datacenter_name"]
        assert cause_of(event) == {"source": "file", "path": SYSINFO}
        zones.remove(event["zonename"])
    assert zones == set()
    assert {vm["datacenter_name"] for vm in alone.daemon.vms()} == {"moved"}
    alone.nothing()


@pytest.mark.parametrize("how", few(["rubbish", "cut short", "no object", "removed"], 1))
def test_sysinfo_that_makes_no_sense_keeps_the_old(alone, how):
    """Bug C5. It is half written for a moment each time."""
    before = alone.daemon.get("/vms").body
    path = alone.control.real(SYSINFO)
    if how == "removed":
        os.unlink(path)
    elif how == "cut short":
        alone.control.corrupt(SYSINFO, keep=40)
    else:
        alone.control.corrupt(SYSINFO, "[]" if how == "no object" else "{{{")
    eventually("the error is shown", lambda: alone.daemon.status()["sysinfoError"])
    assert alone.daemon.get("/vms").body == before
    alone.nothing()
    alone.control.write_sysinfo({**alone.control.sysinfo(), "Datacenter Name": "moved"})
    for _ in range(len(alone.vms)):
        assert "datacenter_name" in {change["prettyPath"] for change in alone.next()["changes"]}
    assert alone.daemon.status()["sysinfoError"] is None


def test_vm_that_comes_while_sysinfo_is_broken_has_the_old_values(alone):
    alone.control.corrupt(SYSINFO, "{{{")
    eventually("the error is shown", lambda: alone.daemon.status()["sysinfoError"])
    zone = alone.control.add_vm(state="configured")["zonename"]  # a fresh read of it would fail
    alone.until(zone, lambda vm: vm)
    assert alone.vms[zone]["server_uuid"] == alone.control.sysinfo()["UUID"]


def test_files_changed_while_the_watcher_is_dead_are_read_when_it_is_back(alone):
    """S9: what happens between a watch's end and the next one has no event."""
    zone = alone.witness
    alone.control.kill_child("fswatcher")
    alone.control.write_config(zone, "tags", {"while": "dead"})
    alone.until(zone, lambda vm: vm["tags"] == {"while": "dead"})
    eventually("the watcher runs again", lambda: alone.daemon.status()["children"]["fswatcher"]["restarts"] == 1)
    eventually("its files are watched again", lambda: SYSINFO in alone.daemon.status()["fswatcher"]["watching"])
    alone.control.write_config(zone, "tags", {"while": "alive"})
    alone.until(zone, lambda vm: vm["tags"] == {"while": "alive"})
    assert json.loads(alone.daemon.get(f"/vms/{zone}").body)["tags"] == {"while": "alive"}
