"""Design problems with known answers, shared by the planners' tests."""

import torch
from linear_twin import linear_twin
from tensordict import TensorDict

from perturbrl.envs.tasks import ReachCellState
from perturbrl.evaluation.simulation import simulate
from perturbrl.planning.design_problem import DesignProblem
from perturbrl.twins.base import DigitalTwin
from perturbrl.twins.gene_effect import GeneEffectTwin
from perturbrl.twins.perturbations import PerturbationSpace
from perturbrl.twins.task_suite import reprogramming_task

START = torch.randn(60, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.1, 0.0])


def shift_problem(effects, shift, horizon=1, allowed=None, twin=None, **space):
    twin = linear_twin(effects, **space) if twin is None else twin
    task = ReachCellState()
    goal = twin.start_cells + shift
    task.aim(twin.start_cells, goal)
    return DesignProblem(twin, task, twin.perturbations.restrict(allowed), horizon, goal)


def planned(planner, problem):
    assert planner.plan(problem)
    return torch.stack([planner.action(TensorDict(batch_size=[3]), t)[0] for t in range(problem.horizon)])


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


def radius_problem(twin, goal_cells, horizon=1, space=None, **prices):
    task = ReachCellState(success="radius", success_radius=0.3, **prices)
    task.aim(twin.start_cells, goal_cells)
    return DesignProblem(twin, task, space or twin.perturbations, horizon, goal_cells)


def lock_problem(horizon=4, **prices):
    return radius_problem(LockAndKey(), START + torch.tensor([2.0, 0.0]), horizon, **prices)


def linear_problem(horizon=1, **limits):
    generator = torch.Generator().manual_seed(1)
    twin = GeneEffectTwin()
    twin.latent_dim = 4
    twin.perturbations = PerturbationSpace(tuple("ABCDEF"), -1.0, 1.0, min_dose=0.0)
    twin.set_buffers(effects=torch.randn(6, 4, generator=generator))
    twin.start_from(torch.randn(80, 4, generator=generator))
    shift = torch.tensor([0.6, -0.3, 0.0, 0.9, 0.0, 0.0]) @ twin.effects
    return radius_problem(twin, twin.start_cells + shift, horizon, twin.perturbations.restrict(**limits))


def distance_of(problem, planner):
    assert planner.plan(problem)
    final = simulate(problem, planner, problem.twin.start_cells).final
    return float((final.mean(0) - problem.goal_cells.mean(0)).norm() / problem.shift.norm())


def boolean_problem(name, horizon=None, **prices):
    """A task of the suite on the exact asynchronous twin, and the task itself."""
    suite = reprogramming_task(name)
    twin = suite.boolean_twin()
    goal = twin.attractors()[suite.target]
    task = ReachCellState(goal="centroid", success="radius", success_radius=0.3, **prices)
    task.aim(twin.start_cells, goal)
    return DesignProblem(twin, task, twin.perturbations, horizon or suite.horizon, goal), suite


def success_of(problem, planner, n_cells=200):
    """Share of cells that end at the goal under a planner."""
    assert planner.plan(problem)
    start = problem.twin.initial_state(n_cells, torch.Generator().manual_seed(1))
    return float(simulate(problem, planner, start).success.float().mean())


class TwoMinds(DigitalTwin):
    """Dose ``gamble`` helps the cells of one member and harms those of the other; ``sure`` helps all a little."""

    latent_dim = 2
    n_members = 2

    def __init__(self, discrete=False):
        super().__init__()
        self.perturbations = PerturbationSpace(("gamble", "sure"), 0.0, 1.0, discrete=discrete)
        self.start_from(torch.zeros(1, 2))

    def transition(self, state, dose, noise, member):
        side = 1.0 - 2.0 * member
        step = side * dose[:, 0] + 0.3 * dose[:, 1]
        return torch.stack((state[:, 0] + step, state[:, 1]), 1)


def ensemble_problem(horizon=1, discrete=False):
    """Only ``sure`` is worth its price over both members."""
    twin = TwoMinds(discrete)
    space = twin.perturbations.restrict(max_perturbations=1)
    return radius_problem(twin, torch.tensor([[2.0, 0.0]]), horizon, space, goal="centroid")
