# SPDX-License-Identifier: MPL-2.0
"""The short runs: parts of one seed, by which every theme comes once; a test holds them to that."""

from simulation.generator import plan
from simulation.steps import Plan

SEED = 5
PARTS = 3
ROUNDS = 6  # of each part
LENGTH = 14  # ordinary operations a round


def short_plans() -> list[Plan]:
    return [plan(SEED, ROUNDS, LENGTH, skip=part * ROUNDS) for part in range(PARTS)]
