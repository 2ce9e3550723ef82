"""The cells that response baselines learn from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from perturbrl.data.labels import CONTROL, Label
from perturbrl.errors import DataError
from perturbrl.schema import CONTROL_LABEL, GeneVector


@dataclass(frozen=True)
class TrainingCells:
    """The cells that baselines may learn from; held-out perturbations must not be among them.

    Attributes:
        expression: ``[cells, genes]`` log-normalised.
        labels: one per cell: ``control``, ``A`` or ``A+B``, in whatever order.
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
        kinds = {Label.parse(label) for label in set(self.labels)}
        if CONTROL not in kinds or len(kinds) < 2:
            raise DataError(
                f"baselines need '{CONTROL_LABEL}' cells and at least one perturbation to learn from, not "
                f"the labels {sorted(kinds)[:10]}; check the labels and the split"
            )

    @property
    def control_types(self) -> Sequence[str]:
        """Cell type of each control cell; none where types are not known."""
        if self.cell_types is None:
            return ()
        pairs = zip(self.labels, self.cell_types, strict=True)
        return [cell_type for label, cell_type in pairs if Label.parse(label).is_control]

    @property
    def types_with_both(self) -> frozenset[str]:
        """Cell types that have control and perturbed cells; none where types are not known."""
        if self.cell_types is None:
            return frozenset()
        pairs = zip(self.labels, self.cell_types, strict=True)
        perturbed = {cell_type for label, cell_type in pairs if not Label.parse(label).is_control}
        return frozenset(self.control_types) & perturbed

    def centroids(self, among: Bool[np.ndarray, " cells"] | None = None) -> dict[Label, GeneVector]:
        """Mean expression of each label; only of cells ``among`` these where given."""
        expression = np.asarray(self.expression, dtype=np.float64)
        kept = np.ones(len(expression), dtype=bool) if among is None else among
        labels = np.array([Label.parse(label) for label in self.labels], dtype=object)
        names, codes = np.unique(labels, return_inverse=True)
        rows = {name: kept & (codes == code) for code, name in enumerate(names)}
        return {name: expression[mask].mean(axis=0) for name, mask in rows.items() if mask.any()}
