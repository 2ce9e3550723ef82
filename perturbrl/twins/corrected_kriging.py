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

    How uncertain an answer is, and what it rests on, stays as kriging has it. Whether the policy is kept is decided by
    the mean's movement, too (``MatchResponse.as_used``).

    Args:
        twin: fitted or restored.
        move: where the policy brings start cells.
        response: what is corrected; the twin's own where none is given.
    """

    name = "corrected_kriging"

    def __init__(
        self, twin: ResidualTwin, move: Callable[[CellState], CellState], response: Kriging | None = None
    ) -> None:
        vars(self).update(vars(twin.response if response is None else response))
        self._twin, self._move = twin, move

    def over(self, response: Kriging) -> "CorrectedKriging":
        """The same correction of another kriging's answers."""
        return CorrectedKriging(self._twin, self._move, response)

    def _predict(self, conditions: Sequence[Condition]) -> PredictedShifts:
        found = super()._predict(conditions)
        told = Foretold(tuple(conditions), found.mean, found.sd, found.evidence)
        # The twin has no cells to move in a context whose control cells were all held out from it.
        rows = [i for i, (_, context) in enumerate(conditions) if context in self._twin.contexts]
        mean = found.mean.copy()
        for some in (rows[i : i + _TOGETHER] for i in range(0, len(rows), _TOGETHER)):
            mean[some] += self._added(told, some)
        return replace(found, mean=mean)

    @torch.no_grad()
    def _added(self, told: Foretold, some: Sequence[int]) -> Float[np.ndarray, "_ genes"]:
        twin, n_cells = self._twin, self._twin.cells_per_condition
        conditions, evidence = zip(*((told.conditions[i], told.evidence[i]) for i in some), strict=True)
        asked = Foretold(conditions, told.mean[some], told.sd[some], evidence)
        start = twin.states(asked, n_cells)
        difference = twin.expression(self._move(start)) - twin.expression(start)
        by_condition = difference.view(len(asked.conditions), n_cells, -1).mean(1)
        return by_condition.double().cpu().numpy()
