import numpy as np
import pytest
import torch
from design_problems import boolean_problem, planned, shift_problem, success_of
from linear_twin import normal

from perturbrl.evaluation.simulation import simulate
from perturbrl.planning.greedy import GreedyActions, GreedyDesign, expected_distances


def left(problem, schedule):
    return float((problem.shift - schedule.sum(0) @ problem.linear_effects).norm())


@pytest.mark.parametrize("horizon", [1, 3])
def test_greedy_takes_the_best_single_dose_first(horizon):
    effects, shift = normal(5, 4), 1.2 * normal(4, seed=6)
    problem = shift_problem(effects, shift, horizon=horizon, max_perturbations=1, low=-1.0)
    schedule = planned(GreedyDesign(), problem)
    levels = torch.arange(1, 9) / 8
    singles = torch.cat([sign * levels[:, None, None] * torch.eye(5) for sign in (1, -1)]).reshape(-1, 5)
    best = singles[(shift - singles @ effects).norm(dim=1).argmin()]
    assert torch.allclose(schedule[0], best)
    assert (schedule != 0).any(0).sum() == 1


def test_greedy_stops_when_nothing_helps():
    effects = torch.tensor([[0.0, 5.0], [-3.0, 0.0]])
    schedule = planned(GreedyDesign(), shift_problem(effects, torch.tensor([1.0, 0.0])))
    assert not schedule.any()


def test_greedy_improves_with_every_perturbation_it_may_use():
    effects, shift = normal(6, 5), 2 * normal(5, seed=3)
    lefts = [
        left(p, planned(GreedyDesign(), p))
        for p in (shift_problem(effects, shift, max_perturbations=k) for k in (1, 2, 3))
    ]
    assert lefts == sorted(lefts, reverse=True)
    assert lefts[-1] >= shift_problem(effects, shift, max_perturbations=3).optimal_distance - 1e-5


def test_greedy_among_hundreds_is_quick():
    effects = normal(300, 20)
    problem = shift_problem(effects, effects[7] + effects[200])
    schedule = planned(GreedyDesign(), problem)
    assert {7, 200} <= set(schedule[0].topk(2).indices.tolist())


def test_greedy_for_doses_and_for_actions_leave_each_other_alone():
    doses = shift_problem(normal(4, 3), torch.ones(3))
    actions = shift_problem(normal(4, 3), torch.ones(3), discrete=True)
    assert GreedyDesign().plan(doses)
    assert GreedyActions().plan(actions)
    assert not GreedyDesign().plan(actions)
    assert not GreedyActions().plan(doses)


@pytest.mark.parametrize("name", ["D1", "D10"])
def test_expected_distances_agree_with_the_exact_decision_process(name):
    problem, suite = boolean_problem(name)
    states = problem.twin.attractors()
    fixed = [i for i, attractor in enumerate(suite.mdp.attractors) if len(states[attractor]) == 1]
    state = torch.cat([states[suite.mdp.attractors[i]] for i in fixed])
    goal = problem.goal_cells.expand_as(state)
    used = torch.zeros(len(state), problem.space.n_perturbations, dtype=torch.bool)
    found = expected_distances(problem, state, goal, used, torch.Generator().manual_seed(0)).numpy()
    distance = np.sqrt(suite.mdp.distance[suite.mdp.node(suite.target)])
    exact = (suite.mdp.outcome @ distance)[fixed]
    spread = np.sqrt(np.maximum(suite.mdp.outcome @ distance**2 - (suite.mdp.outcome @ distance) ** 2, 0))
    assert (np.abs(found - exact) <= 4.5 * spread[fixed] / np.sqrt(256) + 1e-5).all()
    assert (spread[fixed] > 0.1).any()


@pytest.mark.parametrize(
    ("name", "success"), [("D1", 0.0), ("D9", 0.0), ("L2m4", 0.0), ("S1", 1.0), ("S4", 1.0)]
)
def test_greedy_actions_meet_their_exact_success(name, success):
    """One-step greed fails on the deceptive tasks and solves the easy ones, as exact dynamic programming says."""
    problem, suite = boolean_problem(name)
    policy = suite.mdp.greedy_policy(suite.target)
    chain = np.linalg.matrix_power(suite.mdp.outcome[np.arange(len(policy)), policy], suite.horizon)
    exact = chain[suite.mdp.node(suite.source), suite.mdp.node(suite.target)]
    assert success_of(problem, GreedyActions()) == pytest.approx(exact) == pytest.approx(success)


def test_cells_in_different_states_get_different_greedy_actions_and_arrived_ones_none():
    problem, _ = boolean_problem("L2m4", horizon=1)
    states = problem.twin.attractors()
    cells = torch.cat((states["source_A"], states["target_B"], states["source_A"]))
    doses = simulate(problem, planner_of(problem), cells).doses[:, 0]
    assert torch.equal(doses[0], doses[2])
    assert doses[0].abs().sum() == 1
    assert not doses[1].any()


def planner_of(problem):
    planner = GreedyActions()
    assert planner.plan(problem)
    return planner
