# SPDX-License-Identifier: MPL-2.0
"""Kernel statistics through libkstat (docs/platform.md, "libkstat"): the same as from the command, without a process;
the command where the library is of no use."""

import errno
import gc
import json
import threading

import pytest

from support.deadlines import SOON
from support.handmade_node import HandmadeNode, U, uuid
from support.libkstat import LibKstat, built, lines_of, zone
from support.loading import Loads
from support.running_daemon import eventually
from vmload.kstatlib import CannotTell, KstatLibrary
from vmload.loader import Loader
from vmload.records import ZoneInfo

A, B = uuid(0xA), uuid(0xB)  # equal in their first 30 characters
GLOBAL = zone(1, 0, "global", init_pid=1)


@pytest.fixture
def library(tmp_path, compiled_libkstat):
    """The library alone; the global zone and two others, with equal names as the kernel cuts them, are there."""
    library = LibKstat(tmp_path, compiled_libkstat)
    library.kernel(*GLOBAL, *zone(2, 7, A, init_pid=70), *zone(3, 8, B, init_pid=80))
    return library


@pytest.fixture
def notes():
    return []


@pytest.fixture
def statistics(library, notes):
    yield KstatLibrary(str(library.path), lambda level, text: notes.append((level, text)))
    assert [call for call in library.calls() if call.startswith("MISUSE")] == []


def pids(statistics):
    return {name: info.init_pid for name, info in statistics.zones().items()}


# What it says.


def test_zone_is_looked_up_by_its_id_and_its_name(statistics):
    assert statistics.zone(7, A) == ZoneInfo("5", "70", "0")
    assert statistics.zone(8, B) == ZoneInfo("5", "80", "0")


@pytest.mark.parametrize(("zoneid", "name"), [(7, B), (9, A), (7, "global"), (0, A)])
def test_zone_with_this_id_and_name_that_the_kernel_does_not_have_has_none(statistics, zoneid, name):
    assert statistics.zone(zoneid, name) is None


@pytest.mark.parametrize("zoneid", [-1, 1 << 31, 7.5, 1e300])
def test_id_that_no_zone_has_is_left_to_the_command(library, statistics, zoneid):
    with pytest.raises(CannotTell):
        statistics.zone(zoneid, A)
    assert library.calls() == []


def test_one_walk_finds_all_zones_and_nothing_else(library, statistics):
    library.kernel(
        "kstat 50 cpu 0 zone_misc 1 zonename",
        *GLOBAL,
        "kstat 51 zones 7 other 1 x",
        "stat 9 zonename other",
        "kstat 52 zones 7 zone_misc 0 raw",
        *zone(2, 7, A),
    )
    assert pids(statistics) == {"global": "1", A: "6"}
    assert library.calls().count("kstat_read") == 2


def test_statistics_that_changed_are_read_anew(library, statistics):
    statistics.zone(7, A)
    library.kernel(*GLOBAL, *zone(2, 7, A, init_pid=71))
    assert statistics.zone(7, A).init_pid == "71"


def test_zone_that_came_later_is_seen_and_one_that_left_is_not(library, statistics):
    assert statistics.zone(9, U) is None
    library.kernel(*GLOBAL, *zone(4, 9, U))
    assert statistics.zone(9, U) == ZoneInfo("5", "6", "0")
    assert statistics.zone(7, A) is None
    assert pids(statistics) == {"global": "1", U: "6"}
    assert library.calls().count("kstat_open") == 1


def test_one_handle_is_kept_for_all_looks(library, statistics):
    for _ in range(3):
        statistics.zone(7, A)
        statistics.zones()
    assert (library.calls().count("kstat_open"), library.calls().count("kstat_close")) == (1, 0)


def test_threads_use_the_handle_one_after_the_other(library, statistics):
    found = []

    def look():
        for _ in range(5):
            found.append((statistics.zone(7, A), statistics.zones()[B]))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [(ZoneInfo("5", "70", "0"), ZoneInfo("5", "80", "0"))] * 20


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (0, "abcdefghijklmnopqrs", "abcdefghijklmnop"),
        (0, "12", "12"),
        (1, "-1", "-1"),
        (2, "4294967295", "4294967295"),
        (3, "-9223372036854775808", "-9223372036854775808"),
        (4, "18446744073709551615", "18446744073709551615"),
        (9, "", ""),
        (9, "two words", "two words"),
        (5, "1", None),
        (200, "1", None),
    ],
)
def test_value_of_each_type_is_the_text_that_the_command_prints(library, statistics, kind, value, text):
    library.kernel(*GLOBAL, f"kstat 2 zones 7 zone_misc 1 {A}", f"stat 9 zonename {A}", f"stat {kind} init_pid {value}")
    assert statistics.zone(7, A) == ZoneInfo(None, text, None)


