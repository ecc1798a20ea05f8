# SPDX-License-Identifier: MPL-2.0
"""The three children that tell of changes, and what they can do wrong: each fault ends with a new child, and with what
was missed meanwhile made up for. None outlives the daemon."""

import itertools
import os
import re
import signal

import pytest

from support.convergence import Listener, assert_converges, fresh_load, served
from support.examples import few, more
from support.processes import children_of, gone, is_alive
from support.running_daemon import RunningDaemon, eventually

pytest_plugins = ["support.onenode"]

# How status names a child -> the tool, and what is in its words.
CHILDREN = {
    "zonewatcher": ("sysevent", "zones:status"),
    "zpoolwatcher": ("sysevent", "EC_zfs"),
    "fswatcher": ("fswatcher", ""),
}
numbers = itertools.count(100)  # no two changes are the same
SYSEVENTS = ["zonewatcher", "zpoolwatcher"]

SENSELESS = [
    "garbage",
    "",
    "\x00\xff\xfe",
    "[]",
    '"text"',
    "{}",
    "7",
    "{" * 5000,
    "[" * 100_000,
    '{"date":"never","type":"ready"}',
    '{"date":"2026-01-01T00:00:00.000Z","type":"ready"}',
    '{"date":"2026-01-01T00:00:00.000Z","type":"what"}',
]


@pytest.fixture
def node(one_node):
    """One for all tests of this file, well again after each."""
    yield one_node
    one_node.control.clear_faults()
    one_node.control.clear_event_rules()


def child(daemon, name):
    return daemon.status()["children"][name]


def the_three(daemon):
    """Their pids, when nothing else is being run."""
    return eventually("only the three run", lambda: len(pids := children_of(daemon.process.pid)) == 3 and pids)


def a_new_one_is_up(daemon, name, restarts=1):
    eventually(
        f"a new {name} is up",
        lambda: child(daemon, name)["state"] == "up" and child(daemon, name)["restarts"] >= restarts,
    )


def change(node, uuid):
    """One change that each of the three would tell of; what the quota and the tag are now."""
    number = next(numbers)
    node.control.init_restart(uuid)
    node.run("zfs", "set", f"quota={number}G", f"zones/{uuid}", check=True)
    node.control.write_config(uuid, "tags", {"number": number})
    return number


def is_known(daemon, uuid, new):
    return (daemon.vm(uuid)["quota"], daemon.vm(uuid)["tags"]) == (new, {"number": new})


def an_ordinary_one(vms):
    return next(
        vm["uuid"]
        for vm in vms
        if vm["brand"] == "joyent" and vm["zone_state"] == "running" and vm["zonepath"] == f"/zones/{vm['uuid']}"
    )


def a_zone(daemon):
    return an_ordinary_one(daemon.vms())


def a_zone_of(node):
    """As a_zone(), before there is a daemon."""
    return an_ordinary_one(fresh_load(node.root).values())


@pytest.mark.parametrize(
    "name, number",
    [
        ("zonewatcher", signal.SIGKILL),
        *more(("zpoolwatcher", signal.SIGTERM)),
        ("fswatcher", signal.SIGKILL),
    ],
)
def test_child_that_dies_is_replaced_and_what_it_missed_is_read(node, daemon, name, number):
    tool, match = CHILDREN[name]
    uuid = a_zone(daemon)
    node.control.fault(tool, "fail", match=match, times=1, stderr="not yet\n")  # the first new one is no good either
    assert node.control.kill_child(tool, number, match)
    eventually("its end is noticed", lambda: child(daemon, name)["state"] != "up" or child(daemon, name)["restarts"])
    new = change(node, uuid)
    a_new_one_is_up(daemon, name, restarts=2)
    eventually("what was missed is read", lambda: is_known(daemon, uuid, new))
    assert_converges(daemon)
    change(node, uuid)
    assert_converges(daemon)
    assert [record["level"] for record in daemon.logged("child lost")] == [50, 50]
    assert child(daemon, name)["lastError"]
    assert [other for other in CHILDREN if child(daemon, other)["restarts"]] == [name]


