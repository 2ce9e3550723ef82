"""What a schedule of actions is worth on the twin: the value that every searching planner maximises.

Planners see the twin, the task and the training start cells, never a held-out cell, and every schedule is
judged on the same cells in the same members under the same noise. The member that a cell really lives in is not
looked at: no policy sees it either.
"""

from collections.abc import Iterator
from typing import Final

import torch
from jaxtyping import Bool, Float, Int
from sklearn.cluster import KMeans
from tensordict import TensorDictBase
from torch import Generator, Tensor

from perturbrl import schema
from perturbrl.envs.schedule_returns import Schedules, schedule_returns
from perturbrl.planning.design_problem import DesignProblem
from perturbrl.schema import CellState, WholeState

SEARCH_CELLS: Final = 32
GROUP_CELLS: Final = 8
# Doses simulated in an episode by what plans at every step: about a minute.
MOST_WORK: Final = 1_500_000_000
TOO_LONG: Final = "a search at every step among {n:,} perturbations would take minutes"


class ScheduleValue:
    """The mean return of dose schedules on a twin, from given cells, the relaxation after dosing included.

    Args:
        problem: twin, task and limits.
        state: ``[cells, state]`` where every schedule starts.
        goal: ``[cells, latent]`` the cells' goals.
        used: ``[cells, perturbations]`` what they received before.
        seed: of the noise and of the cells' members, which are the same for every schedule.
    """

    def __init__(
        self,
        problem: DesignProblem,
        state: WholeState,
        goal: CellState,
        used: Bool[Tensor, "cells perturbations"],
        seed: int = 0,
    ) -> None:
        self.problem, self.state, self.goal, self.used, self.seed = problem, state, goal, used, seed

    @classmethod
    def from_start(cls, problem: DesignProblem, n_cells: int = SEARCH_CELLS) -> "ScheduleValue":
        """From training start cells that have received nothing yet."""
        generator = Generator(device=problem.twin.start_cells.device).manual_seed(problem.seed)
        state = problem.twin.initial_state(n_cells, generator)
        used = torch.zeros(n_cells, problem.space.n_perturbations, dtype=torch.bool, device=state.device)
        goal = problem.task.goal_state(problem.twin.place(state))
        return cls(problem, state, goal, used, problem.seed)

    def __call__(self, schedules: Schedules) -> Float[Tensor, " schedules"]:
        """Mean return over cells of each schedule."""
        problem = self.problem
        return schedule_returns(
            problem.twin, problem.task, problem.space, schedules, self.state, self.goal, self.used, self.seed
        )


def held(doses: Float[Tensor, "doses perturbations"], horizon: int) -> Schedules:
    """Schedules that hold each dose for 1 to all steps, dose by dose."""
    durations = torch.ones(horizon, horizon, device=doses.device).tril()
    return (doses[:, None, None] * durations[:, :, None]).flatten(0, 1)


def groups_of_cells(
    problem: DesignProblem, observed: TensorDictBase, n_groups: int, step: int
) -> Iterator[tuple[Int[Tensor, " members"], ScheduleValue]]:
    """Cells in like states, and the value of schedules from a sample of each group.

    Args:
        problem: twin, task and limits.
        observed: what a policy would see.
        n_groups: at most so many groups, by their state and what they have received; one per state where
            there are so few.
        step: of the episode; every step has noise of its own.
    """
    state, goal, used = (observed[key] for key in (schema.CELL_STATE, schema.GOAL_STATE, schema.USED))
    seed = problem.seed + step
    order = torch.randperm(len(state), generator=Generator().manual_seed(seed)).to(state.device)
    groups = _groups(torch.cat((problem.twin.place(state), used), dim=1), n_groups, problem.seed)[order]
    found = int(groups.max()) + 1
    for group in range(found):
        members = order[groups == group]
        n_seen = max(GROUP_CELLS, SEARCH_CELLS // found)
        # A plan must hold in several members of an ensemble, even where it is made for a lone cell.
        copies = 1 if problem.twin.n_members == 1 else -(-n_seen // len(members))
        seen = members.repeat(copies)[:n_seen]
        yield members, ScheduleValue(problem, state[seen], goal[seen], used[seen], seed)


def _groups(features: Float[Tensor, "cells features"], n_groups: int, seed: int) -> Int[Tensor, " cells"]:
    distinct, labels = features.unique(dim=0, return_inverse=True)
    if len(distinct) <= n_groups:
        return labels
    found = KMeans(n_groups, n_init=1, random_state=seed).fit_predict(features.cpu().numpy())
    return torch.as_tensor(found, dtype=torch.long, device=features.device)
