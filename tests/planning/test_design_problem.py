import numpy as np
import pytest
import torch
from design_problems import shift_problem
from linear_twin import normal

from perturbrl.twins.base import DigitalTwin
from perturbrl.twins.perturbations import PerturbationSpace


def test_what_a_problem_knows():
    effects = normal(4, 3)
    problem = shift_problem(effects, torch.ones(3), allowed=["G2", "G0"])
    assert torch.allclose(problem.shift, torch.ones(3), atol=1e-5)
    assert torch.equal(problem.linear_effects, effects[[2, 0]])


class Conveyor(DigitalTwin):
    """A user's linear twin: not one of ours, and its rows are not kept as such."""

    latent_dim = 3

    def __init__(self):
        super().__init__()
        self.perturbations = PerturbationSpace(("left", "up"), 0.0, 1.0)
        self.start_from(normal(50, 3, seed=9))

    def transition(self, state, dose, noise):
        return (
            state + dose[:, :1] * torch.tensor([-1.0, 0.0, 0.0]) + dose[:, 1:] * torch.tensor([0.0, 2.0, 0.0])
        )

    def linear_effects(self):
        return torch.tensor([[-1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])


class Silent(Conveyor):
    """The same without saying that it is linear."""

    def linear_effects(self):
        return DigitalTwin.linear_effects(self)


def test_any_twin_that_says_it_is_linear_has_a_closed_form_optimum():
    problem = shift_problem(None, torch.tensor([-0.5, 1.0, 0.0]), twin=Conveyor())
    assert problem.optimal_dose == pytest.approx([0.5, 0.5], abs=1e-4)
    assert problem.optimal_distance == pytest.approx(0.0, abs=1e-4)


def test_a_twin_that_does_not_say_so_has_none():
    problem = shift_problem(None, torch.ones(3), twin=Silent())
    assert problem.linear_effects is None
    assert problem.optimal_dose is None
    assert np.isnan(problem.optimal_distance)


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
