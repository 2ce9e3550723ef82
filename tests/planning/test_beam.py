"""Beam search against trying everything, and on twins whose combinations do not quite add up."""

from itertools import combinations

import pytest
import torch
from design_problems import lock_problem, planned
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_twin import normal
from wide_twins import LATENT, problem_on, wide_linear_twin, wide_response_twin

from perturbrl.errors import ConfigurationError
from perturbrl.planning.beam import BeamSearch
from perturbrl.planning.exhaustive import ExhaustiveSearch
from perturbrl.planning.schedule_value import ScheduleValue


def paid(problem, schedules):
    return ScheduleValue.from_start(problem)(schedules)


def used(schedule):
    return (schedule != 0).any(0).nonzero()[:, 0].tolist()


@pytest.mark.parametrize(("seed", "limit", "price"), [(0, 1, 0.05), (3, 2, 0.0), (3, 3, 0.0), (77, 3, 0.02)])
def test_on_a_response_twin_no_set_on_a_grid_of_doses_is_paid_more(seed, limit, price):
    twin = wide_response_twin(6, combinations=((0, 1), (2, 4)), seed=seed)
    problem = problem_on(
        twin, normal(LATENT, seed=seed), limit=limit, cost_per_perturbation=price, cost_l1=price
    )
    doses = []
    for chosen in combinations(range(6), limit):
        grid = torch.cartesian_prod(*[torch.arange(5) / 4] * limit).view(-1, limit)
        doses.append(torch.zeros(len(grid), 6).index_copy(1, torch.tensor(chosen), grid))
    best_on_grid = float(paid(problem, problem.schedules(torch.cat(doses))).max())
    schedule = planned(BeamSearch(), problem)
    assert len(used(schedule)) <= limit
    assert float(paid(problem, schedule[None])) >= best_on_grid - 2e-3


@settings(max_examples=3, deadline=None)
@given(st.integers(0, 500), st.sampled_from([1, 3]), st.sampled_from([-0.5, 0.0]))
def test_on_a_linear_twin_it_is_the_closed_form(seed, horizon, low):
    problem = problem_on(
        wide_linear_twin(12, low=low), 3 * normal(LATENT, seed=seed), horizon=horizon, limit=2
    )
    schedule = planned(BeamSearch(), problem)
    left = float((problem.shift - schedule.sum(0) @ problem.linear_effects).norm())
    assert left == pytest.approx(problem.optimal_distance, rel=2e-3, abs=2e-3)


def test_three_that_none_would_miss_are_found_among_thousands():
    twin = wide_linear_twin(3000)
    effects = twin.linear_effects()
    shift = 0.7 * effects[11] + effects[1500] + 0.5 * effects[2999]
    schedule = planned(BeamSearch(), problem_on(twin, shift))
    assert float((shift - schedule.sum(0) @ effects).norm()) < 0.02 * float(shift.norm())


def test_a_measured_combination_is_tried_though_its_parts_promise_nothing():
    twin = wide_response_twin(400, combinations=((17, 230),))
    told = twin.part_effects(2)
    shift = told.shifts[17] + told.shifts[230] + told.corrections[0]
    problem = problem_on(twin, shift, limit=2)
    for planner in (BeamSearch(), ExhaustiveSearch()):
        assert used(planned(planner, problem)) == [17, 230]


def test_nothing_is_dosed_where_everything_costs_more_than_it_brings():
    problem = problem_on(wide_linear_twin(30), normal(LATENT), cost_per_perturbation=2.0)
    assert not planned(BeamSearch(), problem).any()


def test_no_dose_too_small_to_be_given_is_planned():
    twin = wide_response_twin(40)
    schedule = planned(BeamSearch(), problem_on(twin, normal(LATENT), limit=3))
    assert all(abs(float(dose)) > 0.05 for dose in schedule[schedule != 0])


def test_one_perturbation_is_no_obstacle():
    twin = wide_linear_twin(1)
    schedule = planned(BeamSearch(), problem_on(twin, 0.5 * twin.effects[0], limit=None))
    torch.testing.assert_close(schedule.sum(0), torch.tensor([0.5]), atol=1e-3, rtol=0)


def test_twins_that_are_no_sum_of_parts_are_left_alone():
    assert not BeamSearch().plan(lock_problem())


def test_nonsense_is_refused():
    with pytest.raises(ConfigurationError, match="give at least 1 of each"):
        BeamSearch(max_size=0)
