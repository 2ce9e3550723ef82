"""What a planner may know, and what it answers: the ground that policies and planners share."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from tensordict import TensorDictBase
from torch import Tensor

from perturbrl.envs.base import Task
from perturbrl.planning.optimum import optimal_dose
from perturbrl.schema import CellState
from perturbrl.twins.base import DigitalTwin
from perturbrl.twins.perturbations import PerturbationSpace

Schedule = Float[Tensor, "time perturbations"] | Int[Tensor, " time"]
"""One action per step: doses, or the integers of discrete actions."""


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
        return self.goal_cells.mean(0) - self.twin.place(self.twin.start_cells).mean(0)

    @property
    def linear_effects(self) -> Float[Tensor, "perturbations latent"] | None:
        """Shift per unit dose of each allowed perturbation, where the twin is linear."""
        effects = self.twin.linear_effects()
        return None if effects is None else effects[self.space.columns]

    @property
    def evidence(self) -> tuple[str, ...]:
        """What the effect of each allowed perturbation rests on; empty where the twin does not tell."""
        told = self.twin.evidence
        return tuple(told[i] for i in self.space.columns.tolist()) if told else ()

    def no_dose(self) -> Schedule:
        """The schedule that does nothing."""
        return torch.stack([self.space.no_action()] * self.horizon)

    def schedule(self, total: Float[np.ndarray, " perturbations"]) -> Schedule:
        """The schedule of total doses (see ``schedules``)."""
        return self.schedules(
            torch.as_tensor(total, dtype=torch.float32, device=self.space.low.device)[None]
        )[0]

    def schedules(
        self, totals: Float[Tensor, "schedules perturbations"]
    ) -> Float[Tensor, "schedules time perturbations"]:
        """Schedules that give total doses from the first step on, each in as few equal parts as will do.

        Few parts, because a small one may fall below ``min_dose``. Where perturbations are limited in number
        the largest totals are given; totals that the limits do not allow are cut by the environment.
        """
        wanted, limit = totals, self.space.max_perturbations
        if limit is not None and limit < wanted.shape[1]:
            size = wanted.abs() / (self.space.high - self.space.low)
            kept = torch.zeros_like(wanted, dtype=torch.bool).scatter(
                1, size.topk(limit, dim=1).indices, True
            )
            wanted = wanted * kept
        bound = torch.where(wanted < 0, self.space.low, self.space.high)
        # A total that rounding lifts just above a whole number of full doses needs no further part.
        parts = torch.where(wanted == 0, 1.0, (wanted / bound - 1e-6).ceil()).clamp(1, self.horizon)
        given = torch.arange(self.horizon, device=wanted.device)[:, None] < parts[:, None]
        return given * (wanted / parts)[:, None]

    def among(self, columns: Int[Tensor, " some"]) -> "DesignProblem":
        """The same problem with only some of the perturbations, on a twin that knows no others where there is one."""
        space = self.space.restrict([self.space.names[i] for i in columns.tolist()])
        twin = self.twin.narrowed(space.columns)
        return replace(self, twin=twin, space=space if twin is self.twin else space.alone())

    def widened(
        self, schedule: Float[Tensor, "time some"], columns: Int[Tensor, " some"]
    ) -> Float[Tensor, "time perturbations"]:
        """A schedule made ``among`` some of the perturbations, in the columns of this problem."""
        return self.no_dose().index_copy(1, columns, schedule)

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
        reason: why it cannot treat a problem, in words, where a reader may miss it.
    """

    name: str
    reason: str = ""

    @abstractmethod
    def plan(self, problem: DesignProblem) -> bool:
        """Prepare for a problem; ``False`` if this planner cannot treat it (say, needs a linear twin)."""

    @abstractmethod
    def action(self, observed: TensorDictBase, step: int) -> Tensor:
        """The action of every cell at ``step``."""


class OpenLoop(Planner):
    """A schedule fixed in advance, the same for all cells.

    Attributes:
        plans_discrete: whether schedules of discrete actions can be made, too.
    """

    schedule: Schedule
    plans_discrete: ClassVar[bool] = False

    def plan(self, problem: DesignProblem) -> bool:
        """Fix the schedule."""
        if problem.space.discrete and not self.plans_discrete:
            return False
        schedule = self.schedule_for(problem)
        if schedule is None:
            return False
        self.schedule = schedule
        return True

    @abstractmethod
    def schedule_for(self, problem: DesignProblem) -> Schedule | None:
        """The action per step, or ``None`` where this planner cannot treat the problem."""

    def action(self, observed: TensorDictBase, step: int) -> Tensor:
        """The schedule's action at ``step`` for every cell."""
        now = self.schedule[step]
        return now.expand(observed.batch_size[0], *now.shape)


class GivenSchedule(OpenLoop):
    """A schedule that somebody has already.

    Args:
        name: the row's name in every table.
        schedule: what is given at every step.
    """

    plans_discrete = True

    def __init__(self, name: str, schedule: Schedule) -> None:
        self.name, self.schedule = name, schedule

    def schedule_for(self, problem: DesignProblem) -> Schedule:
        """The schedule."""
        return self.schedule
