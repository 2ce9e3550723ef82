"""Designs to compare a policy with: each planner says which doses to give, from what a policy may know."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import lsq_linear, nnls
from tensordict import TensorDictBase
from torch import Generator, Tensor

from perturbrl.envs.base import DigitalTwin, Task
from perturbrl.envs.gene_effect import GeneEffectTwin
from perturbrl.envs.perturbations import PerturbationSpace
from perturbrl.schema import CellState

MAX_SUPPORTS: Final = 5000
GREEDY_LEVELS: Final = 8
GREEDY_CELLS: Final = 64

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

    def constant(self, total: np.ndarray) -> Schedule:
        """The schedule that spreads ``total`` doses evenly over the horizon."""
        return self.no_dose() + torch.as_tensor(total, dtype=torch.float32) / self.horizon


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


class NoOp(_OpenLoop):
    """Do nothing."""

    name = "no_op"

    def schedule_for(self, problem: DesignProblem) -> Schedule:
        """No dose at any step."""
        return problem.no_dose()


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
        """The nearest perturbation at dose 1, given in the first step."""
        effects = problem.linear_effects
        if effects is None:
            return None
        best = (effects - problem.shift).norm(dim=1).argmin()
        schedule = problem.no_dose()
        schedule[0, best] = min(1.0, float(problem.space.high[best]))
        return schedule


class NonNegativeLeastSquares(_OpenLoop):
    """Non-negative least squares of the wanted shift on the effects; doses above the limit are cut by it."""

    name = "nnls"

    def schedule_for(self, problem: DesignProblem) -> Schedule | None:
        """The weights as total doses, spread over the horizon."""
        effects = problem.linear_effects
        if effects is None:
            return None
        weights, _ = nnls(effects.double().cpu().numpy().T, problem.shift.double().cpu().numpy())
        return problem.constant(weights)


class BoundedLeastSquares(_OpenLoop):
    """The best dose in the box for a linear twin: the closed-form optimum that regret is measured against.

    With a limit on the number of perturbations all supports up to that size are tried, as long as there are
    no more than ``MAX_SUPPORTS``.
    """

    name = "optimum"

    def schedule_for(self, problem: DesignProblem) -> Schedule | None:
        """The optimal total doses, spread over the horizon."""
        effects = problem.linear_effects
        total = None if effects is None else optimal_dose(effects, problem.shift, problem.space, problem.horizon)
        return None if total is None else problem.constant(total)


def optimal_dose(
    effects: Float[Tensor, "perturbations latent"],
    shift: Float[Tensor, " latent"],
    space: PerturbationSpace,
    horizon: int,
) -> np.ndarray | None:
    """Total doses within ``horizon`` times the dose box that bring the shift closest, by ``lsq_linear``.

    ``None`` where a limit on the number of perturbations leaves too many supports to try.
    """
    a, b = effects.double().cpu().numpy().T, shift.double().cpu().numpy()
    low, high = (horizon * bound.double().cpu().numpy() for bound in (space.low, space.high))
    limit = min(space.max_perturbations or space.n_perturbations, space.n_perturbations)
    if limit == space.n_perturbations:
        return lsq_linear(a, b, (low, high), tol=1e-12).x
    if comb(space.n_perturbations, limit) > MAX_SUPPORTS:
        return None
    best, best_cost = np.zeros(len(low)), float(b @ b) / 2
    for support in map(list, combinations(range(space.n_perturbations), limit)):
        fit = lsq_linear(a[:, support], b, (low[support], high[support]))
        if fit.cost < best_cost:
            best_cost = fit.cost
            best = np.zeros(len(low))
            best[support] = fit.x
    return best


class GreedyDesign(_OpenLoop):
    """Step by step, add the one perturbation and dose that lowers the mean distance most; stop when none does.

    Works on any twin, by simulating every candidate from the same start cells. Within a step it goes on
    adding until nothing helps, so it may use as many perturbations as the limits allow.
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
    while True:
        candidates = _candidates(problem, dose, used | (dose != 0))
        if len(candidates) == 0:
            return dose
        distance = torch.cat(
            [(reach(part) - goal).norm(dim=-1).mean(-1) for part in candidates.split(256)]
        )
        if float(distance.min()) >= best - 1e-6:
            return dose
        best, dose = float(distance.min()), candidates[distance.argmin()]


def _candidates(
    problem: DesignProblem, dose: Float[Tensor, " perturbations"], used: Tensor
) -> Float[Tensor, "candidates perturbations"]:
    space = problem.space
    n = space.n_perturbations
    full = space.max_perturbations is not None and int(used.sum()) >= space.max_perturbations
    allowed = [i for i in range(n) if float(dose[i]) == 0 and (not full or bool(used[i]))]
    levels = torch.linspace(0, 1, GREEDY_LEVELS + 1, device=dose.device)
    rows = []
    for i in allowed:
        values = torch.cat((space.high[i] * levels[1:], space.low[i] * levels[1:]))
        values = values[values.abs() > space.min_dose * (space.high[i] - space.low[i])]
        grown = dose.repeat(len(values), 1)
        grown[:, i] = values
        rows.append(grown)
    return torch.cat(rows) if rows else dose.new_empty(0, n)


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