def test_children_that_hang_before_they_are_ready_are_replaced(node):
    for tool, match in CHILDREN.values():
        node.control.fault(tool, "hang", match=match, times=1)
    with RunningDaemon(node.root, "--child-limit", "1").start() as daemon:
        for name in CHILDREN:
            a_new_one_is_up(daemon, name)
            assert child(daemon, name)["lastError"].startswith("not ready within 1 s")
        change(node, a_zone(daemon))
        assert_converges(daemon)


def test_daemon_that_answers_has_its_subscriptions(node):
    """Between a load and a subscription that comes later, events would be lost (OS-5951)."""
    for name in SYSEVENTS:
        node.control.fault("sysevent", "hold", match=CHILDREN[name][1], times=1)
    with RunningDaemon(node.root, "--refresh-interval", "3600").start(wait=False) as daemon:
        eventually("both are held", lambda: node.control.held("sysevent") == 2)
        assert not daemon.listens()
        node.control.step("sysevent")
        eventually("the daemon answers", daemon.answers)
        uuid = a_zone(daemon)
        restarts = daemon.vm(uuid)["init_restarts"]
        new = change(node, uuid)
        eventually("its datasets are followed", lambda: is_known(daemon, uuid, new))
        eventually("its zone is followed", lambda: daemon.vm(uuid)["init_restarts"] == restarts + 1)


def test_daemon_starts_without_children_that_never_get_ready(node):
    """Full refreshes do their work, badly, and /status says so."""
    for tool, match in CHILDREN.values():
        node.control.fault(tool, "hang", match=match, times=None)
    with RunningDaemon(node.root, "--child-limit", "0.5", "--refresh-interval", "0.5").start() as daemon:
        assert [name for name in CHILDREN if child(daemon, name)["state"] != "up"] == list(CHILDREN)
        assert [record["child"] for record in daemon.logged("a watcher is not ready", level=50)] == list(CHILDREN)
        uuid = a_zone(daemon)
        restarts = daemon.vm(uuid)["init_restarts"]
        new = change(node, uuid)
        eventually("the refresh has seen it", lambda: is_known(daemon, uuid, new))
        eventually("all of it", lambda: daemon.vm(uuid)["init_restarts"] == restarts + 1)


@pytest.mark.parametrize("name", SYSEVENTS)
def test_lines_that_make_no_sense_are_skipped_and_counted(node, daemon, name):
    match = CHILDREN[name][1]
    for number, line in enumerate(SENSELESS):
        node.control.raw_line(line + "\n", match=match)
        eventually(f"{line[:40]!r} was skipped", lambda count=number + 1: child(daemon, name)["skippedLines"] == count)
    change(node, a_zone(daemon))
    assert_converges(daemon)
    assert (child(daemon, name)["state"], child(daemon, name)["restarts"]) == ("up", 0)
    assert 1 <= len(daemon.logged("skipped a line", level=40)) < len(SENSELESS), "the log is not flooded"
    eventually("what the lines should have said is looked for", lambda: daemon.logged("full refresh starts"))


@pytest.mark.parametrize("name", few(SYSEVENTS, 1))
def test_child_that_talks_nothing_but_garbage_is_replaced(node, daemon, name):
    pid = child(daemon, name)["pid"]
    node.control.raw_line("garbage\n" * 500, match=CHILDREN[name][1])
    a_new_one_is_up(daemon, name)
    assert gone([pid])
    assert len(daemon.logged("skipped a line")) < 20, "the log is not flooded"
    assert_converges(daemon)


