# SPDX-License-Identifier: MPL-2.0
"""What the platform is assumed to do, asked of the mock node through the platform's own tools.

The files test_platform_*.py use a node only in ways that a real one has; test_mock_*.py are about the mock itself."""

from __future__ import annotations

import itertools
import json
import queue
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mockcn import process
from mockcn.process import MockNode
from support.deadlines import SOON

WITHIN = SOON
MARKS = itertools.count(1)


class Follower:
    """A streaming tool whose lines are taken with a deadline."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self.child = child
        self._lines: queue.Queue[bytes] = queue.Queue()
        threading.Thread(target=self._pump, daemon=True).start()

    def _pump(self) -> None:
        assert self.child.stdout is not None
        for line in self.child.stdout:
            self._lines.put(line)
        self._lines.put(b"")

    def line(self, timeout: float = WITHIN) -> bytes:
        """The next line; b"" at the end of the output. Raises queue.Empty when none comes in time."""
        return self._lines.get(timeout=timeout)

    def record(self) -> dict[str, Any]:
        result: dict[str, Any] = json.loads(self.line())
        return result

    def close(self) -> None:
        self.child.kill()
        self.child.wait(WITHIN)
        for stream in (self.child.stdin, self.child.stderr):
            if stream is not None:
                stream.close()


class ZfsEvents:
    """The history events that pass between two looks. A mark, set on a dataset of our own, ends each look."""

    def __init__(self, node: MockNode, follower: Follower, marker: str) -> None:
        self._node = node
        self._follower = follower
        self._marker = marker

    def records(self) -> list[dict[str, Any]]:
        mark = f"com.example:mark={next(MARKS)}"
        self._node.run("zfs", "set", mark, self._marker, check=True)
        seen = []
        while True:
            record = self._follower.record()
            if record["type"] == "event" and record["data"].get("history_internal_str") == mark:
                return seen
            seen.append(record)

    def passed(self) -> list[tuple[str, str, str]]:
        """(dataset, action, details) of each event since the last look."""
        return [
            (
                record["data"].get("history_dsname", "-"),
                record["data"]["history_internal_name"],
                record["data"].get("history_internal_str", "-"),
            )
            for record in self.records()
        ]


@pytest.fixture
def node(root: str) -> Iterator[MockNode]:
    """A mock node with a VM of every brand: few, since most of these tests have one of their own."""
    with process.start(root, vms=8) as running:
        yield running


@pytest.fixture
def follow(node: MockNode) -> Iterator[Callable[..., Follower]]:
    """follow(tool, *words): start a streaming tool; it is ended with the test."""
    followers: list[Follower] = []

    def start(tool: str, *words: str) -> Follower:
        followers.append(Follower(node.popen(tool, *words)))
        return followers[-1]

    yield start
    for follower in followers:
        follower.close()


@pytest.fixture
def zone_events(follow: Callable[..., Follower]) -> Follower:
    """The zones' channel, subscribed."""
    follower = follow("sysevent", "-rj", "-c", "com.sun:zones:status")
    assert follower.record()["type"] == "ready"
    return follower


@pytest.fixture
def zfs_events(node: MockNode, follow: Callable[..., Follower]) -> ZfsEvents:
    """ZFS history, subscribed, with nothing read yet."""
    node.run("zfs", "create", "zones/marker", check=True)
    follower = follow("sysevent", "-rj", "EC_zfs", "ESC_ZFS_history_event")
    assert follower.record()["type"] == "ready"
    return ZfsEvents(node, follower, "zones/marker")


@pytest.fixture
def zfs(node: MockNode) -> Callable[..., str]:
    """zfs(*words): run it, which must succeed; its output."""

    def run(*words: str) -> str:
        done = node.run("zfs", *words)
        assert done.returncode == 0, f"zfs {' '.join(words)}: {done.stderr}"
        return done.stdout

    return run


@pytest.fixture
def fails(quiet_node: MockNode) -> Callable[..., tuple[int, str]]:
    """fails(tool, *words): (exit status, standard error) of a call that must print nothing else."""

    def run(tool: str, *words: str) -> tuple[int, str]:
        done = quiet_node.run(tool, *words)
        assert done.stdout == ""
        return done.returncode, done.stderr

    return run
