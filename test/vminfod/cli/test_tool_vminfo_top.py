# SPDX-License-Identifier: MPL-2.0
"""`vminfo top`: what it says of the node and its VMs, on a terminal of any size, and how it ends."""

import os

import pytest

from support.running_daemon import SBIN, RunningDaemon
from support.screens import Screen
from vminfod.cli.topmodel import Model, cause_text
from vminfod.cli.topview import Choices, age, once, screen

VMINFO = os.path.join(SBIN, "vminfo")
LX = {"uuid": "aaaaaaaa-0000-4000-8000-000000000001", "alias": "web", "brand": "lx", "state": "running"}
HVM = {"uuid": "bbbbbbbb-0000-4000-8000-000000000002", "brand": "bhyve", "state": "stopped", "hvm": True, "ram": 4096}


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def event(vm, kind="modify", **more):
    whose = {"type": kind, "date": "2026-01-02T03:04:05.678Z", "uuid": vm["uuid"]}
    return {**whose, "vm": vm, "changes": [], "cause": {"source": "zone", "state": "running"}, **more}


@pytest.fixture
def model():
    known = Model(Clock())
    known.start([{**LX, "max_physical_memory": 512}, HVM])
    return known


def texts(model, choices=None, width=120, height=20):
    return [text for text, _ in screen(model, choices or Choices(), width, height)]


def row(model, uuid, **more):
    return next(text.rstrip() for text in texts(model, **more) if text.startswith(uuid[:8]))


@pytest.mark.pure
def test_a_row_has_state_memory_last_change_with_its_cause_and_age(model):
    assert row(model, LX["uuid"]).split() == ["aaaaaaaa", "web", "lx", "running", "512", "MiB", "-", "-"]
    changes = [{"prettyPath": "quota", "action": "changed", "oldValue": 1, "newValue": 2}, {"prettyPath": "x"}]
    model.apply(event({**HVM, "state": "running"}, changes=changes, cause={"source": "zfs", "action": "set"}))
    model.clock.now += 61
    shown = row(model, HVM["uuid"])
    assert shown.split()[:6] == ["bbbbbbbb", "-", "bhyve", "running", "4096", "MiB"]
    assert shown.endswith(" 1m     quota changed and 1 more (zfs set)")


@pytest.mark.pure
def test_created_and_deleted_vms_come_and_go(model):
    new = {**LX, "uuid": "cccccccc-0000-4000-8000-000000000003", "alias": "new"}
    model.apply(event(new, "create"))
    assert row(model, new["uuid"]).endswith("created (zone running)")
    model.apply({**event(new, "delete"), "vm": None})
    assert not [text for text in texts(model) if "new" in text]
    model.start([HVM])
    assert not [text for text in texts(model) if text.startswith(LX["uuid"][:8])]


@pytest.mark.pure
@pytest.mark.parametrize(
    "cause, text",
    [
        ({"source": "file", "path": "/zones/x/config/tags.json"}, "file tags.json"),
        ({"source": "vmadm", "command": "update", "pid": 7}, "vmadm update"),
        ({"source": "zone", "state": "halting"}, "zone halting"),
        ({"source": "refresh"}, "refresh"),
        ({}, "-"),
    ],
)
def test_a_cause_in_words(cause, text):
    assert cause_text(cause) == text


@pytest.mark.pure
def test_events_a_second_are_those_of_late(model):
    for _ in range(25):
        model.apply(event(LX))
    assert model.rate == 2.5
    model.clock.now += 11
    assert model.rate == 0


@pytest.mark.pure
def test_ages_are_in_the_largest_unit():
    assert [age(seconds) for seconds in (0, 59.9, 60, 3599, 3600, 86399, 86400 * 3)] == [
        "0s",
        "60s",
        "1m",
        "59m",
        "1h",
        "23h",
        "3d",
    ]


