"""Responses nobody measured: kriging beside every baseline, one perturbation or cell type held out at a time.

Splits of the files in --data: doubles of Norman 2019 with both, one or none of their parts measured alone; its singles
that combinations hold, too; the genes of Papalexi 2021 without prior knowledge, with Reactome and with GO; the cell
types of Kang 2018; 3 hours of dexamethasone from 1 hour of it (Cao 2018); and perturbations of a simulated screen of
2,000, whose exact shifts judge. Half of the control cells are learned from, the other half judges. Genes are chosen on
what is learned from. Combinations that contain the held-out one are held out with it, except where a single is to be
told from them. Metrics are those of means, and the energy distance of predicted cells (see ``response_cells``). A
predictor wins where the paired difference to the best baseline, averaged over held-out conditions, is clear of 0 by its
95 % t interval. Where the interval of a few conditions holds 0, nothing is decided: it is said who leads, and by how
much on which condition.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping
from functools import partial
from math import nan
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd

from perturbrl.data.labels import CONTROL
from perturbrl.evaluation.coverage import held_share
from perturbrl.evaluation.pairs import MeasuredResponses
from perturbrl.evaluation.predicted_response import judge_responses
from perturbrl.responses.base import PredictedShifts
from perturbrl.responses.competitors import competitors
from perturbrl.responses.counted_cells import counted_cells
from perturbrl.responses.emission import CellEmitter
from perturbrl.responses.kriging import Kriging
from perturbrl.responses.spread_model import SpreadModel
from perturbrl.responses.training_cells import TrainingCells
from perturbrl.schema import GeneVector
from studies.response_cells import REPLICATE, energy_distances
from studies.response_policy import SCREENS, gains_by_schedule
from studies.response_simulated import PROMISED, Scores, scores_of
from studies.response_splits import (
    SPLITS,
    Cells,
    HeldOut,
    Split,
    add_data_argument,
    cells_on,
    dataset_of,
    divided,
    held_out_conditions,
    priors_of,
    training_cells,
)
from studies.response_verdicts import (
    COVERAGE,
    JUDGED,
    KRIGING,
    OF_MEANS,
    PREDICTORS,
    print_verdicts,
    summary,
    verdicts_of,
)
from studies.runner import Row, Run, add_common_arguments, run_all


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


def one_condition(folder: Path, setting: Run) -> Row:
    """Every metric of every predictor on one held-out condition."""
    split, held_out, seed = SPLITS[str(setting["split"])], str(setting["held_out"]), int(str(setting["seed"]))
    scores = _scores(folder, split, held_out, seed) if split.file else scores_of(held_out, seed)
    return {
        f"{name}:{metric}": round(scores.get(name, {}).get(metric, nan), 5)
        for name in PREDICTORS
        for metric in (*JUDGED, *((COVERAGE,) if name == KRIGING else ()))
    }


def _scores(folder: Path, split: Split, held_out: str, seed: int) -> Scores:
    one = divided(folder, split, held_out, seed)
    cells = cells_on(folder, split, one.learned)
    training = training_cells(folder, split, cells, one.learned)
    expected = expected_of(folder, split, one, training)
    shifts = {name: found.mean[0] for name, found in expected.items()}
    distances = _energy_distances(folder, split, one, training, cells, shifts, seed)
    shifts[REPLICATE] = cells.mean(one.replicate) - cells.mean(one.starts)
    judging = {str(one.label): cells.expression[one.judging]}
    measured = MeasuredResponses(cells.genes, cells.expression[one.controls], judging)
    predictors = {name: {str(one.label): shift} for name, shift in shifts.items()}
    reference = _reference(training, one.context)
    scores = judge_responses(measured, predictors, reference).set_index("predictor")
    found = {
        name: {metric: float(scores[metric].get(name, nan)) for metric in OF_MEANS} | own
        for name, own in distances.items()
    }
    found[KRIGING][COVERAGE] = _coverage(expected[KRIGING], cells, one)
    return found


def _coverage(expected: PredictedShifts, cells: Cells, one: HeldOut) -> float:
    """Share of genes that are expressed whose measured shift the 90 % interval holds, noise of the judges included."""
    judging, controls = cells.expression[one.judging], cells.expression[one.controls]
    noise = judging.var(axis=0, ddof=1) / len(judging) + controls.var(axis=0, ddof=1) / len(controls)
    measured = judging.mean(axis=0) - controls.mean(axis=0)
    return held_share(expected.mean[0], expected.sd[0], measured, noise, PROMISED)


def _energy_distances(
    folder: Path,
    split: Split,
    one: HeldOut,
    training: TrainingCells,
    cells: Cells,
    shifts: Mapping[str, GeneVector],
    seed: int,
) -> dict[str, dict[str, float]]:
    dataset = dataset_of(folder, split)
    model = SpreadModel(priors_of(folder, split)).fit(
        counted_cells(dataset, one.learned, cells.genes), training.labels, training.cell_types
    )
    return energy_distances(
        CellEmitter(counted_cells(dataset, one.starts, cells.genes), seed),
        model.predict([(one.label, one.context)])[0],
        shifts,
        KRIGING,
        cells.expression[one.judging],
        cells.expression[one.replicate],
    )


def expected_of(
    folder: Path, split: Split, one: HeldOut, training: TrainingCells
) -> dict[str, PredictedShifts]:
    """What kriging and every baseline expect of the condition."""
    priors = priors_of(folder, split)
    models = (Kriging(priors), *competitors(training, priors=priors))
    asked = [(one.label, one.context)]
    return {model.name: model.fit(training).predict(asked) for model in models}


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
