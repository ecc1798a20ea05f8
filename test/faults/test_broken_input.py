# SPDX-License-Identifier: MPL-2.0
"""What tools and files say when they are broken: one VM's trouble stays its own, nothing is taken for deleted, what was
served stays served, and all is right again when the trouble is over."""

import json
import os
import shutil

import pytest

from support.convergence import Listener, assert_converges, await_refresh, fresh_load, refreshes, served
from support.running_daemon import RunningDaemon, eventually
from support.settling import settle

pytest_plugins = ["support.followers"]

TOOLS = ("zoneadm", "zfs", "kstat")
LISTS = {"zoneadm": "list -p -c", "zfs": "-d 3", "kstat": "-p -m zones -c zone_misc"}  # words of a list of all
BROKEN = {
    "fails": ("fail", {"stderr": "cannot allocate memory\n", "exit": 1}),
    "fails without a word": ("fail", {"exit": 3}),
    "is killed": ("die", {}),
    "ends in the midst of a line": ("cut", {"bytes_out": 400}),
    "says nothing": ("cut", {"lines": 0, "bytes_out": 0}),
    "is garbled": ("garbage", {"bytes": "\x00\xff no line of it\n", "lines": 1}),
    "talks garbage only": ("garbage", {"bytes": "what?\n", "exit": 0}),
}
WAYS = ["fails", "ends in the midst of a line", "says nothing", "is garbled"]  # where each takes seconds
NOT_GARBLED = {("zfs", "is garbled")}  # a row of another width is no proof: a mountpoint may hold a newline


def repeated(*values):
    """Further values of a parameter, which show the same again of another kind: for `make test-all`."""
    return [pytest.param(value, marks=pytest.mark.more) for value in values]


@pytest.fixture
def refreshing(node):
    """A daemon that refreshes often."""
    with RunningDaemon(node.root, "--refresh-interval", "0.2").start() as running:
        yield running


def a_zone(daemon):
    return next(
        vm["uuid"]
        for vm in daemon.vms()
        if vm["brand"].startswith("joyent")
        and vm["zone_state"] == "running"
        and vm["zonepath"] == f"/zones/{vm['uuid']}"
    )


def change(node, uuid, number):
    node.run("zfs", "set", f"quota={number}G", f"zones/{uuid}", check=True)


def emitted(daemon):
    return [(record["msg"].split('"')[1], record["zonename"]) for record in daemon.logged("emitting")]


# Files of one VM.


def break_xml(path):
    with open(path, "w", encoding="utf-8") as file:
        file.write("<zone name='x'><attr </zone>")


def empty(path):
    with open(path, "w", encoding="utf-8"):
        pass


def replace_by_folder(path):
    os.unlink(path)
    os.mkdir(path)


def replace_by_fifo(path):
    os.unlink(path)
    os.mkfifo(path)


def replace_by_loop(path):
    os.unlink(path)
    os.symlink(path, path)


def make_huge(path):
    with open(path, "w", encoding="utf-8") as file:
        file.truncate(70 << 20)


def fill_with_zeros(path):
    with open(path, "wb") as file:
        file.write(b"\0" * 10_000)


HARMS = [break_xml, empty, replace_by_folder, replace_by_fifo, replace_by_loop, make_huge, fill_with_zeros]


def test_xml_that_is_broken_hides_no_other_vm(node, daemon):
    all_vms = served(daemon)
    broken = [vm["uuid"] for vm in all_vms.values() if vm["zonename"] == vm["uuid"]][: len(HARMS)]
    others = {name: vm for name, vm in all_vms.items() if name not in broken}
    paths = [node.control.real(f"/etc/zones/{uuid}.xml") for uuid in broken]
    good = []
    for path, harm in zip(paths, HARMS):
        with open(path, "rb") as file:
            good.append(file.read())
        harm(path)
    errors = eventually(
        "status tells of all",
        lambda: [shown for shown in [daemon.status()["zoneErrors"]] if sorted(shown) == sorted(broken)],
    )[0]
    assert all(error["err"] and error["tries"] >= 1 for error in errors.values())
    assert {name: vm for name, vm in served(daemon).items() if name not in broken} == others

    # A daemon that starts now serves the others too.
    with RunningDaemon(node.root).start() as second:
        assert served(second) == others
        assert sorted(second.status()["zoneErrors"]) == sorted(broken)

        for path, text in zip(paths, good):
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
            with open(path + ".new", "wb") as file:
                file.write(text)
            os.rename(path + ".new", path)
        for each in (daemon, second):
            eventually("all are read again", lambda each=each: not each.status()["zoneErrors"])
            assert_converges(each)
            assert not each.logged("unexpectedly") + each.logged("escaped a greenlet")