@pytest.mark.pure
@pytest.mark.parametrize(
    "order, backwards, first",
    [("alias", False, HVM), ("alias", True, LX), ("memory", False, HVM), ("memory", True, LX), ("state", False, LX)],
)
def test_rows_are_sorted_as_chosen(model, order, backwards, first):
    assert model.sorted_rows(order, backwards, "")[0].uuid == first["uuid"]


@pytest.mark.pure
def test_what_changed_last_comes_first(model):
    model.apply(event(HVM))
    assert model.sorted_rows("change", False, "")[0].uuid == HVM["uuid"]
    model.clock.now += 1
    model.apply(event(LX))
    assert [r.uuid for r in model.sorted_rows("change", False, "")] == [LX["uuid"], HVM["uuid"]]


@pytest.mark.pure
def test_a_filter_takes_rows_that_have_all_its_words(model):
    assert [r.alias for r in model.sorted_rows("alias", False, "LX run")] == ["web"]
    assert model.sorted_rows("alias", False, "lx stopped") == []


@pytest.mark.pure
@pytest.mark.parametrize("width", [0, 1, 10, 79, 400])
@pytest.mark.parametrize("height", [0, 1, 5, 24, 200])
@pytest.mark.parametrize("followed", [None, LX["uuid"]])
def test_every_line_fits_whatever_the_size(model, width, height, followed):
    model.follow(followed)
    model.apply(event({**LX, "alias": "x" * 500}))
    lines = texts(model, width=width, height=height)
    assert len(lines) <= height
    assert all(len(line) <= width for line in lines)


@pytest.mark.pure
@pytest.mark.parametrize(
    "alias, shown",
    [
        ("データベース", "データベース" + 8 * " "),
        ("データベースサーバー01", "データベースサーバ~ "),
        ("aデータベースサーバー", "aデータベースサーバ~"),
        ("e\u0301te\u0301", "e\u0301te\u0301" + 17 * " "),
        ("e\u0301" * 21, "e\u0301" * 19 + "~"),
    ],
)
def test_a_name_takes_its_twenty_columns_in_any_script(model, alias, shown):
    model.apply(event({**LX, "alias": alias}))
    assert f"aaaaaaaa {shown} lx " in row(model, LX["uuid"])


@pytest.mark.pure
def test_a_line_that_is_cut_within_a_wide_character_loses_all_of_it(model):
    model.apply(event({**LX, "alias": "データベース"}))
    assert [row(model, LX["uuid"], width=width) for width in (11, 12, 13)] == [
        "aaaaaaaa デ",
        "aaaaaaaa デ",
        "aaaaaaaa デー",
    ]


@pytest.mark.pure
def test_what_is_kept_of_a_change_is_bounded(model):
    model.follow(LX["uuid"])
    change = {"prettyPath": "customer_metadata.x", "action": "added", "newValue": "x" * 1_000_000}
    model.apply(event(LX, changes=[change] * 3))
    assert [len(text) for _, text in model.changes] == [1000] * 3


@pytest.mark.pure
def test_the_selected_row_stays_on_the_screen(model):
    model.start([{**LX, "uuid": f"{number:08d}-x", "alias": f"{number:03d}"} for number in range(100)])
    choices = Choices()
    choices.order = "alias"
    for selected in (0, 99, 50, 1000, 3):
        choices.selected = selected
        lines = screen(model, choices, 100, 20)
        [text] = [text for text, look in lines[6:] if look == "reversed"]
        assert text.split()[1] == f"{min(selected, 99):03d}"


@pytest.mark.pure
def test_what_a_tenant_chose_cannot_drive_the_terminal(model):
    model.apply(event({**LX, "alias": "a\x1b[2Jb\u202e"}))
    model.follow(LX["uuid"])
    model.apply(event(LX, changes=[{"prettyPath": "tags.\x1b", "action": "added", "newValue": "\x9b1m"}]))
    for lines in (texts(model), once(model).splitlines()):
        assert all(line.isprintable() for line in lines)


