# SPDX-License-Identifier: MPL-2.0
"""`?heartbeat=S`: a line whenever S seconds passed in silence."""

import pytest

pytest_plugins = ["support.followers"]


@pytest.fixture
def beating(follow):
    stream = follow.daemon.events("?heartbeat=0.1")
    yield stream
    stream.close()


def is_beat(event):
    return event["type"] == "heartbeat"


def test_heartbeat_says_that_nothing_happened_up_to_a_revision(follow, beating):
    for _ in range(3):
        beat = beating.next()
        assert list(beat) == ["type", "date", "epoch", "rev"]
        assert is_beat(beat)
        assert (beat["epoch"], beat["rev"]) == (beating.ready["epoch"], beating.ready["rev"])
        assert len(beat["date"]) == len("2024-03-01T10:00:00.123Z")


def test_events_come_between_heartbeats_and_count_for_the_next(follow, beating):
    follow.nothing_by_zfs()
    event = beating.until(lambda event: not is_beat(event))
    assert event["type"] == "modify"
    assert beating.until(is_beat)["rev"] == event["rev"] == beating.ready["rev"] + 1


def test_heartbeat_of_a_listener_that_selects_counts_revisions_it_did_not_want(follow):
    stream = follow.daemon.events("?heartbeat=0.1&types=delete&vms=false")
    follow.nothing_by_zfs()
    beat = stream.until(lambda event: event["rev"] > stream.ready["rev"])
    assert (beat["type"], beat["rev"]) == ("heartbeat", stream.ready["rev"] + 1)
    stream.close()


def test_listener_that_resumes_can_have_heartbeats(follow):
    ready = follow.stream.ready
    stream = follow.daemon.events(f"?since={ready['epoch']}:{ready['rev']}&heartbeat=0.1")
    assert is_beat(stream.next())
    stream.close()


def test_no_heartbeat_unasked(follow):
    """The next line of a stream that did not ask is an event, although others have long had heartbeats."""
    quiet = follow.daemon.events()
    beating = follow.daemon.events("?heartbeat=0.1")
    assert [beating.next()["type"] for _ in range(3)] == ["heartbeat"] * 3
    follow.nothing_by_zfs()
    assert quiet.next()["type"] == "modify"
    quiet.close()
    beating.close()