@pytest.mark.parametrize("harm", [break_xml, *repeated(empty, fill_with_zeros)])
def test_vm_whose_xml_cannot_be_understood_is_served_as_it_was(node, daemon, harm):
    uuid = a_zone(daemon)
    before = daemon.vm(uuid)
    harm(node.control.real(f"/etc/zones/{uuid}.xml"))
    eventually("status tells", lambda: daemon.status()["zoneErrors"].get(uuid))
    assert daemon.vm(uuid) == before


CONTENTS = [
    "",
    '{"customer_metadata": {"a": "b',
    "[" * 100_000,
    "[" * 950 + "]" * 950,
    '{"a":' * 300 + "1" + "}" * 300,
    '{"customer_metadata": {"\\ud800": "\\udfff"}}',
    '{"internal_metadata": 1e999}',
    "null",
    "1e400",
    "\x00\xff",
    '{"customer_metadata": ' + "9" * 5000 + "}",
    '{"x": NaN}',
    '{"customer_metadata": ' + "[" * 98 + "]" * 98 + "}",
]


@pytest.mark.parametrize("file", ["metadata", *repeated("tags", "routes")])
def test_config_file_with_anything_in_it_is_what_a_fresh_load_says(node, daemon, file):
    uuids = [vm["uuid"] for vm in daemon.vms() if vm["zonepath"] == f"/zones/{vm['uuid']}"]
    listener = Listener(daemon)
    for uuid, content in zip(uuids, CONTENTS):
        node.control.write_config(uuid, file, content)
        node.control.write_config(uuid, "routes" if file != "routes" else "tags", {"last": 1})
    assert_converges(daemon)
    assert daemon.status()["zoneErrors"] == {}
    listener.caught_up(int(daemon.get("/ping").headers["x-vminfod-rev"]))
    assert listener.vms == served(daemon)
    listener.close()
    with RunningDaemon(node.root).start() as second:
        assert served(second) == fresh_load(node.root)
    assert [record for record in daemon.logged("", level=50) if "has no uuid" not in record["msg"]] == []


def test_config_folder_that_becomes_a_link_to_itself_is_read_no_more_and_no_less_than_by_a_fresh_load(node, daemon):
    """The files in it are the same, and nothing happened to them; but no link below a zonepath is followed."""
    uuid = a_zone(daemon)
    node.control.write_config(uuid, "tags", {"kept": "yes"})
    eventually("it is served", lambda: daemon.vm(uuid)["tags"] == {"kept": "yes"})
    config = node.control.real(f"/zones/{uuid}/config")
    os.rename(config, f"{config}.moved")
    os.symlink(f"{config}.moved", config)
    error = eventually("it is refused", lambda: daemon.status()["zoneErrors"].get(uuid))
    assert error["code"] == "ELOOP" and uuid not in fresh_load(node.root)
    assert daemon.vm(uuid)["tags"] == {"kept": "yes"}
    os.unlink(config)
    os.rename(f"{config}.moved", config)
    with open(f"{config}/tags.json", "w", encoding="ascii") as file:
        file.write('{"kept": "no"}')
    eventually("it is read again", lambda: daemon.vm(uuid)["tags"] == {"kept": "no"})
    assert_converges(daemon)
    assert daemon.status()["zoneErrors"] == {}


