from itertools import product

import numpy as np
import pytest
import torch
from linear_twin import linear_twin, normal
from tensordict import TensorDict

from perturbrl.envs.base import DigitalTwin
from perturbrl.envs.perturbations import PerturbationSpace
from perturbrl.envs.tasks import ReachCellState
from perturbrl.evaluation.planners import (
    BoundedLeastSquares,
    DesignProblem,
    GreedyDesign,
    NearestPerturbation,
    NonNegativeLeastSquares,
    NoOp,
    RandomDesign,
    default_planners,
)


def problem_of(effects, shift, horizon=1, allowed=None, twin=None, **space):
    twin = linear_twin(effects, **space) if twin is None else twin
    task = ReachCellState()
    goal = twin.start_cells + shift
    task.aim(twin.start_cells, goal)
    return DesignProblem(twin, task, twin.perturbations.restrict(allowed), horizon, goal)


def planned(planner, problem):
    assert planner.plan(problem)
    return torch.stack([planner.action(TensorDict(batch_size=[3]), t)[0] for t in range(problem.horizon)])


def left(problem, schedule):
    return float((problem.shift - schedule.sum(0) @ problem.linear_effects).norm())


def test_what_a_problem_knows():
    effects = normal(4, 3)
    problem = problem_of(effects, torch.ones(3), allowed=["G2", "G0"])
    assert torch.allclose(problem.shift, torch.ones(3), atol=1e-5)
    assert torch.equal(problem.linear_effects, effects[[2, 0]])


@pytest.mark.parametrize("discrete", [False, True])
def test_doing_nothing(discrete):
    problem = problem_of(normal(4, 3), torch.ones(3), low=-1.0, discrete=discrete)
    planner = NoOp()
    assert planner.plan(problem)
    action = planner.action(TensorDict(batch_size=[5]), 0)
    dose, used = problem.space.project(action, torch.zeros(5, 4, dtype=torch.bool))
    assert not dose.any()
    assert not used.any()


def test_a_random_design_is_the_same_for_the_same_seed_and_within_the_box():
    problem = problem_of(normal(6, 3), torch.ones(3), horizon=2, low=-1.0)
    first, again = planned(RandomDesign(), problem), planned(RandomDesign(), problem)
    assert torch.equal(first, again)
    assert (first[0] != 0).sum() == 2
    assert ((first >= -1) & (first <= 1)).all()
    assert (
        planned(RandomDesign(), problem_of(normal(6, 3), torch.ones(3), max_perturbations=1))[0] != 0
    ).sum() == 1


def test_the_nearest_perturbation_by_brute_force():
    effects, shift = normal(8, 3), normal(3, seed=4)
    schedule = planned(NearestPerturbation(), problem_of(effects, shift, horizon=2))
    best = int(np.argmin([float((e - shift).norm()) for e in effects]))
    assert schedule[0].nonzero().flatten().tolist() == [best]
    assert schedule[0, best] == 1.0
    assert not schedule[1].any()


def test_the_nearest_perturbation_knows_that_its_dose_is_limited():
    effects = torch.tensor([[1.0, 0.0], [4.0, 0.0]])
    problem = problem_of(effects, torch.tensor([1.0, 0.0]), high=0.25)
    assert planned(NearestPerturbation(), problem)[0].tolist() == [0.0, 0.25]


def test_non_negative_least_squares_of_a_known_mixture():
    effects = normal(3, 6)
    shift = 0.7 * effects[0] + 0.4 * effects[2]
    schedule = planned(NonNegativeLeastSquares(), problem_of(effects, shift))
    assert schedule[0].tolist() == pytest.approx([0.7, 0.0, 0.4], abs=1e-4)


def test_the_optimum_is_never_worse_than_any_dose_on_a_grid():
    effects, shift = normal(3, 4), 1.5 * normal(4, seed=2)
    problem = problem_of(effects, shift, low=-1.0, min_dose=0.0)
    grid = torch.tensor(list(product(np.linspace(-1, 1, 21), repeat=3))).float()
    best = float((shift - grid @ effects).norm(dim=1).min())
    assert problem.optimal_distance <= best + 1e-6
    assert left(problem, planned(BoundedLeastSquares(), problem)) == pytest.approx(
        problem.optimal_distance, abs=1e-4
    )


