import numpy as np
import torch
from design_problems import shift_problem
from linear_twin import normal


def test_what_a_problem_knows():
    effects = normal(4, 3)
    problem = shift_problem(effects, torch.ones(3), allowed=["G2", "G0"])
    assert torch.allclose(problem.shift, torch.ones(3), atol=1e-5)
    assert torch.equal(problem.linear_effects, effects[[2, 0]])


def test_total_doses_are_given_in_few_large_parts():
    problem = shift_problem(normal(4, 3), torch.ones(3), horizon=4, low=-0.5)
    schedule = problem.schedule(np.array([0.9, 2.2, -0.6, 0.0]))
    assert torch.allclose(schedule.sum(0), torch.tensor([0.9, 2.2, -0.6, 0.0]), atol=1e-6)
    assert (schedule != 0).sum(0).tolist() == [1, 3, 2, 0]
    assert ((schedule >= -0.5) & (schedule <= 1.0 + 1e-6)).all()
    whole = problem.schedule(np.array([2.0 + 1e-9, 0.0, 0.0, 0.0]))
    assert (whole != 0).sum() == 2


def test_totals_beyond_the_limits_are_cut_to_the_largest():
    problem = shift_problem(normal(4, 3), torch.ones(3), max_perturbations=2)
    assert problem.schedule(np.array([0.2, 0.9, 3.0, 0.1])).nonzero()[:, 1].tolist() == [1, 2]