@pytest.mark.parametrize("harm", [replace_by_fifo, make_huge, *repeated(replace_by_folder, replace_by_loop)])
def test_config_file_that_cannot_be_read_keeps_the_old_values(node, daemon, harm):
    uuid = a_zone(daemon)
    node.control.write_config(uuid, "metadata", {"customer_metadata": {"kept": "yes"}})
    eventually("it is served", lambda: daemon.vm(uuid)["customer_metadata"] == {"kept": "yes"})
    node.control.tell("fswatcher", "deaf", path=uuid)  # it would tell of the moment in which there is no file
    path = node.control.real(f"/zones/{uuid}/config/metadata.json")
    harm(path)
    assert daemon.get(f"/vms/{uuid}?fresh=true").status == 504
    assert daemon.status()["zoneErrors"][uuid]["err"]
    assert daemon.vm(uuid)["customer_metadata"] == {"kept": "yes"}
    os.rmdir(path) if os.path.isdir(path) else os.unlink(path)
    node.control.write_config(uuid, "metadata", {"customer_metadata": {"kept": "no"}})
    assert daemon.get(f"/vms/{uuid}?fresh=true").json()["customer_metadata"] == {"kept": "no"}
    assert not daemon.status()["zoneErrors"]
    assert_converges(daemon)


# Sysinfo.


@pytest.mark.vms(30)
def test_daemon_starts_without_sysinfo_and_takes_it_when_it_comes(node):
    path = node.control.real("/tmp/.sysinfo.json")
    os.rename(path, path + ".away")
    with RunningDaemon(node.root).start() as daemon:
        assert len(daemon.vms()) == 30
        assert "ENOENT" in daemon.status()["sysinfoError"]
        assert not any("server_uuid" in vm for vm in daemon.vms())
        os.rename(path + ".away", path)
        eventually("it is taken", lambda: all("server_uuid" in vm for vm in daemon.vms()))
        assert daemon.status()["sysinfoError"] is None
        assert_converges(daemon)


@pytest.mark.parametrize("harm", [empty, os.unlink, *repeated(replace_by_folder, break_xml)])
def test_sysinfo_that_is_broken_for_a_while_keeps_the_old_values(node, daemon, harm):
    before = served(daemon)
    path = node.control.real("/tmp/.sysinfo.json")
    harm(path)
    eventually("status tells", lambda: daemon.status()["sysinfoError"])
    uuid = a_zone(daemon)
    change(node, uuid, 21)
    eventually("events go on", lambda: daemon.vm(uuid)["quota"] == 21)
    assert served(daemon) == {**before, uuid: {**before[uuid], "quota": 21}}
    if os.path.isdir(path):
        os.rmdir(path)
    node.control.write_sysinfo({**node.control.sysinfo(), "Live Image": "20991231T000000Z"})
    eventually("the new one is taken", lambda: daemon.vm(uuid)["platform_buildstamp"] == "20991231T000000Z")
    assert_converges(daemon)


@pytest.mark.vms(30)
def test_sysinfo_that_changes_while_a_refresh_loads_is_not_put_back(node, daemon):
    """The refresh has read the old one before."""
    node.control.fault("zfs", "hold", match="-d 3")
    node.control.kill_child("sysevent", match="EC_zfs")  # its successor asks for a refresh
    eventually("the refresh loads", lambda: node.control.held("zfs"))
    node.control.write_sysinfo({**node.control.sysinfo(), "Live Image": "20991231T000000Z"})
    eventually("it is served", lambda: {vm["platform_buildstamp"] for vm in daemon.vms()} == {"20991231T000000Z"})
    assert not refreshes(daemon)
    node.control.step("zfs")
    eventually("the refresh has ended", lambda: refreshes(daemon))
    assert {vm["platform_buildstamp"] for vm in daemon.vms()} == {"20991231T000000Z"}
    assert len(emitted(daemon)) == 30, "one event each, and none back and forth"


# Tools, at the start.