@pytest.mark.parametrize("name", few(SYSEVENTS, 1))
def test_endless_line_costs_no_memory_and_ends_with_its_newline(node, daemon, name):
    before = daemon.status()["memory"]["rss"]
    for _ in range(40):
        node.control.raw_line("x" * (1 << 20), match=CHILDREN[name][1])
    node.control.raw_line("\n", match=CHILDREN[name][1])
    eventually("it was skipped", lambda: child(daemon, name)["skippedLines"] == 1)
    assert daemon.status()["memory"]["rss"] - before < 20 << 20, "40 MiB came"
    change(node, a_zone(daemon))
    assert_converges(daemon)
    assert child(daemon, name)["restarts"] == 0


def test_file_watcher_that_prints_garbage_at_its_start_is_replaced(node):
    node.control.fault("fswatcher", "garbage", bytes="garbage\nmore of it\n\xff\n", times=1)
    with RunningDaemon(node.root).start() as daemon:
        change(node, a_zone(daemon))
        assert_converges(daemon)
        assert child(daemon, "fswatcher")["skippedLines"] == 3


@pytest.mark.parametrize("name", list(CHILDREN))
def test_words_on_stderr_are_logged_and_no_reason_to_end_anything(node, name):
    """One line there was the end of the original (C10)."""
    tool, match = CHILDREN[name]
    node.control.fault(tool, "fail", match=match, stderr="something is odd\n" * 300, times=1)
    with RunningDaemon(node.root).start() as daemon:
        a_new_one_is_up(daemon, name)
        records = eventually("it is logged", lambda: daemon.logged("child wrote on stderr", level=40))
        assert [record["line"] for record in records] == ["something is odd"], "what repeats is counted"


def test_file_watcher_that_does_not_answer_is_replaced(node):
    with RunningDaemon(node.root, "--child-limit", "1").start() as daemon:
        pid = child(daemon, "fswatcher")["pid"]
        os.kill(pid, signal.SIGSTOP)
        try:
            node.control.add_vm(alias="new")
            eventually("the VM is served all the same", lambda: len(daemon.vms()) == 31)
            a_new_one_is_up(daemon, "fswatcher")
            assert gone([pid])
            assert_converges(daemon)
        finally:
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.long
def test_file_watcher_that_hangs_of_one_path_is_no_secret_before_that_is_found_out(node):
    with RunningDaemon(node.root).start() as daemon:
        uuid = a_zone(daemon)
        path = f"/zones/{uuid}/config"
        node.control.fault("fswatcher", "stuck", path=path, times=None)
        node.control.kill_child("fswatcher")

        def reason():
            return [one for one in daemon.get("/health").json()["reasons"] if "has not answered for" in one]

        [said] = eventually("the verdict says so", reason)
        assert re.match(r"fswatcher has not answered for \d+ files for \d+ s, seen by refreshes only: /", said)
        assert child(daemon, "fswatcher")["quarantine"] == []
        node.control.clear_faults()
        node.control.kill_child("fswatcher")
        eventually("all is well when its files are watched", lambda: daemon.get("/health").status == 200)
        assert path in daemon.status()["fswatcher"]["watching"]


def test_file_that_the_watcher_is_deaf_for_is_seen_by_the_next_refresh(node):
    with RunningDaemon(node.root, "--refresh-interval", "1").start() as daemon:
        uuid = a_zone(daemon)
        node.control.tell("fswatcher", "deaf", path=uuid)
        new = next(numbers)
        node.control.write_config(uuid, "tags", {"missed": new})
        eventually("the refresh has seen it", lambda: daemon.vm(uuid)["tags"] == {"missed": new})
        [lost] = eventually("it says so", lambda: daemon.logged("lost events", level=40))
        assert lost["zones"] == [uuid]


