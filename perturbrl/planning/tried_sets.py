"""The best sets that are expected, tried on the twin itself, and their doses refined there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from perturbrl.planning.best_sets import DosedSets
from perturbrl.planning.design_problem import DesignProblem, Schedule
from perturbrl.planning.schedule_value import ScheduleValue
from perturbrl.planning.set_scores import SetScores

REFINED_ON: Final = 64  # cells
_FIRST_STEP: Final = 0.25  # of a dose's range
_N_ROUNDS: Final = 40
_GAIN: Final = 1e-6


@dataclass(frozen=True, eq=False)
class TriedSets:
    """Sets on a twin that knows no other perturbations than theirs.

    Attributes:
        whole: the problem.
        columns: perturbations of any set.
        small: the problem among these.
        low: lowest total dose of each.
        high: highest total dose.
        totals: dose of each in every set, doing nothing the first.
    """

    whole: DesignProblem
    columns: Int[Tensor, " some"]
    small: DesignProblem
    low: Float[Tensor, " some"]
    high: Float[Tensor, " some"]
    totals: Float[Tensor, "sets some"]

    @classmethod
    def of(cls, problem: DesignProblem, scores: SetScores, sets: Sequence[DosedSets]) -> "TriedSets":
        """Sets of several sizes."""
        columns = torch.cat([own.columns.flatten() for own in sets]).unique()
        none = torch.zeros(1, len(columns), device=columns.device)
        dosed = [
            none.expand(len(own.columns), -1).scatter(1, torch.searchsorted(columns, own.columns), own.doses)
            for own in sets
        ]
        ends = scores.low[columns], scores.high[columns]
        return cls(problem, columns, problem.among(columns), *ends, torch.cat((none, *dosed)))

    def best_held(self, n_steps: int) -> Schedule:
        """The best set whose total doses are given in equal parts in the first ``n_steps``."""
        given = torch.arange(self.whole.horizon, device=self.columns.device)[:, None] < n_steps
        schedules = given * self.totals[:, None] / n_steps
        returns = ScheduleValue.from_start(self.small)(schedules)
        return self.whole.widened(schedules[returns.argmax()], self.columns)

    def best_refined(self, n_refined: int) -> Schedule:
        """The best set after the doses of the ``n_refined`` best were refined."""
        returns = ScheduleValue.from_start(self.small)(self.small.schedules(self.totals))
        totals = self.totals[returns.topk(min(n_refined, len(returns))).indices]
        used = (totals != 0).any(0).nonzero()[:, 0]
        if not len(used):
            return self.whole.no_dose()
        columns = self.columns[used]
        few = self.whole.among(columns)
        total = refined(few, self.low[used], self.high[used], totals[:, used])
        return self.whole.widened(few.schedules(total[None])[0], columns)


def refined(
    problem: DesignProblem,
    low: Float[Tensor, " some"],
    high: Float[Tensor, " some"],
    totals: Float[Tensor, "sets some"],
) -> Float[Tensor, " some"]:
    """The best total doses found by changing one or two of a set at a time, by ever smaller steps, on the twin.

    Args:
        problem: whose perturbations are those of the sets.
        low: lowest total doses.
        high: highest.
        totals: of several sets, each with doses to begin from.
    """
    value = ScheduleValue.from_start(problem, REFINED_ON)
    moves = _moves(totals, high - low)
    step = torch.full((len(totals), 1, 1), _FIRST_STEP, device=low.device)
    best, every = value(problem.schedules(totals)), torch.arange(len(totals), device=low.device)
    for _ in range(_N_ROUNDS):
        changed = (totals[:, None] + step * moves).clamp(low, high)
        returns = value(problem.schedules(changed.flatten(0, 1))).view(len(totals), -1)
        found, which = returns.max(1)
        better = found > best + _GAIN
        totals = torch.where(better[:, None], changed[every, which], totals)
        best = torch.where(better, found, best)
        step = torch.where(better[:, None, None], step, step / 2)
    return totals[best.argmax()]


def _moves(
    totals: Float[Tensor, "sets some"], size: Float[Tensor, " some"]
) -> Float[Tensor, "sets moves some"]:
    """Of each set one dose up or down by its range, or one up and another down."""
    most = int((totals != 0).sum(1).max())
    used = totals.abs().topk(most, dim=1).indices
    up = torch.zeros(*used.shape, totals.shape[1], device=totals.device).scatter(2, used[..., None], 1.0)
    up = up * size * (totals != 0)[:, None]
    return torch.cat((up, -up, (up[:, :, None] - up[:, None]).flatten(1, 2)), dim=1)
