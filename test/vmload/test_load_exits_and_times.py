# SPDX-License-Identifier: MPL-2.0
"""How and when a VM ended last, and when one of its files was changed (docs/platform.md, "lastexited" and "Modification
times")."""

import os

import pytest

from support.handmade_node import CHANGED, HandmadeNode, U, canonical
from vmload import configfiles
from vmload.zonefiles import Visit


@pytest.fixture
def node(tmp_path):
    return HandmadeNode(tmp_path)


# -- lastexited


def exited(text):
    found = configfiles.last_exited(text if isinstance(text, bytes) else text.encode())
    return None if found is None else (found.exit_status, found.exit_timestamp)


@pytest.mark.pure
@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("-1", 0),  # shut down in the normal way
        ("0", 0),
        ("256", 1),
        ("3328", 13),
        ("65280", 255),
        ("9", -9),
        ("15", -15),
        ("139", -139),
        ("127", -127),
        ("265", -9),
        ("65536", 256),
        ("1073741824", 4194304),  # the shift does not mask
        ("-256", -1),
        ("2147483904", -8388607),  # 32 bits with sign: 0x80000100 is -2147483392, shifted 8
        ("4294967305", -9),  # 2^32 + 9
        ("0x100", 1),
        ("3328.9", 13),
        ("1e999", 0),
        ("abc", 0),
        ("-", 0),
        ("nan", 0),
        ("1_0", 0),  # not a number
    ],
)
def test_exit_status_is_decoded_like_a_wait_status(status, expected):
    found = exited(f"1773403317.52104 {status}\n")
    assert canonical(found[0]) == canonical(expected)


@pytest.mark.pure
@pytest.mark.parametrize(
    ("seconds", "iso"),
    [
        ("1773403317.52104", "2026-03-13T12:01:57.521Z"),  # 52104 us, not padded: read as it looks
        ("1773403317.5", "2026-03-13T12:01:57.500Z"),
        ("1773403317", "2026-03-13T12:01:57.000Z"),
        ("1773403317.9999", "2026-03-13T12:01:57.999Z"),  # cut, not rounded
        ("1.001", "1970-01-01T00:00:01.000Z"),  # 1.001 * 1000 is 1000.9999999999999 as doubles
        ("0", "1970-01-01T00:00:00.000Z"),
        ("0x10", "1970-01-01T00:00:16.000Z"),
    ],
)
def test_exit_time_is_cut_to_whole_milliseconds(seconds, iso):
    assert exited(f"{seconds} 0\n") == (0, iso)


@pytest.mark.pure
@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "1773403317.52104",
        "1773403317.52104\n",
        "1773403317.52104  0\n",
        "1773403317.52104 0 core\n",
        "1773403317.52104 0\n1773403318.1 0\n",
        "soon 0\n",
        "- -1\n",
        "nan 0\n",
        "1_0 0\n",
        b"\xff\xfe 0\n",
        "1e300 0\n",
        "1e999 0\n",  # no date
    ],
)
def test_file_of_another_shape_is_as_good_as_none(text):
    assert exited(text) is None


@pytest.mark.pure
def test_no_file_is_none():
    assert configfiles.last_exited(None) is None


@pytest.mark.pure
@pytest.mark.parametrize("text", [" 1773403317.5 9\n\n", "1773403317.5\t9", "1773403317.5\n9\n"])
def test_any_single_white_space_separates_and_the_ends_are_trimmed(text):
    assert exited(text) == (-9, "2026-03-13T12:01:57.500Z")


@pytest.mark.parametrize("state", ["installed", "ready", "shutting_down", "down", "incomplete"])
def test_vm_that_does_not_run_has_both_exit_properties(node, state):
    node.zone(state=state)
    node.last_exited("1773403317.52104 3328\n")
    vm = node.vm()
    assert (vm["exit_status"], vm["exit_timestamp"]) == (13, "2026-03-13T12:01:57.521Z")


