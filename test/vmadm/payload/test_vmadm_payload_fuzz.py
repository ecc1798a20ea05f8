# SPDX-License-Identifier: MPL-2.0
"""Payloads of every shape: validation says what is wrong, or that nothing is, and never ends with an exception."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from support.examples import examples
from support.payload_vectors import recorded_node
from vmadm.payload.findings import look_through
from vmadm.payload.nodefacts import facts_needed
from vmload import brands, properties

pytestmark = pytest.mark.pure

NODE = recorded_node()
NAMES = sorted({name for name in properties.table() if ".*." not in name})
MEMBERS = sorted({name.rpartition(".*.")[2] for name in properties.table() if ".*." in name})

texts = some.one_of(
    some.text(max_size=8),
    some.sampled_from(["", " ", "1e3", "1e1", "0x10", "-0", "Infinity", "\ud800", "a\x00b", '"q"', "auto", "nics[7]"]),
    some.sampled_from([image for _, image in NODE.images]),
)
scalars = some.one_of(some.none(), some.booleans(), some.integers(), some.floats(), texts)
values = some.recursive(
    scalars,
    lambda inner: some.one_of(
        some.lists(inner, max_size=3),
        some.dictionaries(some.one_of(some.sampled_from(MEMBERS), some.text(max_size=4)), inner, max_size=4),
    ),
    max_leaves=8,
)
payloads = some.dictionaries(some.one_of(some.sampled_from(NAMES), some.text(max_size=5)), values, max_size=6)


@settings(max_examples=examples(200), deadline=None, derandomize=True)
@given(
    payload=payloads,
    brand=some.sampled_from(sorted(brands.table()["brands"])),
    action=some.sampled_from(["create", "update"]),
)
def test_validation_answers_whatever_the_payload_holds(payload, brand, action):
    before = repr(payload)
    facts_needed(payload)
    lists = look_through(payload, brand, action, NODE).lists()
    assert all(isinstance(name, str) for names in lists.values() for name in names)
    assert repr(payload) == before
    json.dumps(lists)
