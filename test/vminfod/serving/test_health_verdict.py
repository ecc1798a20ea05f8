# SPDX-License-Identifier: MPL-2.0
"""The verdict says what is wrong, since when, and nothing when all is well."""

import pytest

from vminfod.serving.health import ChildFacts, CommandFacts, Facts, verdict

pytestmark = pytest.mark.pure


def test_all_well_has_no_reasons():
    children = {"zonewatcher": ChildFacts(None), "zpoolwatcher": ChildFacts(None, losses=[1.0])}
    commands = [CommandFacts("zfs list of U", 1.0, False), CommandFacts("zfs list of all VMs", 30.0, True)]
    assert verdict(Facts(children, commands=commands)) == {"status": "ok", "reasons": []}


def test_each_kind_of_trouble_is_a_reason():
    facts = Facts(
        children={"zpoolwatcher": ChildFacts(40.2), "fswatcher": ChildFacts(None, losses=[9, 7, 5, 3])},
        unreadable=["b", "a"],
        without_xml=["c"],
        commands=[CommandFacts("zfs list of U", 30.4, False)],
        stalled=[("sleeper", 12.0, 100), ("other", 11.0, 5)],
        refresh_failed="zfs failed",
        sysinfo_error="no file",
        index_error="no folder",
        overdue=[("pid 7: update", "V", 9.0), ("pid 8: update", "U", 70.0), ("pid 9: update", "W", 20.0)],
    )
    assert verdict(facts) == {
        "status": "degraded",
        "reasons": [
            "zpoolwatcher down 40 s",
            "fswatcher was lost 4 times in 5 minutes",
            "2 VMs unreadable: a, b",
            "1 zone without XML: c",
            "zfs list of U runs 30 s",
            "listener sleeper reads nothing for 12 s, 100 bytes wait, and 1 more",
            "a transaction on VM U is past its limit for 70 s, pid 8: update, and 1 more",
            "the last full refresh failed: zfs failed",
            "sysinfo cannot be read: no file",
            "the index of zones cannot be read: no folder",
        ],
    }


def is_loop(losses, now):
    """Whether a child is called lost again and again at `now`, that was lost at these moments and came back at once."""
    recent = [now - at for at in losses if now - 300 < at <= now]
    reasons = verdict(Facts({"zonewatcher": ChildFacts(None, recent)}))["reasons"]
    assert reasons in ([], [f"zonewatcher was lost {len(recent)} times in 5 minutes"])
    return bool(reasons)


def test_child_that_was_lost_thrice_in_a_row_is_well_once_it_has_lived_for_a_minute():
    losses = [0.0, 1.0, 2.5]
    assert [is_loop(losses[:count], losses[count - 1]) for count in (1, 2, 3)] == [False, False, True]
    assert [is_loop(losses, 2.5 + lived) for lived in (30.0, 60.0, 61.0, 200.0)] == [True, True, False, False]
    assert is_loop([*losses, 150.0], 150.0), "it has begun again"


def test_child_that_dies_every_minute_and_a_half_is_never_well_in_between():
    losses = [90.0 * number for number in range(8)]
    assert all(is_loop(losses, float(now)) for now in range(180, 720))
    assert not is_loop(losses, losses[-1] + 91)


def test_child_that_dies_now_and_then_is_in_no_loop():
    losses = [160.0 * number for number in range(8)]
    assert not any(is_loop(losses, float(now)) for now in range(1280))


def test_child_that_is_down_is_a_reason_however_often_and_long_ago_it_was_lost():
    facts = Facts({"zonewatcher": ChildFacts(130.0, [140, 139, 130]), "fswatcher": ChildFacts(2.0, [4, 3, 2])})
    assert verdict(facts)["reasons"] == [
        "zonewatcher down 130 s, lost 3 times in 5 minutes",
        "fswatcher down 2 s, lost 3 times in 5 minutes",
    ]


def test_many_of_a_kind_are_counted():
    facts = Facts(
        unreadable=list("edcba"), commands=[CommandFacts(f"zfs list of {n}", 20.0 + n, False) for n in range(6)]
    )
    assert verdict(facts)["reasons"] == [
        "5 VMs unreadable: a, b, c and 2 more",
        "zfs list of 5 runs 25 s",
        "zfs list of 4 runs 24 s",
        "zfs list of 3 runs 23 s",
        "3 more hang",
    ]


def test_files_for_which_the_file_watcher_has_not_answered_are_counted_once_they_are_late():
    late = [(f"/zones/u{number}/config", 40.0 - number) for number in range(5)]
    soon = [("/zones/u8/config", 9.9)]
    assert verdict(Facts(children={"fswatcher": ChildFacts(None, unanswered=soon)}))["reasons"] == []
    one = verdict(Facts(children={"fswatcher": ChildFacts(None, unanswered=[("/zones/u/config", 10.0)])}))
    assert one["reasons"] == ["fswatcher has not answered for 1 file for 10 s, seen by refreshes only: /zones/u/config"]
    many = verdict(Facts(children={"fswatcher": ChildFacts(None, quarantined=["/bad"], unanswered=late + soon)}))
    assert many["reasons"] == [
        "fswatcher ends or hangs of 1 file, seen by refreshes only: /bad",
        "fswatcher has not answered for 5 files for 40 s, seen by refreshes only: "
        "/zones/u0/config, /zones/u1/config, /zones/u2/config and 2 more",
    ]


def test_files_that_end_the_file_watcher_are_named():
    files = [f"/zones/u{number}/config/tags.json" for number in range(5)]
    one = verdict(Facts(children={"fswatcher": ChildFacts(None, quarantined=files[:1])}))
    assert one["reasons"] == [f"fswatcher ends or hangs of 1 file, seen by refreshes only: {files[0]}"]
    many = verdict(Facts(children={"fswatcher": ChildFacts(3.0, quarantined=files)}))
    assert many["reasons"] == [
        "fswatcher down 3 s",
        f"fswatcher ends or hangs of 5 files, seen by refreshes only: {', '.join(files[:3])} and 2 more",
    ]
