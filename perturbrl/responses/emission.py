"""From a predicted mean to cells: dispersed whole counts that have that mean.

A mean repeated for every cell has no spread, and a constant added to every cell moves the zeros; either makes
nearly every gene significant and spoils every metric of distributions. Here the spread, the zeros and the
correlations of genes come from measured control cells.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Float
from scipy.sparse import csr_matrix, issparse

from perturbrl.data.dataset import PerturbationDataset
from perturbrl.data.reading import read_rows, to_dense
from perturbrl.errors import DataError
from perturbrl.schema import (
    CONTROL_LABEL,
    PERTURBATION_OBS,
    SIZE_FACTOR_OBS,
    TARGET_SUM,
    CellIndex,
    GeneVector,
    LogExpression,
)

MOST_EMITTING: Final = 300  # control cells that suffice to calibrate emission on
_BISECTIONS: Final = 30
_SMALLEST: Final = 1e-6

Counts = Float[np.ndarray, "cells genes"]
SizeFactors = Float[np.ndarray, " cells"]


@dataclass(frozen=True, eq=False)
class CountedCells:
    """Whole counts with the size factor of each cell.

    Attributes:
        counts: ``[cells, genes]``.
        size_factors: counts of each cell before genes were cut.
    """

    counts: Counts
    size_factors: SizeFactors

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def log_expression(self) -> LogExpression:
        """log1p(1e4 · counts / size factor)."""
        return np.log1p(TARGET_SUM * self.counts / self.size_factors[:, None])

    def at_most(self, n_cells: int, seed: int) -> "CountedCells":
        """So many of the cells, drawn without replacement; all where there are no more."""
        chosen = np.random.default_rng(seed).permutation(len(self))[:n_cells]
        return CountedCells(self.counts[chosen], self.size_factors[chosen])


@dataclass(frozen=True, eq=False)
class CellEmitter:
    """Makes cells of any predicted mean from measured control cells.

    Attributes:
        control: whole counts of control cells. Training cells, where the emitted ones are judged by others.
        seed: of the draws.

    Raises:
        DataError: there is no control cell, or a count is not a whole number.
    """

    control: CountedCells
    seed: int = 0

    def __post_init__(self) -> None:
        counts = self.control.counts
        if len(counts) == 0 or (counts % 1 != 0).any() or (counts < 0).any():
            raise DataError(
                f"cells are emitted from the whole counts of control cells, and the {len(counts)} given ones hold "
                "none or other values; give raw counts"
            )

    def emit(self, log_mean: GeneVector, n_cells: int, stream: int = 0) -> CountedCells:
        """Cells whose log-normalised mean is ``log_mean`` up to sampling noise.

        Control cells are drawn with replacement. Where a gene is predicted to fall, its counts are thinned
        (binomial); where it is predicted to rise, Poisson counts in proportion to the cell's size factor are
        added. The share kept and the rate added are found by bisection per gene. A gene predicted at the
        control mean keeps its measured counts, so predicting the control emits resampled control cells. Means
        outside what counts can have (below 0, above log1p of 1e4) are cut to it.

        Args:
            log_mean: predicted mean of log1p(1e4 · counts / size factor).
            n_cells: how many to emit; as many as were measured, or DE metrics do not compare.
            stream: of the random numbers. Perturbations take one each: noise they share would cancel in their
                differences.
        """
        whole = self.control.counts.astype(np.int64)
        sizes = self.control.size_factors
        keep, add = _calibrate(log_mean, whole, sizes, [self.seed, stream, 0])
        rng = np.random.default_rng([self.seed, stream, 1])
        rows = rng.integers(len(whole), size=n_cells)
        return CountedCells(_perturb(whole[rows], sizes[rows], keep, add, rng), sizes[rows])


def _perturb(
    counts: np.ndarray, size_factors: SizeFactors, keep: GeneVector, add: GeneVector, rng: np.random.Generator
) -> Counts:
    added = rng.poisson(size_factors[:, None] / TARGET_SUM * add)
    return (rng.binomial(counts, keep) + added).astype(np.float64)


def _mean_log(counts: np.ndarray, size_factors: SizeFactors) -> GeneVector:
    return np.log1p(TARGET_SUM * counts / size_factors[:, None]).mean(axis=0)


def _calibrate(
    log_mean: GeneVector, counts: np.ndarray, size_factors: SizeFactors, seed: Sequence[int]
) -> tuple[GeneVector, GeneVector]:
    """The share of counts kept and the normalised level added, gene by gene."""
    change = log_mean - _mean_log(counts, size_factors)
    falls, rises = change < -_SMALLEST, change > _SMALLEST
    low, high = np.full(len(change), np.log(_SMALLEST)), np.where(rises, np.log(TARGET_SUM), 0.0)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        keep, add = np.where(falls, np.exp(middle), 1.0), np.where(rises, np.exp(middle), 0.0)
        # The same seed in every round makes the simulated mean nearly monotone in the parameter.
        simulated = _perturb(counts, size_factors, keep, add, np.random.default_rng(seed))
        too_high = _mean_log(simulated, size_factors) > log_mean
        low, high = np.where(too_high, low, middle), np.where(too_high, middle, high)
    return keep, add


def labelled_cells(groups: Mapping[str, CountedCells], genes: Sequence[str]) -> AnnData:
    """Counts of several labels in one AnnData: ``X`` whole counts, label and size factor in obs.

    ``cell-eval`` and ``cell-eval2`` take it as it is.

    Args:
        groups: cells by label, ``control`` among them.
        genes: name of each column.
    """
    labels = [label for label, cells in groups.items() for _ in range(len(cells))]
    obs = pd.DataFrame(
        {
            PERTURBATION_OBS: pd.Categorical(labels),
            SIZE_FACTOR_OBS: np.concatenate([cells.size_factors for cells in groups.values()]),
        },
        index=[f"{label}_{i}" for label, cells in groups.items() for i in range(len(cells))],
    )
    counts = np.concatenate([cells.counts for cells in groups.values()])
    return AnnData(csr_matrix(counts, dtype=np.float32), obs=obs, var=pd.DataFrame(index=list(genes)))


def predicted_cells(means: Mapping[str, GeneVector], real: AnnData, emitter: CellEmitter) -> AnnData:
    """Predicted means as cells in the shape of the measured ones, as ``cell-eval`` and ``cell-eval2`` want them.

    Genes, labels and control cells are those of ``real``; every perturbation gets as many emitted cells as
    were measured, because the power of DE tests depends on their number.

    Args:
        means: predicted mean log expression of each perturbation of ``real``.
        real: measured cells, see `labelled_cells`.
        emitter: makes the cells; every perturbation has a stream of its own, in the order of ``means``.

    Raises:
        DataError: a perturbation of ``real`` is not predicted.
    """
    labels = real.obs[PERTURBATION_OBS].astype(str).to_numpy()
    wanted = set(labels) - {CONTROL_LABEL}
    absent = sorted(wanted - set(means))
    if absent:
        raise DataError(
            f"no prediction for {absent[:5]}, which were measured; predict every perturbation, or leave its "
            "cells out of the measured ones"
        )
    groups = {CONTROL_LABEL: _counted(real[labels == CONTROL_LABEL])}
    for stream, (label, mean) in enumerate(means.items()):
        if label in wanted:
            groups[label] = emitter.emit(mean, int((labels == label).sum()), stream)
    return labelled_cells(groups, list(real.var_names))


def counted_cells(dataset: PerturbationDataset, rows: CellIndex, genes: Sequence[str]) -> CountedCells:
    """Whole counts of some cells and genes of a data set."""
    column_of = {gene: column for column, gene in enumerate(dataset.genes)}
    counts = to_dense(read_rows(dataset.matrix, rows)[:, [column_of[gene] for gene in genes]])
    return CountedCells(counts.astype(np.float64), dataset.size_factors[rows])


def _counted(cells: AnnData) -> CountedCells:
    counts = cells.X.toarray() if issparse(cells.X) else np.asarray(cells.X)
    return CountedCells(counts.astype(np.float64), cells.obs[SIZE_FACTOR_OBS].to_numpy(dtype=np.float64))