@pytest.mark.parametrize(
    "tool, how",
    [
        pytest.param(tool, how, marks=[pytest.mark.more] * (how not in ("fails", "says nothing")))
        for tool in TOOLS
        for how in WAYS
        if (tool, how) not in NOT_GARBLED
    ],
)
def test_start_on_a_node_whose_tool_is_broken_fails_in_one_line(shared_node, tool, how):
    kind, options = BROKEN[how]
    shared_node.control.fault(tool, kind, match=LISTS[tool], times=None, **options)
    daemon = RunningDaemon(shared_node.root).start(wait=False)
    status = daemon.wait()
    shared_node.control.clear_faults()
    assert status == 1
    assert daemon.stderr.startswith(b"vminfod: cannot ")
    assert daemon.stderr.count(b"\n") == 1
    assert b"Traceback" not in daemon.stderr
    assert [record["msg"] for record in daemon.logged("", level=60)] == ["cannot start"]


# Tools, during a refresh.


@pytest.mark.parametrize("tool", ["zfs", *repeated("zoneadm", "kstat")])
def test_refresh_with_a_broken_tool_fails_changes_nothing_and_the_next_one_heals(node, refreshing, tool):
    before = served(refreshing)
    broken = [BROKEN[how] for how in WAYS if (tool, how) not in NOT_GARBLED]
    for number, (kind, options) in enumerate(broken):
        node.control.fault(tool, kind, match=LISTS[tool], times=1, **options)
        eventually(
            "the refresh has failed",
            lambda number=number: len(refreshing.logged("the refresh failed", level=50)) == number + 1,
        )
        errors = refreshing.status()["refreshErrors"]
        assert len(errors) == number + 1 and errors[-1]["err"]
    await_refresh(refreshing)
    assert served(refreshing) == before
    assert emitted(refreshing) == []
    assert len(refreshing.logged("the refresh failed")) == len(broken)
    assert not refreshing.status()["zoneErrors"]
    uuid = a_zone(refreshing)
    change(node, uuid, 22)
    eventually("events go on", lambda: refreshing.vm(uuid)["quota"] == 22)


CUTS = [("zoneadm", 3), ("zoneadm", 20), ("zfs", 1), ("zfs", 25), ("kstat", 9)]  # lines that come through


def test_list_that_is_cut_at_the_end_of_a_line_and_ends_well_deletes_nothing(node, refreshing):
    """It looks whole. What it lacks is asked for by itself."""
    before = served(refreshing)
    for tool, lines in CUTS:
        node.control.fault(tool, "cut", match=LISTS[tool], times=1, lines=lines)
        await_refresh(refreshing)
    assert served(refreshing) == before
    assert emitted(refreshing) == []


# Tools, asked about one zone.


@pytest.mark.long
@pytest.mark.parametrize("tool", ["zfs", *repeated("zoneadm", "kstat")])
def test_broken_answers_about_one_zone_cost_it_nothing_that_lasts(node, daemon, tool):
    """One after the other: those that are asked about together are asked about by one command."""
    ways = [how for how in WAYS if (tool, how) not in NOT_GARBLED]
    before = served(daemon)
    running = [
        zone
        for zone in node.control.vms()
        if zone["zonename"] == zone["uuid"]
        and zone["state"] == "running"
        and zone["zonepath"] == f"/zones/{zone['uuid']}"
        and zone["zoneid"] > 2
    ]  # 1 and 2 also begin others
    assert len(running) >= len(ways)
    zones = []
    for how, zone in zip(ways, running):
        kind, options = BROKEN[how]
        options = {**options, "bytes_out": 30} if options.get("bytes_out") else options
        uuid = zone["uuid"]
        words = {"kstat": f"-i {zone['zoneid']}", "zfs": f"-d 1 zones/{uuid}", "zoneadm": uuid}
        node.control.fault(tool, kind, match=words[tool], times=1, **options)
        answer = daemon.get(f"/vms/{uuid}?fresh=true")
        assert (answer.status, answer.json()) == (200, before[uuid]), "it was tried again"
        zones.append(uuid)
    failed = [record["zonename"] for record in daemon.logged("cannot read a zone", level=50)]
    assert failed == zones
    assert served(daemon) == before
    assert emitted(daemon) == []
    assert not daemon.status()["zoneErrors"]


