"""Designs to compare a policy with: each planner says which doses to give, from what a policy may know."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import nnls
from tensordict import TensorDictBase
from torch import Generator, Tensor

from perturbrl.envs.base import DigitalTwin, Task
from perturbrl.envs.gene_effect import GeneEffectTwin
from perturbrl.envs.perturbations import PerturbationSpace
from perturbrl.evaluation.optimum import givable_dose, optimal_dose
from perturbrl.schema import CellState

GREEDY_LEVELS: Final = 8
GREEDY_CELLS: Final = 32
GREEDY_GAIN: Final = 1e-3

Schedule = Float[Tensor, "time perturbations"]


@dataclass(frozen=True)
class DesignProblem:
    """What a planner may know: the twin, the task aimed at the goal, the limits on doses. No held-out cell.

    Args:
        twin: the dynamics, with the training start cells.
        task: aimed at the goal.
        space: what may be dosed.
        horizon: steps of an episode.
        goal_cells: ``[cells, latent]`` target cells that define the goal.
        seed: of planners that draw at random.
    """

    twin: DigitalTwin
    task: Task
    space: PerturbationSpace
    horizon: int
    goal_cells: CellState
    seed: int = 0

    @property
    def shift(self) -> Float[Tensor, " latent"]:
        """Difference between the means of the goal and the start population."""
        return self.goal_cells.mean(0) - self.twin.start_cells.mean(0)

    @property
    def linear_effects(self) -> Float[Tensor, "perturbations latent"] | None:
        """Shift per unit dose of each allowed perturbation, where the twin is linear."""
        if not isinstance(self.twin, GeneEffectTwin):
            return None
        return self.twin.scale * self.twin.effects[self.space.columns]

    def no_dose(self) -> Schedule:
        """The schedule that does nothing."""
        return torch.zeros(self.horizon, self.space.n_perturbations, device=self.space.low.device)

    def schedule(self, total: Float[np.ndarray, " perturbations"]) -> Schedule:
        """The schedule that gives ``total`` doses from the first step on, in as few equal parts as will do.

        Few parts, because a small one may fall below ``min_dose``. Where perturbations are limited in number
        the largest totals are given; totals that the limits do not allow are cut by the environment.
        """
        wanted = torch.as_tensor(total, dtype=torch.float32, device=self.space.low.device)
        limit = self.space.max_perturbations
        if limit is not None and limit < len(wanted):
            largest = (wanted.abs() / (self.space.high - self.space.low)).topk(limit).indices
            wanted = torch.zeros_like(wanted).index_copy(0, largest, wanted[largest])
        bound = torch.where(wanted < 0, self.space.low, self.space.high)
        # A total that rounding lifts just above a whole number of full doses needs no further part.
        parts = torch.where(wanted == 0, 1.0, (wanted / bound - 1e-6).ceil()).clamp(1, self.horizon)
        given = torch.arange(self.horizon, device=wanted.device)[:, None] < parts
        return given * (wanted / parts)

    @cached_property
    def optimal_dose(self) -> Float[np.ndarray, " perturbations"] | None:
        """Best total doses where the twin is linear (see ``optimum``); ``None`` where they are not known."""
        effects = self.linear_effects
        if effects is None or self.space.discrete:
            return None
        return optimal_dose(effects, self.shift, self.space, self.horizon)

    @property
    def optimal_distance(self) -> float:
        """Distance between the means of dosed start and goal cells that is left at best; nan if not known."""
        effects, total = self.linear_effects, self.optimal_dose
        if effects is None or total is None:
            return float("nan")
        left = self.shift.double().cpu().numpy() - total @ effects.double().cpu().numpy()
        return float(np.linalg.norm(left))


class Planner(ABC):
    """Decides doses. ``plan`` prepares; ``action`` is asked at every step, like a policy.

    Attributes:
        name: the row's name in every table.
    """

    name: str

    @abstractmethod
    def plan(self, problem: DesignProblem) -> bool:
        """Prepare for a problem; ``False`` if this planner cannot treat it (say, needs a linear twin)."""

    @abstractmethod
    def action(self, observed: TensorDictBase, step: int) -> Tensor:
        """The action of every cell at ``step``."""


class _OpenLoop(Planner):
    """A schedule of doses fixed in advance, the same for all cells."""

    schedule: Schedule

    def plan(self, problem: DesignProblem) -> bool:
        """Fix the schedule."""
        if problem.space.discrete:
            return False
        schedule = self.schedule_for(problem)
        if schedule is None:
            return False
        self.schedule = schedule
        return True

    @abstractmethod
    def schedule_for(self, problem: DesignProblem) -> Schedule | None:
        """The doses per step, or ``None`` where this planner cannot treat the problem."""

    def action(self, observed: TensorDictBase, step: int) -> Tensor:
        """The schedule's doses at ``step`` for every cell."""
        return self.schedule[step].expand(observed.batch_size[0], -1)


class NoOp(Planner):
    """Do nothing."""

    name = "no_op"

    def plan(self, problem: DesignProblem) -> bool:
        """Doing nothing is always possible; only the kind of action is to be known."""
        self.nothing = problem.space.no_action()
        return True

    def action(self, observed: TensorDictBase, step: int) -> Tensor:
        """No dose for any cell."""
        return self.nothing.expand(*observed.batch_size, *self.nothing.shape)


