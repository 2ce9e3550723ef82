"""Whole counts with the size factor of each cell."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.sparse import csr_array, vstack

from perturbrl.data.dataset import PerturbationDataset
from perturbrl.data.reading import read_rows
from perturbrl.errors import DataError
from perturbrl.responses.training_cells import ONE_CONTEXT, Condition
from perturbrl.schema import TARGET_SUM, CellIndex, GeneVector, LogExpression

SizeFactors = Float[np.ndarray, " cells"]


@dataclass(frozen=True, eq=False)
class CountedCells:
    """Whole counts with the size factor of each cell.

    Attributes:
        counts: ``[cells, genes]``.
        size_factors: counts of each cell before genes were cut.

    Raises:
        DataError: a count is not a whole number.
    """

    counts: csr_array
    size_factors: SizeFactors

    def __post_init__(self) -> None:
        values = self.counts.data
        if (values % 1 != 0).any() or (values < 0).any():
            raise DataError("cells are counted in whole numbers, and there are other values; give raw counts")

    def __len__(self) -> int:
        return self.counts.shape[0]

    def __getitem__(self, rows: CellIndex) -> "CountedCells":
        """Some of the cells."""
        return CountedCells(self.counts[rows], self.size_factors[rows])

    @property
    def log_expression(self) -> LogExpression:
        """log1p(1e4 · counts / size factor)."""
        return np.log1p(TARGET_SUM * self.counts.toarray().astype(np.float64) / self.size_factors[:, None])

    @property
    def log_mean(self) -> GeneVector:
        """Mean log expression, without a dense table."""
        cell = np.repeat(np.arange(len(self)), np.diff(self.counts.indptr))
        logs = np.log1p(TARGET_SUM * self.counts.data.astype(np.float64) / self.size_factors[cell])
        return np.bincount(self.counts.indices, logs, self.counts.shape[1]) / len(self)


def join(parts: Sequence[CountedCells]) -> CountedCells:
    """Cells of all parts, one after the other."""
    counts = csr_array(vstack([part.counts for part in parts], format="csr"))
    return CountedCells(counts, np.concatenate([part.size_factors for part in parts]))


def rows_of(dataset: PerturbationDataset, condition: Condition) -> CellIndex:
    """Cells of a condition, ``control`` in a context among them."""
    label, context = condition
    rows = dataset.population_rows(label)
    return rows if context == ONE_CONTEXT else rows[dataset.cell_types[rows] == context]


def counted_cells(dataset: PerturbationDataset, rows: CellIndex, genes: Sequence[str]) -> CountedCells:
    """Whole counts of some cells and genes of a data set."""
    column_of = {gene: column for column, gene in enumerate(dataset.genes)}
    counts = csr_array(read_rows(dataset.matrix, rows)[:, [column_of[gene] for gene in genes]])
    return CountedCells(counts.astype(np.float32), dataset.size_factors[rows])
