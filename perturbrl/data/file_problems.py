"""What stands in the way of using a file, or should be known of it: one sentence each."""

from collections import Counter
from typing import Final

import numpy as np
import pandas as pd

from perturbrl.data.dataset import PerturbationDataset
from perturbrl.data.file_labels import cells_at_dose_zero
from perturbrl.data.labels import CONTROL, Label
from perturbrl.data.reading import read_rows, row_chunks
from perturbrl.errors import listed
from perturbrl.schema import IS_CONTROL_OBS

FEW_CELLS: Final = 20
_SHOWN: Final = 6


def problems_of(
    dataset: PerturbationDataset, counts: Counter[Label], targets: set[str], obs: pd.DataFrame
) -> list[str]:
    """All that is known against a file.

    Args:
        dataset: its cells.
        counts: cells of each label.
        targets: names that were perturbed.
        obs: the file's table of cells.
    """
    problems = []
    if not dataset.perturbations:
        problems.append(
            "no cell was perturbed: what perturbations do can be inferred from these cells, but not checked"
        )
    few = [label for label in dataset.perturbations if counts[label] < FEW_CELLS]
    if few:
        problems.append(f"{len(few)} perturbations have fewer than {FEW_CELLS} cells: {listed(few, _SHOWN)}")
    if counts[CONTROL] < FEW_CELLS:
        problems.append(f"only {counts[CONTROL]} control cells: what is compared with them is uncertain")
    undosed = cells_at_dose_zero(obs, dataset.fields, dataset.labels)
    if undosed:
        problems.append(f"{undosed} cells are named by a perturbation at dose 0 and count as control")
    silent = _silent_genes(dataset)
    if silent:
        problems.append(f"{silent} of {len(dataset.genes)} genes are 0 in every cell and will be dropped")
    if targets and not targets & set(dataset.genes):
        problems.append(
            "no perturbed name is a gene of the file: effects are known where they were measured, and none can be "
            "worked out from control cells"
        )
    return problems + _confounded(dataset)


def _silent_genes(dataset: PerturbationDataset) -> int:
    total = np.zeros(len(dataset.genes))
    for _, index in row_chunks(np.arange(dataset.n_cells)):
        total += np.asarray(read_rows(dataset.matrix, index).sum(axis=0)).ravel()
    return int((total == 0).sum())


def _confounded(dataset: PerturbationDataset) -> list[str]:
    """Say which levels of a covariate have only perturbed or only control cells."""
    problems = []
    for key in dataset.fields.covariate_keys if dataset.perturbations else ():
        treated = dataset.adata.obs.groupby(dataset.adata.obs[key].astype(str))[IS_CONTROL_OBS].mean()
        without = [str(level) for level, share in treated.items() if share == 0]
        alone = [str(level) for level, share in treated.items() if share == 1]
        if without:
            problems.append(
                f"no control cells at {key} {listed(without, _SHOWN)}: what {key} does cannot be told "
                "from what the perturbation does"
            )
        if alone:
            problems.append(
                f"only control cells at {key} {listed(alone, _SHOWN)}: no response was measured there"
            )
    return problems
