# SPDX-License-Identifier: MPL-2.0
"""Past a bound a member changes as one; up to it each change is listed."""

import pytest

from vminfod.diff import MOST_CHANGES, MOST_CONTAINERS, diff

pytestmark = pytest.mark.pure


def keys(count, value):
    return {f"k{number}": value for number in range(count)}


def whole(key, old, new):
    return {"prettyPath": key, "path": [key], "action": "changed", "oldValue": old, "newValue": new}


@pytest.mark.parametrize(
    "old, new",
    [
        (keys(MOST_CHANGES, "a"), keys(MOST_CHANGES, "b")),
        ({}, keys(MOST_CHANGES, "b")),
        (keys(MOST_CHANGES, "a"), {}),
    ],
    ids=["changed", "added", "removed"],
)
def test_up_to_the_bound_each_is_listed_and_past_it_the_map_is_one(old, new):
    assert len(diff({"m": old}, {"m": new})) == MOST_CHANGES
    old, new = ({**value, "more": number} if value else value for number, value in enumerate((old, new)))
    assert diff({"m": old, "n": 1}, {"m": new, "n": 2}) == [whole("m", old, new), diff({"n": 1}, {"n": 2})[0]]


def test_one_change_in_a_very_large_flat_map_is_still_found():
    old = keys(50_000, "a")
    new = {**old, "k7": "b"}
    assert [change["path"] for change in diff({"m": old}, {"m": new})] == [["m", "k7"]]


def test_map_of_very_many_maps_changes_as_one():
    old = {key: {"x": 1} for key in keys(MOST_CONTAINERS, 0)}
    new = {**{key: {"x": 1} for key in old}, "k0": {"x": 2}}
    assert diff({"m": old}, {"m": new}) == [whole("m", old, new)]


def test_list_of_very_many_new_elements_changes_as_one():
    old, new = [{"name": n} for n in range(3000)], [{"name": -n} for n in range(1, 3000)]
    assert diff({"snapshots": old}, {"snapshots": new}) == [whole("snapshots", old, new)]
