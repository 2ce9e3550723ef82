from itertools import product

import numpy as np
import pytest
import torch
from design_problems import boolean_problem, planned, shift_problem, success_of
from linear_twin import normal
from tensordict import TensorDict

from perturbrl.planning.greedy import GreedyDesign
from perturbrl.planning.planners import (
    BoundedLeastSquares,
    NearestPerturbationDesign,
    NonNegativeLeastSquares,
    NoOpDesign,
    RandomActions,
    RandomDesign,
    default_planners,
)
from perturbrl.twins.base import DigitalTwin
from perturbrl.twins.perturbations import PerturbationSpace


def left(problem, schedule):
    return float((problem.shift - schedule.sum(0) @ problem.linear_effects).norm())


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


@pytest.mark.parametrize("discrete", [False, True])
def test_doing_nothing(discrete):
    problem = shift_problem(normal(4, 3), torch.ones(3), low=-1.0, discrete=discrete)
    planner = NoOpDesign()
    assert planner.plan(problem)
    action = planner.action(TensorDict(batch_size=[5]), 0)
    dose, used = problem.space.project(action, torch.zeros(5, 4, dtype=torch.bool))
    assert not dose.any()
    assert not used.any()


def test_a_random_design_is_the_same_for_the_same_seed_and_within_the_box():
    problem = shift_problem(normal(6, 3), torch.ones(3), horizon=2, low=-1.0)
    first, again = planned(RandomDesign(), problem), planned(RandomDesign(), problem)
    assert torch.equal(first, again)
    assert (first[0] != 0).sum() == 2
    assert ((first >= -1) & (first <= 1)).all()
    assert (
        planned(RandomDesign(), shift_problem(normal(6, 3), torch.ones(3), max_perturbations=1))[0] != 0
    ).sum() == 1


def test_the_nearest_perturbation_by_brute_force():
    effects, shift = normal(8, 3), normal(3, seed=4)
    schedule = planned(NearestPerturbationDesign(), shift_problem(effects, shift, horizon=2))
    best = int(np.argmin([float((e - shift).norm()) for e in effects]))
    assert schedule[0].nonzero().flatten().tolist() == [best]
    assert schedule[0, best] == 1.0
    assert not schedule[1].any()


def test_the_nearest_perturbation_knows_that_its_dose_is_limited():
    effects = torch.tensor([[1.0, 0.0], [4.0, 0.0]])
    problem = shift_problem(effects, torch.tensor([1.0, 0.0]), high=0.25)
    assert planned(NearestPerturbationDesign(), problem)[0].tolist() == [0.0, 0.25]


def test_non_negative_least_squares_of_a_known_mixture():
    effects = normal(3, 6)
    shift = 0.7 * effects[0] + 0.4 * effects[2]
    schedule = planned(NonNegativeLeastSquares(), shift_problem(effects, shift))
    assert schedule[0].tolist() == pytest.approx([0.7, 0.0, 0.4], abs=1e-4)


def test_the_optimum_is_never_worse_than_any_dose_on_a_grid():
    effects, shift = normal(3, 4), 1.5 * normal(4, seed=2)
    problem = shift_problem(effects, shift, low=-1.0, min_dose=0.0)
    grid = torch.tensor(list(product(np.linspace(-1, 1, 21), repeat=3))).float()
    best = float((shift - grid @ effects).norm(dim=1).min())
    assert problem.optimal_distance <= best + 1e-6
    assert left(problem, planned(BoundedLeastSquares(), problem)) == pytest.approx(
        problem.optimal_distance, abs=1e-4
    )


def test_the_optimum_knows_the_number_that_is_allowed():
    effects = normal(6, 4)
    shift = effects[1] + 0.5 * effects[4]
    problem = shift_problem(effects, shift, max_perturbations=2)
    assert problem.optimal_distance < 1e-4
    assert planned(BoundedLeastSquares(), problem)[0].nonzero().flatten().tolist() == [1, 4]
    alone = shift_problem(effects, shift, max_perturbations=1)
    assert alone.optimal_distance > 0.05


def test_planners_that_need_a_linear_twin_say_so():
    problem = shift_problem(None, torch.tensor([1.0, 0.0]), twin=Threshold())
    able = [planner.name for planner in default_planners() if planner.plan(problem)]
    assert able == ["no_op", "random", "greedy"]
    assert np.isnan(problem.optimal_distance)
    schedule = planned(GreedyDesign(), problem)
    assert schedule[0].tolist() == [0.0, 0.0, 1.0]


def test_discrete_actions_have_planners_of_their_own():
    problem = shift_problem(normal(4, 3), torch.ones(3), discrete=True)
    able = [planner for planner in default_planners() if planner.plan(problem)]
    assert [planner.name for planner in able] == ["no_op", "random", "greedy"]
    assert not RandomActions().plan(shift_problem(normal(4, 3), torch.ones(3)))


def test_random_actions_are_uniform_over_all_doses_and_repeat_themselves():
    problem = shift_problem(normal(4, 3), torch.ones(3), low=-1.0, discrete=True, horizon=2)
    planner, cells = RandomActions(), TensorDict(batch_size=[40_000])
    assert planner.plan(problem)
    first, second = planner.action(cells, 0), planner.action(cells, 1)
    counts = torch.bincount(first, minlength=9).double()
    assert counts[0] == 0
    assert ((counts[1:] - 5000).abs() < 4.5 * (5000 * 7 / 8) ** 0.5).all()
    assert not torch.equal(first, second)
    assert torch.equal(planner.action(cells, 0), first)


def test_random_actions_end_at_the_target_with_the_exact_probability():
    problem, suite = boolean_problem("S4")
    chain = np.linalg.matrix_power(suite.mdp.outcome[:, 1:].mean(axis=1), suite.horizon)
    exact = chain[suite.mdp.node(suite.source), suite.mdp.node(suite.target)]
    share = success_of(problem, RandomActions(), n_cells=2000)
    assert share == pytest.approx(exact, abs=4.5 * (exact * (1 - exact) / 2000) ** 0.5)