def test_zone_that_does_not_say_its_name_has_none(library, statistics):
    library.kernel(*GLOBAL, f"kstat 2 zones 7 zone_misc 1 {A}", "stat 2 init_pid 5")
    assert statistics.zone(7, A) is None
    assert pids(statistics) == {"global": "1"}


def test_zone_without_data_has_none_and_costs_no_other(library, statistics):
    library.kernel(*GLOBAL, *zone(2, 7, A, "lie data 0"), *zone(3, 8, B))
    assert statistics.zone(7, A) is None
    assert pids(statistics) == {"global": "1", B: "6"}


# What fails.


def test_zone_that_goes_while_it_is_read_has_none_and_costs_no_other(library, statistics):
    library.kernel(*GLOBAL, *zone(2, 7, A), f"fail kstat_read {errno.ENXIO} 1")
    assert statistics.zone(7, A) is None
    assert statistics.zone(7, A) is not None


def test_reading_that_has_to_be_tried_again_is(library, statistics):
    library.kernel(*GLOBAL, *zone(2, 7, A), f"fail kstat_read {errno.EAGAIN} 2")
    assert statistics.zone(7, A) == ZoneInfo("5", "6", "0")


@pytest.mark.parametrize(
    ("function", "error", "times"),
    [
        ("kstat_open", errno.EMFILE, 1),
        ("kstat_chain_update", errno.EIO, 1),
        ("kstat_read", errno.EIO, 1),
        ("kstat_read", errno.EAGAIN, 5),
    ],
)
def test_what_fails_is_said_once_and_done_anew_by_the_next_look(library, statistics, notes, function, error, times):
    library.kernel(*GLOBAL, *zone(2, 7, A), f"fail {function} {error} {times}")
    with pytest.raises(CannotTell, match=function):
        statistics.zone(7, A)
    assert statistics.zone(7, A) == ZoneInfo("5", "6", "0")
    ((level, text),) = notes
    assert (level, function in text, str(library.path) in text) == ("warn", True, True)
    assert library.calls().count("kstat_open") == 2


def test_what_goes_on_failing_is_said_once_and_leaves_no_handle_open(library, statistics, notes):
    library.kernel(*GLOBAL, *zone(2, 7, A), f"fail kstat_read {errno.EIO} 3")
    for _ in range(3):
        with pytest.raises(CannotTell):
            statistics.zone(7, A)
    assert len(notes) == 1
    assert library.calls().count("kstat_close") == 3


def test_look_that_hangs_holds_up_nobody_and_is_believed_when_it_has_ended(library, statistics, notes):
    library.kernel(*GLOBAL, *zone(2, 7, A), "hang kstat_read")
    for _ in range(3):
        with pytest.raises(CannotTell, match="hangs"):
            statistics.zone(7, A)
    assert library.calls().count("kstat_read") == 1
    assert len(notes) == 1
    library.kernel(*GLOBAL, *zone(2, 7, A, init_pid=71))
    eventually("it has ended", lambda: pid_or_none(statistics) == "71")


def pid_or_none(statistics):
    try:
        return statistics.zone(7, A).init_pid
    except CannotTell:
        return None


def test_node_whose_library_hangs_is_served_by_the_command(node, compiled_libkstat):
    library, before = LibKstat(node.root, compiled_libkstat), set(threading.enumerate())
    library.kernel(*GLOBAL, *zone(2, 7, U), "hang kstat_chain_update")
    assert served_by_the_command(node)
    library.kernel(*GLOBAL)
    eventually("no look hangs", lambda: gc.collect() >= 0 and set(threading.enumerate()) <= before)


def test_thread_of_the_looks_is_one_and_ends_with_its_library(library):
    library.kernel(*GLOBAL, *zone(2, 7, A))
    before, statistics = set(threading.enumerate()), KstatLibrary(str(library.path))
    for _ in range(3):
        assert statistics.zone(7, A) == ZoneInfo("5", "6", "0")
    (thread,) = set(threading.enumerate()) - before
    del statistics
    gc.collect()
    thread.join(SOON)
    assert not thread.is_alive()


LIES = [
    "ndata 1000000",
    "ndata 4294967295",
    "data_size 100",
    "data_size -1",
    "data_size 1099511627776",
    "text 16",
    "text -8",
    "length 100000",
    "length 4294967295",
]


