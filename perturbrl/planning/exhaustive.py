"""Exhaustive search: every schedule of full doses, or every sequence of discrete actions."""

from collections.abc import Iterator
from itertools import combinations, product
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from perturbrl.errors import ConfigurationError
from perturbrl.planning.best_sets import DosedSets, full_pairs, full_singles, measured_sets
from perturbrl.planning.design_problem import DesignProblem, OpenLoop, Schedule
from perturbrl.planning.schedule_value import Schedules, ScheduleValue, held
from perturbrl.planning.set_scores import SetScores
from perturbrl.planning.tried_sets import TriedSets
from perturbrl.twins.perturbations import PerturbationSpace

_TRIED: Final = 300  # sets of each duration, of the best by what is expected of their parts


class ExhaustiveSearch(OpenLoop):
    """Try every set of perturbations at full dose, in every direction, held for every number of steps.

    Sets go from the empty one up to the limit of the space or ``max_size``. Of constant full doses the result
    is the best there is on the twin. Of discrete actions it tries every sequence of the horizon's length, and
    the result is the best that can be had without looking at the cells in between.

    Where there are more schedules than the budget allows, every perturbation and every pair is looked at by what the
    twin expects of parts of combinations (``SetScores``), and the best, and measured pairs, are tried on the twin.
    Where the twin does not tell, or larger sets are asked for, this planner cannot treat the problem; the best of a
    part of them would be no ceiling.

    Args:
        max_size: largest set.
        budget: largest number of schedules to simulate.
    """

    name = "exhaustive"
    plans_discrete = True

    def __init__(self, max_size: int = 2, budget: int = 25_000) -> None:
        if min(max_size, budget) < 1:
            raise ConfigurationError(
                f"exhaustive search got max_size {max_size} and budget {budget}; give at least 1"
            )
        self.max_size, self.budget = max_size, budget

    def schedule_for(self, problem: DesignProblem) -> Schedule | None:
        """The best schedule, or ``None`` where there are too many."""
        n = self.n_schedules(problem)
        if n > self.budget:
            found = self._of_parts(problem)
            self.reason = "" if found is not None else f"there are {n:,} schedules, more than {self.budget:,}"
            return found
        schedules = self._sequences(problem) if problem.space.discrete else self._held(problem)
        return schedules[ScheduleValue.from_start(problem)(schedules).argmax()]

    def n_schedules(self, problem: DesignProblem) -> int:
        """How many schedules there are."""
        space = problem.space
        if space.discrete:
            return space.n_actions**problem.horizon
        of_size = [1] + [0] * self._largest(space)
        for ends in ((space.low != 0).long() + (space.high != 0).long()).tolist():
            for size in range(len(of_size) - 1, 0, -1):
                of_size[size] += ends * of_size[size - 1]
        return sum(of_size) * problem.horizon

    def _largest(self, space: PerturbationSpace) -> int:
        return min(self.max_size, space.most_used)

    def _sequences(self, problem: DesignProblem) -> Schedules:
        n, horizon = problem.space.n_actions, problem.horizon
        places = n ** torch.arange(horizon - 1, -1, -1, device=problem.space.low.device)
        return torch.arange(n**horizon, device=places.device)[:, None] // places % n

    def _held(self, problem: DesignProblem) -> Schedules:
        return held(torch.stack(list(self._doses(problem.space))), problem.horizon)

    def _doses(self, space: PerturbationSpace) -> Iterator[Float[Tensor, " perturbations"]]:
        ends = [[end for end in (low, high) if end] for low, high in zip(space.low, space.high, strict=True)]
        for n in range(self._largest(space) + 1):
            for chosen in combinations(range(space.n_perturbations), n):
                for values in product(*(ends[i] for i in chosen)):
                    dose = torch.zeros_like(space.low)
                    dose[list(chosen)] = torch.stack(values) if values else dose[:0]
                    yield dose

    def _of_parts(self, problem: DesignProblem) -> Schedule | None:
        scores = SetScores.of(problem) if self._largest(problem.space) <= 2 else None
        if scores is None:
            return None
        times = range(1, problem.horizon + 1) if scores.parts(1).adds_up else (1,)
        sets = {n: list(self._sets(problem.space, scores, n)) for n in times}
        best = torch.stack([TriedSets.of(problem, scores, own).best_held(n) for n, own in sets.items()])
        return best[ScheduleValue.from_start(problem)(best).argmax()]

    def _sets(self, space: PerturbationSpace, scores: SetScores, n_steps: int) -> Iterator[DosedSets]:
        ends = (n_steps * space.low, n_steps * space.high)
        yield full_singles(scores, *ends, _TRIED)
        if self._largest(space) == 2:
            yield full_pairs(scores, *ends, _TRIED)
            yield measured_sets(scores, 2, _TRIED)
