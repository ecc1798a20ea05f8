# SPDX-License-Identifier: MPL-2.0
"""The benchmarks' own arithmetic, and that `make bench` leaves none out. What they measure is no test's affair."""

import re
from pathlib import Path

import pytest

from bench.everything import SCRIPTS
from bench.measuring import Report, percentile
from bench.requests import content_length

pytestmark = pytest.mark.pure

BENCH = Path(__file__).resolve().parents[2] / "bench"


def test_sides_take_turns_and_each_round_another_begins(capsys):
    called = []

    def side(name, numbers):
        numbers = iter(numbers)

        def measure():
            called.append(name)
            return next(numbers)

        return measure

    report = Report("x", rounds=3)
    report.compare("row", "ms", side("ours", [3, 100, 6]), "bare", side("bare", [1, 2, 50]))
    assert called == ["ours", "bare", "bare", "ours", "ours", "bare"]
    (row,) = report.as_json()["rows"]
    assert (row["ours"]["median"], row["ours"]["least"], row["ours"]["most"]) == (6, 3, 100)
    assert (row["peer"], row["peers"]["median"], row["ratio"]) == ("bare", 2, 3.0)
    assert "ratio 3.00" in capsys.readouterr().out


def test_a_peer_that_needs_nothing_gives_no_ratio():
    report = Report("x", rounds=1)
    report.compare("row", "%", lambda: 1.0, "bare", lambda: 0.0)
    assert report.rows[0]["ratio"] is None


def test_percentiles_are_numbers_that_were_measured():
    numbers = [float(number) for number in range(1, 101)]
    assert percentile(numbers, 0.5) == 51.0
    assert percentile(numbers, 0.99) == 100.0
    assert percentile([7.0], 0.99) == 7.0


def test_an_answer_that_is_not_good_is_no_answer():
    assert content_length(b"HTTP/1.1 200 OK\r\nContent-Length: 12") == 12
    for head in (b"HTTP/1.1 503 Busy\r\nContent-Length: 12", b"HTTP/1.1 200 OK\r\nDate: x"):
        with pytest.raises(ValueError):
            content_length(head)


def test_make_bench_runs_every_script_and_the_page_names_it():
    scripts = {path.stem for path in BENCH.glob("*.py") if "measuring.main(" in path.read_text()}
    assert scripts == set(SCRIPTS)
    page = (BENCH.parent / "docs" / "performance.md").read_text()
    assert scripts <= set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