@pytest.mark.parametrize("lie", LIES)
def test_record_that_makes_no_sense_is_not_believed(library, statistics, notes, lie):
    library.kernel(*GLOBAL, *zone(2, 7, A, f"lie {lie}"), *zone(3, 8, B))
    with pytest.raises(CannotTell):
        statistics.zone(7, A)
    with pytest.raises(CannotTell):
        statistics.zones()
    assert statistics.zone(8, B) == ZoneInfo("5", "6", "0")
    assert notes[0][0] == "warn"


def test_kernel_without_its_global_zone_is_not_believed(library, statistics):
    library.kernel(*zone(2, 7, A))
    with pytest.raises(CannotTell):
        statistics.zones()
    library.kernel(*GLOBAL, *zone(2, 7, A))
    assert pids(statistics) == {"global": "1", A: "6"}


def test_global_zone_that_goes_from_the_list_is_not_believed(library, statistics):
    statistics.zones()
    library.kernel(*zone(2, 7, A))
    with pytest.raises(CannotTell):
        statistics.zones()


# In a node, in place of the command or beside it.


@pytest.fixture
def node(tmp_path):
    node = HandmadeNode(tmp_path)
    node.zone()
    node.stats(U, boot_time=1773403200, init_pid=20417, init_restarts=0)
    return node


def served_by_the_command(node):
    """Whether the VM's statistics are there, and the command was asked for them, by both ways of loading."""
    one, everything = node.vm(), node.vms()[U]
    assert (one["pid"], everything["pid"]) == (20417, 20417)
    return len(node.calls("kstat")) == 2


def test_node_with_the_library_needs_no_command(node, compiled_libkstat):
    LibKstat(node.root, compiled_libkstat).kernel(*GLOBAL, *zone(2, 7, U, init_pid=4711))
    assert (node.vm()["pid"], node.vms()[U]["pid"]) == (4711, 4711)
    assert node.calls("kstat") == []


def test_node_without_the_library_asks_the_command_and_says_nothing(node):
    notes = []
    loader = Loader(str(node.root), lambda level, text: notes.append(text))
    assert loader.read_all().zones[U].zoneinfo == ZoneInfo("1773403200", "20417", "0")
    assert (len(node.calls("kstat")), notes) == (1, [])


def test_library_of_another_layout_is_not_used(node, tmp_path):
    LibKstat(node.root, built(tmp_path, "-DOTHER_LAYOUT")).kernel(*GLOBAL, *zone(2, 7, U))
    assert served_by_the_command(node)


@pytest.mark.parametrize("content", [b"", b"no library", b"\x7fELF"])
def test_library_that_is_none_is_not_used_and_is_reported(node, content):
    notes = []
    node.file("lib/64/libkstat.so.1", content)
    loader = Loader(str(node.root), lambda level, text: notes.append((level, text)))
    for _ in range(2):
        assert loader.read_all().zones[U].zoneinfo == ZoneInfo("1773403200", "20417", "0")
    ((level, text),) = notes
    assert (level, "libkstat.so.1" in text, "kstat is used instead" in text) == ("warn", True, True)


def test_library_that_cannot_be_opened_is_not_used(node, compiled_libkstat):
    LibKstat(node.root, compiled_libkstat)  # has no kernel: kstat_open ends with ENOENT
    assert served_by_the_command(node)


def test_zone_that_the_kernel_does_not_have_costs_no_look(tmp_path, compiled_libkstat):
    node = HandmadeNode(tmp_path)
    library = LibKstat(node.root, compiled_libkstat)
    library.kernel(*GLOBAL)
    node.zone(state="installed")
    node.zone(A, name="web01", zoneid="9")
    assert "pid" not in node.vm()
    assert "pid" not in node.vm(A)
    assert (library.calls(), node.calls("kstat")) == ([], [])


def test_every_vm_of_a_node_is_the_same_from_the_library_as_from_the_command(quiet_node, compiled_libkstat, tmp_path):
    """Byte for byte, loaded alone and together."""
    uuids = [vm["uuid"] for vm in Loads(quiet_node.root).load_all().vms.values()]

    def objects():
        loads = Loads(quiet_node.root)
        return [json.dumps(vm) for vm in (loads.load_all().vms, *map(loads.load, uuids))]

    printed = quiet_node.run("kstat", "-p", "-m", "zones", "-c", "zone_misc", check=True).stdout
    by_command = objects()
    library = LibKstat(quiet_node.root, compiled_libkstat)
    try:
        library.kernel(*lines_of(printed))
        quiet_node.control.forget_calls()
        assert objects() == by_command
        assert quiet_node.control.calls("kstat") == []
        assert sum('"pid"' in text for text in by_command) > 5
    finally:
        library.remove()
