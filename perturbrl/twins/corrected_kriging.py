"""Kriging, and what a policy learned to add to it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from jaxtyping import Float

from perturbrl.responses.base import PredictedShifts
from perturbrl.responses.inner_split import Foretold
from perturbrl.responses.kriging import Kriging
from perturbrl.responses.training_cells import Condition
from perturbrl.schema import CellState
from perturbrl.twins.residual import ResidualTwin

_TOGETHER: Final = 64  # conditions whose cells are moved at once


class CorrectedKriging(Kriging):
    """Kriging's answers with the mean shifted by what a policy does to cells that start where kriging expects them.

    How uncertain an answer is, and what it rests on, stays as kriging has it.

    Args:
        twin: fitted or restored.
        move: where the policy brings start cells.
    """

    name = "corrected_kriging"

    def __init__(self, twin: ResidualTwin, move: Callable[[CellState], CellState]) -> None:
        vars(self).update(vars(twin.response))
        self._twin, self._move = twin, move

    def _predict(self, conditions: Sequence[Condition]) -> PredictedShifts:
        found = super()._predict(conditions)
        told = Foretold(tuple(conditions), found.mean, found.sd, found.evidence)
        parts = [self._added(told, slice(i, i + _TOGETHER)) for i in range(0, len(conditions), _TOGETHER)]
        return replace(found, mean=found.mean + np.concatenate(parts))

    @torch.no_grad()
    def _added(self, told: Foretold, some: slice) -> Float[np.ndarray, "_ genes"]:
        twin, n_cells = self._twin, self._twin.cells_per_condition
        asked = Foretold(told.conditions[some], told.mean[some], told.sd[some], told.evidence[some])
        start = twin.states(asked, n_cells)
        difference = twin.expression(self._move(start)) - twin.expression(start)
        by_condition = difference.view(len(asked.conditions), n_cells, -1).mean(1)
        return by_condition.double().cpu().numpy()
