# SPDX-License-Identifier: MPL-2.0
"""zfs list as the loader uses it, and what people see."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from mockcn.process import MockNode

FIELDS = (
    "compression,creation,filesystem_limit,mountpoint,name,quota,recsize,refquota,refreservation,snapshot_limit,"
    "type,usedbysnapshots,userrefs,volblocksize,volsize,written,zoned"
)
LIST = ["list", "-H", "-p", "-t", "filesystem,snapshot,volume", "-o", FIELDS]
UNLIMITED = "18446744073709551615"
GIB = 1 << 30


def rows(text: str) -> list[dict[str, str]]:
    names = FIELDS.split(",")
    table = [line.split("\t") for line in text.splitlines()]
    assert {len(cells) for cells in table} <= {len(names)}
    return [dict(zip(names, cells, strict=True)) for cells in table]


@pytest.fixture
def home(zfs: Callable[..., str]) -> str:
    """A dataset of our own with a volume, a child, and snapshots on both."""
    zfs("create", "-o", "quota=10g", "-o", "compression=lz4", "zones/home")
    zfs("create", "-V", "512m", "zones/home/disk0")
    zfs("create", "-o", "zoned=on", "zones/home/data")
    zfs("snapshot", "zones/home@b")
    zfs("snapshot", "zones/home@a")
    zfs("snapshot", "zones/home/data@deep")
    return "zones/home"


def test_filesystem_row_has_exact_numbers_and_dashes_for_what_it_lacks(zfs: Callable[..., str], home: str) -> None:
    row = rows(zfs(*LIST, "-d", "0", home))[0]
    assert row["creation"].isdigit()
    assert row["written"].isdigit()
    del row["creation"], row["written"], row["usedbysnapshots"]
    assert row == {
        "compression": "lz4",
        "filesystem_limit": UNLIMITED,
        "mountpoint": "/zones/home",
        "name": "zones/home",
        "quota": str(10 * GIB),
        "recsize": "131072",
        "refquota": "0",
        "refreservation": "0",
        "snapshot_limit": UNLIMITED,
        "type": "filesystem",
        "userrefs": "-",
        "volblocksize": "-",
        "volsize": "-",
        "zoned": "off",
    }


def test_volume_row_reserves_room_for_its_data_and_the_pointers_to_it(zfs: Callable[..., str], home: str) -> None:
    row = rows(zfs(*LIST, "-d", "0", f"{home}/disk0"))[0]
    assert (row["volsize"], row["volblocksize"], row["refreservation"]) == ("536870912", "8192", "555745280")
    assert (row["mountpoint"], row["quota"], row["recsize"], row["zoned"]) == ("-", "-", "-", "-")


def test_snapshot_row_has_only_what_a_snapshot_has(zfs: Callable[..., str], home: str) -> None:
    row = rows(zfs(*LIST, "-d", "0", f"{home}@b"))[0]
    given = {name for name, value in row.items() if value != "-"}
    assert given == {"creation", "name", "type", "userrefs", "written"}


def test_depth_counts_children_and_snapshots_from_the_parent(zfs: Callable[..., str], home: str) -> None:
    def names(depth: str, *parent: str) -> list[str]:
        return [
            name
            for name in zfs("list", "-H", "-t", "all", "-o", "name", "-d", depth, *parent).split()
            if name.startswith(home)
        ]

    assert names("0", home) == [home]
    one = [home, f"{home}@b", f"{home}@a", f"{home}/data", f"{home}/disk0"]
    assert names("1", home) == one
    assert names("2") == one
    assert names("2", home) == [*one[:4], f"{home}/data@deep", one[4]]
    assert names("1", f"{home}/data") == [f"{home}/data", f"{home}/data@deep"]


def test_snapshots_are_listed_oldest_first_and_children_by_name(zfs: Callable[..., str], home: str) -> None:
    zfs("create", f"{home}/A")
    names = zfs("list", "-H", "-t", "all", "-o", "name", "-r", home).split()
    assert names == [home, f"{home}@b", f"{home}@a", f"{home}/A", f"{home}/data", f"{home}/data@deep", f"{home}/disk0"]


def test_missing_parent_is_status_1_and_the_known_words(fails: Callable[..., tuple[int, str]]) -> None:
    said = (1, "cannot open 'zones/nope': dataset does not exist\n")
    assert fails("zfs", *LIST, "-d", "1", "zones/nope") == said
    assert fails("zfs", "list", "zones/nope") == said


def test_list_of_several_names_has_the_rows_of_those_that_are_there(node: MockNode, home: str) -> None:
    def asked(*names: str) -> tuple[int, list[str], list[str]]:
        done = node.run("zfs", "list", "-H", "-p", "-t", "all", "-o", "name", "-d", "1", *names)
        return done.returncode, sorted(done.stdout.splitlines()), done.stderr.splitlines()

    one = sorted([home, f"{home}@b", f"{home}@a", f"{home}/data", f"{home}/disk0"])
    assert asked(home, f"{home}/data@deep") == (0, sorted([*one, f"{home}/data@deep"]), [])
    said = [f"cannot open '{home}/data@no': dataset does not exist"]
    assert asked(home, f"{home}/data@no") == (1, one, said)
    said = [f"cannot open 'zones/{name}': dataset does not exist" for name in ("nope", "nope/data@no")]
    assert asked("zones/nope", "zones/nope/data@no") == (1, [], said)


def test_unknown_column_or_type_is_status_2(fails: Callable[..., tuple[int, str]]) -> None:
    status, said = fails("zfs", "list", "-o", "name,bogus")
    assert (status, said.splitlines()[0]) == (2, "bad property list: invalid property 'bogus'")
    status, said = fails("zfs", "list", "-t", "bogus")
    assert (status, said.splitlines()[0]) == (2, "invalid type 'bogus'")


def test_inherited_mountpoints_follow_the_parent(zfs: Callable[..., str], home: str, node: MockNode) -> None:
    zfs("set", "mountpoint=/elsewhere", home)
    assert zfs("list", "-H", "-o", "mountpoint", f"{home}/data") == "/elsewhere/data\n"
    assert os.path.isdir(node.root + "/elsewhere")
    zfs("set", "mountpoint=none", home)
    assert zfs("list", "-H", "-o", "mountpoint", f"{home}/data") == "none\n"


def test_people_get_a_heading_and_short_sizes(zfs: Callable[..., str], home: str) -> None:
    lines = zfs("list", "-o", "name,quota,volsize", "-r", home).splitlines()
    assert [line.split() for line in lines] == [
        ["NAME", "QUOTA", "VOLSIZE"],
        ["zones/home", "10G", "-"],
        ["zones/home/data", "none", "-"],
        ["zones/home/disk0", "-", "512M"],
    ]


def test_holds_are_counted_in_userrefs_and_named_by_holds(zfs: Callable[..., str], home: str) -> None:
    zfs("hold", "one", f"{home}@a")
    zfs("hold", "two", f"{home}@a")
    assert rows(zfs(*LIST, "-d", "0", f"{home}@a"))[0]["userrefs"] == "2"
    assert [line.split("\t")[1] for line in zfs("holds", "-H", f"{home}@a").splitlines()] == ["one", "two"]


def test_written_and_usedbysnapshots_add_up(node: MockNode, zfs: Callable[..., str], home: str) -> None:
    mib = 1 << 20
    node.control.write_data(home, 30 * mib)
    before = rows(zfs(*LIST, "-d", "1", home))
    assert before[0]["written"] == str(30 * mib)
    zfs("snapshot", f"{home}@c")
    after = {row["name"]: row for row in rows(zfs(*LIST, "-d", "1", home))}
    assert after[home]["written"] == "0"
    assert after[f"{home}@c"]["written"] == str(30 * mib)
    assert int(after[home]["usedbysnapshots"]) > int(before[0]["usedbysnapshots"])
    zfs("destroy", f"{home}@c")
    end = rows(zfs(*LIST, "-d", "0", home))[0]
    assert end["usedbysnapshots"] == before[0]["usedbysnapshots"]
    assert 0 < int(end["written"]) <= 30 * mib


def test_get_reads_single_properties(zfs: Callable[..., str], home: str) -> None:
    assert zfs("get", "-Ho", "value", "quota", home) == "10G\n"
    assert zfs("get", "-Hpo", "property,value", "quota,volsize", home) == f"quota\t{10 * GIB}\nvolsize\t-\n"
    assert zfs("get", "-H", "compression", f"{home}/data") == f"{home}/data\tcompression\tlz4\tinherited from {home}\n"
