"""Responses nobody measured, scored by cell-eval2 on its own scale: 0 is the mean response, 1 a replicate.

Splits of the response study in which several perturbations are held out in turn; together they are the panel that the
program scores. Every predictor's means become cells by the same emission from training controls, as many as judge.
Needs the extra `eval`.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial, reduce
from pathlib import Path
from time import perf_counter
from typing import Final

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from perturbrl.errors import DataError
from perturbrl.evaluation.scaled_scores import AVERAGE, scaled_scores
from perturbrl.responses.counted_cells import CountedCells, counted_cells
from perturbrl.responses.emission import CellEmitter
from perturbrl.responses.predicted_cells import labelled_cells, predicted_cells
from perturbrl.schema import CONTROL_LABEL, CellIndex, GeneVector
from studies.response import expected_of
from studies.response_splits import (
    SPLITS,
    Split,
    add_data_argument,
    cells_on,
    dataset_of,
    divided,
    held_out_conditions,
    training_cells,
)
from studies.response_verdicts import KRIGING

ZERO: Final = "training_mean"
PANELS: Final = tuple(
    name for name, split in SPLITS.items() if split.file and not split.by_cell_type and not split.only
)
FEWEST: Final = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_data_argument(parser)
    parser.add_argument("--splits", nargs="+", choices=PANELS, default=list(PANELS), help="splits to run")
    parser.add_argument("--seed", type=int, default=0, help="of the halves that judge and of emission")


def run(arguments: argparse.Namespace) -> None:
    started, folder = perf_counter(), arguments.data.resolve()
    found, refused = {}, {}
    for name in arguments.splits:
        try:
            found[name] = scores_of_split(folder, SPLITS[name], arguments.seed)
        except DataError as error:
            # A panel of few cells may show no effect at all, by which the program's scale cannot be set.
            refused[name] = str(error)
            print(f"{name}: {error}", file=sys.stderr)
    averages = {}
    if found:
        table = pd.concat(found, names=["split"])
        _print_table(table)
        averages = table[AVERAGE].unstack("split").round(4).to_dict()
    print(json.dumps({"averages": averages, "refused": refused, "seconds": round(perf_counter() - started)}))


def scores_of_split(folder: Path, split: Split, seed: int) -> pd.DataFrame:
    """Scores of every predictor over the split's held-out perturbations."""
    every = {name: divided(folder, split, name, seed) for name in held_out_conditions(folder, split)}
    held_out = {name: one for name, one in every.items() if len(one.judging) >= FEWEST}
    if not held_out:
        raise DataError(f"no held-out perturbation has {FEWEST} cells to judge by; give more cells")
    # One panel has one set of genes, which no held-out cell may choose.
    learned = reduce(np.intersect1d, [one.learned for one in held_out.values()])
    cells = cells_on(folder, split, learned)
    # Which control cells judge depends on the seed alone.
    same = next(iter(held_out.values()))
    start, means = cells.mean(same.starts), {}
    for name, one in held_out.items():
        training = training_cells(folder, split, cells, one.learned)
        expected = expected_of(folder, split, one, training)
        means[name] = {predictor: start + found.mean[0] for predictor, found in expected.items()}
    counted = partial(_counted, folder, split, cells.genes)
    groups = {CONTROL_LABEL: counted(same.controls)}
    groups |= {label: counted(one.judging) for label, one in held_out.items()}
    real = labelled_cells(groups, cells.genes)
    emitter = CellEmitter(counted(same.starts), seed)
    by_predictor: dict[str, dict[str, GeneVector]] = {}
    for label, of_label in means.items():
        for name, mean in of_label.items():
            by_predictor.setdefault(name, {})[label] = mean
    predicted = {name: predicted_cells(own, real, emitter) for name, own in by_predictor.items()}
    return scaled_scores(real, predicted, ZERO)


def _counted(folder: Path, split: Split, genes: Sequence[str], rows: CellIndex) -> CountedCells:
    return counted_cells(dataset_of(folder, split), np.sort(rows), genes)


def _print_table(table: pd.DataFrame) -> None:
    shown = Table(
        title="cell-eval2: 0 is the training mean, 1 a replicate; kriging and the best others by split"
    )
    for column in ("split", "predictor", *table.columns):
        shown.add_column(str(column))
    for split, rows in table.groupby(level="split", sort=False):
        order = rows.droplevel("split").sort_values(AVERAGE, ascending=False)
        for predictor in dict.fromkeys((KRIGING, *order.index)):
            values = order.loc[predictor]
            shown.add_row(str(split), str(predictor), *(f"{value:.3f}" for value in values))
    Console(width=200).print(shown)
