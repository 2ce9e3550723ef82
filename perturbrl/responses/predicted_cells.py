"""Measured and predicted counts as AnnData that ``cell-eval`` and ``cell-eval2`` take."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.sparse import csr_array, csr_matrix

from perturbrl.errors import DataError
from perturbrl.responses.counted_cells import CountedCells, join
from perturbrl.responses.emission import CellEmitter
from perturbrl.responses.spread import ResponseSpread
from perturbrl.responses.training_cells import ONE_CONTEXT
from perturbrl.schema import CELL_TYPE_OBS, CONTROL_LABEL, PERTURBATION_OBS, SIZE_FACTOR_OBS, GeneVector


def labelled_cells(groups: Mapping[str, CountedCells], genes: Sequence[str]) -> AnnData:
    """Counts of several labels in one AnnData: ``X`` sparse whole counts, label and size factor in obs.

    ``cell-eval`` and ``cell-eval2`` take it as it is.

    Args:
        groups: cells by label, ``control`` among them.
        genes: name of each column.
    """
    labels = [label for label, cells in groups.items() for _ in range(len(cells))]
    cells = join(list(groups.values()))
    obs = pd.DataFrame(
        {PERTURBATION_OBS: pd.Categorical(labels), SIZE_FACTOR_OBS: cells.size_factors},
        index=[f"{label}_{i}" for label, cells in groups.items() for i in range(len(cells))],
    )
    return AnnData(csr_matrix(cells.counts, dtype=np.float32), obs=obs, var=pd.DataFrame(index=list(genes)))


def in_context(cells: AnnData, context: str) -> AnnData:
    """Cells named by their context, where there are several; in place."""
    if context != ONE_CONTEXT:
        cells.obs[CELL_TYPE_OBS] = context
        cells.obs_names = [f"{context}_{name}" for name in cells.obs_names]
    return cells


def predicted_cells(
    means: Mapping[str, GeneVector],
    real: AnnData,
    emitter: CellEmitter,
    spreads: Mapping[str, ResponseSpread] | None = None,
) -> AnnData:
    """Predicted means as cells in the shape of the measured ones, as ``cell-eval`` and ``cell-eval2`` want them.

    Genes, labels and control cells are those of ``real``; every perturbation gets as many emitted cells as
    were measured, because the power of DE tests depends on their number.

    Args:
        means: predicted mean log expression of each perturbation of ``real``.
        real: measured cells, see `labelled_cells`.
        emitter: makes the cells; every perturbation has random numbers of its own, whatever stands beside it.
        spreads: what perturbations do to the spread, where that is known.

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
    known = {} if spreads is None else spreads
    groups = {CONTROL_LABEL: _counted(real[labels == CONTROL_LABEL])}
    for label in (label for label in means if label in wanted):
        n_cells, stream = int((labels == label).sum()), emitter.stream_of(label)
        groups[label] = emitter.emit(means[label], n_cells, stream, known.get(label))
    return labelled_cells(groups, list(real.var_names))


def _counted(cells: AnnData) -> CountedCells:
    return CountedCells(csr_array(cells.X), cells.obs[SIZE_FACTOR_OBS].to_numpy(dtype=np.float64))
