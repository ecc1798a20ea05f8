# SPDX-License-Identifier: MPL-2.0
"""What `zfs list` gives and how it is run (docs/platform.md, "zfs list"): rows, mountpoints, snapshots, arguments,
failures."""

import os

import pytest

from support.handmade_node import COLUMNS, HandmadeNode, U, canonical, device, uuid
from vmload import datasets
from vmload.loaderror import LoadError

A, B = uuid(0xA), uuid(0xB)
ALL_FIELDS = (
    "compression,creation,filesystem_limit,mountpoint,name,quota,recsize,refquota,refreservation,"
    "snapshot_limit,type,usedbysnapshots,userrefs,volblocksize,volsize,written,zoned"
)
FOUR = ["mountpoint", "name", "type", "zoned"]


@pytest.fixture
def node(tmp_path):
    return HandmadeNode(tmp_path)


def parse(*rows):
    """Rows as dicts, `-` where nothing is given, through the text form of a whole load."""
    lines = ["\t".join(str(row.get(column, "-")) for column in COLUMNS) + "\n" for row in rows]
    return datasets.parse("".join(lines).encode(), COLUMNS)


def fs(name, mountpoint, **columns):
    return {
        "name": name,
        "type": "filesystem",
        "mountpoint": mountpoint,
        "zoned": "off",
        "compression": "lz4",
        **columns,
    }


# -- columns


@pytest.mark.pure
def test_numeric_columns_are_numbers_and_the_others_text():
    row = fs(
        "zones/a",
        "/zones/a",
        creation="1767225600",
        filesystem_limit="10",
        quota="1073741824",
        recsize="131072",
        refquota="2",
        refreservation="3",
        snapshot_limit="18446744073709551615",
        usedbysnapshots="4",
        written="5",
    )
    found = parse(row).datasets["zones/a"]
    assert {column: found[column] for column in row} == {
        "name": "zones/a",
        "type": "filesystem",
        "mountpoint": "/zones/a",
        "zoned": "off",
        "compression": "lz4",
        "creation": 1767225600,
        "filesystem_limit": 10,
        "quota": 1073741824,
        "recsize": 131072,
        "refquota": 2,
        "refreservation": 3,
        "snapshot_limit": 18446744073709551615,
        "usedbysnapshots": 4,
        "written": 5,
    }


@pytest.mark.pure
def test_volume_columns_are_numbers():
    row = {"name": "zones/a/disk0", "type": "volume", "volblocksize": "8192", "volsize": "10737418240"}
    found = parse(row).datasets["zones/a/disk0"]
    assert (found["volblocksize"], found["volsize"]) == (8192, 10737418240)


@pytest.mark.pure
def test_dash_stays_a_dash_in_a_numeric_column_too():
    found = parse(fs("zones/a", "/zones/a", quota="-")).datasets["zones/a"]
    assert (found["quota"], found["volsize"]) == ("-", "-")


@pytest.mark.pure
def test_columns_are_split_at_tabs_only_so_blanks_in_a_mountpoint_survive():
    assert parse(fs("zones/a", "/zones/my dir")).mountpoints == {"/zones/my dir": "zones/a"}


@pytest.mark.pure
def test_only_the_columns_asked_for_are_expected():
    found = datasets.parse(b"/zones/a\tzones/a\tfilesystem\toff\n", FOUR)
    assert found.datasets == {
        "zones/a": {"mountpoint": "/zones/a", "name": "zones/a", "type": "filesystem", "zoned": "off"}
    }


@pytest.mark.pure
def test_blank_rows_and_rows_with_another_number_of_columns_are_dropped():
    # a mountpoint may hold a tab or a line break, which zfs prints raw: such a row breaks, its neighbours must not
    rows = (
        b"\n  \n/x\ty\tzones/b\tfilesystem\toff\n/zones/a\tzones/a\tfilesystem\toff\n"
        b"/half\n\tzones/c\tfilesystem\toff\n"
    )
    found = datasets.parse(rows, FOUR)
    assert list(found.datasets) == ["zones/a"]


@pytest.mark.pure
def test_a_row_is_trimmed_before_it_is_split():
    found = datasets.parse(b"  /zones/a\tzones/a\tfilesystem\toff  \r\n", FOUR)
    assert found.datasets["zones/a"]["zoned"] == "off"
    assert found.mountpoints == {"/zones/a": "zones/a"}


# -- mountpoints


