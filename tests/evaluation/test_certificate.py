"""What a certificate says of a design whose worth is known."""

import json
import math
from dataclasses import replace

import pytest
import torch
from judged_designs import EFFECTS, PAIR, Fixed, problem_of
from linear_twin import normal
from wide_twins import LATENT, problem_on, wide_linear_twin, wide_response_twin

from perturbrl.envs.tasks import ReachCellState
from perturbrl.evaluation.certificate import LEAST_GAP, best_known
from perturbrl.evaluation.statistics import Interval
from perturbrl.planning.lookahead import Lookahead
from perturbrl.planning.planners import NoOpDesign
from perturbrl.planning.schedule_value import MOST_WORK

LONE = [1.0, 0.0, 0.0, 0.0, 0.0]


def certificate(dose, **options):
    return best_known(problem_of(**options), Fixed("policy", dose))


def test_a_design_that_no_search_beats_has_no_gap():
    twin = wide_linear_twin(5)
    problem = problem_on(twin, twin.effects[0] + twin.effects[1])  # the goal is where the pair leads
    found = best_known(problem, Fixed("policy", PAIR))
    assert found.best == "policy"
    assert found.gap == Interval(0.0, 0.0, 0.0)
    assert not found.is_beaten
    assert found.returns["policy"] > 0.9
    assert found.rival in {"beam", "optimum", "exhaustive"}
    assert set(found.dosed) == {"G0", "G1"}


def test_a_design_that_searches_beat_is_told_by_how_much():
    problem = problem_of()
    found = best_known(problem, Fixed("policy", LONE))
    left = float((problem.shift - EFFECTS[0]).norm() / problem.shift.norm())
    assert found.returns["policy"] == pytest.approx(1 - left, abs=1e-3)
    assert found.is_beaten
    assert found.gap.estimate == pytest.approx(
        max(found.returns.values()) - found.returns["policy"], abs=1e-6
    )
    assert {"G0", "G1"} <= set(found.dosed)
    assert found.gap_of("policy") == pytest.approx(found.gap.estimate)
    assert found.gap_of(found.best) == 0


def test_prices_count():
    """Beyond what a pair brings, nothing is better than doing nothing."""
    found = certificate(PAIR, task=ReachCellState(cost_per_perturbation=1.0))
    assert found.returns["policy"] == pytest.approx(-1.0, abs=0.05)
    assert found.best == "no_op"
    assert found.returns["beam"] == found.returns["no_op"] == 0.0


def test_limits_hold_for_every_design():
    problem = problem_of(shift=EFFECTS[0] + EFFECTS[1] + EFFECTS[2])
    free, limited = (
        best_known(replace(problem, space=problem.space.restrict(max_perturbations=limit)))
        for limit in (None, 1)
    )
    assert free.returns["beam"] > limited.returns["beam"] + 0.1
    assert limited.highest < free.highest - 0.1
    assert len(limited.dosed) == 1
    assert all(paid <= limited.highest + 1e-4 for paid in limited.returns.values())


def test_doing_nothing_is_certified_where_no_design_is_given():
    found = best_known(problem_of())
    assert (found.design, found.returns["no_op"]) == ("no_op", 0.0)
    assert found.is_beaten


def test_small_gaps_are_no_defeat():
    found = certificate([0.995, 1.0, 0.0, 0.0, 0.0])
    assert 0 < found.gap.estimate < LEAST_GAP
    assert found.best != "policy"
    assert not found.is_beaten


def test_searches_that_were_too_much_work_are_named():
    problem = problem_on(wide_response_twin(700), normal(LATENT))
    assert MOST_WORK < 700 * 4096 * 640
    found = best_known(problem, planners=(NoOpDesign(), Lookahead()))
    assert found.left_out == {
        "lookahead_3": "a search at every step among 700 perturbations would take minutes"
    }
    assert found.rival is None


def test_it_is_plain_values_for_json():
    found = certificate(LONE).as_dict()
    assert found["best_is_better"] is True
    assert json.loads(json.dumps(found)) == found


def test_there_is_no_bound_where_members_differ():
    found = best_known(
        problem_on(wide_response_twin(12, n_members=3), torch.ones(LATENT)), Fixed("policy", [0.0] * 12)
    )
    assert math.isnan(found.highest)
    assert found.rival == "beam"
