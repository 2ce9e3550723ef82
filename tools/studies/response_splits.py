"""Held-out conditions of the response study: which file, what is held out of it, and which cells learn and judge."""

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np

from perturbrl.data.dataset import PerturbationDataset, load_dataset
from perturbrl.data.gene_sets import read_gene_sets
from perturbrl.data.labels import CONTROL, Label
from perturbrl.data.preprocessing import Preprocessor
from perturbrl.data.presets import ColumnOptions
from perturbrl.data.prior_knowledge import PriorKnowledge
from perturbrl.errors import DataError
from perturbrl.responses.training_cells import ONE_CONTEXT, TrainingCells
from perturbrl.schema import CellIndex, GeneVector, LogExpression
from studies.response_simulated import held_out_names

MOST_GENES: Final = 2000


@dataclass(frozen=True)
class Split:
    """Held-out conditions of one file.

    Attributes:
        file: in the data folder; empty for a simulated screen (see ``response_simulated``).
        seen: parts of a double that are measured alone; ``None`` takes singles.
        in_combinations: singles that a combination holds, too, instead of all.
        gene_sets: prior knowledge, in the data folder.
        by_cell_type: hold out a cell type's perturbed cells instead of a perturbation.
        dose_key: column of obs by which populations of one perturbation differ.
        only: what is held out, instead of every perturbation in turn.
    """

    file: str = ""
    seen: int | None = None
    in_combinations: bool = False
    gene_sets: str | None = None
    by_cell_type: bool = False
    dose_key: str | None = None
    only: tuple[str, ...] = ()


NORMAN, PAPALEXI = "norman2019_k562_crispra.h5ad", "papalexi2021_thp1_eccite.h5ad"
SPLITS: Final[Mapping[str, Split]] = {
    "norman_both": Split(NORMAN, seen=2),
    "norman_one": Split(NORMAN, seen=1),
    "norman_none": Split(NORMAN, seen=0),
    "norman_singles": Split(NORMAN, in_combinations=True),
    "papalexi": Split(PAPALEXI),
    "papalexi_reactome": Split(PAPALEXI, gene_sets="prior/reactome_pathways.gmt"),
    "papalexi_go": Split(PAPALEXI, gene_sets="prior/go_bp_subset.gmt.gz"),
    "kang": Split("kang2018_pbmc_ifnb.h5ad", by_cell_type=True),
    # Hours under the drug are a dose of it: control cells were measured before it only, so hours are no contexts.
    "cao_3h": Split("cao2018_a549_dex_rna_atac.h5ad", dose_key="time_h", only=("dexamethasone:3",)),
    "simulated_2000": Split(),
}


@dataclass(frozen=True, eq=False)
class Cells:
    """Log expression of all cells of one file, on the genes that all predictors share."""

    expression: LogExpression
    genes: tuple[str, ...]

    def mean(self, rows: CellIndex) -> GeneVector:
        """Mean log expression."""
        return self.expression[rows].mean(axis=0)


def add_data_argument(parser: argparse.ArgumentParser) -> None:
    """Where the files are."""
    default = os.environ.get("PERTURBRL_DATA", "../shared/data")
    parser.add_argument("--data", type=Path, default=Path(default), help="folder of the files")


def held_out_conditions(folder: Path, split: Split) -> list[str]:
    """What is held out in turn, as text."""
    if not split.file:
        return held_out_names()
    dataset = dataset_of(folder, split)
    if split.only:
        return list(split.only)
    if split.by_cell_type:
        perturbed = dataset.labels != CONTROL
        return sorted(set(dataset.cell_types[perturbed]))
    singles = set(dataset.singles)
    if split.seen is not None:
        return [
            str(label) for label in dataset.combinations if len(singles & set(label.singles)) == split.seen
        ]
    joined = {part for label in dataset.combinations for part in label.singles}
    return [str(label) for label in dataset.singles if not split.in_combinations or label in joined]


@dataclass(frozen=True, eq=False)
class HeldOut:
    """One condition and the rows of cells of each use.

    Attributes:
        label: what was done.
        context: where.
        learned: cells to learn from.
        starts: the control cells among them, of the context.
        controls: control cells that judge.
        judging: cells under the condition that judge.
        replicate: the other half.
    """

    label: Label
    context: str
    learned: CellIndex
    starts: CellIndex
    controls: CellIndex
    judging: CellIndex
    replicate: CellIndex


def divided(folder: Path, split: Split, held_out: str, seed: int) -> HeldOut:
    """Which cells are learned from, and which judge."""
    labels, contexts = dataset_of(folder, split).labels, contexts_of(folder, split)
    rng = np.random.default_rng(seed)
    judges = np.zeros(len(labels), dtype=bool)
    for context in sorted(set(contexts)):
        controls = np.flatnonzero((labels == CONTROL) & (contexts == context))
        judges[rng.permutation(controls)[: len(controls) // 2]] = True
    if split.by_cell_type:
        label = next(one for one in labels if one != CONTROL)
        context, target = held_out, (labels != CONTROL) & (contexts == held_out)
        left_out = target
    else:
        label, context = Label.parse(held_out), ONE_CONTEXT
        target = labels == label
        left_out = target if split.in_combinations else np.array([one.contains(label) for one in labels])
    half = rng.permutation(np.flatnonzero(target))
    replicate, judging = np.split(half, [len(half) // 2])
    own = contexts == context
    return HeldOut(
        label,
        context,
        np.flatnonzero(~(left_out | judges)),
        np.flatnonzero((labels == CONTROL) & ~judges & own),
        np.flatnonzero(judges & own),
        judging,
        replicate,
    )


@lru_cache(maxsize=2)
def dataset_of(folder: Path, split: Split) -> PerturbationDataset:
    """The file of a split."""
    path = folder / split.file
    if not path.is_file():
        raise DataError(f"'{split.file}' is not in '{folder}'; give its folder with --data")
    return load_dataset(path, ColumnOptions(dose_key=split.dose_key))


def contexts_of(folder: Path, split: Split) -> np.ndarray:
    """Cell type of each cell, where it matters."""
    dataset = dataset_of(folder, split)
    if split.by_cell_type:
        return np.asarray(dataset.cell_types)
    return np.full(dataset.n_cells, ONE_CONTEXT, dtype=object)


def cells_on(folder: Path, split: Split, learned: CellIndex) -> Cells:
    """All cells, on the genes that vary most among those that are learned from."""
    dataset = dataset_of(folder, split)
    preprocessor = Preprocessor(n_top_genes=MOST_GENES).fit(dataset, learned)
    expression = preprocessor.transform(dataset, np.arange(dataset.n_cells)).double().numpy()
    return Cells(expression, tuple(preprocessor.genes))


def training_cells(folder: Path, split: Split, cells: Cells, rows: CellIndex) -> TrainingCells:
    """What predictors learn from."""
    labels = dataset_of(folder, split).labels[rows].tolist()
    types = contexts_of(folder, split)[rows].tolist() if split.by_cell_type else None
    return TrainingCells(cells.expression[rows], labels, cells.genes, types)


@lru_cache(maxsize=2)
def priors_of(folder: Path, split: Split) -> tuple[PriorKnowledge, ...]:
    """Its prior knowledge."""
    return () if split.gene_sets is None else (read_gene_sets(folder / split.gene_sets),)
