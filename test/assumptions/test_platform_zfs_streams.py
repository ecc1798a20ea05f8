# SPDX-License-Identifier: MPL-2.0
"""zfs send and zfs receive: what a stream carries from one node to another, and what is left where it does not arrive.

The format of streams is each platform's own; these tests only cut one, or put bytes behind it."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from mockcn import process
from mockcn.process import MockNode
from support.deadlines import SOON
from support.zonemaking import new_uuid

MIB = 1 << 20
TEXT = "a text that is easily found\n"
BLOCK = bytes(range(256)) * 4096  # a MiB


@dataclass
class Two:
    """Two nodes, and streams between them."""

    one: MockNode
    other: MockNode

    def sent(self, *words: str) -> bytes:
        done = self.zfs(self.one, "send", *words)
        assert (done.returncode, done.stderr) == (0, b""), done
        return done.stdout

    def received(self, stream: bytes, *words: str) -> None:
        done = self.zfs(self.other, "receive", *words, stdin=stream)
        assert (done.returncode, done.stderr) == (0, b""), done

    def refused(self, stream: bytes, *words: str) -> str:
        done = self.zfs(self.other, "receive", *words, stdin=stream)
        assert done.returncode == 1
        return done.stderr.decode()

    def names(self, dataset: str) -> list[str]:
        done = self.zfs(self.other, "list", "-H", "-r", "-t", "all", "-o", "name", dataset)
        return done.stdout.decode().split()

    @staticmethod
    def zfs(node: MockNode, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [f"{node.root}/usr/sbin/zfs", *words], input=stdin, capture_output=True, timeout=SOON, check=False
        )


@pytest.fixture(scope="module")
def two() -> Iterator[Two]:
    with (
        tempfile.TemporaryDirectory(prefix="cn-") as folder,
        process.start(folder + "/one", vms=2, seed=1) as one,
        process.start(folder + "/other", vms=2, seed=2) as other,
    ):
        yield Two(one, other)


@pytest.fixture
def tree(two: Two) -> str:
    """A filesystem with files, a volume and a delegated dataset below it, and a snapshot @now of all of them."""
    name = f"zones/{new_uuid()}"
    run = two.one.run
    run("zfs", "create", "-o", "quota=3g", name, check=True)
    run("zfs", "create", "-V", "4m", f"{name}/disk0", check=True)
    run("zfs", "create", "-o", "compression=lz4", f"{name}/data", check=True)
    write(two.one, f"/{name}/deep/down/file", TEXT)
    write(two.one, f"/{name}/data/kept", TEXT * 2)
    os.symlink("deep/down/file", f"{two.one.root}/{name}/link")
    with open(f"{two.one.root}/dev/zvol/rdsk/{name}/disk0", "r+b") as file:
        file.seek(2 * MIB)
        file.write(BLOCK)
    run("zfs", "set", "zoned=on", f"{name}/data", check=True)
    run("zfs", "snapshot", "-r", f"{name}@now", check=True)
    return name


def write(node: MockNode, path: str, text: str) -> None:
    os.makedirs(os.path.dirname(node.root + path), exist_ok=True)
    with open(node.root + path, "w") as file:
        file.write(text)


def read(node: MockNode, path: str) -> str:
    with open(node.root + path) as file:
        return file.read()


def value(node: MockNode, name: str, dataset: str) -> str:
    return node.run("zfs", "get", "-Hpo", "value", name, dataset, check=True).stdout.rstrip("\n")


def test_replication_carries_files_volumes_and_properties(two: Two, tree: str) -> None:
    two.received(two.sent("-R", f"{tree}@now"), "-F", tree)
    assert read(two.other, f"/{tree}/deep/down/file") == TEXT
    assert os.readlink(f"{two.other.root}/{tree}/link") == "deep/down/file"
    with open(f"{two.other.root}/dev/zvol/rdsk/{tree}/disk0", "rb") as file:
        assert file.read() == bytes(2 * MIB) + BLOCK + bytes(MIB)
    assert value(two.other, "quota", tree) == str(3 << 30)
    assert value(two.other, "compression", f"{tree}/data") == "lz4"
    assert value(two.other, "zoned", f"{tree}/data") == "on"
    assert two.names(tree) == [
        tree,
        f"{tree}@now",
        f"{tree}/data",
        f"{tree}/data@now",
        f"{tree}/disk0",
        f"{tree}/disk0@now",
    ]
    two.other.run("zfs", "set", "zoned=off", f"{tree}/data", check=True)
    assert read(two.other, f"/{tree}/data/kept") == TEXT * 2


def test_stream_of_one_snapshot_has_no_properties_and_nothing_from_below(two: Two, tree: str) -> None:
    two.received(two.sent(f"{tree}@now"), tree)
    assert two.names(tree) == [tree, f"{tree}@now"]
    assert value(two.other, "quota", tree) == "0"


def test_guid_of_a_received_snapshot_is_its_sources(two: Two, tree: str) -> None:
    two.received(two.sent(f"{tree}@now"), tree)
    assert value(two.other, "guid", f"{tree}@now") == value(two.one, "guid", f"{tree}@now")


def test_what_is_received_with_u_is_not_mounted_until_it_is_asked_for(two: Two, tree: str) -> None:
    two.received(two.sent("-R", f"{tree}@now"), "-u", "-F", tree)
    assert not os.path.exists(f"{two.other.root}/{tree}/link")
    assert value(two.other, "mounted", tree) == "no"
    two.other.run("zfs", "mount", tree, check=True)
    assert read(two.other, f"/{tree}/deep/down/file") == TEXT


@pytest.mark.parametrize("all_between", [False, True])
def test_incremental_stream_brings_what_changed(two: Two, tree: str, all_between: bool) -> None:
    two.received(two.sent(f"{tree}@now"), tree)
    write(two.one, f"/{tree}/new", "new")
    two.one.run("zfs", "snapshot", f"{tree}@between", check=True)
    os.unlink(f"{two.one.root}/{tree}/deep/down/file")
    two.one.run("zfs", "snapshot", f"{tree}@then", check=True)
    two.received(two.sent("-I" if all_between else "-i", "@now", f"{tree}@then"), tree)
    assert read(two.other, f"/{tree}/new") == "new"
    assert not os.path.exists(f"{two.other.root}/{tree}/deep/down/file")
    between = [f"{tree}@between"] if all_between else []
    assert two.names(tree) == [tree, f"{tree}@now", *between, f"{tree}@then"]


def test_incremental_stream_needs_its_source_unchanged(two: Two, tree: str) -> None:
    two.one.run("zfs", "snapshot", f"{tree}@then", check=True)
    stream = two.sent("-i", "@now", f"{tree}@then")
    assert two.refused(stream, tree) == f"cannot receive incremental stream: destination '{tree}' does not exist\n"
    two.received(two.sent(f"{tree}@now"), tree)
    write(two.other, f"/{tree}/mine", "mine")
    assert two.refused(stream, tree) == (
        f"cannot receive incremental stream: destination {tree} has been modified\nsince most recent snapshot\n"
    )
    two.received(stream, "-F", tree)
    assert not os.path.exists(f"{two.other.root}/{tree}/mine")


def test_dataset_that_is_there_is_overwritten_only_with_f(two: Two, tree: str) -> None:
    stream = two.sent("-R", f"{tree}@now")
    two.other.run("zfs", "create", tree, check=True)
    two.other.run("zfs", "create", f"{tree}/unsent", check=True)
    write(two.other, f"/{tree}/mine", "mine")
    assert two.refused(stream, tree) == (
        f"cannot receive new filesystem stream: destination '{tree}' exists\nmust specify -F to overwrite it\n"
    )
    assert read(two.other, f"/{tree}/mine") == "mine"
    two.received(stream, "-F", tree)
    assert not os.path.exists(f"{two.other.root}/{tree}/mine")
    assert read(two.other, f"/{tree}/deep/down/file") == TEXT
    assert f"{tree}/unsent" not in two.names(tree)


def test_plain_stream_does_not_replace_snapshots(two: Two, tree: str) -> None:
    two.other.run("zfs", "create", tree, check=True)
    two.other.run("zfs", "snapshot", f"{tree}@mine", check=True)
    assert two.refused(two.sent(f"{tree}@now"), "-F", tree) == (
        f"cannot receive new filesystem stream: destination has snapshots (eg. {tree}@mine)\n"
        "must destroy them to overwrite it\n"
    )


@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.999])
def test_cut_stream_leaves_only_whole_datasets(two: Two, tree: str, part: float) -> None:
    stream = two.sent("-R", f"{tree}@now")
    text = two.refused(stream[: int(len(stream) * part)], "-F", tree)
    assert text == "cannot receive new filesystem stream: checksum mismatch or incomplete stream\n"
    left = two.names(tree)
    assert all(name + "@now" in left for name in left if "@" not in name)


def test_garbled_stream_leaves_nothing(two: Two, tree: str) -> None:
    stream = bytearray(two.sent(f"{tree}@now"))
    stream[-40] ^= 1
    assert "checksum mismatch" in two.refused(bytes(stream), tree)
    assert two.names(tree) == []
    assert two.refused(b"no stream at all" * 100, tree) == "cannot receive: invalid stream (bad magic number)\n"
    assert two.refused(b"", tree) == "cannot receive: failed to read from stream\n"


def test_stream_without_room_is_refused(two: Two, tree: str) -> None:
    stream = two.sent("-R", f"{tree}/disk0@now")
    home = f"zones/{new_uuid()}"
    two.other.run("zfs", "create", "-o", "quota=2m", home, check=True)
    assert two.refused(stream, f"{home}/disk0") == "cannot receive new filesystem stream: out of space\n"
    assert two.names(home) == [home]


def test_stream_without_a_place_is_refused(two: Two, tree: str) -> None:
    assert "cannot open 'zones/none': dataset does not exist" in two.refused(
        two.sent(f"{tree}@now"), "zones/none/child"
    )


def test_what_follows_a_stream_is_left_on_the_pipe(two: Two, tree: str) -> None:
    stream = two.sent(f"{tree}@now")
    command = f'"{two.other.root}/usr/sbin/zfs" receive {tree} && cat'
    done = subprocess.run(
        ["/bin/sh", "-c", command], input=stream + b"and this", capture_output=True, timeout=SOON, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"and this", b"")


def test_only_snapshots_are_sent(two: Two, tree: str) -> None:
    for words, text in (
        ([tree], "Error: Unsupported flag with filesystem or bookmark.\n"),
        ([f"{tree}@none"], f"cannot open '{tree}@none': dataset does not exist\n"),
    ):
        done = two.zfs(two.one, "send", *words)
        assert (done.returncode, done.stdout, done.stderr.decode()) == (1, b"", text)


def test_dry_run_says_how_much_would_be_sent(two: Two, tree: str) -> None:
    stream = two.sent("-R", f"{tree}@now")
    done = two.zfs(two.one, "send", "-nvP", "-R", f"{tree}@now")
    lines = [line.split("\t") for line in done.stdout.decode().splitlines()]
    assert [line[:2] for line in lines[:-1]] == [["full", f"{tree}{below}@now"] for below in ("", "/data", "/disk0")]
    assert lines[-1][0] == "size"
    assert 0.9 * len(stream) <= int(lines[-1][1]) <= len(stream)


def test_zone_that_is_received_is_installed_without_touching_its_datasets(two: Two, tree: str) -> None:
    uuid, run = tree.partition("/")[2], two.other.run
    script = f"create -b; set zonepath=/{tree}; set brand=joyent-minimal; set uuid={uuid}; "
    script += "add attr; set name=transition; set type=string; set value=receiving:stopped:1; end"
    run("zonecfg", "-z", uuid, script, check=True)
    two.received(two.sent("-R", f"{tree}@now"), "-F", tree)
    before = two.names(tree)
    run("zoneadm", "-z", uuid, "install", "-q", "10", "-t", "01b2c898-945f-11e1-a523-af1afbe22822", check=True)
    assert (two.names(tree), value(two.other, "quota", tree)) == (before, str(3 << 30))
    run("zoneadm", "-u", uuid, "detach", check=True)
    run("zoneadm", "-u", uuid, "attach", check=True)
    assert value(two.other, "mountpoint", f"zones/cores/{uuid}") == f"/{tree}/cores"
    assert read(two.other, f"/{tree}/deep/down/file") == TEXT
