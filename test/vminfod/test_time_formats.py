# SPDX-License-Identifier: MPL-2.0
"""Times as text: what the original printed, and what the edges of it are."""

import time

import pytest

from jsvalues import dates
from jsvalues.dates import epoch_ms, iso_of_seconds
from vminfod.times import duration, pair, short, stamp

pytestmark = pytest.mark.pure

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("seconds", "nanoseconds", "text"),
    [
        (0, 0, "0.000000000s (0ns)"),
        (0, 999, "0.000000999s (999ns)"),
        (0, 1125, "0.000001125s (1.13us)"),
        (0, 500478, "0.000500478s (500.48us)"),
        (0, 999999999, "0.999999999s (1000ms)"),
        (1, 5000000, "1.005000000s (1s)"),
        (5, 123456789, "5.123456789s (5.12s)"),
        (59, 999999999, "59.999999999s (60s)"),
        (60, 0, "60.000000000s (1m)"),
        (3599, 0, "3599.000000000s (59.98m)"),
        (54632, 555733604, "54632.555733604s (15.18h)"),
        (90000, 0, "90000.000000000s (1.04d)"),
        (93784, 120000000, "93784.120000000s (1.09d)"),
        (75, 500000000, "75.500000000s (1.26m)"),
        (999, 41, "999.000000041s (16.65m)"),
        (8, 500000042, "8.500000042s (8.5s)"),
    ],
)
def test_duration_is_exact_and_then_short(seconds, nanoseconds, text):
    assert duration(seconds * SECOND + nanoseconds) == text


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (1_000, "1us"),
        (999_999, "1000us"),
        (1_000_000, "1ms"),
        (250_000_000, "250ms"),
        (SECOND, "1s"),
        (3600 * SECOND, "1h"),
        (86399 * SECOND, "24h"),
        (86400 * SECOND, "1d"),
        (365 * 86400 * SECOND, "365d"),
    ],
)
def test_short_form_takes_the_largest_unit_that_has_a_whole_part(ns, text):
    assert short(ns) == text


def test_stamp_pads_the_nanoseconds():
    assert stamp(93000 * SECOND + 1) == "93000.000000001"
    assert stamp(0) == "0.000000000"


def test_moment_splits_into_seconds_and_nanoseconds():
    assert pair(98200 * SECOND + 417733011) == [98200, 417733011]


def test_negative_duration_is_refused():
    with pytest.raises(ValueError, match="negative"):
        duration(-1)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1709287200.123, "2024-03-01T10:00:00.123Z"),
        (1709287199.9996, "2024-03-01T09:59:59.999Z"),
        (1773403270, "2026-03-13T12:01:10.000Z"),
    ],
)
def test_date_is_utc_with_milliseconds_and_what_is_less_is_cut_off(seconds, text):
    assert iso_of_seconds(seconds) == text


def test_date_of_now_is_the_clocks():
    before = time.time_ns() // 10**6
    assert before <= epoch_ms(dates.now()) <= time.time_ns() // 10**6


@pytest.mark.parametrize(
    ("text", "millis"),
    [
        ("1970-01-01T00:00:00.000Z", 0),
        ("2026-03-13T12:01:10.220Z", 1773403270220),
        ("2026-03-13T12:01:10Z", 1773403270000),
        ("2026-03-13T12:01:10.2Z", 1773403270200),
        ("2026-03-13T12:01:10.123456789Z", 1773403270123),
        ("2024-02-29T00:00:00.000Z", 1709164800000),
    ],
)
def test_date_is_read_as_milliseconds_since_the_epoch(text, millis):
    assert epoch_ms(text) == millis


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "yesterday",
        "2026-13-01T00:00:00.000Z",
        "2026-02-30T00:00:00.000Z",
        "2026-03-13T24:00:00.000Z",
        "2026-03-13",
        "2026-03-13T12:01:10.220",
        "2026-03-13T12:01:10.220Z ",
        "٢٠٢٦-03-13T12:01:10.220Z",
        None,
        1773403270220,
        ["2026"],
    ],
)
def test_what_is_no_date_is_none(bad):
    assert epoch_ms(bad) is None
