import pytest
import torch
from design_problems import START, LockAndKey, linear_problem, lock_problem, radius_problem

from perturbrl.planning.schedule_value import ScheduleValue


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
    problem = radius_problem(LockAndKey(noise_scale=0.3), START + torch.tensor([2.0, 0.0]), 3)
    value = ScheduleValue.from_start(problem)
    schedules = torch.rand(7, 3, 2, generator=torch.Generator().manual_seed(2))
    schedules[3] = schedules[6]
    returns = value(schedules)
    assert returns[3] == returns[6]
    monkeypatch.setattr("perturbrl.envs.schedule_returns._ROWS", 64)
    torch.testing.assert_close(value(schedules), returns)
