# SPDX-License-Identifier: MPL-2.0
"""The recorded answers of the original's diff (test/vectors/diff.json): order counts, and so does an absent key."""

import copy
import json
from pathlib import Path

import pytest

from vminfod.diff import diff

pytestmark = pytest.mark.pure

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "diff.json").read_text())


def exactly(value):
    """A form in which 1 and true differ, and members in another order too."""
    return json.dumps(value)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_diff_answers_as_the_original(vector):
    old, new = copy.deepcopy(vector["from"]), copy.deepcopy(vector["to"])
    changes = diff(old, new, vector["options"].get("map"))
    assert exactly(changes) == exactly(vector["changes"])
    assert exactly([old, new]) == exactly([vector["from"], vector["to"]])


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_diff_of_a_value_with_its_copy_is_empty(vector):
    assert diff(vector["from"], copy.deepcopy(vector["from"]), vector["options"].get("map")) == []
