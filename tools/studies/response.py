"""Responses nobody measured: kriging beside every baseline, one perturbation or cell type held out at a time.

Splits of the files in --data: doubles of Norman 2019 with both, one or none of their parts measured alone; its singles
that combinations hold, too; the genes of Papalexi 2021 without prior knowledge, with Reactome and with GO; the cell
types of Kang 2018; 3 hours of dexamethasone from 1 hour of it (Cao 2018); and perturbations of a simulated screen of
2,000, whose exact shifts judge. Half of the control cells are learned from, the other half judges. Combinations that
contain the held-out one are held out with it, except where a single is to be told from them. Metrics are those of
means, and the energy distance of predicted cells (see ``response_cells``). A predictor wins where the paired difference
to the best baseline, averaged over held-out conditions, is clear of 0 by its 95 % t interval; of one condition there is
no interval, and it is said who leads.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from math import nan
from pathlib import Path
from time import perf_counter
from typing import Final

import numpy as np
import pandas as pd

from perturbrl.data.dataset import PerturbationDataset, load_dataset
from perturbrl.data.gene_sets import read_gene_sets
from perturbrl.data.labels import CONTROL, Label
from perturbrl.data.preprocessing import Preprocessor
from perturbrl.data.presets import ColumnOptions
from perturbrl.data.prior_knowledge import PriorKnowledge
from perturbrl.errors import DataError
from perturbrl.evaluation.pairs import MeasuredResponses
from perturbrl.evaluation.predicted_response import judge_responses
from perturbrl.responses.base import PredictedShifts
from perturbrl.responses.competitors import competitors
from perturbrl.responses.counted_cells import counted_cells
from perturbrl.responses.emission import CellEmitter
from perturbrl.responses.kriging import Kriging
from perturbrl.responses.spread_model import SpreadModel
from perturbrl.responses.training_cells import ONE_CONTEXT, TrainingCells
from perturbrl.schema import CellIndex, GeneVector, LogExpression
from studies.response_cells import energy_distances
from studies.response_policy import SCREENS, gains_by_schedule
from studies.response_simulated import Scores, held_out_names, held_share, scores_of
from studies.response_verdicts import (
    COVERAGE,
    JUDGED,
    KRIGING,
    OF_CELLS,
    OF_MEANS,
    PREDICTORS,
    REPLICATE,
    print_verdicts,
    summary,
    verdicts_of,
)
from studies.runner import Row, Run, add_common_arguments, run_all

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
    """Log expression of one file with labels and, where they matter, cell types."""

    expression: LogExpression
    labels: np.ndarray
    contexts: np.ndarray
    genes: tuple[str, ...]

    def mean(self, rows: CellIndex) -> GeneVector:
        """Mean log expression."""
        return self.expression[rows].mean(axis=0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_data_argument(parser)
    parser.add_argument("--splits", nargs="+", choices=SPLITS, default=list(SPLITS), help="splits to run")
    parser.add_argument(
        "--policy_seeds",
        type=int,
        default=2,
        help="seeds of the policies trained on top; 0 trains none (claims: 10)",
    )
    add_common_arguments(parser, seeds=3)


def add_data_argument(parser: argparse.ArgumentParser) -> None:
    """Where the files are."""
    default = os.environ.get("PERTURBRL_DATA", "../shared/data")
    parser.add_argument("--data", type=Path, default=Path(default), help="folder of the files")


def run(arguments: argparse.Namespace) -> None:
    started, folder = perf_counter(), arguments.data.resolve()
    runs: list[Run] = [
        {"split": name, "held_out": held_out, "seed": seed}
        for name in arguments.splits
        for held_out in held_out_conditions(folder, SPLITS[name])
        for seed in range(arguments.seeds)
    ]
    out = arguments.out or Path(tempfile.mkdtemp()) / "response.csv"
    table = run_all(partial(one_condition, folder), runs, out, arguments.jobs)
    verdicts = pd.DataFrame(list(verdicts_of(table)))
    print_verdicts(verdicts)
    gains = _policy_gain(folder, arguments, out.with_name(f"{out.stem}_policy.csv"))
    print(f"rows: {out}")
    print(json.dumps(summary(table, verdicts) | gains | {"seconds": round(perf_counter() - started)}))


def _policy_gain(folder: Path, arguments: argparse.Namespace, out: Path) -> Row:
    """What policies add to kriging on the screens whose splits are run."""
    screens = [screen for screen in SCREENS if any(split.startswith(screen) for split in arguments.splits)]
    if not screens or arguments.policy_seeds < 1:
        return {}
    return {"policy_gain": gains_by_schedule(folder, screens, arguments.policy_seeds, arguments.jobs, out)}


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


def one_condition(folder: Path, setting: Run) -> Row:
    """Every metric of every predictor on one held-out condition."""
    split, held_out, seed = SPLITS[str(setting["split"])], str(setting["held_out"]), int(str(setting["seed"]))
    scores = _scores(folder, split, held_out, seed) if split.file else scores_of(held_out, seed)
    return {
        f"{name}:{metric}": round(scores.get(name, {}).get(metric, nan), 5)
        for name in PREDICTORS
        for metric in (*JUDGED, *((COVERAGE,) if name == KRIGING else ()))
    }


@dataclass(frozen=True, eq=False)
class HeldOut:
    """One condition and the rows of cells of each use.

    Attributes:
        label: what was done.
        context: where.
        training: cells to learn from.
        learned: their rows.
        starts: the control cells among them, of the context.
        controls: control cells that judge.
        judging: cells under the condition that judge.
        replicate: the other half.
    """

    label: Label
    context: str
    training: TrainingCells
    learned: CellIndex
    starts: CellIndex
    controls: CellIndex
    judging: CellIndex
    replicate: CellIndex


def divided(folder: Path, split: Split, held_out: str, seed: int) -> HeldOut:
    """Which cells are learned from, and which judge."""
    cells, rng = cells_of(folder, split), np.random.default_rng(seed)
    judges = np.zeros(len(cells.labels), dtype=bool)
    for context in sorted(set(cells.contexts)):
        controls = np.flatnonzero((cells.labels == CONTROL) & (cells.contexts == context))
        judges[rng.permutation(controls)[: len(controls) // 2]] = True
    if split.by_cell_type:
        label = next(one for one in cells.labels if one != CONTROL)
        context, target = held_out, (cells.labels != CONTROL) & (cells.contexts == held_out)
        left_out = target
    else:
        label, context = Label.parse(held_out), ONE_CONTEXT
        target = cells.labels == label
        left_out = (
            target if split.in_combinations else np.array([one.contains(label) for one in cells.labels])
        )
    half = rng.permutation(np.flatnonzero(target))
    replicate, judging = np.split(half, [len(half) // 2])
    own = cells.contexts == context
    return HeldOut(
        label,
        context,
        _some(cells, ~(left_out | judges), split),
        np.flatnonzero(~(left_out | judges)),
        np.flatnonzero((cells.labels == CONTROL) & ~judges & own),
        np.flatnonzero(judges & own),
        judging,
        replicate,
    )


def _scores(folder: Path, split: Split, held_out: str, seed: int) -> Scores:
    cells, one = cells_of(folder, split), divided(folder, split, held_out, seed)
    expected = expected_of(folder, split, one)
    shifts = {name: found.mean[0] for name, found in expected.items()}
    shifts[REPLICATE] = cells.mean(one.replicate) - cells.mean(one.starts)
    judging = {str(one.label): cells.expression[one.judging]}
    measured = MeasuredResponses(cells.genes, cells.expression[one.controls], judging)
    predictors = {name: {str(one.label): shift} for name, shift in shifts.items()}
    reference = _reference(one.training, one.context)
    scores = judge_responses(measured, predictors, reference).set_index("predictor")
    distances = _energy_distances(folder, split, one, shifts, seed)
    found = {
        name: {metric: float(scores[metric].get(name, nan)) for metric in OF_MEANS} | {OF_CELLS: distance}
        for name, distance in distances.items()
    }
    found[KRIGING][COVERAGE] = _coverage(expected[KRIGING], cells, one)
    return found


def _coverage(expected: PredictedShifts, cells: Cells, one: HeldOut) -> float:
    """Share of genes that are expressed whose measured shift the 90 % interval holds, noise of the judges included."""
    judging, controls = cells.expression[one.judging], cells.expression[one.controls]
    noise = judging.var(axis=0, ddof=1) / len(judging) + controls.var(axis=0, ddof=1) / len(controls)
    return held_share(expected.mean[0], expected.sd[0], judging.mean(axis=0) - controls.mean(axis=0), noise)


def _energy_distances(
    folder: Path, split: Split, one: HeldOut, shifts: Mapping[str, GeneVector], seed: int
) -> dict[str, float]:
    cells, dataset = cells_of(folder, split), dataset_of(folder, split)
    model = SpreadModel(_priors(folder, split)).fit(
        counted_cells(dataset, one.learned, cells.genes), one.training.labels, one.training.cell_types
    )
    return energy_distances(
        CellEmitter(counted_cells(dataset, one.starts, cells.genes), seed),
        model.predict([(one.label, one.context)])[0],
        KRIGING,
        {name: shift for name, shift in shifts.items() if name != REPLICATE},
        cells.expression[one.judging],
        cells.expression[one.replicate],
    )


def expected_of(folder: Path, split: Split, one: HeldOut) -> dict[str, PredictedShifts]:
    """What kriging and every baseline expect of the condition."""
    priors = _priors(folder, split)
    models = (Kriging(priors), *competitors(one.training, priors=priors))
    asked = [(one.label, one.context)]
    return {model.name: model.fit(one.training).predict(asked) for model in models}


def _reference(training: TrainingCells, context: str) -> TrainingCells:
    """What metrics are centred on: the control of the context in question, and all training shifts from it."""
    if training.cell_types is None:
        return training
    expression, types = np.asarray(training.expression).copy(), np.asarray(training.cell_types)
    control = np.array([label == CONTROL for label in training.labels])
    here = expression[control & (types == context)].mean(axis=0)
    for name in sorted(set(types)):
        expression[types == name] += here - expression[control & (types == name)].mean(axis=0)
    return TrainingCells(expression, training.labels, training.genes)


@lru_cache(maxsize=2)
def dataset_of(folder: Path, split: Split) -> PerturbationDataset:
    """The file of a split."""
    path = folder / split.file
    if not path.is_file():
        raise DataError(f"'{split.file}' is not in '{folder}'; give its folder with --data")
    return load_dataset(path, ColumnOptions(dose_key=split.dose_key))


@lru_cache(maxsize=2)
def cells_of(folder: Path, split: Split) -> Cells:
    """Its cells, on the genes that all predictors share."""
    dataset = dataset_of(folder, split)
    everything = np.arange(dataset.n_cells)
    # Genes are chosen by their variance over all cells, labels unseen, and once for all predictors.
    preprocessor = Preprocessor(n_top_genes=MOST_GENES).fit(dataset, everything)
    expression = preprocessor.transform(dataset, everything).double().numpy()
    contexts = (
        dataset.cell_types if split.by_cell_type else np.full(len(expression), ONE_CONTEXT, dtype=object)
    )
    return Cells(expression, dataset.labels, contexts, tuple(preprocessor.genes))


@lru_cache(maxsize=2)
def _priors(folder: Path, split: Split) -> tuple[PriorKnowledge, ...]:
    return () if split.gene_sets is None else (read_gene_sets(folder / split.gene_sets),)


def _some(cells: Cells, rows: np.ndarray, split: Split) -> TrainingCells:
    types = cells.contexts[rows].tolist() if split.by_cell_type else None
    return TrainingCells(cells.expression[rows], cells.labels[rows].tolist(), cells.genes, types)