@pytest.mark.long
def test_file_that_the_watcher_aborts_on_leaves_the_others_watched_and_is_seen_by_refreshes(node):
    """One such path ended each new file watcher, and nothing was watched (C11)."""
    uuid = a_zone_of(node)
    bad = f"/zones/{uuid}/config/tags.json"
    node.control.fault("fswatcher", "abort", path=bad, times=None)
    with RunningDaemon(node.root, "--refresh-interval", "3600").start() as daemon:

        def watcher():
            return daemon.status()["fswatcher"]

        eventually("the path is in quarantine", lambda: [one["path"] for one in watcher()["quarantine"]] == [bad])
        eventually("the others are watched", lambda: f"/etc/zones/{uuid}.xml" in watcher()["watching"])
        settled = child(daemon, "fswatcher")
        assert settled["restarts"] == 1
        assert [one["path"] for one in settled["quarantine"]] == [bad]
        eventually(
            "the verdict names it", lambda: any(bad in reason for reason in daemon.get("/health").json()["reasons"])
        )
        verdict = daemon.tool("vminfo", "status")
        assert verdict.returncode == 1
        assert bad in verdict.stdout.splitlines()[0]

        node.control.write_config(uuid, "metadata", {"customer_metadata": {"seen": "at once"}})
        eventually("the next file is watched", lambda: daemon.vm(uuid)["customer_metadata"] == {"seen": "at once"})

        new = next(numbers)
        node.control.write_config(uuid, "tags", {"number": new}, in_place=True)
        daemon.process.send_signal(signal.SIGHUP)
        eventually("a refresh reads it", lambda: daemon.vm(uuid)["tags"] == {"number": new})

        node.control.clear_faults()
        eventually("a later try lifts it", lambda: bad in watcher()["watching"])
        eventually("all is well again", lambda: not watcher()["quarantine"])
        node.control.write_config(uuid, "tags", {"number": new + 1})
        eventually("it is watched", lambda: daemon.vm(uuid)["tags"] == {"number": new + 1})
        assert child(daemon, "fswatcher")["restarts"] <= 2, "this mock's fault lasts as long as the process that has it"


@pytest.mark.parametrize("name", few(CHILDREN, 1))
def test_child_that_is_stopped_is_replaced_and_what_it_missed_is_read(node, daemon, name):
    """It lives, holds its pipes, and looks healthy."""
    uuid = a_zone(daemon)
    pid = child(daemon, name)["pid"]
    os.kill(pid, signal.SIGSTOP)
    new = change(node, uuid)
    a_new_one_is_up(daemon, name)
    assert gone([pid])
    assert child(daemon, name)["lastError"].startswith("it is stopped by a signal")
    eventually("what was missed is read", lambda: is_known(daemon, uuid, new))
    assert_converges(daemon)


@pytest.mark.long
def test_sysevent_that_prints_without_a_newline_is_replaced(node):
    with RunningDaemon(node.root, "--child-limit", "2").start() as daemon:
        uuid = a_zone(daemon)
        pids = {name: child(daemon, name)["pid"] for name in SYSEVENTS}
        for name in SYSEVENTS:
            node.control.raw_line('{"date":"2026-01-01T00:00:00.000Z","type":"ev', match=CHILDREN[name][1])
        for name, pid in pids.items():
            eventually("a new one is up", lambda name=name, pid=pid: child(daemon, name)["pid"] not in (pid, None))
            assert "a line that has not ended" in child(daemon, name)["lastError"]
        change(node, uuid)
        assert_converges(daemon)


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "mute"),
    few([("zonewatcher", "com.sun:zones:status"), ("zpoolwatcher", "ESC_ZFS_history_event")], 1),
)
def test_sysevent_that_says_nothing_while_others_speak_is_replaced(node, name, mute):
    """It lives, and its subscription is lost. What it should have said is seen long before the next full refresh."""
    with RunningDaemon(node.root, "--child-limit", "1", "--refresh-interval", "3600").start() as daemon:
        uuid = a_zone(daemon)
        before = daemon.vm(uuid)
        node.control.drop_events(None, match=mute)
        pid = child(daemon, name)["pid"]

        def others_speak():
            change(node, uuid)
            return child(daemon, name)["pid"] not in (pid, None)

        eventually("it is replaced by a new one", others_speak)
        node.control.clear_event_rules()
        change(node, uuid)  # what was lost between the new one's refresh and now is read with this
        assert child(daemon, name)["lastError"] is None, "this is not known to be a fault"
        [record] = daemon.logged("replacing the child by a new one")
        assert record["child"].replace(" ", "") == name
        assert_converges(daemon)
        assert daemon.vm(uuid)["init_restarts"] > before["init_restarts"]
        assert daemon.get("/health").json() == {"status": "ok", "reasons": []}


