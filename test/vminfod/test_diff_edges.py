# SPDX-License-Identifier: MPL-2.0
"""What the recorded vectors leave out: edges of the rules, and where the original fails (bug C4)."""

import copy
import json
import random

import pytest

from support.examples import few
from vminfod.diff import diff, pretty_path

pytestmark = pytest.mark.pure

NICS = {"nics": "mac"}


def short(changes):
    """[('removed', 'a', old value), ('changed', 'b', old, new), ('added', 'c', new value)]; ident is last, if there."""
    rows = []
    for change in changes:
        row = [change["action"], change["prettyPath"]]
        row += [change[key] for key in ("oldValue", "newValue") if key in change]
        if "ident" in change:
            row.append({"ident": change["ident"]})
        rows.append(tuple(row))
    return rows


def exactly(value):
    return json.dumps(value)


@pytest.mark.parametrize("container", [{}, [], {"a": None}, [None]])
def test_null_against_a_container_is_one_change(container):
    assert diff({"x": None}, {"x": container}) == [
        {"prettyPath": "x", "path": ["x"], "action": "changed", "oldValue": None, "newValue": container}
    ]
    assert diff({"x": container}, {"x": None}) == [
        {"prettyPath": "x", "path": ["x"], "action": "changed", "oldValue": container, "newValue": None}
    ]


@pytest.mark.parametrize("odd", [None, 5, "m", True, 1.5])
def test_element_of_a_mapped_array_that_is_no_object_just_does_not_pair(odd):
    nic, other = {"mac": "m", "v": 1}, {"mac": "m", "v": 2}
    assert short(diff({"nics": [odd]}, {"nics": [nic]}, NICS)) == [("removed", "nics.*", odd), ("added", "nics.*", nic)]
    assert short(diff({"nics": [nic]}, {"nics": [odd]}, NICS)) == [("removed", "nics.*", nic), ("added", "nics.*", odd)]
    assert short(diff({"nics": [odd, nic]}, {"nics": ["x", other]}, NICS)) == [
        ("removed", "nics.*", odd),
        ("changed", "nics.*.v", 1, 2, {"ident": "m"}),
        ("added", "nics.*", "x"),
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (True, 1),
        (False, 0),
        (None, False),
        (1, "1"),
        (0, ""),
        (1.0, True),
        ("a", "A"),
        (None, 0),
        (2**53, 2**53 + 1),
    ],
)
def test_scalars_that_differ_are_changed_as_members_and_replaced_as_elements(old, new):
    assert exactly(short(diff({"k": old}, {"k": new}))) == exactly([("changed", "k", old, new)])
    assert exactly(short(diff([old], [new]))) == exactly([("removed", "*", old), ("added", "*", new)])
    assert exactly(short(diff([[{"k": old}]], [[{"k": new}]]))) == exactly(
        [("removed", "*", [{"k": old}]), ("added", "*", [{"k": new}])]
    )


@pytest.mark.parametrize(("old", "new"), [(1, 1.0), (0, -0.0), (1000, 1e3), (1.5, 1.50), (-3, -3.0), (10**22, 1e22)])
def test_numbers_of_equal_value_are_equal_as_members_and_inside_elements(old, new):
    assert diff({"k": old}, {"k": new}) == []
    assert diff([old], [new]) == []
    assert diff({"l": [{"k": [old]}]}, {"l": [{"k": [new]}]}) == []


def test_true_among_ones_is_found():
    assert short(diff([1, 1.0], [True, 1])) == [("added", "*", True)]
    assert short(diff({"a": [True, 1]}, {"a": [1]})) == [("removed", "a.*", True)]


