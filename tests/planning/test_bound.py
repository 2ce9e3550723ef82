"""The bound lies above everything that any design is paid, and on the optimum where mixing designs changes nothing."""

import math

import pytest
import torch
from design_problems import lock_problem, planned
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_twin import normal
from wide_twins import LATENT, problem_on, wide_linear_twin, wide_response_twin

from perturbrl.planning.beam import BeamSearch
from perturbrl.planning.bound import highest_return
from perturbrl.planning.planners import BoundedLeastSquares
from perturbrl.planning.schedule_value import ScheduleValue


def paid(problem, totals):
    return ScheduleValue.from_start(problem)(problem.schedules(totals))


@settings(max_examples=4, deadline=None)
@given(
    st.integers(0, 500),
    st.sampled_from([1, 2, 3]),
    st.sampled_from([0.0, 0.05]),
    st.sampled_from([1, 3]),
    st.booleans(),
)
def test_no_design_is_paid_more(seed, limit, price, horizon, linear):
    twin = (
        wide_linear_twin(10, low=-0.5)
        if linear
        else wide_response_twin(10, combinations=((0, 1), (3, 7)), seed=seed)
    )
    shift = 2 * normal(LATENT, seed=seed)
    problem = problem_on(twin, shift, horizon, limit, cost_per_perturbation=price, cost_l1=price)
    bound = highest_return(problem)
    draws = torch.rand(400, 10, generator=torch.Generator().manual_seed(seed)) * (horizon if linear else 1)
    best = planned(BeamSearch(), problem)
    assert float(paid(problem, draws).max()) <= bound + 1e-4
    assert float(ScheduleValue.from_start(problem)(best[None])) <= bound + 1e-4
    assert bound <= 1.0 + 1e-5


@settings(max_examples=3, deadline=None)
@given(st.integers(0, 500), st.sampled_from([0.0, 0.05]))
def test_without_a_limit_it_is_the_optimum(seed, price):
    """Nothing is mixed then: the problem is convex as it is."""
    problem = problem_on(
        wide_linear_twin(6, min_dose=0.0), 2 * normal(LATENT, seed=seed), 1, None, cost_l1=price
    )
    schedule = planned(BeamSearch(), problem)
    best = float(ScheduleValue.from_start(problem, 256)(schedule[None]))
    assert highest_return(problem) == pytest.approx(best, abs=2e-3)
    if not price:
        closed = planned(BoundedLeastSquares(), problem)
        assert best == pytest.approx(float(ScheduleValue.from_start(problem, 256)(closed[None])), abs=1e-3)


@pytest.mark.parametrize(
    "problem",
    [
        lambda: lock_problem(),
        lambda: problem_on(wide_response_twin(9, n_members=2), normal(LATENT)),
        lambda: problem_on(wide_response_twin(9, n_contexts=2), normal(LATENT)),
        lambda: problem_on(wide_response_twin(9, several_doses=True), normal(LATENT)),
        lambda: problem_on(wide_linear_twin(9), normal(LATENT), goal="centroid"),
        lambda: problem_on(wide_linear_twin(9), normal(LATENT), reward="closeness"),
        lambda: problem_on(wide_linear_twin(9), normal(LATENT), norm="manhattan"),
        lambda: problem_on(wide_linear_twin(9, discrete=True), normal(LATENT)),
    ],
)
def test_where_cells_do_not_move_alike_there_is_none(problem):
    assert math.isnan(highest_return(problem()))
