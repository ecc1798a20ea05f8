# SPDX-License-Identifier: MPL-2.0
"""The verdict says what is wrong, since when, and nothing when all is well."""

import pytest

from vminfod.serving.health import ChildFacts, CommandFacts, Facts, verdict

pytestmark = pytest.mark.pure


def test_all_well_has_no_reasons():
    children = {"zonewatcher": ChildFacts(None), "zpoolwatcher": ChildFacts(None, losses=1)}
    commands = [CommandFacts("zfs list of U", 1.0, False), CommandFacts("zfs list of all VMs", 30.0, True)]
    assert verdict(Facts(children, commands=commands)) == {"status": "ok", "reasons": []}


def test_each_kind_of_trouble_is_a_reason():
    facts = Facts(
        children={"zpoolwatcher": ChildFacts(40.2), "fswatcher": ChildFacts(None, losses=4)},
        unreadable=["b", "a"],
        commands=[CommandFacts("zfs list of U", 30.4, False)],
        stalled=[("sleeper", 12.0, 100), ("other", 11.0, 5)],
        refresh_failed="zfs failed",
        sysinfo_error="no file",
        overdue=[("pid 7: update", "V", 9.0), ("pid 8: update", "U", 70.0), ("pid 9: update", "W", 20.0)],
    )
    assert verdict(facts) == {
        "status": "degraded",
        "reasons": [
            "zpoolwatcher down 40 s",
            "fswatcher was lost 4 times in 5 minutes",
            "2 VMs unreadable: a, b",
            "zfs list of U runs 30 s",
            "listener sleeper reads nothing for 12 s, 100 bytes wait, and 1 more",
            "a transaction on VM U is past its limit for 70 s, pid 8: update, and 1 more",
            "the last full refresh failed: zfs failed",
            "sysinfo cannot be read: no file",
        ],
    }


def test_many_of_a_kind_are_counted():
    facts = Facts(
        unreadable=list("edcba"), commands=[CommandFacts(f"zfs list of {n}", 20.0 + n, False) for n in range(6)]
    )
    assert verdict(facts)["reasons"] == [
        "5 VMs unreadable: a, b, c and 2 more",
        "zfs list of 5 runs 25 s",
        "zfs list of 4 runs 24 s",
        "zfs list of 3 runs 23 s",
        "3 more commands hang",
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
