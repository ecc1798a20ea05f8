# SPDX-License-Identifier: MPL-2.0
"""The mutants of `make mutants` still fit the daemon, and there is one for each guarantee."""

import ast

import pytest

from simulation.guarantees import GUARANTEES
from simulation.mutants import CHECKOUT, LIB, MUTANTS

pytestmark = pytest.mark.pure


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_fits(mutant):
    ast.parse(mutant.worse((CHECKOUT / LIB / mutant.file).read_text(encoding="utf-8")))


def test_every_guarantee_has_a_mutant_to_catch():
    assert {mutant.caught_by for mutant in MUTANTS} == set(GUARANTEES)
