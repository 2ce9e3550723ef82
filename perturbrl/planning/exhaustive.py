"""Exhaustive search: every schedule of full doses, or every sequence of discrete actions."""

from collections.abc import Iterator
from itertools import combinations, islice, product

import torch
from jaxtyping import Float
from torch import Tensor

from perturbrl.errors import ConfigurationError
from perturbrl.planning.design_problem import DesignProblem, OpenLoop, Schedule
from perturbrl.planning.schedule_value import Schedules, ScheduleValue, held
from perturbrl.twins.perturbations import PerturbationSpace


class ExhaustiveSearch(OpenLoop):
    """Try every set of perturbations at full dose, in every direction, held for every number of steps.

    Sets go from the empty one up to the limit of the space or ``max_size``. Of constant full doses the result
    is the best there is on the twin. Of discrete actions it tries every sequence of the horizon's length, and
    the result is the best that can be had without looking at the cells in between. Where there are more
    schedules than the budget allows, this planner cannot treat the problem; the best of a part of them would
    be no ceiling.

    Args:
        max_size: largest set.
        budget: largest number of schedules to simulate; all pairs of 200 perturbations are within it.
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
        schedules = self._sequences(problem) if problem.space.discrete else self._held(problem)
        if schedules is None:
            return None
        return schedules[ScheduleValue.from_start(problem)(schedules).argmax()]

    def _sequences(self, problem: DesignProblem) -> Schedules | None:
        n, horizon = problem.space.n_actions, problem.horizon
        if n**horizon > self.budget:
            return None
        places = n ** torch.arange(horizon - 1, -1, -1, device=problem.space.low.device)
        return torch.arange(n**horizon, device=places.device)[:, None] // places % n

    def _held(self, problem: DesignProblem) -> Schedules | None:
        most = self.budget // problem.horizon
        doses = list(islice(self._doses(problem.space), most + 1))
        if len(doses) > most:
            return None
        return held(torch.stack(doses), problem.horizon)

    def _doses(self, space: PerturbationSpace) -> Iterator[Float[Tensor, " perturbations"]]:
        size = min(self.max_size, space.n_perturbations, space.max_perturbations or self.max_size)
        ends = [[end for end in (low, high) if end] for low, high in zip(space.low, space.high, strict=True)]
        for n in range(size + 1):
            for chosen in combinations(range(space.n_perturbations), n):
                for values in product(*(ends[i] for i in chosen)):
                    dose = torch.zeros_like(space.low)
                    dose[list(chosen)] = torch.stack(values) if values else dose[:0]
                    yield dose
