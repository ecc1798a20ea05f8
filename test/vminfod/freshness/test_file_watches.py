# SPDX-License-Identifier: MPL-2.0
"""What is asked of the file watcher when the files of a zone are looked at again: only another file is watched anew."""

from unittest.mock import call, create_autospec

import pytest

from support.recording_log import RecordingLog
from vminfod.freshness.filewatches import FileWatcher, FileWatches, watched_for
from vmload.records import Zone
from vmload.zonesources import Source

pytestmark = pytest.mark.pure

U = "0f3d2c1b-6a58-4c97-9e02-7b6a5d4c3e2f"
ZONE = Zone(None, U, "installed", f"/zones/{U}", U, "joyent", 0)
CONFIG = f"/zones/{U}/config"
TAGS = f"{CONFIG}/tags.json"


@pytest.fixture
def watcher():
    made = create_autospec(FileWatcher, instance=True)
    made.wait_answered.return_value = True
    return made


@pytest.fixture
def watches(watcher):
    """All files of the zone are watched, and were there."""
    made = FileWatches(watcher, RecordingLog())
    assert made.set(ZONE, seen()) is True, "they are new"
    watcher.reset_mock()
    return made


def seen(**others):
    return {**{path: (1, number) for number, path in enumerate(watched_for(ZONE))}, **others}


def asked(watcher):
    return [one for one in watcher.mock_calls if one[0] in ("watch", "unwatch")]


def test_same_files_are_left_alone(watches, watcher):
    assert watches.set(ZONE, seen()) is False
    assert watcher.mock_calls == []


def test_another_file_is_watched_anew_and_waited_for(watches, watcher):
    assert watches.set(ZONE, seen(**{TAGS: (1, 99)})) is True
    assert asked(watcher) == [call.unwatch(TAGS), call.watch(TAGS)]
    assert watcher.mock_calls[-1][0] == "wait_answered"
    watcher.reset_mock()
    assert watches.set(ZONE, seen(**{TAGS: (1, 99)})) is False, "it is known now"
    assert watcher.mock_calls == []


def test_what_does_not_stand_in_time_is_reported_when_it_does(watches, watcher):
    watcher.wait_answered.return_value = False
    watches.set(ZONE, seen(**{TAGS: (1, 99)}))
    watcher.report_late.assert_called_once_with(watched_for(ZONE))


def test_same_inode_of_another_device_is_another_file(watches, watcher):
    number = watched_for(ZONE).index(TAGS)
    assert watches.set(ZONE, seen(**{TAGS: (2, number)})) is True
    assert asked(watcher) == [call.unwatch(TAGS), call.watch(TAGS)]


def test_file_whose_end_nobody_told_is_watched_anew_when_it_is_missing_and_when_it_is_back(watches, watcher):
    """The watch may hang on what is in a folder that was moved away: no event of the new file would come of it."""
    assert watches.set(ZONE, seen(**{TAGS: None})) is True
    assert asked(watcher) == [call.unwatch(TAGS), call.watch(TAGS)]
    watcher.reset_mock()
    assert watches.set(ZONE, seen(**{TAGS: None})) is False
    assert asked(watcher) == []
    assert watches.set(ZONE, seen()) is True
    assert asked(watcher) == [call.unwatch(TAGS), call.watch(TAGS)]


@pytest.mark.parametrize("folder", [CONFIG, ZONE.zonepath])
def test_what_is_in_a_folder_that_ended_is_watched_anew_whatever_is_known_of_it(watches, watcher, folder):
    watches.ended(folder)
    assert watches.set(ZONE, seen()) is True
    below = [path for path in watched_for(ZONE) if path.startswith(f"{folder}/")]
    assert {one.args[0] for one in asked(watcher)} == set(below) >= {TAGS}


@pytest.mark.parametrize("folder", [CONFIG, ZONE.zonepath])
def test_what_is_in_another_folder_is_watched_anew_also_if_it_was_seen_there_first(watches, watcher, folder):
    """A file was replaced, then its folder, before the file was looked at: its watch is on that in the old folder."""
    watches.ended(TAGS)
    assert watches.set(ZONE, seen(**{TAGS: (1, 99)})) is False
    assert watches.set(ZONE, seen(**{TAGS: (1, 99), folder: (1, 98)})) is True
    below = [path for path in watched_for(ZONE) if path.startswith(f"{folder}/")]
    assert {one.args[0] for one in asked(watcher)} == {folder, *below} >= {TAGS}
    watcher.reset_mock()
    assert watches.set(ZONE, seen(**{TAGS: (1, 99), folder: (1, 98)})) is False
    assert asked(watcher) == []


