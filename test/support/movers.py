# SPDX-License-Identifier: MPL-2.0
"""Fixtures: two nodes between which VMs move (moving.py)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.moving import Two
from support.writing import written_node


@pytest.fixture(scope="module")
def two() -> Iterator[Two]:
    """Shared by the module: each test makes VMs of its own."""
    quiet = ("--log-level", "info")
    with written_node(2, None, *quiet) as one, written_node(2, None, *quiet) as other:
        yield Two(one, other)


@pytest.fixture(autouse=True)
def _no_faults_left_of_two(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "two" in request.fixturenames:
        both = request.getfixturevalue("two")
        for node in (both.one, both.other):
            node.control.clear_faults()