class RandomDesign(_OpenLoop):
    """Two perturbations (or as many as allowed, if fewer) drawn at random, at uniformly drawn doses."""

    name = "random"

    def schedule_for(self, problem: DesignProblem) -> Schedule:
        """One random dose, repeated at every step."""
        space = problem.space
        generator = Generator().manual_seed(problem.seed)
        n = min(2, space.n_perturbations, space.max_perturbations or 2)
        chosen = torch.randperm(space.n_perturbations, generator=generator)[:n].to(space.low.device)
        share = torch.rand(n, generator=generator).to(space.low.device)
        schedule = problem.no_dose()
        schedule[:, chosen] = space.low[chosen] + share * (space.high - space.low)[chosen]
        return schedule


class NearestPerturbation(_OpenLoop):
    """The one perturbation, as measured, whose effect comes nearest to the wanted shift."""

    name = "nearest_perturbation"

    def schedule_for(self, problem: DesignProblem) -> Schedule | None:
        """The nearest perturbation at dose 1 (or the highest, if that is less), given in the first step."""
        effects = problem.linear_effects
        if effects is None:
            return None
        dose = problem.space.high.clamp_max(1.0)
        best = (dose[:, None] * effects - problem.shift).norm(dim=1).argmin()
        schedule = problem.no_dose()
        schedule[0, best] = dose[best]
        return schedule


class NonNegativeLeastSquares(_OpenLoop):
    """Non-negative least squares of the wanted shift on the effects; doses above the limit are cut by it."""

    name = "nnls"

    def schedule_for(self, problem: DesignProblem) -> Schedule | None:
        """The weights as total doses."""
        effects = problem.linear_effects
        if effects is None:
            return None
        weights, _ = nnls(effects.double().cpu().numpy().T, problem.shift.double().cpu().numpy())
        return problem.schedule(weights)


class BoundedLeastSquares(_OpenLoop):
    """The best dose in the box for a linear twin, in closed form, without doses too small to be given."""

    name = "optimum"

    def schedule_for(self, problem: DesignProblem) -> Schedule | None:
        """The optimal total doses."""
        total, effects = problem.optimal_dose, problem.linear_effects
        if total is None or effects is None:
            return None
        return problem.schedule(givable_dose(effects, problem.shift, problem.space, total, problem.horizon))


class GreedyDesign(_OpenLoop):
    """Step by step, add the one perturbation and dose that lowers the mean distance most.

    Works on any twin, by simulating every candidate from the same start cells. Within a step it goes on
    adding until none lowers the distance by a thousandth of what the step began with, so it may use as many
    perturbations as the limits allow.
    """

    name = "greedy"

    def schedule_for(self, problem: DesignProblem) -> Schedule:
        """Grow the schedule one perturbation at a time."""
        generator = Generator(device=problem.twin.start_cells.device).manual_seed(problem.seed)
        state = problem.twin.initial_state(GREEDY_CELLS, generator)
        goal = problem.task.goal_state(state)
        schedule = problem.no_dose()
        for step in range(problem.horizon):
            noise = problem.twin.draw_noise(GREEDY_CELLS, generator)
            used = (schedule != 0).any(0)
            reach = _one_step(problem, state, noise)
            schedule[step] = _add_while_it_helps(problem, schedule[step], used, goal, reach)
            state = reach(schedule[step][None])[0]
        return schedule


def _one_step(
    problem: DesignProblem, state: CellState, noise: Tensor
) -> Callable[[Float[Tensor, "candidates perturbations"]], Float[Tensor, "candidates cells latent"]]:
    def reach(doses: Tensor) -> Tensor:
        n, cells = doses.shape[0], state.shape[0]
        every = problem.space.expand(doses).repeat_interleave(cells, 0)
        repeats = (n, *(1 for _ in noise.shape[1:]))
        return problem.twin.transition(state.repeat(n, 1), every, noise.repeat(repeats)).view(n, cells, -1)

    return reach


def _add_while_it_helps(
    problem: DesignProblem,
    dose: Float[Tensor, " perturbations"],
    used: Tensor,
    goal: CellState,
    reach: Callable[[Tensor], Tensor],
) -> Float[Tensor, " perturbations"]:
    best = float((reach(dose[None])[0] - goal).norm(dim=-1).mean())
    least_gain = GREEDY_GAIN * best
    while True:
        candidates = _candidates(problem, dose, used | (dose != 0))
        if len(candidates) == 0:
            return dose
        distance = torch.cat([(reach(part) - goal).norm(dim=-1).mean(-1) for part in candidates.split(256)])
        if not float(distance.min()) < best - least_gain:
            return dose
        best, dose = float(distance.min()), candidates[distance.argmin()]


def _candidates(
    problem: DesignProblem, dose: Float[Tensor, " perturbations"], used: Tensor
) -> Float[Tensor, "candidates perturbations"]:
    space = problem.space
    levels = torch.arange(1, GREEDY_LEVELS + 1, device=dose.device)[:, None] / GREEDY_LEVELS
    values = torch.cat((levels * space.high, levels * space.low))
    allowed = (values.abs() > space.min_dose * (space.high - space.low)) & (dose == 0)
    if space.max_perturbations is not None and int(used.sum()) >= space.max_perturbations:
        allowed &= used
    column = allowed.nonzero()[:, 1:]
    return dose.repeat(len(column), 1).scatter(1, column, values[allowed][:, None])


def default_planners() -> tuple[Planner, ...]:
    """The baselines of every design table, weakest first."""
    return (
        NoOp(),
        RandomDesign(),
        NearestPerturbation(),
        GreedyDesign(),
        NonNegativeLeastSquares(),
        BoundedLeastSquares(),
    )
