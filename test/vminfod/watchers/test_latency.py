# SPDX-License-Identifier: MPL-2.0
"""How long file messages were on their way."""

import pytest

from vminfod.watchers.latency import KEPT, SLOW_MS, Latency

pytestmark = pytest.mark.pure


def test_means_are_those_of_the_newest_as_far_as_there_are_that_many():
    latency = Latency()
    assert latency.means() == {}
    for milliseconds in range(1, 13):
        latency.add(float(milliseconds))
    assert latency.means() == {"1": 12.0, "10": 7.5}


def test_no_more_are_kept_than_are_shown():
    """However many messages come, each costs the same (bug P9)."""
    latency = Latency()
    for _ in range(5 * KEPT):
        latency.add(1.0)
    assert latency.means() == {"1": 1.0, "10": 1.0, "100": 1.0, "1000": 1.0}
    assert len(latency._newest) == KEPT


def test_slow_ones_are_counted_for_ever():
    latency = Latency()
    assert [latency.add(ms) for ms in (SLOW_MS, SLOW_MS + 0.1)] == [False, True]
    for _ in range(2 * KEPT):
        latency.add(0.0)
    assert latency.slow == 1
