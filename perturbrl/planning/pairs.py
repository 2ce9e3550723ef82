"""Every perturbation alone, then every pair of the best: what exhaustive search can do where there are hundreds."""

from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor

from perturbrl.envs.schedule_returns import single_doses
from perturbrl.errors import ConfigurationError
from perturbrl.planning.design_problem import DesignProblem, OpenLoop, Schedule
from perturbrl.planning.schedule_value import ScheduleValue, held


class PairSearch(OpenLoop):
    """The best full dose of one perturbation or of two, held for the best number of steps.

    All single ones are tried, and all pairs of the ``n_best``; a pair neither of which does much alone is not found.

    Args:
        n_best: how many single perturbations are paired.
    """

    name = "pairs"

    def __init__(self, n_best: int = 20) -> None:
        if n_best < 2:
            raise ConfigurationError(f"pairs of {n_best} perturbations cannot be; give n_best at least 2")
        self.n_best = n_best

    def schedule_for(self, problem: DesignProblem) -> Schedule | None:
        """The best schedule on the twin, doing nothing included."""
        if problem.space.discrete:
            return None
        value = ScheduleValue.from_start(problem)
        singles = single_doses(problem.space, 1)
        schedules = held(singles, problem.horizon)
        returns = value(schedules)
        if (problem.space.max_perturbations or 2) < 2:
            return schedules[returns.argmax()]
        best = returns.view(len(singles), -1).amax(1).argsort(descending=True)[: self.n_best]
        schedules = torch.cat((schedules, held(_pairs(singles[best]), problem.horizon)))
        return schedules[value(schedules).argmax()]


def _pairs(singles: Float[Tensor, "best perturbations"]) -> Float[Tensor, "pairs perturbations"]:
    """Sums of two that dose different perturbations."""
    both = [singles[i] + singles[j] for i, j in combinations(range(len(singles)), 2)]
    different = [dose for dose in both if int((dose != 0).sum()) == 2]
    return torch.stack(different) if different else singles[:0]