# Zones that come and go while they are looked at.


def test_zone_that_vanishes_between_list_and_read_is_no_trouble(node):
    with RunningDaemon(node.root, "--refresh-interval", "1").start() as daemon:
        done = refreshes(daemon)
        uuid = a_zone(daemon)
        node.control.drop_events(times=None)
        node.control.fault("zoneadm", "hold", match=LISTS["zoneadm"], times=1, when="after")
        eventually("the list is on its way", lambda: node.control.held("zoneadm"))
        node.control.remove_vm(uuid)
        node.control.clear_event_rules()
        node.control.step("zoneadm")
        eventually("it is gone", lambda: daemon.vm(uuid) is None)
        eventually("the next refresh has ended", lambda: refreshes(daemon) >= done + 2)
        assert not daemon.status()["refreshErrors"]
        assert not daemon.status()["zoneErrors"]
        assert_converges(daemon)

        def watched():
            watcher = daemon.status()["fswatcher"]
            return [path for path in watcher["watching"] + watcher["not_yet_watching"] if uuid in path]

        eventually("its files are watched no more", lambda: not watched())


def test_zone_that_vanishes_during_the_start_is_no_trouble(node):
    uuid = node.control.vms()[5]["uuid"]
    node.control.fault("zfs", "hold", match="-d 3", times=1)
    with RunningDaemon(node.root).start(wait=False) as daemon:
        eventually("the daemon loads", lambda: node.control.held("zfs"))
        node.control.remove_vm(uuid)
        added = node.control.add_vm(alias="came during the start")["uuid"]
        node.control.step("zfs")
        eventually("the daemon answers", daemon.answers)
        assert_converges(daemon)
        assert daemon.vm(uuid) is None and daemon.vm(added) is not None

        def watched(zonename):
            watcher = daemon.status()["fswatcher"]
            return [path for path in watcher["watching"] + watcher["not_yet_watching"] if zonename in path]

        # The load may have found it without its XML: it is looked at once more then, after a pause.
        eventually("its files are watched no more", lambda: not watched(uuid))
        assert watched(added)


def being_read_for_the_first_time(node, daemon, **values):
    """A VM that nobody has told the daemon of, and that it has just begun to read: zfs has listed its datasets, but its
    answer is held until control.step("zfs"). Gives the zone's name, and the connection that waits for the VM."""
    node.control.drop_events(times=None)
    zone = node.control.add_vm(alias="new", state="stopped", **values)
    node.control.clear_event_rules()
    name = zone["zonename"]
    node.control.fault("zfs", "hold", match=f"-d 1 zones/{name}", times=1, when="after")
    asked = daemon.raw().send(f"GET /vms/{name}?fresh=true HTTP/1.1\r\n\r\n".encode())
    eventually("it is being read", lambda: node.control.held("zfs"))
    eventually("its files are watched", lambda: f"/zones/{name}/config/tags.json" in str(daemon.status()["fswatcher"]))
    assert daemon.vm(name) is None
    return name, asked


def test_file_that_changes_while_its_zone_is_read_for_the_first_time_is_read_again(node, daemon):
    """The zone is not served yet, so that nobody can look it up: the event still counts."""
    name, asked = being_read_for_the_first_time(node, daemon)
    node.control.write_config(name, "tags", {"late": True})
    node.control.step("zfs")
    assert asked.answer().status == 200
    eventually("it is served as it is", lambda: daemon.vm(name)["tags"] == {"late": True})
    assert_converges(daemon)


def test_dataset_that_changes_while_its_zone_is_read_for_the_first_time_is_read_again(node, daemon):
    """Likewise, for a dataset whose name does not say whose it is."""
    name, asked = being_read_for_the_first_time(node, daemon, zonename="new")
    node.run("zfs", "set", "quota=33G", "zones/new", check=True)
    node.control.step("zfs")
    assert asked.answer().status == 200
    eventually("it is served as it is", lambda: daemon.vm(name).get("quota") == 33)
    assert_converges(daemon)


