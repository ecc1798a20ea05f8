# SPDX-License-Identifier: MPL-2.0
"""The mock's zfs against recordings of the real one: the same commands must make the same events and listings."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mockcn import process
from mockcn.process import MockNode

from .conftest import ZfsEvents

RECORDED_WITH = "2.1.11"
# What the mock has no command for (pools, streams, bookmarks, keys, delegation, mounting, programs).
NOT_OURS = re.compile(r"zpool|zfs (send|receive|bookmark|allow|u?mount|program)|encryption|#b1|with space")
# Steps of the recording that the mock is taken through by control instead, to have the state that later steps need.
INSTEAD: dict[str, Callable[[MockNode], Any]] = {
    "50-receive-full": lambda node: node.control.receive("tank/p/rx", "s1"),
    "51-receive-incremental": lambda node: (
        node.run("zfs", "snapshot", "tank/p/a@s9"),
        node.control.receive("tank/p/rx", "s9"),
    ),
    "52-receive-replication": lambda node: node.run("zfs", "snapshot", "-r", "tank/p/q@rep"),
}
COMPARED_TOO = ("50-receive-full", "51-receive-incremental")


def recorded_operations(vectors: Path) -> list[dict[str, Any]]:
    """id, cmd, exit, output, and events as (dataset, action, details) without numbers that depend on the pool."""
    folder = vectors / "openzfs" / RECORDED_WITH / "main"
    if not folder.is_dir():
        pytest.skip("no recordings of OpenZFS")
    outputs = {}
    for line in (folder / "ops.jsonl").read_text().splitlines():
        operation = json.loads(line)
        outputs[operation["id"]] = operation
    operations: list[dict[str, Any]] = []
    for line in (folder / "events-summary.tsv").read_text().splitlines():
        cells = line.split("\t")
        if cells[0]:
            operations.append({**outputs[cells[0]], "id": cells[0], "expected": []})
        elif cells[1] == "history_event" and cells[2] != "-":
            operations[-1]["expected"].append((cells[2], cells[3], without_numbers(cells[4])))
    return operations


def without_numbers(text: str) -> str:
    return re.sub(r"mintxg=\d+|\(\d+\)", "N", text)


def make_ready(node: MockNode) -> None:
    """The pool as the recording's was."""
    node.run("zfs", "destroy", "-r", "tank/backup", check=True)
    node.run("zfs", "set", "mountpoint=none", "compression=lz4", "tank", check=True)


@pytest.fixture
def tank(node: MockNode) -> None:
    make_ready(node)


@pytest.fixture(scope="module")
def node_halfway(vectors: Path) -> Iterator[MockNode]:
    """A node after the part of the recording that the recorded listings saw."""
    folder = tempfile.mkdtemp(prefix="cn-")
    with process.start(os.path.join(folder, "node"), vms=0) as node:
        make_ready(node)
        for operation in recorded_operations(vectors):
            if operation["id"].startswith("34-"):
                break
            if not NOT_OURS.search(operation["cmd"]):
                node.run("zfs", *shlex.split(operation["cmd"].lstrip("$ "))[1:], check=True)
        yield node
    shutil.rmtree(folder)


def test_each_recorded_operation_makes_the_recorded_events(
    node: MockNode, vectors: Path, tank: None, zfs_events: ZfsEvents
) -> None:
    compared, wrong = 0, []
    zfs_events.passed()
    for operation in recorded_operations(vectors):
        if operation["id"] in INSTEAD:
            INSTEAD[operation["id"]](node)
        elif NOT_OURS.search(operation["cmd"]):
            continue
        else:
            for command in operation["cmd"].lstrip("$ ").split(";"):
                done = node.run("zfs", *shlex.split(command)[1:])
            if done.returncode != operation["exit"]:
                wrong.append((operation["id"], "exit", operation["exit"], done.returncode, done.stderr))
        events = Counter((name, action, without_numbers(text)) for name, action, text in zfs_events.passed())
        if operation["id"] in INSTEAD and operation["id"] not in COMPARED_TOO:
            continue
        if operation["id"] == "51-receive-incremental":
            del events["tank/p/a@s9", "snapshot", " "]  # taken here; in the recording before the step
        expected = Counter(operation["expected"])
        compared += 1
        if events != expected:
            wrong.append((operation["id"], "events", expected - events, events - expected))
    assert wrong == []
    assert compared > 55


def test_recorded_failures_have_the_recorded_words(node: MockNode, vectors: Path, tank: None) -> None:
    compared = 0
    for operation in recorded_operations(vectors):
        if operation["id"] in INSTEAD:
            INSTEAD[operation["id"]](node)
            continue
        if NOT_OURS.search(operation["cmd"]):
            continue
        said = ""
        for command in operation["cmd"].lstrip("$ ").split(";"):
            said += node.run("zfs", *shlex.split(command)[1:]).stderr
        if operation["exit"] != 0:
            assert (operation["id"], said) == (operation["id"], operation["output"])
            compared += 1
    assert compared >= 5


@pytest.mark.parametrize(
    "recorded",
    [
        "full-d0",
        "full-d1",
        "full-d2",
        "full-d3",
        "full-r",
        "fs-only",
        "vol-only",
        "snap-only",
        "full-d1-leaf-a",
        "full-d1-volume",
        "full-d0-snapshot",
        "mixed-missing-and-ok",
        "err-missing",
        "err-missing-snap",
        "err-bad-name",
    ],
)
def test_recorded_listing_has_the_same_names_in_the_same_order(
    node_halfway: MockNode, vectors: Path, recorded: str
) -> None:
    folder = vectors / "openzfs" / RECORDED_WITH / "main"
    listings = {record["id"]: record for record in map(json.loads, (folder / "lists.jsonl").read_text().splitlines())}
    words = shlex.split(listings[recorded]["cmd"])
    column = words[words.index("-o") + 1].split(",").index("name")
    done = node_halfway.run("zfs", *words[1:])

    def names(text: str) -> list[str]:
        return [line.split("\t")[column] for line in text.splitlines()]

    assert names(done.stdout) == names(listings[recorded]["stdout"])
    assert (done.returncode, done.stderr) == (listings[recorded]["exit"], listings[recorded]["stderr"])