@pytest.mark.pure
@pytest.mark.parametrize(
    ("row", "mountpoint"),
    [
        ({"name": "zones/a/disk0", "type": "volume", "mountpoint": "-"}, "/dev/zvol/rdsk/zones/a/disk0"),
        ({"name": "zones/a/disk0", "type": "volume", "mountpoint": "/elsewhere"}, "/dev/zvol/rdsk/zones/a/disk0"),
        (fs("zones/a", "legacy"), "/zones/a"),
        (fs("zones/a", "-"), "/zones/a"),
        (fs("zones/a", "/elsewhere"), "/elsewhere"),
        (fs("zones/a", "none"), "none"),
    ],
)
def test_mountpoint_column_is_rewritten(row, mountpoint):
    assert parse(row).datasets[row["name"]]["mountpoint"] == mountpoint


@pytest.mark.pure
@pytest.mark.parametrize(
    ("row", "mountpoints"),
    [
        (fs("zones/a", "/zones/a"), {"/zones/a": "zones/a"}),
        (fs("zones/a", "legacy"), {"/zones/a": "zones/a"}),
        (fs("zones/a", "none"), {}),
        (fs("zones/a", "/zones/a", zoned="on"), {}),
        (fs("zones/a/data", "/zones/a/data"), {}),
        (fs("zones/a/data/x", "/zones/a/data/x"), {}),
        (fs("zones/a/database", "/zones/a/database"), {"/zones/a/database": "zones/a/database"}),
        (fs("zones/data", "/zones/data"), {"/zones/data": "zones/data"}),
        (fs("zones/a/b/data", "/b"), {"/b": "zones/a/b/data"}),
        ({"name": "zones/a/disk0", "type": "volume"}, {"/dev/zvol/rdsk/zones/a/disk0": "zones/a/disk0"}),
        ({"name": "zones/a-disk0", "type": "volume"}, {"/dev/zvol/rdsk/zones/a-disk0": "zones/a-disk0"}),
        ({"name": "zones/a/data", "type": "volume"}, {}),
        ({"name": "zones/a@s", "type": "snapshot", "creation": "1"}, {}),
    ],
)
def test_path_is_mapped_to_its_dataset_only_where_it_can_be_trusted(row, mountpoints):
    assert parse(row).mountpoints == mountpoints


@pytest.mark.pure
def test_later_row_wins_a_mountpoint():
    assert parse(fs("zones/a", "/m"), fs("zones/b", "/m")).mountpoints == {"/m": "zones/b"}


# -- snapshots


@pytest.mark.pure
def test_snapshots_are_listed_by_dataset_in_the_order_of_the_output():
    found = parse(
        {"name": "zones/a@vmsnap-two", "type": "snapshot", "creation": "20", "written": "200", "userrefs": "0"},
        fs("zones/a", "/zones/a"),
        {"name": "zones/a@vmsnap-one", "type": "snapshot", "creation": "10", "written": "100", "userrefs": "2"},
        {"name": "zones/a/b@indestructible", "type": "snapshot", "creation": "30", "written": "0", "userrefs": "0"},
    )
    assert found.snapshots == {
        "zones/a": [("vmsnap-two", 20, 200, 0), ("vmsnap-one", 10, 100, 2)],
        "zones/a/b": [("indestructible", 30, 0, 0)],
    }
    assert list(found.datasets) == ["zones/a"]


@pytest.mark.pure
def test_snapshots_that_no_property_shows_are_not_kept():
    found = parse(
        fs("zones/a", "/zones/a"),
        {"name": "zones/a@backup", "type": "snapshot", "creation": "20", "written": "200", "userrefs": "1"},
        {"name": "zones/a@vmsnap-1@2", "type": "snapshot", "creation": "20", "written": "200", "userrefs": "1"},
    )
    assert found.snapshots == {}


@pytest.mark.pure
def test_listing_that_is_longer_than_what_is_read_at_once_has_each_row_once_and_whole():
    names = [f"zones/{number:05d}" + "-Zürich" * (number % 7) for number in range(5000)]
    names.insert(3000, "zones/" + "x" * 100_000)
    assert list(parse(*(fs(name, f"/{name}") for name in names)).datasets) == names


# -- how it is run


def test_one_vm_asks_for_all_columns_and_types_of_its_root_dataset(node):
    node.zone()
    node.vm()
    call = node.calls("zfs")[0]
    assert call["args"][:8] == ["list", "-H", "-p", "-t", "filesystem,snapshot,volume", "-o", ALL_FIELDS, "-d"]
    assert call["args"][9:] == ["zones/" + U]


def test_all_vms_are_asked_for_over_all_pools(node):
    node.zone()
    node.vms()
    args = node.calls("zfs")[0]["args"]
    assert args[:8] == ["list", "-H", "-p", "-t", "filesystem,snapshot,volume", "-o", ALL_FIELDS, "-d"]
    assert int(args[8]) >= 2
    assert args[9:] == []


