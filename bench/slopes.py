# SPDX-License-Identifier: MPL-2.0
"""How a cost grows with the number of something, in words, from what was measured at several numbers. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

_FLAT = 1.25  # times the figure at the smallest number: below, it is called the same
_EVEN = 1.5  # times the slope before it: a last step within this, up or down, is called even


def slope(points: Mapping[int, float]) -> Optional[float]:
    """What each one more costs: least squares over (number, figure). None: there are not two numbers."""
    if len(points) < 2:
        return None
    middle = sum(points) / len(points)
    level = sum(points.values()) / len(points)
    return sum((x - middle) * (y - level) for x, y in points.items()) / sum((x - middle) ** 2 for x in points)


def words(points: Mapping[int, float], unit: str, per: int, what: str) -> str:
    """A sentence: whether the figure grows with the number of `what`, by how much for `per` of them, and whether the
    last step was as steep as what came before."""
    each = slope(points)
    if each is None:
        return "measured at one size only"
    (least, first), (most, last) = min(points.items()), max(points.items())
    ends = f"{_shown(first)} {unit} at {least:,}, {_shown(last)} at {most:,}"
    if last <= first * _FLAT:
        return f"does not grow with {what}: {ends}"
    return f"{_shown(each * per)} {unit} more for {per:,} {what}{_shape(points)}: {ends}"


def _shape(points: Mapping[int, float]) -> str:
    numbers = sorted(points)
    if len(numbers) < 3:
        return ""
    first, before, last = numbers[0], numbers[-2], numbers[-1]
    early = (points[before] - points[first]) / (before - first)
    late = (points[last] - points[before]) / (last - before)
    if late > early * _EVEN:
        return ", steeper towards the end"
    return ", flatter towards the end" if late * _EVEN < early else ", evenly"


def row(
    name: str,
    unit: str,
    per: int,
    what: str,
    ours: Mapping[int, float],
    peer_name: Optional[str] = None,
    peers: Optional[Mapping[int, float]] = None,
) -> dict[str, Any]:
    """The slope as a report has it; `ours` and `peers`: figures by number of `what`; `per`: for how many it is
    given."""
    each = slope(ours)
    made: dict[str, Any] = {
        "name": f"{name}, over {what}",
        "unit": unit,
        "per": per,
        "points": {str(number): round(figure, 6) for number, figure in sorted(ours.items())},
        "slope": None if each is None else each * per,
        "words": words(ours, unit, per, what),
    }
    if peers:
        theirs = slope(peers)
        made.update(
            peer=peer_name,
            peer_points={str(number): round(figure, 6) for number, figure in sorted(peers.items())},
            peer_slope=None if theirs is None else theirs * per,
            peer_words=words(peers, unit, per, what),
        )
    return made


def _shown(number: float) -> str:
    return f"{number:.3g}" if abs(number) < 1000 else f"{number:,.0f}"