@pytest.mark.pure
def test_a_daemon_that_is_away_or_unwell_is_said_first(model):
    model.status = {"health": {"reasons": ["zonewatcher down 4 s"]}, "uptime": "5.1s (5.10s)"}
    assert texts(model)[0] == "DEGRADED: zonewatcher down 4 s"
    model.away = "connect ECONNREFUSED"
    assert texts(model)[0] == "vminfod is away: connect ECONNREFUSED"
    model.start([])
    model.status = {"uptime": "5.123s (5.12s)"}
    assert texts(model)[0] == "vminfod is well, up 5.12s"


def environ(daemon):
    return {**os.environ, "VMINFOD_PORT": str(daemon.port)}


def test_once_prints_every_vm_and_ends(quiet_daemon):
    printed = quiet_daemon.tool("vminfo", "top", "-1")
    assert (printed.returncode, printed.stderr) == (0, "")
    lines = printed.stdout.splitlines()
    assert lines[0].startswith("vminfod is well, up ")
    assert sorted(line[:8] for line in lines[5:]) == sorted(vm["uuid"][:8] for vm in quiet_daemon.vms())


def test_without_a_terminal_it_says_what_to_do(quiet_daemon):
    failed = quiet_daemon.tool("vminfo", "top")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr == "vminfo top needs a terminal; vminfo top -1 prints once\n"


def test_a_terminal_shows_changes_as_they_come(node, daemon):
    vm = next(vm for vm in daemon.vms() if vm["state"] == "running" and vm.get("alias") and "zfs_filesystem" in vm)
    with Screen([VMINFO, "top"], environ(daemon)) as top:
        top.until("the VMs", lambda lines: any(vm["alias"][:19] in line for line in lines))
        node.run("zfs", "set", "quota=77g", vm["zfs_filesystem"])
        changed = f"{vm['uuid'][:8]} "
        told = "quota changed (zfs set)" if "quota" in vm else "quota added (zfs set)"
        top.until("the change", lambda lines: any(x.startswith(changed) and x.endswith(told) for x in lines))
        top.press("\r")
        top.until("its changes", lambda lines: any(line.startswith(f"changes of {vm['uuid']}") for line in lines))
        node.run("zfs", "set", "quota=78g", vm["zfs_filesystem"])
        top.until("the value", lambda lines: any("quota: 77 -> 78 (zfs set)" in line for line in lines))
        top.press("\x1b")
        top.until("the list", lambda lines: any(line.startswith("UUID") for line in lines))
        top.press("/no such vm\r")
        top.until("the filter", lambda lines: any("filter: no such vm" in line for line in lines))
        top.until("no row", lambda lines: not any("quota" in line for line in lines))
        top.press("\x1b")
        top.resize(60, 12)
        top.until("the smaller screen", lambda lines: lines[-1].startswith("q quit") and len(lines) == 12)
        top.press("q")
        assert top.ended() == 0
        assert top.mode() == top.before


def test_a_daemon_that_goes_is_waited_for(node):
    with RunningDaemon(node.root).start() as daemon, Screen([VMINFO, "top"], environ(daemon)) as top:
        top.until("it is well", lambda lines: lines[0].startswith("vminfod is well"))
        daemon.stop()
        top.until("it is away", lambda lines: lines[0].startswith("vminfod is away"))
        with RunningDaemon(node.root, port=daemon.port).start():
            top.until("it is back", lambda lines: lines[0].startswith("vminfod is well"))
        top.press("q")
        assert top.ended() == 0


def test_ctrl_c_gives_the_terminal_back(quiet_daemon):
    with Screen([VMINFO, "top"], {**environ(quiet_daemon), "NO_COLOR": "1"}) as top:
        top.until("it is there", lambda lines: lines[0].startswith("vminfod is well"))
        assert b"\x1b[32m" not in top.raw  # green
        top.press("\x03")
        assert top.ended() == 130
        assert top.mode() == top.before
