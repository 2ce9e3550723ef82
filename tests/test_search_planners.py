import pytest
import torch
from tensordict import TensorDict

from perturbrl.envs.base import DigitalTwin
from perturbrl.envs.gene_effect import GeneEffectTwin
from perturbrl.envs.perturbations import PerturbationSpace
from perturbrl.envs.task_suite import reprogramming_task
from perturbrl.envs.tasks import ReachCellState
from perturbrl.errors import ConfigurationError
from perturbrl.evaluation.design import simulate
from perturbrl.evaluation.planners import BoundedLeastSquares, DesignProblem, GreedyDesign
from perturbrl.evaluation.search_planners import (
    CrossEntropySearch,
    ExhaustiveSearch,
    Lookahead,
    ModelPredictiveControl,
    ScheduleValue,
    search_planners,
    single_doses,
)

START = torch.randn(60, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.1, 0.0])


class LockAndKey(DigitalTwin):
    """The first dimension moves only under ``push`` AND an open lock; ``open`` opens the lock for a step.

    One step alone never pays: opening pulls cells back a little, pushing at a closed lock does nothing.
    """

    latent_dim = 2
    relaxation_steps = 4

    def __init__(self, noise_scale=0.0):
        super().__init__()
        self.noise_scale = noise_scale
        self.perturbations = PerturbationSpace(("open", "push"), 0.0, 1.0)
        self.start_from(START)

    def transition(self, state, dose, noise):
        lock = 0.2 * state[:, 1] + 1.5 * dose[:, 0]
        moved = state[:, 0] - 0.1 * dose[:, 0] + dose[:, 1] * (state[:, 1] > 0.75)
        return torch.stack((moved, lock), 1) + self.noise_scale * noise


class Pushed(LockAndKey):
    """Cells that a hidden push moves away in the step after the first dose, as no open-loop plan expects."""

    relaxation_steps = 0

    def __init__(self):
        super().__init__()
        self.perturbations = PerturbationSpace(("left", "right"), 0.0, 1.0)
        self.push = 0.0

    def transition(self, state, dose, noise):
        step = dose[:, 1] - dose[:, 0] + self.push
        return torch.stack((state[:, 0] + step, state[:, 1]), 1)


def problem_of(twin, goal_cells, horizon=1, space=None, **prices):
    task = ReachCellState(success="radius", success_radius=0.3, **prices)
    task.aim(twin.start_cells, goal_cells)
    return DesignProblem(twin, task, space or twin.perturbations, horizon, goal_cells)


def lock_problem(horizon=4, **prices):
    return problem_of(LockAndKey(), START + torch.tensor([2.0, 0.0]), horizon, **prices)


def linear_problem(horizon=1, **limits):
    generator = torch.Generator().manual_seed(1)
    twin = GeneEffectTwin()
    twin.latent_dim = 4
    twin.perturbations = PerturbationSpace(tuple("ABCDEF"), -1.0, 1.0, min_dose=0.0)
    twin.set_buffers(effects=torch.randn(6, 4, generator=generator))
    twin.start_from(torch.randn(80, 4, generator=generator))
    shift = torch.tensor([0.6, -0.3, 0.0, 0.9, 0.0, 0.0]) @ twin.effects
    return problem_of(twin, twin.start_cells + shift, horizon, twin.perturbations.restrict(**limits))


def distance_of(problem, planner):
    assert planner.plan(problem)
    final = simulate(problem, planner, problem.twin.start_cells).final
    return float((final.mean(0) - problem.goal_cells.mean(0)).norm() / problem.shift.norm())


def test_value_is_the_return_of_the_environment_and_the_relaxation():
    problem = lock_problem(cost_l1=0.1, cost_per_perturbation=0.3)
    value = ScheduleValue.from_start(problem)
    schedule = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.0, 0.0]])
    state = value.state
    goal = problem.task.goal_state(state)
    before = (goal - state).norm(dim=1)
    for dose in [*schedule, *torch.zeros(4, 2)]:
        state = problem.twin.transition(state, dose.expand(len(state), -1), torch.zeros(1))
    progress = (before - (goal - state).norm(dim=1)).mean() / problem.task.initial_distance
    expected = float(progress) - 0.1 * 4 - 0.3 * 2
    assert float(value(torch.stack((schedule, schedule)))[1]) == pytest.approx(expected, abs=1e-5)


def test_value_respects_the_limit_on_perturbations_and_counts_it_once():
    problem = linear_problem(horizon=2, max_perturbations=1)
    value = ScheduleValue.from_start(problem)
    both = torch.zeros(1, 2, 6)
    both[:, 0, 0], both[:, 1, 1] = 1.0, 1.0
    only_first = both.clone()
    only_first[:, 1] = 0
    assert float(value(both)) == pytest.approx(float(value(only_first)))


