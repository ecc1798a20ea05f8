# SPDX-License-Identifier: MPL-2.0
"""The subset rule and the matching of changes, as values."""

import copy

import pytest

from vminfod.clients.wanted import WantedChanges, WantedEvent, is_subset

pytestmark = pytest.mark.pure


def change(path, action="changed", **more):
    return {"prettyPath": ".".join(str(part) for part in path), "path": path, "action": action, **more}


def modify(*changes, uuid="u"):
    return {"type": "modify", "uuid": uuid, "changes": list(changes)}


@pytest.mark.parametrize(
    ("wanted", "seen", "match"),
    [
        ({}, {"type": "modify", "x": 1}, True),
        ({"type": "delete", "uuid": "u"}, {"type": "delete", "uuid": "u", "zonename": "u"}, True),
        ({"vm": {"zone_state": "running"}}, {"vm": {"zone_state": "running", "state": "running"}}, True),
        ({"vm": {"zone_state": "running"}}, {"type": "delete", "uuid": "u"}, False),
        ({"vm": {"zone_state": "running"}}, {"vm": {"zone_state": "ready"}}, False),
        ({"vm": {"tags": ["b"]}}, {"vm": {"tags": ["a", "b"]}}, True),
        ({"vm": {"tags": ["b", "a", "b"]}}, {"vm": {"tags": ["a", "b"]}}, True),
        ({"vm": {"tags": ["c"]}}, {"vm": {"tags": ["a", "b"]}}, False),
        ({"vm": {"nics": [{"mac": "m"}]}}, {"vm": {"nics": [{"mac": "m", "ip": "x"}]}}, False),
        ({"vm": {"nics": [{"mac": "m", "ip": "x"}]}}, {"vm": {"nics": [{"mac": "m", "ip": "x"}, {}]}}, True),
        ({"nics": [{"mac": "m", "ip": "x"}]}, {"nics": [{"ip": "x", "mac": "m"}]}, False),
        ({"nics": [{"1": "m", "0": "x"}]}, {"nics": [{"0": "x", "1": "m"}]}, True),
        ({"a": [[1, 2]]}, {"a": [[2, 1]]}, False),
        ({"a": []}, {"a": [1]}, True),
        ({"a": []}, {"a": {"k": 1}}, True),
        ({"a": {"1": "q"}}, {"a": ["p", "q"]}, True),
        ({"a": {"k": 1}}, {"a": ["p"]}, False),
        ({"a": 1}, {"a": "1"}, False),
        ({"a": 1}, {"a": True}, False),
        ({"a": True}, {"a": 1}, False),
        ({"a": [1]}, {"a": [True]}, False),
        ({"a": [False]}, {"a": [0, None]}, False),
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": [1000]}, {"a": [1e3]}, True),
        ({"a": None}, {}, False),
        ({"a": None}, {"a": None}, True),
        ({"a": {}}, {"a": None}, False),
        ({"a": {"b": 1}}, {"a": None}, False),
        ({"a": None}, {"a": {"b": 1}}, False),
        ({"a": {"b": 1}}, {"a": "b"}, False),
    ],
)
def test_subset_rule(wanted, seen, match):
    assert is_subset(wanted, seen) is match
    assert WantedEvent(wanted).met_by(seen) is match


@pytest.mark.parametrize(
    ("wanted", "seen", "met"),
    [
        ({"path": ["quota"], "action": "changed", "newValue": 20}, [change(["quota"], oldValue=10, newValue=20)], True),
        ({"path": ["tags", None], "action": "added"}, [change(["tags", "x"], "added", newValue=1)], True),
        ({"path": ["nics", None, "mtu"], "ident": "m"}, [change(["nics", None, "mtu"], ident="m")], True),
        ({"path": ["nics", None, "mtu"], "ident": "n"}, [change(["nics", None, "mtu"], ident="m")], False),
        ({"path": ["nics", "mtu"], "action": "changed"}, [change(["nics", None, "mtu"], ident="m")], False),
        ({"path": ["nics", "x", "mtu"], "action": "changed"}, [change(["nics", None, "mtu"])], False),
        ([{"path": ["a"], "action": "added"}, {"path": ["b"], "action": "removed"}], [change(["b"], "removed")], True),
        ({"path": ["a"], "action": "added"}, [change(["a", "b"], "added")], False),
        ({"path": ["a"], "newValue": {"x": 1}}, [change(["a"], "added", newValue={"x": 1, "y": 2})], True),
        ({"path": ["a"], "newValue": [1]}, [change(["a"], "added", newValue=[2, 1])], True),
        ({"path": ["a"], "newValue": None}, [change(["a"], "removed", oldValue=1)], False),
        ({"path": ["a"], "prettyPath": "a"}, [change(["a"])], True),
    ],
)
def test_matching_of_one_change(wanted, seen, met):
    assert WantedChanges({}, [wanted]).met_by(modify(*seen)) is met


def test_equal_entries_need_a_change_each():
    wanted = WantedChanges({}, [{"path": ["a"], "newValue": 1}, {"path": ["a"], "newValue": 1}])
    assert not wanted.met_by(modify(change(["a"], "added", newValue=1)))
    assert wanted.met_by(modify(change(["a"], "changed", newValue=1)))


def test_one_change_closes_the_first_open_entry_only():
    wanted = WantedChanges({}, [{"path": [None], "action": "added"}, {"path": ["b"], "action": "added"}])
    assert not wanted.met_by(modify(change(["b"], "added")))  # closes the wildcard, which comes first
    assert not wanted.met_by(modify(change(["a"], "added")))
    assert wanted.met_by(modify(change(["b"], "added")))


def test_entries_are_closed_over_several_events_of_the_matching_vm():
    wanted = WantedChanges({"uuid": "u"}, [{"path": ["a"], "action": "added"}, {"path": ["b"], "action": "added"}])
    assert not wanted.met_by(modify(change(["b"], "added")))
    assert not wanted.met_by(modify(change(["a"], "added"), uuid="other"))
    assert not wanted.met_by({"type": "create", "uuid": "u"})
    assert wanted.met_by(modify(change(["a"], "added")))


@pytest.mark.parametrize(
    "changes",
    [
        {"path": ["a"], "action": "added"},
        "a",
        None,
        [7],
        [{"action": "added"}],
        [{"path": "a", "action": "added"}],
        [{"path": ["a"]}],
        [[]],
        [[{"path": ["a"]}]],
        [[7]],
    ],
)
def test_wanted_changes_of_another_shape_are_refused(changes):
    with pytest.raises((TypeError, ValueError)):
        WantedChanges({}, changes)


@pytest.mark.parametrize("wanted", [None, [], "x"])
def test_wanted_event_must_be_an_object(wanted):
    with pytest.raises(TypeError):
        WantedEvent(wanted)


def test_lists_of_the_caller_stay_as_they_are():
    changes = [{"path": ["a"], "action": "added"}, [{"path": ["b"], "action": "added"}]]
    before = copy.deepcopy(changes)
    assert WantedChanges({}, changes).met_by(modify(change(["a"], "added"), change(["b"], "added")))
    assert changes == before
