"""How often is an effect called detectable where there is none, and how often where there is one?

Screens are simulated with a known effect size, split, preprocessed and encoded as for a design; no policy is
trained. The permutation test compares source with target cells that the encoder was not fitted on, all of them as after
`test`, or the goal's and the reference cells alone as after `predict`. Beside it the same test on the training
cells of the source, on which genes were chosen and principal components fitted.
"""

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from perturbrl.data.synthetic import simulate_screen
from perturbrl.evaluation.design import UnseenCells
from perturbrl.evaluation.populations import Detectability
from perturbrl.evaluation.statistics import wilson_interval
from perturbrl.schema import CONTROL_LABEL
from perturbrl.training.datamodule import PerturbationDataModule
from studies.runner import Row, Run, add_common_arguments, run_all

TARGET: Final = "GENE0000"
LEVEL: Final = 0.05
EFFECTS: Final = (0.0, 0.1, 0.15, 0.2, 0.3)
COMPARISONS: Final = {"unseen": "all unseen cells", "goal": "goal cells", "training": "training cells"}


@dataclass(frozen=True)
class Shape:
    """A screen's size."""

    perturbations: int
    cells: int
    control: int
    genes: int

    @property
    def name(self) -> str:
        return f"{self.perturbations}x{self.cells}-control{self.control}-genes{self.genes}"


SHAPES: Final = {
    shape.name: shape
    for shape in (
        Shape(4, 40, 120, 200),
        Shape(4, 40, 120, 1000),
        Shape(8, 100, 300, 2000),
        Shape(12, 60, 400, 50),
    )
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common_arguments(parser, seeds=50)


def run(arguments: argparse.Namespace) -> None:
    runs: list[Run] = [
        {"shape": shape, "effect": effect, "seed": seed}
        for shape in SHAPES
        for effect in EFFECTS
        for seed in range(arguments.seeds)
    ]
    out = arguments.out or Path(tempfile.mkdtemp()) / "null_screens.csv"
    table = run_all(one_screen, runs, out, arguments.jobs)
    _print_table(table)
    print(f"rows: {out}")
    print(json.dumps(summary(table)))


def one_screen(setting: Run) -> Row:
    """P-values of one simulated screen."""
    shape = SHAPES[str(setting["shape"])]
    adata = simulate_screen(
        shape.perturbations,
        shape.genes,
        shape.control,
        shape.cells,
        n_combinations=0,
        effect_size=float(str(setting["effect"])),
        seed=int(str(setting["seed"])),
    )
    data = PerturbationDataModule.from_adata(adata, TARGET)
    data.setup("fit")
    reference, goal = data.reference_cells(), data.cells(TARGET, "goal")
    start, target = data.cells(CONTROL_LABEL, "test"), data.cells(TARGET, "test")
    fitted_on = data.measured.training(
        np.setdiff1d(data.rows(CONTROL_LABEL, "train"), data.rows(CONTROL_LABEL, "reference"))
    ).latent
    return {
        "unseen": _p(UnseenCells(start, target, reference, goal)),
        "goal": _p(UnseenCells(reference, goal)),
        "training": _p(UnseenCells(fitted_on, target, goal=goal)),
    }


def _p(cells: UnseenCells) -> float:
    found = cells.detectability()
    assert isinstance(found, Detectability)
    return found.p_value


def summary(table: pd.DataFrame) -> Row:
    """Shares of p-values at or below 5 %: of all null screens, and of each shape at each effect size."""
    null = table[table["effect"] == 0]
    found: Row = {name: _alarms(table[table["shape"] == name]) for name in SHAPES}
    alarms = wilson_interval(int((null["unseen"] <= LEVEL).sum()), len(null))
    return found | {
        "null_screens": len(null),
        "false_alarms": round(alarms.estimate, 4),
        "false_alarms_interval": [round(alarms.low, 4), round(alarms.high, 4)],
        "false_alarms_goal": _share(null, "goal"),
        "false_alarms_training_cells": _share(null, "training"),
    }


def _alarms(rows: pd.DataFrame) -> Row:
    null, real = rows[rows["effect"] == 0], rows[rows["effect"] != 0]
    return {
        "false_alarms": {name: _share(null, name) for name in COMPARISONS},
        "power": {
            str(effect): {name: _share(some, name) for name in COMPARISONS}
            for effect, some in real.groupby("effect")
        },
    }


def _share(rows: pd.DataFrame, name: str) -> float:
    return round(float((rows[name] <= LEVEL).mean()), 4)


def _print_table(table: pd.DataFrame) -> None:
    shown = Table(title="Share of screens in which an effect is called detectable (5 %)")
    shown.add_column("screen")
    shown.add_column("effect", justify="right")
    for words in COMPARISONS.values():
        shown.add_column(words, justify="right")
    for (shape, effect), rows in table.groupby(["shape", "effect"], sort=False):
        shown.add_row(str(shape), f"{effect:g}", *(f"{_share(rows, name):.2f}" for name in COMPARISONS))
    Console(width=120).print(shown)
