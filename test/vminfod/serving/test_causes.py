# SPDX-License-Identifier: MPL-2.0
"""The latency of an event begins when the platform says that something happened, not when we hear of it."""

import time

import pytest

from vminfod.serving.cause import Cause, moment_of

pytestmark = pytest.mark.pure

MS, SECOND = 10**6, 10**9  # nanoseconds


def dated(seconds_ago):
    """Milliseconds since the epoch."""
    return (time.time_ns() - int(seconds_ago * SECOND)) // MS


@pytest.mark.parametrize("seconds", [0.0, 0.5, 30.0])
def test_event_that_was_long_on_its_way_is_as_late_as_its_date_says(seconds):
    date = dated(seconds)
    read_at = time.monotonic_ns()
    moment = moment_of(date, read_at)
    assert moment <= read_at - int(seconds * SECOND) + MS  # a date has whole milliseconds
    later = read_at + 2 * SECOND
    assert Cause("zone", {"state": "running"}, moment).shown(later)["latency_ms"] >= seconds * 1000 + 1999


@pytest.mark.parametrize("date_ms", [None, dated(-3600), dated(7 * 86400), 0], ids=["none", "to come", "old", "epoch"])
def test_date_that_cannot_be_is_not_believed(date_ms):
    """A clock was set meanwhile: then it counts when it was read."""
    read_at = time.monotonic_ns()
    assert moment_of(date_ms, read_at) == read_at


def test_what_was_no_event_is_not_late():
    assert Cause("refresh").shown(5) == {"source": "refresh"}