def test_xml_in_another_folder_is_watched_anew_also_if_it_was_seen_there_first(watches):
    xml = f"/etc/zones/{U}.xml"
    watches.watch_anew({"/etc/zones": (1, 90)})
    watches.ended(xml)
    assert watches.set(ZONE, {xml: (1, 99)}, {Source.XML}) is False
    assert watches.others({"/etc/zones": (1, 91)}) == ["/etc/zones"]
    assert watches.others({"/etc/zones": (1, 91), xml: (1, 99)}) == ["/etc/zones", xml]


def test_xml_is_watched_anew_when_its_folder_ended(watches, watcher):
    assert watches.others(seen()) == []
    watches.ended("/etc/zones")
    for now in ((1, 0), None):
        assert watches.others(seen(**{f"/etc/zones/{U}.xml": now})) == [f"/etc/zones/{U}.xml"]
    watches.watch_anew({f"/etc/zones/{U}.xml": (1, 0)})
    assert asked(watcher) == [call.unwatch(f"/etc/zones/{U}.xml"), call.watch(f"/etc/zones/{U}.xml")]
    assert watches.others(seen()) == []


def test_what_is_compared_is_what_is_watched_and_another_or_not_known_or_missing(watches, watcher):
    metadata = f"{CONFIG}/metadata.json"
    watches.ended(metadata)  # not known
    lastexited = f"{ZONE.zonepath}/lastexited"
    found = watches.others(seen(**{TAGS: (1, 99), lastexited: None, "/zones/other": (7, 7)}))
    assert sorted(found) == sorted([TAGS, lastexited, metadata])
    assert watches.others({"/etc/zones": (1, 1), "/tmp/.sysinfo.json": None}) == ["/etc/zones", "/tmp/.sysinfo.json"]
    assert watcher.mock_calls == []


def test_what_is_watched_anew_is_waited_for_and_reported_when_it_is_late(watches, watcher):
    watcher.wait_answered.return_value = False
    watches.watch_anew({TAGS: (1, 99), "/zones/other": (7, 7)})
    assert asked(watcher) == [call.unwatch(TAGS), call.watch(TAGS)], "what nobody wants is not watched"
    [late] = watcher.report_late.call_args_list
    assert TAGS in late.args[0]
    assert watches.others(seen(**{TAGS: (1, 99)})) == []


def test_what_was_missing_when_it_was_looked_at_is_reported_when_its_watch_stands(watches, watcher):
    """It may come before the watch does, and nobody reads what was not there."""
    watches.watch_anew({CONFIG: None, TAGS: (1, 99)})
    watcher.assert_has_calls([call.watch(CONFIG), call.report_late([CONFIG])])
    watcher.report_late.assert_called_once()


def test_file_whose_end_the_watcher_told_is_not_asked_for_twice(watches, watcher):
    watches.ended(TAGS)
    assert watches.set(ZONE, seen(**{TAGS: (1, 99)})) is False
    assert asked(watcher) == []


def test_watcher_is_told_where_files_answer_again(watches, watcher):
    watches.answers_again(ZONE, {Source.FILES, Source.ZFS})
    assert watcher.mock_calls == [call.answers_again(ZONE.zonepath)]
    watcher.reset_mock()
    watches.answers_again(ZONE, {Source.XML})
    assert watcher.mock_calls == [call.answers_again(f"/etc/zones/{U}.xml")]
    watcher.reset_mock()
    watches.answers_again(ZONE, {Source.ZONEADM, Source.KSTAT})
    assert watcher.mock_calls == []
    watches.answers_again(ZONE)
    assert len(watcher.mock_calls) == 2, "of its files all"


def test_what_is_known_of_files_goes_with_their_zone(watches, watcher):
    assert {watches.meaning(path).zonename for path in watched_for(ZONE)} == {U}
    watches.drop(U)
    assert [watches.meaning(path) for path in watched_for(ZONE)] == [None] * len(watched_for(ZONE))
    assert (watches.zones(), watches.covers(ZONE)) == ([], False)
    watches.want(ZONE, {})
    watcher.reset_mock()
    assert watches.set(ZONE, seen(**{TAGS: (1, 99)})) is False, "compared with what a zone had that is no more"
    assert asked(watcher) == []


def test_zone_that_was_moved_is_watched_where_it_is(watches, watcher):
    moved = Zone(None, U, "installed", f"/tank/{U}", U, "joyent", 0)
    assert watches.covers(ZONE) and not watches.covers(moved)
    watches.set(moved, {})
    assert watches.covers(moved)
    assert call.unwatch(TAGS) in watcher.mock_calls
    assert call.watch(f"/tank/{U}/config/tags.json") in watcher.mock_calls