def test_element_equal_to_one_that_has_a_twin_on_both_sides_is_not_added():
    assert diff([[1.0]], [[1.0], [1]]) == []


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ({"a": 1, "b": 2}, {"b": 3, "c": 4}, [("removed", "a", 1), ("changed", "b", 2, 3), ("added", "c", 4)]),
        (
            {"x": {"y": 1}, "z": 1},
            {"x": {"y": 2, "w": 0}, "z": 2},
            [("changed", "x.y", 1, 2), ("added", "x.w", 0), ("changed", "z", 1, 2)],
        ),
        ({"x": {"y": 1}}, {}, [("removed", "x", {"y": 1})]),
        ({"x": {"y": 1}}, {"x": 5}, [("changed", "x", {"y": 1}, 5)]),
        ({"x": {}}, {"x": []}, []),
        ({"x": ["p", "q"]}, {"x": {"0": "p", "k": 1}}, [("removed", "x.1", "q"), ("added", "x.k", 1)]),
        ([1, 2], [2, 1], []),
        ([1, 1, 2], [1, 2, 2], []),
        (["x", "y", "x"], ["y"], [("removed", "*", "x"), ("removed", "*", "x")]),
        (
            [{"a": 1, "b": 2}],
            [{"b": 2, "a": 1}],
            [("removed", "*", {"a": 1, "b": 2}), ("added", "*", {"b": 2, "a": 1})],
        ),
        ([{"2": 0, "1": 0}], [{"1": 0, "2": 0}], []),
        ([[1, 2]], [[2, 1]], [("removed", "*", [1, 2]), ("added", "*", [2, 1])]),
        ([[]], [{}], [("removed", "*", []), ("added", "*", {})]),
        ([{"03": 0, "1": 0}], [{"1": 0, "03": 0}], []),
        (
            [{"03": 0, "a": 0}],
            [{"a": 0, "03": 0}],
            [("removed", "*", {"03": 0, "a": 0}), ("added", "*", {"a": 0, "03": 0})],
        ),
    ],
)
def test_rows_of_the_tables_for_objects_and_arrays(old, new, changes):
    assert short(diff(old, new)) == changes


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ([{"mac": "m", "v": 1}], [{"mac": "m", "v": 2}], [("changed", "nics.*.v", 1, 2, {"ident": "m"})]),
        ([{"mac": "m", "v": 1}], [{"v": 1, "mac": "m"}], []),
        ([{"mac": "m"}], [{"mac": "n"}], [("removed", "nics.*", {"mac": "m"}), ("added", "nics.*", {"mac": "n"})]),
        (
            [{"mac": "a", "v": 1}, {"mac": "b"}],
            [{"mac": "c"}, {"mac": "a", "v": 2}],
            [
                ("removed", "nics.*", {"mac": "b"}),
                ("changed", "nics.*.v", 1, 2, {"ident": "a"}),
                ("added", "nics.*", {"mac": "c"}),
            ],
        ),
        ([{"v": 1}], [{"v": 2}], [("changed", "nics.*.v", 1, 2)]),
        ([{"mac": 1}], [{"mac": "1"}], [("removed", "nics.*", {"mac": 1}), ("added", "nics.*", {"mac": "1"})]),
        (
            [{"mac": 1, "v": 1}],
            [{"mac": True, "v": 1}],
            [("removed", "nics.*", {"mac": 1, "v": 1}), ("added", "nics.*", {"mac": True, "v": 1})],
        ),
        ([{"mac": 1, "v": 1}], [{"mac": 1.0, "v": 2}], [("changed", "nics.*.v", 1, 2, {"ident": 1})]),
        ([{"mac": None, "v": 1}], [{"mac": None, "v": 2}], [("changed", "nics.*.v", 1, 2, {"ident": None})]),
        (
            [{"mac": None, "v": 1}],
            [{"v": 1}],
            [("removed", "nics.*", {"mac": None, "v": 1}), ("added", "nics.*", {"v": 1})],
        ),
        (
            [{"mac": {"x": 1}, "v": 1}],
            [{"mac": {"x": 1}, "v": 2}],
            [("removed", "nics.*", {"mac": {"x": 1}, "v": 1}), ("added", "nics.*", {"mac": {"x": 1}, "v": 2})],
        ),
        (
            [{"mac": "a", "v": 1}, {"mac": "a", "v": 2}],
            [{"mac": "a", "v": 3}],
            [("removed", "nics.*", {"mac": "a", "v": 2}), ("changed", "nics.*.v", 1, 3, {"ident": "a"})],
        ),
        (
            [{"mac": "a", "v": 1}],
            [{"mac": "a", "v": 2}, {"mac": "a", "v": 3}],
            [("changed", "nics.*.v", 1, 2, {"ident": "a"}), ("added", "nics.*", {"mac": "a", "v": 3})],
        ),
        (
            [{"mac": "a", "ips": ["x"]}],
            [{"mac": "a", "ips": ["y"]}],
            [("removed", "nics.*.ips.*", "x", {"ident": "a"}), ("added", "nics.*.ips.*", "y", {"ident": "a"})],
        ),
        ([["p", "q"]], [["p", "r"]], [("changed", "nics.*.1", "q", "r")]),
    ],
)
def test_rows_of_the_table_for_mapped_arrays(old, new, changes):
    assert exactly(short(diff({"nics": old}, {"nics": new}, NICS))) == exactly(changes)


def test_map_does_not_apply_to_a_top_level_array():
    assert short(diff([{"mac": "m", "v": 1}], [{"mac": "m", "v": 2}], NICS)) == [
        ("removed", "*", {"mac": "m", "v": 1}),
        ("added", "*", {"mac": "m", "v": 2}),
    ]


def test_empty_identifier_name_is_no_map():
    assert short(diff({"nics": [{"": "m", "v": 1}]}, {"nics": [{"": "m", "v": 2}]}, {"nics": ""})) == [
        ("removed", "nics.*", {"": "m", "v": 1}),
        ("added", "nics.*", {"": "m", "v": 2}),
    ]


def test_key_of_changes_that_do_not_apply_is_absent():
    [change] = diff({}, {"a": None})
    assert list(change) == ["prettyPath", "path", "action", "newValue"]
    [change] = diff({"nics": [{"mac": "m", "v": 1}]}, {"nics": [{"mac": "m"}]}, NICS)
    assert list(change) == ["prettyPath", "path", "action", "oldValue", "ident"]
    assert change["path"] == ["nics", None, "v"]


