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
from tensordict import TensorDict

from perturbrl.errors import ConfigurationError
from perturbrl.evaluation.simulation import simulate
from perturbrl.planning.cross_entropy import CrossEntropySearch, ModelPredictiveControl
from perturbrl.planning.planners import BoundedLeastSquares
from perturbrl.planning.schedule_value import ScheduleValue
from perturbrl.twins.gene_effect import GeneEffectTwin
from perturbrl.twins.perturbations import PerturbationSpace


@pytest.mark.parametrize("horizon", [1, 3])
def test_cross_entropy_comes_near_the_closed_form_optimum(horizon):
    problem = linear_problem(horizon)
    optimum = distance_of(problem, BoundedLeastSquares())
    assert optimum < 1e-4
    assert distance_of(problem, CrossEntropySearch()) < 0.03


def test_cross_entropy_finds_two_perturbations_among_many():
    """Dense guesses over 80 perturbations would end further from the goal than the start is."""
    generator = torch.Generator().manual_seed(5)
    twin = GeneEffectTwin()
    twin.latent_dim = 10
    twin.perturbations = PerturbationSpace(tuple(f"g{i}" for i in range(80)), -1.0, 1.0)
    twin.set_buffers(effects=torch.randn(80, 10, generator=generator))
    twin.start_from(torch.randn(50, 10, generator=generator))
    truth = torch.zeros(80).index_fill(0, torch.tensor([3]), 0.9).index_fill(0, torch.tensor([70]), -0.7)
    problem = radius_problem(twin, twin.start_cells + truth @ twin.effects, cost_per_perturbation=0.01)
    planner = CrossEntropySearch()
    assert planner.plan(problem)
    assert planner.schedule[0].abs().topk(2).indices.tolist() == [3, 70]
    assert distance_of(problem, planner) < 0.1


def test_cross_entropy_never_returns_worse_than_doing_nothing():
    problem = radius_problem(LockAndKey(), START + torch.tensor([-2.0, 0.0]), 3)
    planner = CrossEntropySearch(n_iterations=3, population=40)
    assert planner.plan(problem)
    value = ScheduleValue.from_start(problem)
    assert float(value(planner.schedule[None])) >= float(value(problem.no_dose()[None])) == 0.0


def test_search_is_seeded():
    problem = linear_problem()
    search, other = CrossEntropySearch(n_iterations=2), CrossEntropySearch(n_iterations=2)
    assert search.plan(problem)
    assert other.plan(problem)
    torch.testing.assert_close(search.schedule, other.schedule, rtol=0, atol=0)


def test_feedback_corrects_what_an_open_loop_plan_cannot():
    twin = Pushed()
    problem = radius_problem(twin, START + torch.tensor([1.0, 0.0]), horizon=4)
    mpc, cem = ModelPredictiveControl(), CrossEntropySearch()
    assert mpc.plan(problem)
    assert cem.plan(problem)
    errors = {}
    for planner in (mpc, cem):
        state = problem.twin.start_cells
        for step in range(4):
            observed = TensorDict(
                {
                    "cell_state": state,
                    "goal_state": START + torch.tensor([1.0, 0.0]),
                    "used": torch.zeros(60, 2, dtype=torch.bool),
                },
                batch_size=(60,),
            )
            action = planner.action(observed, step)
            twin.push = -1.0 if step == 1 else 0.0
            state = twin.transition(state, action, torch.zeros(0))
            twin.push = 0.0
        errors[planner.name] = float((state - problem.goal_cells).norm(dim=1).mean())
    assert errors["mpc"] < 0.15 < 0.8 < errors["cem"]


def test_mpc_repeats_itself_from_the_same_start():
    problem = lock_problem()
    planner = ModelPredictiveControl(CrossEntropySearch(n_iterations=2, population=40))
    assert planner.plan(problem)
    first, second = (simulate(problem, planner, START).doses for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_planning_for_actions_climbs_the_ladder_that_greed_leaves():
    problem, _ = boolean_problem("L2m4", horizon=4)
    assert success_of(problem, CrossEntropySearch(n_iterations=10)) == 1.0
    assert success_of(problem, ModelPredictiveControl(CrossEntropySearch(n_iterations=5))) == 1.0


@pytest.mark.slow
def test_feedback_beats_the_best_fixed_sequence_of_actions_where_outcomes_are_random():
    """In D9 an action fails with probability 1/4; who looks at the cells wastes no step on those that arrived."""
    problem, suite = boolean_problem("D9", horizon=6)
    best = suite.best_success()[5]
    fixed, feedback = (success_of(problem, p, 1000) for p in (CrossEntropySearch(), ModelPredictiveControl()))
    assert feedback == pytest.approx(best, abs=0.015)
    assert fixed < best - 0.02


@pytest.mark.parametrize(
    "make",
    [
        lambda: CrossEntropySearch(n_iterations=0),
        lambda: CrossEntropySearch(population=39),
        lambda: ModelPredictiveControl(n_groups=0),
    ],
)
def test_impossible_options_are_errors(make):
    with pytest.raises(ConfigurationError, match="give"):
        make()
