# SPDX-License-Identifier: MPL-2.0
"""Which source is suspected of having lost its subscription: one that says nothing while the others speak."""

import pytest

from vminfod.watchers.silence import MOST_WAIT, Silence

pytestmark = pytest.mark.pure

SECOND = 10**9


def suspicions(seconds, speakers, first=60.0):
    """(second, source) of each suspicion, if each of `speakers` speaks at the seconds that it names."""
    silence = Silence(("zones", "pools"), 0, first)
    found = []
    for now in range(1, seconds + 1):
        for name, speaks in speakers.items():
            if speaks(now):
                found += [(now, suspect) for suspect in silence.heard(name, now * SECOND)]
    return found


def test_source_that_is_silent_while_another_speaks_is_suspected_more_and_more_rarely():
    times = [now for now, name in suspicions(2000, {"pools": lambda now: now % 10 == 0}) if name == "zones"]
    assert times == [60, 180, 420, 900, 1860]
    assert suspicions(40_000, {"pools": lambda now: now % 10 == 0})[-1][0] > 40_000 - MOST_WAIT - 10


def test_nothing_is_suspected_on_a_quiet_node():
    assert suspicions(5000, {"pools": lambda now: now == 100, "zones": lambda now: now == 101}) == []


def test_one_burst_of_another_source_is_no_reason():
    silence = Silence(("zones", "pools"), 0)
    assert [silence.heard("pools", 90 * SECOND + burst) for burst in range(500)] == [[]] * 500
    assert silence.heard("pools", 91 * SECOND) == ["zones"]


def test_many_lines_at_one_moment_say_what_one_says():
    once, often = Silence(("zones", "pools"), 0), Silence(("zones", "pools"), 0)
    for now in range(1, 2000, 10):
        name = "zones" if now % 700 == 1 else "pools"
        suspects = once.heard(name, now * SECOND)
        assert [often.heard(name, now * SECOND) for _ in range(3)] == [suspects, [], []]


def test_sources_that_all_speak_are_above_suspicion():
    assert suspicions(2000, {"pools": lambda now: now % 10 == 0, "zones": lambda now: now % 55 == 0}) == []


def test_source_that_speaks_again_starts_anew():
    speakers = {"pools": lambda now: now % 10 == 0, "zones": lambda now: now == 1000}
    assert [now for now, name in suspicions(1200, speakers) if name == "zones"] == [60, 180, 420, 900, 1060, 1180]


def test_source_that_is_not_followed_speaks_too_and_is_never_suspected():
    assert {name for _, name in suspicions(500, {"files": lambda now: now % 10 == 0})} == {"zones", "pools"}
