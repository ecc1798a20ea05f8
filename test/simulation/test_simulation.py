# SPDX-License-Identifier: MPL-2.0
"""Short runs of the simulation: the real daemon on a mock node where everything goes wrong that can, with every
guarantee checked. docs/testing.md says how to run more of it, and what to do with a seed that fails."""

import os

import pytest

from simulation.running import run
from simulation.seeds import PARTS, ROUNDS, short_plans


@pytest.mark.long
@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.more) for part in range(1, PARTS))])
def test_every_guarantee_holds(part, tmp_path):
    result = run(short_plans()[part], os.path.join(tmp_path, f"part-{part}.steps"))
    assert not result.broken, str(result)
    assert result.rounds == ROUNDS
    assert result.events > 50, "the node did not change enough for this to mean anything"
    assert result.reads > 10