def test_vm_that_runs_has_neither_though_the_file_is_there(node):
    node.zone(state="running")
    node.last_exited("1773403317.52104 3328\n")
    assert {"exit_status", "exit_timestamp"} & set(node.vm()) == set()


def test_lastexited_that_cannot_be_read_is_no_error(node):
    node.zone(state="installed")
    node.unreadable(f"zones/{U}/lastexited")
    assert {"exit_status", "exit_timestamp"} & set(node.vm()) == set()


# -- last_modified

FILES = [
    f"zones/{U}/config/metadata.json",
    f"zones/{U}/config/routes.json",
    f"zones/{U}/config/tags.json",
    f"zones/{U}/lastexited",
    f"etc/zones/{U}.xml",
]


@pytest.mark.parametrize("newest", FILES)
def test_last_modified_is_the_newest_of_five_files(node, newest):
    node.zone()
    for path in FILES[:4]:
        node.file(path, "{}", mtime=CHANGED - 100)
    target = node.root / newest
    os.utime(target, (CHANGED + 10, CHANGED + 10))
    assert node.vm()["last_modified"] == "2026-03-13T12:02:07.000Z"


@pytest.mark.parametrize("nanoseconds", [0, 1, 521000000, 999999999])
def test_last_modified_is_cut_to_whole_seconds(node, nanoseconds):
    node.zone()
    when = CHANGED * 10**9 + nanoseconds
    os.utime(node.root / FILES[4], ns=(when, when))
    assert node.vm()["last_modified"] == "2026-03-13T12:01:57.000Z"


@pytest.mark.parametrize("file", FILES[2:4])
def test_file_behind_a_link_below_the_zonepath_does_not_count_for_last_modified(node, file):
    node.zone(state="incomplete")
    node.file("elsewhere", "{}", mtime=CHANGED + 10)
    link = node.root / file
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(node.root / "elsewhere")
    assert node.vm()["last_modified"] == "2026-03-13T12:01:57.000Z"


def test_exit_that_a_link_leads_to_is_not_the_vms(node):
    node.zone()
    node.file("elsewhere", "1773403317.5 256", mtime=CHANGED)
    (node.root / f"zones/{U}").mkdir(parents=True, exist_ok=True)
    (node.root / f"zones/{U}/lastexited").symlink_to(node.root / "elsewhere")
    assert "exit_status" not in node.vm()


def test_only_regular_files_count_for_last_modified(node):
    node.zone()
    node.unreadable(FILES[3])
    os.utime(node.root / FILES[3], (CHANGED + 10, CHANGED + 10))
    assert node.vm()["last_modified"] == "2026-03-13T12:01:57.000Z"


def test_other_files_do_not_count_for_last_modified(node):
    node.zone()
    node.file(f"zones/{U}/config/other.json", "{}", mtime=CHANGED + 10)
    node.file(f"etc/zones/{U}-receiving.json", "{}", mtime=CHANGED + 10)
    assert node.vm()["last_modified"] == "2026-03-13T12:01:57.000Z"


@pytest.mark.pure
def test_last_modified_is_absent_where_no_file_is_found():
    assert configfiles.last_modified([]) is None


def test_file_that_cannot_be_looked_at_is_skipped_for_last_modified(node):
    node.zone(state="incomplete")  # tolerates unreadable config files
    node.loop(FILES[2])
    assert node.vm()["last_modified"] == "2026-03-13T12:01:57.000Z"


def test_file_that_is_replaced_once_it_was_read_is_shown_with_its_own_time(node, monkeypatch):
    node.zone()
    node.config("tags.json", '{"n": 1}')
    read = Visit.read_if_there

    def read_and_replace(visit, inside):
        """What is there, and just after that another file is."""
        content = read(visit, inside)
        if inside == "config/tags.json":
            node.config("tags.json", '{"n": 2}', mtime=CHANGED + 10)
        return content

    monkeypatch.setattr(Visit, "read_if_there", read_and_replace)
    vm = node.vm()
    assert (vm["tags"], vm["last_modified"]) == ({"n": 2}, "2026-03-13T12:02:07.000Z")