def test_disks_and_datasets_of_a_vm_are_asked_for_wherever_they_are(node):
    node.zone(
        brand="bhyve",
        inner='<dataset name="tank/share"/>'
        + device("/dev/zvol/rdsk/tank/vol1")
        + device("/dev/zvol/dsk/zones/vol2")
        + device("/devices/pci0", model="passthru"),
    )
    node.dataset("tank")
    node.dataset("tank/share")
    node.volume("tank/vol1", 1 << 20)
    node.volume("zones/vol2", 1 << 20)
    node.vm()
    parents = [parent for call in node.calls("zfs") for parent in call["args"][9:]]
    assert {"zones/" + U, "tank/share", "tank/vol1", "zones/vol2"} <= set(parents) or parents == []


def wrapped(node, tool, script):
    """A shell script runs before the tool does; the file to which it writes is its $SEEN."""
    path, seen = node.root / "usr/sbin" / tool, node.root / f"{tool}.seen"
    path.rename(f"{path}.real")
    node.file(f"usr/sbin/{tool}", f'#!/bin/sh\nSEEN={seen}\n{script}\nexec "$0.real" "$@"\n').chmod(0o755)
    return seen


def test_zfs_speaks_c_whatever_the_locale_of_the_daemon(node, monkeypatch):
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    monkeypatch.setenv("LC_ALL", "fr_FR.UTF-8")
    monkeypatch.setenv("LC_MESSAGES", "de_DE.UTF-8")
    node.zone()
    seen = {tool: wrapped(node, tool, "env | grep -E '^(LANG|LC_[A-Z]*)=' > $SEEN") for tool in ("zfs", "zoneadm")}
    node.vm()
    assert sorted(seen["zfs"].read_text().split()) == ["LANG=C", "LC_ALL=C"]
    assert "LC_MESSAGES=de_DE.UTF-8" in seen["zoneadm"].read_text().split()


def test_tools_find_their_standard_input_at_its_end(node):
    node.zone()
    # A tool that reads a standard input which goes on does not end, and the load does not either.
    seen = [wrapped(node, tool, 'test -z "$(head -c 1)" && echo at its end >> $SEEN') for tool in ("zoneadm", "zfs")]
    reading, writing = os.pipe()  # a standard input that stays open and silent
    saved = os.dup(0)
    os.dup2(reading, 0)
    try:
        node.vms()
    finally:
        os.dup2(saved, 0)
        for fd in (reading, writing, saved):
            os.close(fd)
    assert [set(file.read_text().splitlines()) for file in seen] == [{"at its end"}] * 2


# -- errors


def failure(load):
    with pytest.raises(LoadError) as caught:
        load()
    return caught.value.code, str(caught.value)


def test_root_dataset_that_does_not_exist_is_no_error_for_one_vm(node):
    node.zone(listed=False)
    vm = node.vm()
    assert "zfs_filesystem" not in vm
    assert vm["snapshots"] == []


def test_one_missing_parent_leaves_the_rows_of_the_others(node):
    node.zone(brand="bhyve", inner=device("/dev/zvol/rdsk/zones/gone") + device("/dev/zvol/rdsk/zones/vol1"))
    node.volume("zones/vol1", 1 << 20)
    assert canonical([disk.get("size", "missing") for disk in node.vm()["disks"]]) == canonical(["missing", 1])


def test_any_other_exit_status_of_zfs_is_an_error_with_that_status(node):
    node.zone()
    node.fault("zfs", exit=1, stderr="internal error: pool I/O is currently suspended\n")
    assert failure(node.loader().load_all) == (None, "zfs exited prematurely with code: 1")
    assert failure(node.vm) == (None, "zfs exited prematurely with code: 1")
    node.fault("zfs", exit=2, stderr="")
    assert failure(node.loader().load_all) == (None, "zfs exited prematurely with code: 2")
    assert failure(node.vm) == (None, "zfs exited prematurely with code: 2")


def test_a_signal_is_reported_as_code_null(node):
    node.zone()
    node.fault("zfs", signal=9)
    assert failure(node.loader().load_all) == (None, "zfs exited prematurely with code: null")
    assert failure(node.vm) == (None, "zfs exited prematurely with code: null")


def test_does_not_exist_excuses_nothing_without_a_parent(node):
    node.zone()
    node.fault("zfs", exit=1, stderr="cannot open 'zones': dataset does not exist\n")
    assert failure(node.loader().load_all) == (None, "zfs exited prematurely with code: 1")


