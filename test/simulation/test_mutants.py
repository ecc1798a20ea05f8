# SPDX-License-Identifier: MPL-2.0
"""The mutants of `make mutants` still fit the daemon, and there is one for each guarantee."""

import ast
import shutil

import pytest

from simulation.guarantees import GUARANTEES
from simulation.mutants import CHECKOUT, LIB, MUTANTS

pytestmark = pytest.mark.pure


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_fits(mutant, tmp_path):
    path = tmp_path / LIB / mutant.file
    path.parent.mkdir(parents=True)
    shutil.copy(CHECKOUT / LIB / mutant.file, path)
    mutant.apply(tmp_path)
    ast.parse(path.read_text())


def test_every_guarantee_has_a_mutant_to_catch():
    assert {mutant.caught_by for mutant in MUTANTS} == set(GUARANTEES)
