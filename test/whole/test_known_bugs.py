# SPDX-License-Identifier: MPL-2.0
"""docs/known-bugs.md says of each known bug which tests hold its fix: here the page is held to the suite."""

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.pure

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = CHECKOUT / "docs" / "known-bugs.md"

# How many of each kind there are, and the original's own numbers.
WEAKNESSES = {"C": 16, "H": 5, "S": 16, "R": 11, "L": 8, "P": 11, "A": 12}
NUMBERED = """
    OS-736 OS-765 OS-1971 OS-2815 OS-2927 OS-2955 OS-2956 OS-3556 OS-4310 OS-4540 OS-4575 OS-4897 OS-5135 OS-5237
    OS-5383 OS-5643 OS-5829 OS-5951 OS-6054 OS-6453 OS-7289 OS-7307 OS-7310 OS-7311 OS-7356 OS-7365 OS-7366 OS-7368
    OS-7383 OS-7436 OS-7450 OS-7488 OS-7495 OS-7581 OS-7618 OS-7666 OS-7749 OS-7847 OS-8020 OS-8030 OS-8057 OS-8316
    TRITON-826 TRITON-1910
""".split()
ISSUES = ["issue 813", "issue 825", "issue 826", "issue 828", "issue 837"]
WITHOUT_TEST = {"A12"}  # with the reason in the table


def rows():
    """Ids -> the last cell, row by row."""
    found = []
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| ") and len(cells) == 4 and cells[0] not in ("id", "---"):
            found.append((cells[0].split(", "), cells[3]))
    return found


def functions_of_the_suite():
    return {
        f"{path.stem}::{name}"
        for path in (CHECKOUT / "test").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)\(", path.read_text(), re.M)
    }


def test_each_known_bug_has_one_row():
    listed = [bug for bugs, _ in rows() for bug in bugs]
    weaknesses = [f"{kind}{number}" for kind, count in WEAKNESSES.items() for number in range(1, count + 1)]
    assert sorted(listed) == sorted([*NUMBERED, *ISSUES, *weaknesses])


def test_each_row_names_tests_that_exist():
    there = functions_of_the_suite()
    for bugs, cell in rows():
        named = re.findall(r"`([^`]+)`", cell)
        if set(bugs) <= WITHOUT_TEST:
            assert not named and cell.startswith("none: ")
        else:
            assert named and cell == ", ".join(f"`{name}`" for name in named), bugs
            assert not set(named) - there, f"{bugs}: no such test"


def test_files_of_tests_have_different_names():
    stems = [path.stem for path in (CHECKOUT / "test").rglob("test_*.py")]
    assert len(stems) == len(set(stems))


def test_each_bug_that_a_comment_names_is_in_the_table():
    listed = {bug for bugs, _ in rows() for bug in bugs}
    for folder in ("usr", "mockcn", "test"):
        for path in (CHECKOUT / folder).rglob("*.py"):
            for bug in re.findall(r"\b(?:OS|TRITON)-\d{3,}\b", path.read_text()):
                assert bug in listed, f"{path}: {bug}"
