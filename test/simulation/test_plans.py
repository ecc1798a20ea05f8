# SPDX-License-Identifier: MPL-2.0
"""From a seed to steps: always the same ones, in a form that can be kept, cut and run again."""

import pytest

from simulation import steps
from simulation.acting import Actor
from simulation.faults import ANNOUNCED, THEMES, UNANNOUNCED
from simulation.generator import CALM, endless, plan
from simulation.seeds import short_plans

pytestmark = pytest.mark.pure


def themes(one):
    return [theme for step in one.steps if step.do == CALM for theme in step.args["themes"]]


def test_same_seed_gives_the_same_steps():
    assert plan(5, 20).text() == plan(5, 20).text() != plan(6, 20).text()


def test_a_plan_survives_its_file():
    made = plan(5, 20)
    assert steps.parse(made.text()) == made


def test_lines_can_be_taken_out_of_a_file():
    lines = plan(5, 3).text().splitlines()
    cut = "\n".join(["# made smaller by hand", *lines[:1], "", *lines[4:9]])
    assert steps.parse(cut).steps == plan(5, 3).steps[3:8]


def test_every_step_can_be_carried_out():
    made = plan(5, 200)
    for step in made.steps:
        assert step.do == CALM or hasattr(Actor, f"do_{step.do}"), step
    assert set(UNANNOUNCED) <= {step.do for step in made.steps}
    assert set(ANNOUNCED) == {step.args["kind"] for step in made.steps if step.do == "churn"}


def test_every_theme_comes_before_any_comes_again():
    drawn = themes(plan(5, 3 * len(THEMES)))
    for part in range(3):
        assert sorted(drawn[part * len(THEMES) : (part + 1) * len(THEMES)]) == sorted(THEMES)


def test_a_long_run_mixes_themes_and_goes_on():
    rounds = endless(5, 4)
    together = [len(next(rounds)[-1].args["themes"]) for _ in range(100)]
    assert {1, 2} == set(together)


def test_the_short_runs_together_have_every_theme():
    assert {theme for one in short_plans() for theme in themes(one)} == set(THEMES)
