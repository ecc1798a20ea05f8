# SPDX-License-Identifier: MPL-2.0
"""The benchmarks' own arithmetic, and that `make bench` leaves none out. What they measure is no test's affair."""

import re
from pathlib import Path

import pytest

from bench import slopes, table
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


@pytest.mark.parametrize(
    "points, said",
    [
        ({30: 3.0, 3000: 3.2}, "does not grow with VMs: 3 ms at 30, 3.2 at 3,000"),
        ({100: 20.0, 300: 40.0, 1100: 120.0}, "100 ms more for 1,000 VMs, evenly: 20 ms at 100, 120 at 1,100"),
        ({100: 1.0, 200: 2.0, 300: 13.0}, "60 ms more for 1,000 VMs, steeper towards the end: 1 ms at 100, 13 at 300"),
        ({100: 1.0, 200: 12.0, 300: 13.0}, "60 ms more for 1,000 VMs, flatter towards the end: 1 ms at 100, 13 at 300"),
        ({10: 5.0, 20: 10.0}, "500 ms more for 1,000 VMs: 5 ms at 10, 10 at 20"),
        ({10: 5.0}, "measured at one size only"),
    ],
)
def test_growth_is_said_in_words(points, said):
    assert slopes.words(points, "ms", 1000, "VMs") == said


def test_report_says_how_both_sides_grow(capsys):
    report = Report("x", rounds=1)
    report.grows(slopes.row("start", "s", 1000, "VMs", {100: 1.0, 1100: 3.0}, "reads", {100: 1.0, 1100: 1.1}))
    (row,) = report.as_json()["slopes"]
    assert (row["slope"], row["points"]) == (2.0, {"100": 1.0, "1100": 3.0})
    assert row["peer_slope"] == pytest.approx(0.1)
    told = capsys.readouterr().out
    assert "start, over VMs: 2 s more for 1,000 VMs" in told and "reads: does not grow with VMs" in told


def figures(script, *rows):
    return {script: {"machine": {"load_before": 0.25}, "rows": list(rows)}}


def measured(name, unit, ours, peer, peers):
    report = Report("x", rounds=len(ours))
    return report.put(name, unit, ours, peer, peers)


@pytest.mark.parametrize(
    "goal, ours, peers, figure, reached",
    [
        (table.ratio_at_least(1.5), [30.0], [20.0], "1.50", "yes"),
        (table.ratio_at_least(1.5), [29.0], [20.0], "1.45", "**no**"),
        (table.ratio_at_most(0.5), [1.0], [2.0], "0.50", "yes"),
        (table.ratio_at_most(0.5), [1.1], [2.0], "0.55", "**no**"),
        (table.at_most(5, "ms"), [4.0, 5.0, 6.0], [1.0], "5 ms", "yes"),
        (table.at_most(5, "ms"), [5.1], [1.0], "5.1 ms", "**no**"),
        (table.at_most_of_peer(1.2, 2, "ms"), [14.0], [10.0], "1.40", "yes"),
        (table.at_most_of_peer(1.2, 2, "ms"), [14.1], [10.0], "1.41", "**no**"),
        (table.over_peer(10, "ms"), [12.0], [2.0], "+10 ms", "yes"),
        (table.over_peer(10, "ms"), [12.5], [2.0], "+10 ms", "**no**"),
    ],
)
def test_table_says_what_was_reached(goal, ours, peers, figure, reached):
    target = table.Target("a thing", "s", r"\d+ of a thing", goal, "bare")
    rows = [measured("7 of a thing", "ms", [1.0], "other", [1.0]), measured("7 of a thing", "ms", ours, "bare", peers)]
    line = table.lines(figures("s", *rows), [target])[-1]
    assert [cell.strip() for cell in line.split("|")][5:9] == [figure, reached, "`bench.s`", "0.2"]


def test_table_says_what_was_not_measured():
    target = table.Target("a thing", "s", "a thing", table.ratio_at_most(1))
    for found in ({}, figures("s"), figures("s", {"name": "a thing", "skipped": "no node"})):
        assert "| not measured |" in table.lines(found, [target])[-1]


def test_targets_are_of_scripts_that_are_run():
    assert {target.script for target in table.TARGETS} <= set(SCRIPTS)


def test_make_bench_runs_every_script_and_the_page_names_it():
    scripts = {path.stem for path in BENCH.glob("*.py") if "measuring.main(" in path.read_text()}
    assert scripts == set(SCRIPTS)
    page = (BENCH.parent / "docs" / "performance.md").read_text()
    assert scripts <= set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
