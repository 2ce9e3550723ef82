"""Responses nobody measured, scored by cell-eval2 on its own scale: 0 is the mean response, 1 a replicate.

Splits of the response study in which several perturbations are held out in turn; together they are the panel that the
program scores. Every predictor's means become cells by the same emission from training controls, as many as judge.
Needs the extra `eval`.
"""

import argparse
import json
import sys
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
    cells_of,
    dataset_of,
    divided,
    held_out_conditions,
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
    cells, means, judging = cells_of(folder, split), {}, {}
    for held_out in held_out_conditions(folder, split):
        one = divided(folder, split, held_out, seed)
        if len(one.judging) < FEWEST:
            continue
        start = cells.mean(one.starts)
        judging[held_out] = one.judging
        means[held_out] = {
            name: start + found.mean[0] for name, found in expected_of(folder, split, one).items()
        }
    groups = {CONTROL_LABEL: _counted(folder, split, one.controls)}
    groups |= {label: _counted(folder, split, rows) for label, rows in judging.items()}
    real = labelled_cells(groups, cells.genes)
    emitter = CellEmitter(_counted(folder, split, one.starts), seed)
    by_predictor: dict[str, dict[str, GeneVector]] = {}
    for label, of_label in means.items():
        for name, mean in of_label.items():
            by_predictor.setdefault(name, {})[label] = mean
    predicted = {name: predicted_cells(own, real, emitter) for name, own in by_predictor.items()}
    return scaled_scores(real, predicted, ZERO)


def _counted(folder: Path, split: Split, rows: CellIndex) -> CountedCells:
    return counted_cells(dataset_of(folder, split), np.sort(rows), cells_of(folder, split).genes)


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