@pytest.mark.parametrize(
    ("keys", "order"),
    [
        (["b", "10", "2"], ["2", "10", "b"]),
        (["03", "-1", "1.5", "7"], ["7", "03", "-1", "[1.5]"]),
        (["4294967295", "4294967294"], ["4294967294", "4294967295"]),
        (["x", "0", "00"], ["0", "x", "00"]),
        (["١", "1"], ["1", "١"]),
    ],
)
def test_keys_like_array_indexes_are_walked_first(keys, order):
    assert [change["prettyPath"] for change in diff(dict.fromkeys(keys, 1), {})] == order
    assert [change["prettyPath"] for change in diff({}, dict.fromkeys(keys, 1))] == order


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (["a", "b"], "a.b"),
        (["disks", None, "size"], "disks.*.size"),
        (["tags", "a.b"], "tags[a.b]"),
        (["a.b", "c"], "[a.b].c"),
        (["t", "x[0]"], "t[x\\[0\\]]"),
        (["m", "k.v", None], "m[k.v].*"),
        (["a", "", "b"], "a..b"),
        (["", "b"], "b"),
        ([], ""),
    ],
)
def test_pretty_path(path, text):
    assert pretty_path(path) == text


@pytest.mark.parametrize(("old", "new"), [({}, []), ([], {}), ({}, None), (1, 2), (True, 1), ("a", [])])
def test_top_level_values_of_different_kinds_are_an_error(old, new):
    with pytest.raises(TypeError):
        diff(old, new)


@pytest.mark.parametrize("value", [1, "a", None, True, 1.5])
def test_equal_scalars_at_the_top_are_no_change(value):
    assert diff(value, value) == []


@pytest.mark.parametrize("count", [3, 40])
def test_one_snapshot_among_many_is_found(count):
    snapshots = [{"name": f"s{number}", "created_at": number, "size": number % 3} for number in range(count)]
    old, new = {"snapshots": snapshots}, {"snapshots": copy.deepcopy(snapshots)}
    gone = new["snapshots"].pop(1)
    new["snapshots"].append({"name": "new", "created_at": 1, "size": 0})
    assert short(diff(old, new)) == [("removed", "snapshots.*", gone), ("added", "snapshots.*", new["snapshots"][-1])]


def test_all_elements_replaced_by_equal_ones_in_another_form_are_no_change():
    # More of them than are searched for one by one.
    assert diff([[number] for number in range(50)], [[float(number)] for number in reversed(range(50))]) == []


def naive_changes(old, new, path=()):
    """The rules for objects and arrays in the simplest way, for values without index-like keys and floats."""
    if isinstance(old, dict) and isinstance(new, dict):
        changes = []
        for key, value in old.items():
            if key not in new:
                changes.append(("removed", (*path, key), json.dumps(value)))
            elif isinstance(value, (dict, list)) and isinstance(new[key], type(value)):
                changes += naive_changes(value, new[key], (*path, key))
            elif json.dumps(value) != json.dumps(new[key]):
                changes.append(("changed", (*path, key), json.dumps(value), json.dumps(new[key])))
        return changes + [("added", (*path, key), json.dumps(new[key])) for key in new if key not in old]
    ours, theirs = [json.dumps(e) for e in old], [json.dumps(e) for e in new]
    return [("removed", (*path, None), text) for text in ours if text not in theirs] + [
        ("added", (*path, None), text) for text in theirs if text not in ours
    ]


def random_value(rng, depth=0):
    kind = rng.random()
    if depth < 3 and kind < 0.3:
        return {rng.choice("abcd"): random_value(rng, depth + 1) for _ in range(rng.randrange(4))}
    if depth < 3 and kind < 0.6:
        return [random_value(rng, depth + 1) for _ in range(rng.randrange(25 if depth == 0 else 4))]
    return rng.choice([0, 1, True, False, None, "x", "1", ""])


@pytest.mark.parametrize("seed", few(range(20), 5))
def test_random_values_agree_with_the_naive_reading(seed):
    rng = random.Random(seed)
    for _ in range(200):
        old = {key: random_value(rng) for key in "pqrs"}
        new = {key: value if rng.random() < 0.4 else random_value(rng) for key, value in old.items()}
        for key in "pqrs":  # object against array has rules of its own, tested above
            if {type(old[key]), type(new[key])} == {dict, list}:
                new[key] = None
        if any_mixed(old, new):
            continue
        got = [
            (
                change["action"],
                tuple(change["path"]),
                *(json.dumps(change[name]) for name in ("oldValue", "newValue") if name in change),
            )
            for change in diff(old, new)
        ]
        assert got == naive_changes(old, new)


def any_mixed(old, new):
    """Whether an object stands against an array somewhere on a path that is walked."""
    if isinstance(old, dict) and isinstance(new, dict):
        return any(any_mixed(old[key], new[key]) for key in old.keys() & new.keys())
    return {type(old), type(new)} == {dict, list}
