# SPDX-License-Identifier: MPL-2.0
"""How much of what a test could try it tries in the suite that is run all the time (docs/testing.md). The rest is for
`make test-all`.

    @settings(max_examples=examples(200))          of those that it makes up an eighth; all if VMINFOD_EXAMPLES is `all`
    @pytest.mark.parametrize("step", few(STEPS))   the first, a middle and the last one; the others are marked `more`
    @pytest.mark.parametrize("name", ["INT", *more("HUP", "QUIT")])       one of each kind; the others are marked `more`
    @pytest.mark.parametrize(("what", "harm"), in_turn(COMMANDS, HARMS))  each command, with one harm or another"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import pytest


def examples(number: int) -> int:
    """Of `number` examples, those that this run makes."""
    return number if os.environ.get("VMINFOD_EXAMPLES") == "all" else -(-number // 8)


def few(values: Iterable[Any], kept: int = 3) -> list[Any]:
    """All `values` of a parameter, or of several if they are tuples; but for `kept` of them, from the first to the last
    at even distances, they are marked `more`."""
    listed = list(values)
    last = len(listed) - 1
    chosen = {round(number * last / max(1, kept - 1)) for number in range(kept)}
    return [value if place in chosen else _marked(value) for place, value in enumerate(listed)]


def more(*values: Any) -> list[Any]:
    """These values, all marked `more`: of a kind of which another is tried always."""
    return [_marked(value) for value in values]


def in_turn(values: Iterable[Any], others: Iterable[Any]) -> list[Any]:
    """All pairs. Not marked `more` is one for each of `values`, with one of `others` after another."""
    with_each = list(others)
    return [
        pytest.param(value, other, marks=[pytest.mark.more] * (place % len(with_each) != turn))
        for place, value in enumerate(values)
        for turn, other in enumerate(with_each)
    ]


def _marked(value: Any) -> Any:
    if hasattr(value, "marks"):  # a pytest.param()
        return pytest.param(*value.values, marks=[*value.marks, pytest.mark.more], id=value.id)
    return pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.more)
