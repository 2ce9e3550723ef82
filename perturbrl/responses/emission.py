"""From a predicted mean to cells: dispersed whole counts that have that mean.

A mean repeated for every cell has no spread, and a constant added to every cell moves the zeros; either makes
nearly every gene significant and spoils every metric of distributions. Here the spread, the zeros and the
correlations of genes come from measured control cells.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Float
from scipy.sparse import csr_matrix, issparse

from perturbrl.errors import DataError
from perturbrl.schema import CONTROL_LABEL, PERTURBATION_OBS, SIZE_FACTOR_OBS, TARGET_SUM, GeneVector

_BISECTIONS: Final = 30
_SMALLEST: Final = 1e-6

Counts = Float[np.ndarray, "cells genes"]


def emit_counts(
    log_mean: GeneVector,
    control_counts: Counts,
    size_factors: Float[np.ndarray, " cells"],
    n_cells: int,
    seed: int = 0,
) -> tuple[Float[np.ndarray, "emitted genes"], Float[np.ndarray, " emitted"]]:
    """Counts of ``n_cells`` cells whose log-normalised mean is ``log_mean`` up to sampling noise.

    Control cells are drawn with replacement. Where a gene is predicted to fall, its counts are thinned
    (binomial); where it is predicted to rise, Poisson counts in proportion to the cell's size factor are
    added. The share kept and the rate added are found by bisection per gene. A gene predicted at the control
    mean keeps its measured counts, so predicting the control emits resampled control cells. Means outside
    what counts can have (below 0, above log1p of 1e4) are cut to it.

    Args:
        log_mean: predicted mean of log1p(1e4 · counts / size factor).
        control_counts: ``[cells, genes]`` whole counts of the control cells.
        size_factors: of the control cells.
        n_cells: how many to emit; as many as were measured, or DE metrics do not compare.
        seed: of the draws.

    Returns:
        Counts and size factors of the emitted cells.

    Raises:
        DataError: there is no control cell, or a count is not a whole number.
    """
    if len(control_counts) == 0 or (control_counts % 1 != 0).any() or (control_counts < 0).any():
        raise DataError(
            f"cells are emitted from the whole counts of control cells, and the {len(control_counts)} given "
            "ones hold none or other values; give raw counts"
        )
    whole = control_counts.astype(np.int64)
    keep, add = _calibrate(log_mean, whole, size_factors, seed)
    rng = np.random.default_rng([seed, 1])
    rows = rng.integers(len(whole), size=n_cells)
    return _perturb(whole[rows], size_factors[rows], keep, add, rng), size_factors[rows]


def _perturb(
    counts: np.ndarray,
    size_factors: Float[np.ndarray, " cells"],
    keep: GeneVector,
    add: GeneVector,
    rng: np.random.Generator,
) -> Counts:
    added = rng.poisson(size_factors[:, None] / TARGET_SUM * add)
    return (rng.binomial(counts, keep) + added).astype(np.float64)


def _mean_log(counts: np.ndarray, size_factors: Float[np.ndarray, " cells"]) -> GeneVector:
    return np.log1p(TARGET_SUM * counts / size_factors[:, None]).mean(axis=0)


def _calibrate(
    log_mean: GeneVector, counts: np.ndarray, size_factors: Float[np.ndarray, " cells"], seed: int
) -> tuple[GeneVector, GeneVector]:
    """The share of counts kept and the normalised level added, gene by gene."""
    change = log_mean - _mean_log(counts, size_factors)
    falls, rises = change < -_SMALLEST, change > _SMALLEST
    low, high = np.full(len(change), np.log(_SMALLEST)), np.where(rises, np.log(TARGET_SUM), 0.0)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        keep, add = np.where(falls, np.exp(middle), 1.0), np.where(rises, np.exp(middle), 0.0)
        # The same seed in every round makes the simulated mean nearly monotone in the parameter.
        simulated = _perturb(counts, size_factors, keep, add, np.random.default_rng([seed, 0]))
        too_high = _mean_log(simulated, size_factors) > log_mean
        low, high = np.where(too_high, low, middle), np.where(too_high, middle, high)
    return keep, add


def predicted_cells(
    means: Mapping[str, GeneVector],
    real: AnnData,
    *,
    perturbation_key: str = PERTURBATION_OBS,
    size_factor_key: str | None = None,
    control: str = CONTROL_LABEL,
    seed: int = 0,
) -> AnnData:
    """Predicted means as cells in the shape of the measured ones, as ``cell-eval`` and ``cell-eval2`` want them.

    Genes, labels and control cells are those of ``real``; every perturbation gets as many emitted cells as
    were measured, because the power of DE tests depends on their number. ``X`` holds whole counts, and obs
    the size factor each of them was emitted for.

    Args:
        means: predicted mean log expression of each perturbation of ``real``, see `emit_counts`.
        real: measured cells with whole counts, controls among them.
        perturbation_key: obs column with the labels, in ``real`` and in the result.
        size_factor_key: obs column of ``real`` with the counts of a cell before genes were cut; by default the
            sum over its genes.
        control: label of the control cells.
        seed: of the draws; every perturbation has a stream of its own.

    Raises:
        DataError: a perturbation of ``real`` is not predicted, or there are no control cells with whole counts.
    """
    labels = real.obs[perturbation_key].astype(str).to_numpy()
    wanted = sorted(set(labels) - {control})
    absent = [label for label in wanted if label not in means]
    if absent:
        raise DataError(
            f"no prediction for {absent[:5]}, which were measured; predict every perturbation, or leave its "
            "cells out of the measured ones"
        )
    rows = labels == control
    counts = _dense(real[rows].X)
    sizes = counts.sum(axis=1) if size_factor_key is None else real.obs[size_factor_key].to_numpy()[rows]
    blocks = [(control, counts, sizes)]
    for i, label in enumerate(wanted):
        n_cells = int((labels == label).sum())
        blocks.append((label, *emit_counts(means[label], counts, sizes, n_cells, seed * len(wanted) + i)))
    return _assembled(blocks, real.var, perturbation_key)


def _dense(x: Any) -> Counts:
    return np.asarray(x.toarray() if issparse(x) else x, dtype=np.float64)


def _assembled(
    blocks: list[tuple[str, Counts, Float[np.ndarray, " cells"]]], var: pd.DataFrame, perturbation_key: str
) -> AnnData:
    names = [f"{label}_{i}" for label, counts, _ in blocks for i in range(len(counts))]
    obs = pd.DataFrame(
        {
            perturbation_key: pd.Categorical(np.repeat([b[0] for b in blocks], [len(b[1]) for b in blocks])),
            SIZE_FACTOR_OBS: np.concatenate([sizes for _, _, sizes in blocks]),
        },
        index=names,
    )
    x = csr_matrix(np.concatenate([counts for _, counts, _ in blocks]).astype(np.float32))
    return AnnData(x, obs=obs, var=pd.DataFrame(index=var.index.copy()))
