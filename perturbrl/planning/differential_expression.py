"""The design that needs no twin: dose the genes that differ most between start and target cells."""

from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import ttest_ind
from torch import Tensor

from perturbrl.planning.design_problem import DesignProblem, OpenLoop, Schedule

_FEW: Final = 2
Cells = Float[Tensor, "_ genes"]
"""Log-normalised expression of one population."""


class DifferentialExpressionDesign(OpenLoop):
    """Full doses of the genes that differ most between target and start cells, up where the target has more.

    As many as may be used, and two where there is no limit; held to the last step. Genes that cannot be dosed in the
    direction that is called for are passed over. A dose of a knock-out lowers its gene (``DigitalTwin.senses``).

    Args:
        start: training cells of the source.
        goal: cells of the target that define the goal.
        genes: of the columns of both.

    Source: Welch's t, by which published lists of candidate factors are ranked.
    """

    name = "differential_expression"

    def __init__(self, start: Cells, goal: Cells, genes: tuple[str, ...]) -> None:
        self.difference = dict(zip(genes, _welch(start, goal), strict=True))

    def schedule_for(self, problem: DesignProblem) -> Schedule | None:
        """Rank what may be dosed; ``None`` where none of it is a gene that differs."""
        space = problem.space
        wanted = [self.difference.get(name, 0.0) for name in space.names]
        t = torch.tensor(wanted, device=space.low.device) * _senses(problem)
        dose = torch.where(t > 0, space.high, space.low)
        strength = t.abs() * (dose != 0)
        n = min(space.max_perturbations or _FEW, int((strength > 0).sum()))
        if space.discrete or n == 0:
            return None
        schedule = problem.no_dose()
        best = strength.topk(n).indices
        schedule[:, best] = dose[best]
        return schedule


def _senses(problem: DesignProblem) -> Float[Tensor, " perturbations"]:
    """What dose 1 does to each gene; raise it, where the twin does not tell."""
    told = problem.twin.senses
    senses = torch.tensor(told) if told else torch.ones(problem.twin.perturbations.n_perturbations)
    return torch.where(senses == 0, 1.0, senses.float()).to(problem.space.low.device)[problem.space.columns]


def _welch(start: Cells, goal: Cells) -> Float[np.ndarray, " genes"]:
    """Welch's t of each gene; 0 where it does not vary."""
    sides = (cells.double().cpu().numpy() for cells in (goal, start))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(ttest_ind(*sides, equal_var=False).statistic, posinf=0.0, neginf=0.0)