def test_the_optimum_knows_the_number_that_is_allowed():
    effects = normal(6, 4)
    shift = effects[1] + 0.5 * effects[4]
    problem = problem_of(effects, shift, max_perturbations=2)
    assert problem.optimal_distance < 1e-4
    assert planned(BoundedLeastSquares(), problem)[0].nonzero().flatten().tolist() == [1, 4]
    alone = problem_of(effects, shift, max_perturbations=1)
    assert alone.optimal_distance > 0.05


def test_total_doses_are_given_in_few_large_parts():
    problem = problem_of(normal(4, 3), torch.ones(3), horizon=4, low=-0.5)
    schedule = problem.schedule(np.array([0.9, 2.2, -0.6, 0.0]))
    assert torch.allclose(schedule.sum(0), torch.tensor([0.9, 2.2, -0.6, 0.0]), atol=1e-6)
    assert (schedule != 0).sum(0).tolist() == [1, 3, 2, 0]
    assert ((schedule >= -0.5) & (schedule <= 1.0 + 1e-6)).all()
    whole = problem.schedule(np.array([2.0 + 1e-9, 0.0, 0.0, 0.0]))
    assert (whole != 0).sum() == 2


def test_totals_beyond_the_limits_are_cut_to_the_largest():
    problem = problem_of(normal(4, 3), torch.ones(3), max_perturbations=2)
    assert problem.schedule(np.array([0.2, 0.9, 3.0, 0.1])).nonzero()[:, 1].tolist() == [1, 2]


@pytest.mark.parametrize("horizon", [1, 3])
def test_greedy_takes_the_best_single_dose_first(horizon):
    effects, shift = normal(5, 4), 1.2 * normal(4, seed=6)
    problem = problem_of(effects, shift, horizon=horizon, max_perturbations=1, low=-1.0)
    schedule = planned(GreedyDesign(), problem)
    levels = torch.arange(1, 9) / 8
    singles = torch.cat([sign * levels[:, None, None] * torch.eye(5) for sign in (1, -1)]).reshape(-1, 5)
    best = singles[(shift - singles @ effects).norm(dim=1).argmin()]
    assert torch.allclose(schedule[0], best)
    assert (schedule != 0).any(0).sum() == 1


def test_greedy_stops_when_nothing_helps():
    effects = torch.tensor([[0.0, 5.0], [-3.0, 0.0]])
    schedule = planned(GreedyDesign(), problem_of(effects, torch.tensor([1.0, 0.0])))
    assert not schedule.any()


def test_greedy_improves_with_every_perturbation_it_may_use():
    effects, shift = normal(6, 5), 2 * normal(5, seed=3)
    lefts = [
        left(p, planned(GreedyDesign(), p))
        for p in (problem_of(effects, shift, max_perturbations=k) for k in (1, 2, 3))
    ]
    assert lefts == sorted(lefts, reverse=True)
    assert lefts[-1] >= problem_of(effects, shift, max_perturbations=3).optimal_distance - 1e-5


class Threshold(DigitalTwin):
    """Moves only where both perturbations are given together: no linear effect says so."""

    def __init__(self):
        super().__init__()
        self.latent_dim = 2
        self.perturbations = PerturbationSpace(("A", "B", "C"))
        self.start_from(normal(20, 2))

    def transition(self, state, dose, noise):
        both = (dose[:, 0] * dose[:, 1])[:, None]
        return state + torch.cat((dose[:, 2:], both), 1)


def test_planners_that_need_a_linear_twin_say_so():
    problem = problem_of(None, torch.tensor([1.0, 0.0]), twin=Threshold())
    able = [planner.name for planner in default_planners() if planner.plan(problem)]
    assert able == ["no_op", "random", "greedy"]
    assert np.isnan(problem.optimal_distance)
    schedule = planned(GreedyDesign(), problem)
    assert schedule[0].tolist() == [0.0, 0.0, 1.0]


def test_only_doing_nothing_is_planned_for_integer_actions():
    problem = problem_of(normal(4, 3), torch.ones(3), discrete=True)
    assert [planner.name for planner in default_planners() if planner.plan(problem)] == ["no_op"]


def test_greedy_among_hundreds_is_quick():
    effects = normal(300, 20)
    problem = problem_of(effects, effects[7] + effects[200])
    schedule = planned(GreedyDesign(), problem)
    assert {7, 200} <= set(schedule[0].topk(2).indices.tolist())
