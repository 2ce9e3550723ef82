"""Populations as kriging sees them: the shift of each from control, and how noisy it is."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from perturbrl.data.labels import CONTROL, Label
from perturbrl.errors import DataError
from perturbrl.responses.training_cells import TrainingCells

ONE_CONTEXT = ""

Condition = tuple[Label, str]
"""What was done, and in which context (a cell type, say)."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Shift of every measured population from the control cells of its context.

    Attributes:
        conditions: label and context of each row.
        shifts: ``[rows, genes]`` difference of mean log expression.
        n_cells: cells of each row.
        n_controls: control cells of each row's context, whose noise the rows of a context share.
        controls: ``[genes]`` mean control expression of each context.
        control_counts: control cells of each context.
        residuals: ``[cells, genes]`` cells without the mean of their population.
        degrees_of_freedom: cells less populations in ``residuals``.
    """

    conditions: tuple[Condition, ...]
    shifts: Float[np.ndarray, "rows genes"]
    n_cells: Int[np.ndarray, " rows"]
    n_controls: Int[np.ndarray, " rows"]
    controls: dict[str, Float[np.ndarray, " genes"]]
    control_counts: dict[str, int]
    residuals: Float[np.ndarray, "cells genes"]
    degrees_of_freedom: int

    @classmethod
    def of(cls, cells: TrainingCells) -> "Moments":
        """Group training cells by label and context.

        Raises:
            DataError: no context has both control and perturbed cells, every population has one cell, or no mean
                differs from control.
        """
        expression = np.asarray(cells.expression, dtype=np.float64)
        groups = _groups(cells)
        controls = {context: rows for (label, context), rows in groups.items() if label == CONTROL}
        kept = {c: rows for c, rows in groups.items() if c[0] != CONTROL and c[1] in controls}
        if not kept:
            raise DataError(
                f"no context among {sorted({context for _, context in groups})[:6]} has both control and perturbed "
                "cells; check the labels and the column of contexts"
            )
        means = {context: expression[rows].mean(axis=0) for context, rows in controls.items()}
        shifts = np.stack([expression[rows].mean(axis=0) - means[c[1]] for c, rows in kept.items()])
        if not shifts.any():
            raise DataError(
                f"the means of all {len(kept)} perturbed populations equal their control's; check the expression values"
            )
        residuals = [
            expression[rows] - expression[rows].mean(axis=0) for rows in groups.values() if len(rows) > 1
        ]
        if not residuals:
            raise DataError(
                "every population has one cell, so nothing tells how cells vary; give two of some"
            )
        return cls(
            tuple(kept),
            shifts,
            np.array([len(rows) for rows in kept.values()]),
            np.array([len(controls[context]) for _, context in kept]),
            means,
            {context: len(rows) for context, rows in controls.items()},
            np.concatenate(residuals),
            sum(len(part) - 1 for part in residuals),
        )

    @property
    def noise(self) -> Float[np.ndarray, "rows rows"]:
        """Covariance of the rows' sampling noise, in units of a cell's variance.

        Each row has its own cells' noise, and rows of a context share that of its control cells.
        """
        contexts = np.array([context for _, context in self.conditions])
        return (contexts[:, None] == contexts) / self.n_controls + np.diag(1.0 / self.n_cells)


def _groups(cells: TrainingCells) -> dict[Condition, Int[np.ndarray, " cells"]]:
    contexts = [ONE_CONTEXT] * len(cells.labels) if cells.cell_types is None else cells.cell_types
    rows: dict[Condition, list[int]] = {}
    for row, (label, context) in enumerate(zip(cells.labels, contexts, strict=True)):
        rows.setdefault((Label.parse(label), str(context)), []).append(row)
    return {condition: np.array(found) for condition, found in sorted(rows.items())}