# Odd events.


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        {"zonename": None},
        {"zonename": 7},
        {"zonename": ""},
        {"zonename": "../../etc/passwd"},
        {"zonename": "-u"},
        {"zonename": "a" * 65},
        {"zonename": "a\0b"},
        {"zonename": "global", "newstate": "running"},
        {"zonename": "no-such-zone", "newstate": "running"},
        {"zonename": "x", "newstate": {"a": []}},
    ],
    ids=repr,
)
def test_zone_event_without_anything_useful_is_passed_over(shared_node, shared_daemon, data):
    node, daemon = shared_node, shared_daemon
    settle(daemon)
    uuid = a_zone(daemon)
    restarts = daemon.vm(uuid)["init_restarts"]
    seen = len(emitted(daemon))
    node.control.publish("status", "change", data, channel="com.sun:zones:status", vendor="sun.com")
    node.control.init_restart(uuid)
    eventually("events go on", lambda: daemon.vm(uuid)["init_restarts"] == restarts + 1)
    settle(daemon)
    assert not daemon.status()["zoneErrors"]
    assert child_is_well(daemon, "zonewatcher")
    assert emitted(daemon)[seen:] == [("modify", uuid)]


@pytest.mark.parametrize(
    "changed",
    [
        {"history_dsname": "a@b@c"},
        {"history_dsname": "@"},
        {"history_dsname": 7},
        {"history_dsname": ""},
        {"history_time": None},
        {"history_time": "now"},
        {"pool_name": None},
        {"history_internal_name": None},
        {"history_internal_name": "error"},
        {"history_internal_name": ["set"]},
        {"history_internal_str": 9},
    ],
    ids=repr,
)
def test_zfs_event_without_anything_useful_is_passed_over(shared_node, shared_daemon, changed):
    node, daemon = shared_node, shared_daemon
    settle(daemon)
    uuid = a_zone(daemon)
    new = daemon.vm(uuid)["quota"] + 1
    seen = len(emitted(daemon))
    data = {
        "pool_name": "zones",
        "pool_guid": 1,
        "history_dsname": f"zones/{uuid}",
        "history_dsid": 9,
        "history_internal_name": "set",
        "history_internal_str": "quota=1",
        "history_time": 1767225600,
        **changed,
    }
    node.control.publish(
        "EC_zfs",
        "ESC_ZFS_history_event",
        {k: v for k, v in data.items() if v is not None},
        vendor="SUNW",
        publisher="zfs",
    )
    change(node, uuid, new)
    eventually("events go on", lambda: daemon.vm(uuid)["quota"] == new)
    settle(daemon)
    assert child_is_well(daemon, "zpoolwatcher")
    assert emitted(daemon)[seen:] == [("modify", uuid)]


def child_is_well(daemon, name):
    child = daemon.status()["children"][name]
    return child["state"] == "up" and child["restarts"] == 0


@pytest.mark.parametrize("key", ["%00", "a%20b", "..%2f..%2fetc", "-u", "x" * 7000, "%ff%fe", "*"])
def test_fresh_read_of_what_cannot_be_a_zone_runs_no_command(shared_node, shared_daemon, key):
    node, daemon = shared_node, shared_daemon
    settle(daemon)
    node.control.forget_calls()
    answer = daemon.get(f"/vms/{key}?fresh=true&timeout=60")
    assert answer.status == 404
    # Any reading begins with zoneadm; a zfs can still be an event's of the test before.
    assert "zoneadm" not in node.control.call_counts()
    status = daemon.status()
    assert set(status["reloading"]) <= {zone["zonename"] for zone in node.control.zones()}
    assert status["zoneErrors"] == {}


def test_status_of_a_broken_node_is_still_json(node, daemon):
    node.control.corrupt(f"/etc/zones/{a_zone(daemon)}.xml", content='<zone name="\x01\x7f"><attr \\')
    eventually("status tells", lambda: daemon.status()["zoneErrors"])
    json.loads(daemon.get("/status?full=1").body)
