import pytest
import torch
from design_problems import (
    START,
    LockAndKey,
    Pushed,
    boolean_problem,
    distance_of,
    linear_problem,
    lock_problem,
    radius_problem,
    success_of,
)

from perturbrl.errors import ConfigurationError
from perturbrl.evaluation.simulation import simulate
from perturbrl.planning.exhaustive import ExhaustiveSearch
from perturbrl.planning.greedy import GreedyDesign
from perturbrl.planning.lookahead import Lookahead, single_doses
from perturbrl.planning.planners import search_planners
from perturbrl.twins.perturbations import PerturbationSpace


def test_single_doses_cover_both_directions_and_nothing():
    space = PerturbationSpace(("A", "B"), [-1.0, 0.0], [1.0, 2.0])
    doses = single_doses(space, 2)
    expected = {(0, 0), (0.5, 0), (1, 0), (0, 1), (0, 2), (-0.5, 0), (-1, 0)}
    assert {tuple(row) for row in doses.tolist()} == expected
    assert len(doses) == len(expected)


def test_two_steps_of_lookahead_open_the_lock_that_greedy_leaves_closed():
    problem = lock_problem()
    assert distance_of(problem, GreedyDesign()) > 0.95
    assert distance_of(problem, Lookahead(depth=1)) > 0.95
    assert distance_of(problem, Lookahead(depth=2)) < 0.2


def test_a_narrow_beam_gives_up_what_the_full_tree_finds():
    problem = lock_problem()
    n_candidates = len(single_doses(problem.space, 1))
    full = Lookahead(depth=2, n_levels=1, max_sequences=n_candidates**2)
    narrow = Lookahead(depth=2, n_levels=1, max_sequences=1)
    assert distance_of(problem, full) < 0.2 < 0.9 < distance_of(problem, narrow)


def test_lookahead_does_nothing_where_every_dose_costs_too_much():
    problem = linear_problem()
    expensive = radius_problem(problem.twin, problem.goal_cells, cost_l1=10.0)
    planner = Lookahead()
    assert planner.plan(expensive)
    assert not simulate(expensive, planner, problem.twin.start_cells).doses.any()


def test_lookahead_plans_apart_for_cells_in_different_states():
    """Half of the cells stand beyond the goal: they need the opposite dose."""
    twin = Pushed()
    problem = radius_problem(twin, torch.tensor([[1.0, 0.0]]).expand(60, 2), goal="centroid")
    start = torch.tensor([[0.0, 0.0], [2.0, 0.0]]).repeat(20, 1)
    planner = Lookahead(depth=1)
    assert planner.plan(problem)
    result = simulate(problem, planner, start)
    torch.testing.assert_close(result.final, torch.tensor([[1.0, 0.0]]).expand(40, -1))
    torch.testing.assert_close(result.doses[:2, 0], torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    blind = Lookahead(depth=1, n_groups=1)
    assert blind.plan(problem)
    assert float(simulate(problem, blind, start).success.float().mean()) < 0.6


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_lookahead_is_named_after_its_depth(depth):
    assert Lookahead(depth).name == f"lookahead_{depth}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "depth", "low", "high"),
    [("D1", 1, 0, 0), ("D1", 2, 0, 0), ("D1", 3, 0.97, 1), ("D9", 1, 0, 0), ("D9", 2, 0.97, 1)],
)
def test_lookahead_meets_the_exact_success_of_its_depth_on_deceptive_tasks(name, depth, low, high):
    """Exact dynamic programming gives .9998 from depth 3 on in D1 and from depth 2 on in D9, and 0 before."""
    problem, suite = boolean_problem(name, cost_per_perturbation=1e-3)
    assert low <= success_of(problem, Lookahead(depth)) <= high
    assert suite.best_success()[-1] >= low


def test_exhaustive_search_finds_the_pair_and_stops_dosing_in_time():
    problem = lock_problem(cost_l1=0.01)
    planner = ExhaustiveSearch(max_size=2)
    assert planner.plan(problem)
    # Held for three steps: the first only opens the lock, the next two push by almost one unit each.
    torch.testing.assert_close(planner.schedule, torch.tensor([[1.0, 1.0]] * 3 + [[0.0, 0.0]]))


def test_exhaustive_search_refuses_what_it_cannot_finish():
    problem = lock_problem()
    n_schedules = 4 * (1 + 2 + 1)
    assert ExhaustiveSearch(max_size=2, budget=n_schedules).plan(problem)
    refusing = ExhaustiveSearch(max_size=2, budget=n_schedules - 1)
    assert not refusing.plan(problem)
    assert refusing.reason == f"there are {n_schedules} schedules, more than {n_schedules - 1}"
    of_three = ExhaustiveSearch(max_size=3, budget=100)
    assert of_three.n_schedules(linear_problem()) == 1 + 6 * 2 + 15 * 4 + 20 * 8
    assert not of_three.plan(linear_problem())


@pytest.mark.parametrize("limits", [{}, {"max_perturbations": 1}])
@pytest.mark.parametrize("horizon", [1, 3])
def test_beyond_its_budget_exhaustive_search_finds_the_same_by_sums_of_parts(horizon, limits):
    problem = linear_problem(horizon, **limits)
    whole, parts = ExhaustiveSearch(), ExhaustiveSearch(budget=1)
    assert whole.plan(problem)
    assert parts.plan(problem)
    assert torch.equal(whole.schedule, parts.schedule)


def test_exhaustive_search_of_actions_finds_the_shortest_way_over_the_hill():
    problem, suite = boolean_problem("L2m4", horizon=2)
    assert success_of(problem, Lookahead(1)) == 0.0
    planner = ExhaustiveSearch()
    assert success_of(problem, planner) == suite.best_success()[1] == 1.0
    assert [suite.mdp.actions[i] for i in planner.schedule] == ["+c1", "+c2"]
    assert not ExhaustiveSearch(budget=problem.space.n_actions**2 - 1).plan(problem)


def test_every_searching_planner_treats_discrete_actions():
    space = PerturbationSpace(("open", "push"), discrete=True)
    problem = radius_problem(LockAndKey(), START + torch.tensor([2.0, 0.0]), 3, space)
    able = [planner for planner in search_planners() if planner.plan(problem)]
    assert {planner.name for planner in able} == {"lookahead_3", "cem", "mpc", "exhaustive"}
    # Opening and pushing take turns: one push is all that fits into three steps.
    assert [distance_of(problem, planner) for planner in able] == [pytest.approx(0.55, abs=0.06)] * 4


@pytest.mark.parametrize(
    "make",
    [
        lambda: Lookahead(depth=0),
        lambda: ExhaustiveSearch(budget=0),
    ],
)
def test_impossible_options_are_errors(make):
    with pytest.raises(ConfigurationError, match="give"):
        make()