def test_does_not_exist_excuses_exit_status_1_only(node):
    node.zone()
    node.fault("zfs", exit=2, stderr="cannot open 'zones': dataset does not exist\n")
    assert failure(node.vm) == (None, "zfs exited prematurely with code: 2")


def test_does_not_exist_counts_only_on_a_complete_line(node):
    node.zone()
    node.fault("zfs", exit=1, stderr="cannot open 'zones': dataset does not exist")
    assert failure(node.vm) == (None, "zfs exited prematurely with code: 1")


@pytest.mark.parametrize(
    "other",
    ["cannot open 'zones/X': I/O error", "cannot iterate filesystems: I/O error", "cannot open 'x': pool is busy"],
)
def test_missing_snapshot_excuses_no_other_failure(node, other):
    node.zone(inner=f'<dataset name="zones/{U}/data"/>')
    node.fault("zfs", exit=1, stderr=f"{other}\ncannot open 'zones/{U}/data@indestructible': dataset does not exist\n")
    assert failure(node.vm) == (None, "zfs exited prematurely with code: 1")


def test_missing_snapshot_does_not_excuse_a_root_dataset_without_rows(node):
    node.zone(inner=f'<dataset name="zones/{U}/data"/>')
    said = f"cannot open 'zones/{U}/data@indestructible': dataset does not exist\n"
    node.fault("zfs", exit=1, stdout=b"", stderr=said)
    assert failure(node.vm)[0] == "GARBLED"


def test_named_snapshot_that_is_neither_listed_nor_missed_was_cut_off(node):
    node.zone(inner=f'<dataset name="zones/{U}/data"/>')
    node.dataset(f"zones/{U}/data", zoned="on")
    node.fault("zfs", exit=0, stderr="")
    assert failure(node.vm) == ("GARBLED", f"zfs: the output has no row for zones/{U}/data@indestructible")
    node.snapshot(f"zones/{U}/data@indestructible", userrefs=1)
    assert node.vm()["indestructible_delegated"] is True


@pytest.mark.parametrize("held", [0, 1])
def test_vm_with_a_delegated_dataset_costs_one_listing_that_names_none_of_its_other_snapshots(node, held):
    node.zone(inner=f'<dataset name="zones/{U}/data"/>')
    node.dataset(f"zones/{U}/data", zoned="on")
    for number in range(50):
        node.snapshot(f"zones/{U}/data@{number}", userrefs=1)
    if held:
        node.snapshot(f"zones/{U}/data@indestructible", userrefs=1)
    vm = node.vm()
    assert vm.get("indestructible_delegated", False) is bool(held)
    [call] = node.calls("zfs")
    assert call["args"][7:] == ["-d", "1", f"zones/{U}", f"zones/{U}/data@indestructible"]


def test_words_on_stderr_of_a_zfs_that_succeeds_are_no_error(node):
    node.zone()
    node.fault("zfs", exit=0, stderr="warning: something\n")
    assert node.vm()["zfs_filesystem"] == "zones/" + U
    assert node.vms()[U]["zfs_filesystem"] == "zones/" + U


@pytest.mark.parametrize("cut", [1, 40])
def test_listing_that_was_cut_short_fails_the_load_whatever_the_exit_status(node, cut):
    node.zone()
    node.fault("zfs", cut=cut)
    failure(node.loader().load_all)
    failure(node.vm)


@pytest.mark.parametrize("garbage", [b"GARBAGE\nand more\n", b"GARBAGE", b"\xff\xfe\x00\x01\n\xff\n", b"\x00" * 100])
def test_listing_that_is_garbage_fails_the_load_whatever_the_exit_status(node, garbage):
    node.zone()
    node.fault("zfs", stdout=garbage)
    failure(node.loader().load_all)
    failure(node.vm)


def test_foreign_dataset_with_a_tab_in_its_mountpoint_costs_no_vm(node):
    node.zone()
    node.dataset("zones/odd", mountpoint="/odd\tplace")
    assert node.vms()[U]["zfs_filesystem"] == "zones/" + U


def test_foreign_dataset_with_bytes_that_are_no_utf8_in_its_mountpoint_costs_no_vm(node):
    node.zone()
    node.dataset("zones/odd", mountpoint="/odd\udcff")
    assert node.vms()[U]["zfs_filesystem"] == "zones/" + U


def test_listing_of_all_pools_without_a_row_fails_the_load(node):
    # a node that has zones has a pool: believing this would take the datasets from every VM at once
    node.zone()
    node.fault("zfs", stdout=b"")
    failure(node.loader().load_all)