def test_every_schedule_meets_the_same_noise_and_chunks_do_not_matter(monkeypatch):
    problem = problem_of(LockAndKey(noise_scale=0.3), START + torch.tensor([2.0, 0.0]), 3)
    value = ScheduleValue.from_start(problem)
    schedules = torch.rand(7, 3, 2, generator=torch.Generator().manual_seed(2))
    schedules[3] = schedules[6]
    returns = value(schedules)
    assert returns[3] == returns[6]
    monkeypatch.setattr("perturbrl.evaluation.search_planners._ROWS", 64)
    torch.testing.assert_close(value(schedules), returns)


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
    expensive = problem_of(problem.twin, problem.goal_cells, cost_l1=10.0)
    planner = Lookahead()
    assert planner.plan(expensive)
    assert not simulate(expensive, planner, problem.twin.start_cells).doses.any()


def test_lookahead_plans_apart_for_cells_in_different_states():
    """Half of the cells stand beyond the goal: they need the opposite dose."""
    twin = Pushed()
    problem = problem_of(twin, torch.tensor([[1.0, 0.0]]).expand(60, 2), goal="centroid")
    start = torch.tensor([[0.0, 0.0], [2.0, 0.0]]).repeat(20, 1)
    planner = Lookahead(depth=1)
    assert planner.plan(problem)
    result = simulate(problem, planner, start)
    torch.testing.assert_close(result.final, torch.tensor([[1.0, 0.0]]).expand(40, -1))
    torch.testing.assert_close(result.doses[:2, 0], torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    blind = Lookahead(depth=1, n_groups=1)
    assert blind.plan(problem)
    assert float(simulate(problem, blind, start).success.float().mean()) < 0.6


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "low", "high"), [(2, 0.0, 0.02), (3, 0.97, 1.0)])
def test_lookahead_meets_the_exact_success_of_its_depth_on_a_deceptive_task(depth, low, high):
    """Task D1 of the suite: exact dynamic programming gives depths 1 and 2 a success of 0, depth 3 .9998."""
    suite = reprogramming_task("D1")
    twin = suite.boolean_twin()
    problem = problem_of(
        twin, twin.attractors()[suite.target], suite.horizon, goal="centroid", cost_per_perturbation=1e-3
    )
    planner = Lookahead(depth, max_sequences=225)
    assert planner.plan(problem)
    result = simulate(problem, planner, twin.initial_state(200))
    assert low <= float(result.success.float().mean()) <= high
    assert suite.best_success()[-1] >= low


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
    problem = problem_of(twin, twin.start_cells + truth @ twin.effects, cost_per_perturbation=0.01)
    planner = CrossEntropySearch()
    assert planner.plan(problem)
    assert planner.schedule[0].abs().topk(2).indices.tolist() == [3, 70]
    assert distance_of(problem, planner) < 0.1


def test_cross_entropy_never_returns_worse_than_doing_nothing():
    problem = problem_of(LockAndKey(), START + torch.tensor([-2.0, 0.0]), 3)
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
    problem = problem_of(twin, START + torch.tensor([1.0, 0.0]), horizon=4)
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


def test_exhaustive_search_finds_the_pair_and_stops_dosing_in_time():
    problem = lock_problem(cost_l1=0.01)
    planner = ExhaustiveSearch(max_size=2)
    assert planner.plan(problem)
    # Held for three steps: the first only opens the lock, the next two push by almost one unit each.
    torch.testing.assert_close(planner.schedule, torch.tensor([[1.0, 1.0]] * 3 + [[0.0, 0.0]]))


def test_exhaustive_search_refuses_what_it_cannot_finish():
    problem = linear_problem()
    n_sets = 1 + 6 * 2 + 15 * 4
    assert ExhaustiveSearch(max_size=2, budget=n_sets).plan(problem)
    assert not ExhaustiveSearch(max_size=2, budget=n_sets - 1).plan(problem)
    limited = linear_problem(max_perturbations=1)
    assert ExhaustiveSearch(max_size=2, budget=1 + 6 * 2).plan(limited)


def test_only_lookahead_treats_discrete_actions():
    space = PerturbationSpace(("open", "push"), discrete=True)
    problem = problem_of(LockAndKey(), START + 1.0, 2, space)
    able = {planner.name for planner in search_planners() if planner.plan(problem)}
    assert able == {"lookahead"}


@pytest.mark.parametrize(
    "make",
    [
        lambda: Lookahead(depth=0),
        lambda: CrossEntropySearch(n_iterations=0),
        lambda: CrossEntropySearch(population=39),
        lambda: ExhaustiveSearch(budget=0),
    ],
)
def test_impossible_options_are_errors(make):
    with pytest.raises(ConfigurationError, match="give"):
        make()