def test_status_says_how_long_ago_each_child_was_heard(node, daemon):
    assert {name: child(daemon, name)["heardAgo"][-2:] for name in CHILDREN} == dict.fromkeys(CHILDREN, "s)")


def test_all_children_killed_again_and_again_cost_nothing_that_lasts(node, daemon):
    uuid = a_zone(daemon)
    for round_ in range(2):
        for tool in ("sysevent", "fswatcher"):
            node.control.kill_child(tool)
        change(node, uuid)
        for name in CHILDREN:
            a_new_one_is_up(daemon, name, restarts=round_ + 1)
    assert_converges(daemon)
    eventually("the dead are buried", lambda: len(children_of(daemon.process.pid)) == 3)


@pytest.mark.long
@pytest.mark.parametrize("name", few(CHILDREN, 1))
def test_child_that_is_killed_whenever_it_is_up_loses_nothing_in_the_end(node, daemon, name):
    """Each change is made while it is up, while it dies, or while there is none; a listener's mirror is right, too."""
    tool, match = CHILDREN[name]
    uuid = a_zone(daemon)
    mirror = Listener(daemon)
    try:
        for restarts in range(1, 4):
            change(node, uuid)  # while it is up
            assert node.control.kill_child(tool, match=match)
            change(node, uuid)  # while it dies, or there is none
            a_new_one_is_up(daemon, name, restarts)
        last = change(node, uuid)
        eventually("the last change is read", lambda: is_known(daemon, uuid, last))
        assert_converges(daemon)
        mirror.caught_up(int(daemon.get("/ping").headers["x-vminfod-rev"]))
        assert mirror.vms == served(daemon)
    finally:
        mirror.close()
    # Paths that were asked for when it died are tried by short-lived processes of their own.
    eventually("the dead are buried", lambda: len(children_of(daemon.process.pid)) == 3)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_children_end_with_the_daemon(node, daemon, number):
    pids = the_three(daemon)
    assert daemon.stop(number) == 0
    assert gone(pids)


def test_children_that_take_no_notice_of_sigterm_end_with_the_daemon(node, daemon):
    pids = the_three(daemon)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)  # and so of nothing at all
    assert daemon.stop() == 0
    assert gone(pids)


def test_children_end_when_the_daemon_is_killed_outright(node, daemon):
    """The file watcher sees the end of its input, the others cannot write what comes next. On the platform the
    service's contract ends all of them at once."""
    pids = the_three(daemon)
    daemon.process.kill()
    daemon.process.wait()
    uuid = node.control.vms()[0]["uuid"]
    eventually(
        "all children end with the next event",
        lambda: (
            node.run("zfs", "set", "quota=77G", f"zones/{uuid}")
            and node.control.ping() is None
            and not any(map(is_alive, pids))
        ),
    )


def test_child_that_is_not_there_does_not_keep_the_daemon_from_starting(node):
    os.rename(f"{node.root}/usr/sbin/sysevent", f"{node.root}/usr/sbin/sysevent.away")
    try:
        with RunningDaemon(node.root, "--child-limit", "1").start() as daemon:
            assert "No such file" in child(daemon, "zonewatcher")["lastError"]
            os.rename(f"{node.root}/usr/sbin/sysevent.away", f"{node.root}/usr/sbin/sysevent")
            eventually("both are up", lambda: all(child(daemon, name)["state"] == "up" for name in SYSEVENTS))
            assert_converges(daemon)
    finally:
        if os.path.exists(f"{node.root}/usr/sbin/sysevent.away"):
            os.rename(f"{node.root}/usr/sbin/sysevent.away", f"{node.root}/usr/sbin/sysevent")
