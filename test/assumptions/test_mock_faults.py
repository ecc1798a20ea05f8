# SPDX-License-Identifier: MPL-2.0
"""Faults on request: what a tool does wrong, how often, and that nobody else notices."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable

import pytest

from mockcn.control import Control, NodeGone, OrderRefused
from mockcn.process import MockNode

from .conftest import WITHIN, Follower


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)


def test_failing_tool_has_the_words_and_the_status_asked_for(node: MockNode) -> None:
    node.control.fault("zfs", "fail", match="list", stderr="out of memory\n", exit=3)
    done = node.run("zfs", "list")
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "out of memory\n")


def test_fault_is_good_for_as_many_matching_calls_as_it_says(node: MockNode) -> None:
    node.control.fault("zoneadm", "fail", match="list -p", times=2)
    assert node.run("zoneadm", "list").returncode == 0
    assert [node.run("zoneadm", "list", "-p").returncode for _ in range(3)] == [1, 1, 0]


def test_fault_without_a_count_stays_until_cleared(node: MockNode) -> None:
    node.control.fault("zoneadm", "fail", times=None)
    node.control.fault("kstat", "fail", times=None)
    assert [node.run("zoneadm", "list").returncode for _ in range(3)] == [1, 1, 1]
    node.control.clear_faults("zoneadm")
    assert node.run("zoneadm", "list").returncode == 0
    assert node.run("kstat", "-p").returncode == 1
    node.control.clear_faults()
    assert node.run("kstat", "-p").returncode == 0


def test_failed_command_has_changed_nothing(node: MockNode) -> None:
    node.control.fault("zfs", "fail")
    node.run("zfs", "create", "zones/x")
    assert "zones/x" not in node.control.datasets()


def test_hanging_tool_goes_when_it_is_killed_and_the_node_lives_on(node: MockNode) -> None:
    node.control.fault("zfs", "hang", match="list")
    child = node.popen("zfs", "list")
    wait_until(lambda: any(one["tool"] == "zfs" for one in node.control.children()))
    assert node.control.children("zfs") == [{"tool": "zfs", "pid": child.pid, "argv": ["list"]}]
    assert child.poll() is None
    assert node.run("zoneadm", "list").returncode == 0
    child.kill()
    child.communicate()
    wait_until(lambda: node.control.children() == [])


def test_slow_tool_answers_with_what_is_true_at_the_end(node: MockNode) -> None:
    node.control.fault("zfs", "hold", match="list")
    child = node.popen("zfs", "list", "-H", "-o", "name", "-d", "1", "zones")
    wait_until(lambda: node.control.held("zfs") == 1)
    node.run("zfs", "create", "zones/late", check=True)
    node.control.step("zfs")
    assert b"zones/late\n" in child.communicate(timeout=WITHIN)[0]


@pytest.mark.parametrize("kind", ["slow", "hold"])
def test_slow_delivery_brings_what_was_true_at_the_start(node: MockNode, kind: str) -> None:
    node.control.fault("zfs", kind, match="list", when="after", **({"seconds": 1} if kind == "slow" else {}))
    child = node.popen("zfs", "list", "-H", "-o", "name", "-d", "1", "zones")
    wait_until(lambda: node.control.held("zfs") == 1)
    node.run("zfs", "create", "zones/late", check=True)
    node.control.step("zfs")
    output = child.communicate(timeout=WITHIN)[0]
    assert b"zones/opt\n" in output
    assert b"zones/late\n" not in output


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, b"\xff\x00nonsense\nglobal\n"),
        ({"lines": 1}, b"global\n\xff\x00nonsense\n"),
        ({"bytes_out": 3}, b"glo\xff\x00nonsense\nbal\n"),
        ({"when": "after"}, b"global\n\xff\x00nonsense\n"),
        ({"exit": 0}, b"\xff\x00nonsense\n"),
    ],
)
def test_garbage_stands_where_it_was_asked_for(node: MockNode, options: dict[str, object], expected: bytes) -> None:
    for zone in node.control.zones():
        if zone["state"] == "running":
            node.control.halt(zone["zonename"])
    node.control.fault("zoneadm", "garbage", bytes="\xff\x00nonsense\n", **options)
    done = subprocess.run([node.tool("zoneadm"), "list"], capture_output=True, timeout=WITHIN)
    assert (done.returncode, done.stdout) == (0, expected)


def test_output_is_cut_short_with_status_0(node: MockNode) -> None:
    whole = node.run("zoneadm", "list", "-p", "-c").stdout
    node.control.fault("zoneadm", "cut", lines=5)
    assert node.run("zoneadm", "list", "-p", "-c").stdout.splitlines() == whole.splitlines()[:5]
    node.control.fault("zoneadm", "cut", bytes_out=100, exit=0)
    done = node.run("zoneadm", "list", "-p", "-c")
    assert (done.returncode, done.stdout) == (0, whole[:100])


def test_tool_dies_by_a_signal_in_the_middle_of_its_output(node: MockNode) -> None:
    node.control.fault("zfs", "die", lines=3, signal=9)
    done = node.run("zfs", "list", "-H", "-o", "name")
    assert (done.returncode, len(done.stdout.splitlines())) == (-9, 3)


def test_sysevent_that_never_gets_ready(node: MockNode, follow: Callable[..., Follower]) -> None:
    node.control.fault("sysevent", "hang", match="EC_zfs")
    silent = follow("sysevent", "-rj", "EC_zfs")
    other = follow("sysevent", "-rj", "-c", "com.sun:zones:status")
    assert other.record()["type"] == "ready"
    assert silent.child.poll() is None
    silent.child.kill()
    assert silent.line() == b""


def test_sysevent_that_falls_silent_after_its_ready_line(node: MockNode, follow: Callable[..., Follower]) -> None:
    node.control.fault("sysevent", "hang", lines=1)
    silent = follow("sysevent", "-rj", "-c", "com.sun:zones:status")
    silent.record()  # else the other could be the first, whom the fault strikes
    other = follow("sysevent", "-rj", "-c", "com.sun:zones:status")
    other.record()
    node.control.ping()
    other.record()
    silent.child.kill()
    assert silent.line() == b""


def test_killed_child_ends_and_is_no_subscriber_any_more(node: MockNode, follow: Callable[..., Follower]) -> None:
    zones, zfs = follow("sysevent", "-rj", "-c", "com.sun:zones:status"), follow("sysevent", "-rj", "EC_zfs")
    zones.record(), zfs.record()
    assert node.control.sysevent_subscribers() == 2
    assert node.control.kill_child("sysevent", match="EC_zfs") == [zfs.child.pid]
    assert zfs.child.wait(WITHIN) == -9
    wait_until(lambda: node.control.sysevent_subscribers() == 1)
    node.control.ping()
    assert zones.record()["subclass"] == "ping"


def test_fswatcher_is_known_to_the_node_and_can_be_killed(node: MockNode, follow: Callable[..., Follower]) -> None:
    watcher = follow("fswatcher", "-r", "-j")
    assert watcher.record()["type"] == "ready"
    assert node.control.kill_child("fswatcher") == [watcher.child.pid]
    assert watcher.child.wait(WITHIN) == -9


def test_fswatcher_fails_at_its_start_on_request(node: MockNode) -> None:
    node.control.fault("fswatcher", "fail", stderr="no ports left\n", exit=1)
    done = node.run("fswatcher", "-r", "-j")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "no ports left\n")


def test_running_fswatcher_prints_garbage_on_request(node: MockNode, follow: Callable[..., Follower]) -> None:
    watcher = follow("fswatcher", "-r", "-j")
    assert watcher.record()["type"] == "ready"
    assert node.control.tell("fswatcher", "garbage", bytes="{nonsense\n") == 1
    assert watcher.line() == b"{nonsense\n"


def test_orders_that_come_together_are_all_carried_out(node: MockNode, follow: Callable[..., Follower]) -> None:
    watcher = follow("fswatcher", "-r", "-j")
    assert watcher.record()["type"] == "ready"
    watcher.child.send_signal(signal.SIGSTOP)
    for number in range(3):
        node.control.tell("fswatcher", "garbage", bytes=f"{number}\n")
    watcher.child.send_signal(signal.SIGCONT)
    assert [watcher.line() for _ in range(3)] == [b"0\n", b"1\n", b"2\n"]


def ask(watcher: Follower, *commands: str) -> None:
    assert watcher.child.stdin is not None
    watcher.child.stdin.write("".join(f"{command}\n" for command in commands).encode())
    watcher.child.stdin.flush()


def test_fswatcher_aborts_when_it_is_asked_for_one_of_the_paths(
    node: MockNode, follow: Callable[..., Follower]
) -> None:
    node.control.fault("fswatcher", "abort", path="usbkey /zones/arch", times=1)
    watcher = follow("fswatcher", "-r", "-j")
    watcher.record()
    ask(watcher, "1 WATCH /tmp", "2 WATCH /zones/archive", "3 WATCH /zones")
    assert watcher.record()["key"] == 1, "what it has said before is not lost"
    assert watcher.child.wait(WITHIN) == -signal.SIGABRT
    assert watcher.child.stderr is not None
    assert watcher.child.stderr.read() == b"fswatcher: stat(2) of /zones/archive failed with errno 5\n"


def test_fswatcher_aborts_some_time_after_it_was_asked(node: MockNode, follow: Callable[..., Follower]) -> None:
    node.control.fault("fswatcher", "abort", path="/zones/archive", seconds=0.2, times=1)
    watcher = follow("fswatcher", "-r", "-j")
    watcher.record()
    ask(watcher, "1 WATCH /zones/archive", "2 WATCH /tmp")
    assert [watcher.record()["key"] for _ in range(2)] == [1, 2]
    assert watcher.child.wait(WITHIN) == -signal.SIGABRT


def test_fswatcher_that_is_stuck_says_nothing_any_more(node: MockNode, follow: Callable[..., Follower]) -> None:
    node.control.fault("fswatcher", "stuck", path="/zones/archive", times=1)
    watcher = follow("fswatcher", "-r", "-j")
    watcher.record()
    ask(watcher, "1 WATCH /tmp", "2 WATCH /zones/archive", "3 WATCH /zones")
    assert watcher.record()["key"] == 1
    other = follow("fswatcher", "-r", "-j")
    other.record()
    ask(other, "1 WATCH /zones/archive")
    assert other.record()["key"] == 1, "the fault was for one process"
    watcher.child.kill()
    assert watcher.line() == b""


def test_raw_line_reaches_those_it_is_meant_for(node: MockNode, follow: Callable[..., Follower]) -> None:
    zones, zfs = follow("sysevent", "-rj", "-c", "com.sun:zones:status"), follow("sysevent", "-rj", "EC_zfs")
    zones.record(), zfs.record()
    assert node.control.raw_line('{"date":"never","type":', match="zones:status") == 1
    node.control.raw_line("\n")
    assert zones.line() == b'{"date":"never","type":\n'
    assert zfs.line() == b"\n"


def test_corrupt_file_is_overwritten_in_place_or_cut(node: MockNode) -> None:
    zone = node.control.vms()[0]
    path = f"/etc/zones/{zone['zonename']}.xml"
    inode, whole = os.stat(node.root + path).st_ino, node.read(path)
    node.control.corrupt(path, keep=200)
    assert node.read(path) == whole[:200]
    node.control.corrupt(path, content="GARBAGE\n")
    assert node.read(path) == "GARBAGE\n"
    assert os.stat(node.root + path).st_ino == inode


def test_calls_are_counted_and_kept_with_their_words(node: MockNode) -> None:
    node.control.forget_calls()
    node.run("zfs", "list", "-H")
    node.run("zfs", "list", "-p")
    node.run("zoneadm", "list")
    assert node.control.call_counts() == {"zfs": 2, "zoneadm": 1}
    assert [call["argv"] for call in node.control.calls("zfs")] == [["list", "-H"], ["list", "-p"]]


def test_orders_that_make_no_sense_are_refused_in_words(node: MockNode) -> None:
    with pytest.raises(OrderRefused, match="nope: No such zone configured"):
        node.control.boot("nope")
    with pytest.raises(OrderRefused, match="no order is called 'sing'"):
        node.control.order("sing")
    with pytest.raises(OrderRefused, match="unexpected keyword"):
        node.control.add_vm(height=3)
    with pytest.raises(NodeGone, match="no mock node is running"):
        Control("/nonexistent").zones()


def test_hundred_tools_at_once_are_all_answered(node: MockNode) -> None:
    children = [node.popen("zoneadm", "list") for _ in range(100)]
    assert {child.communicate(timeout=WITHIN * 3)[0] for child in children} == {
        node.run("zoneadm", "list").stdout.encode()
    }


def test_reader_that_goes_away_ends_the_tool_and_no_other(node: MockNode) -> None:
    said = node.said()
    child = node.popen("zfs", "list", "-H", "-t", "all")
    assert child.stdout is not None
    child.stdout.close()
    child.wait(WITHIN)
    assert child.stderr is not None
    assert child.stderr.read() == b""
    child.stderr.close()
    assert node.run("zoneadm", "list").returncode == 0
    assert node.said() == said
