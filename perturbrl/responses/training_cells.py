"""The cells that response baselines learn from, and the parts of a combination."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from perturbrl.errors import DataError
from perturbrl.schema import COMBINATION_SEPARATOR, CONTROL_LABEL, GeneVector

Parts = frozenset[str]


def parts_of(label: str) -> Parts:
    """The single perturbations of a combination."""
    return frozenset(label.split(COMBINATION_SEPARATOR))


def _canonical(labels: Sequence[str]) -> list[str]:
    return [COMBINATION_SEPARATOR.join(sorted(parts_of(label))) for label in labels]


@dataclass(frozen=True)
class TrainingCells:
    """The cells that baselines may learn from; held-out perturbations must not be among them.

    Attributes:
        expression: ``[cells, genes]`` log-normalised.
        labels: one per cell: ``control``, ``A`` or ``A+B``.
        genes: name of each column.
        cell_types: one per cell, for `CellTypeMean`.

    Raises:
        DataError: lengths differ, values are not finite, or there is no control or no perturbed cell.
    """

    expression: Float[np.ndarray, "cells genes"] | Float[Tensor, "cells genes"]
    labels: Sequence[str]
    genes: Sequence[str]
    cell_types: Sequence[str] | None = None

    def __post_init__(self) -> None:
        n_cells, n_genes = self.expression.shape
        types = n_cells if self.cell_types is None else len(self.cell_types)
        if (n_cells, n_genes, n_cells) != (len(self.labels), len(self.genes), types):
            raise DataError(
                f"expression of {n_cells} cells and {n_genes} genes came with {len(self.labels)} labels, "
                f"{len(self.genes)} gene names and {types} cell types; give one per cell and per gene"
            )
        if not np.isfinite(np.asarray(self.expression)).all():
            raise DataError("the training expression holds values that are not finite; remove those cells")
        kinds = set(self.labels)
        if CONTROL_LABEL not in kinds or len(kinds) < 2:
            raise DataError(
                f"baselines need '{CONTROL_LABEL}' cells and at least one perturbation to learn from, not "
                f"the labels {sorted(kinds)[:10]}; check the labels and the split"
            )

    def centroids(self, among: Bool[np.ndarray, " cells"] | None = None) -> dict[Parts, GeneVector]:
        """Mean expression of each label, by its parts; only of cells ``among`` these where given."""
        expression = np.asarray(self.expression, dtype=np.float64)
        kept = np.ones(len(expression), dtype=bool) if among is None else among
        names, codes = np.unique(_canonical(self.labels), return_inverse=True)
        rows = {str(name): kept & (codes == code) for code, name in enumerate(names)}
        return {parts_of(name): expression[mask].mean(axis=0) for name, mask in rows.items() if mask.any()}
