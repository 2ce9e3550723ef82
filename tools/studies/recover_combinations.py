"""Does the policy recover measured double perturbations from single ones?

Each double whose two singles were measured is the target in turn, its cells held out of all fitting. The twin is
linear (`GeneEffectTwin`), so that the optimum is known. Actions are the single perturbations, doses cost nothing,
policies act by their mean. Regret compares the distance of the dosed control cells' mean from the target cells' mean
with its minimum over the same dose box and horizon.
"""

import argparse
import hashlib
import json
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd
from quiet import quiet, quiet_trainer
from rich.console import Console
from rich.table import Table

from perturbrl.cli import parse_config
from perturbrl.data.dataset import load_dataset
from perturbrl.errors import DataError
from perturbrl.evaluation.design import DesignRow, evaluate_designs
from perturbrl.planning.planners import default_planners
from perturbrl.reporting.callback import design_problem, policy_design, unseen_cells
from studies.runner import Row, Run, add_common_arguments, run_all

LINEAR = "perturbrl.twins.gene_effect.GeneEffectTwin"
CONFIG = Path(__file__).parents[2] / "configs" / "gene_screen.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="h5ad with single and double perturbations")
    add_common_arguments(parser, seeds=5)


def run(arguments: argparse.Namespace) -> None:
    doubles = recoverable_doubles(arguments.data)
    # Rows of another file, budget or configuration are never taken for these.
    common = {
        "data": arguments.data.name,
        "frames": arguments.frames or "",
        "configuration": hashlib.sha256(CONFIG.read_bytes()).hexdigest()[:8],
    }
    runs: list[Run] = [common | {"target": t, "seed": s} for t in doubles for s in range(arguments.seeds)]
    out = arguments.out or Path(tempfile.mkdtemp()) / "recover_combinations.csv"
    table = run_all(partial(one_run, arguments.data.resolve(), arguments.frames), runs, out, arguments.jobs)
    _print_table(table, len(doubles))
    print(f"rows: {out}")
    print(json.dumps(_summary(table, doubles, arguments.seeds)))


def recoverable_doubles(path: Path) -> Sequence[str]:
    """Measured doubles whose two components were measured alone, too."""
    dataset = load_dataset(path)
    found = [label for label in dataset.combinations if set(label.singles) <= set(dataset.singles)]
    if not found:
        raise DataError(f"'{path}' has no double whose two singles are measured, too; give another screen")
    return found


def one_run(path: Path, frames: int | None, setting: Run) -> Row:
    """Train on one target with one seed; what the policy and the baselines reach."""
    quiet()
    free = ["--data.min_dose=0", "--model.task.init_args.cost_per_perturbation=0"]
    config = [f"--data.path={path}", f"--data.target={setting['target']}", *free]
    built = parse_config(
        [f"--config={CONFIG}", f"--model.twin={LINEAR}", f"--seed_everything={setting['seed']}", *config]
    )
    rollout = built.model.rollout
    per_iteration = rollout.n_cells * (rollout.steps or rollout.horizon)
    trainer = quiet_trainer(built.max_epochs if frames is None else max(1, frames // per_iteration))
    trainer.fit(built.model, built.data)
    model, target = built.model, str(built.data.target)
    problem = design_problem(model)
    evaluation = evaluate_designs(
        problem,
        (policy_design(model), *default_planners()),
        unseen_cells(model),
        target,
    )
    row: Row = {"strongest": "+".join(hit.perturbation for hit in evaluation.hits[:2])}
    for design in evaluation.rows:
        row |= _columns(design, problem.optimal_distance)
    return row


def _columns(row: DesignRow, optimal_distance: float) -> Row:
    """A design's figures; regret is its distance to the goal on training cells relative to the optimum's, less 1."""
    return {
        f"{row.name}_recall": row.recall,
        f"{row.name}_regret": row.training_distance / optimal_distance - 1.0,
        f"{row.name}_training_distance": row.training_distance,
        f"{row.name}_held_out_distance": row.distance.estimate,
        f"{row.name}_success": row.success.estimate,
    }


def _designs(table: pd.DataFrame) -> list[str]:
    return [column.removesuffix("_recall") for column in table.columns if column.endswith("_recall")]


def _print_table(table: pd.DataFrame, n_doubles: int) -> None:
    shown = Table(title=f"{n_doubles} doubles, {len(table)} runs (means; regret: the largest)")
    for column in (
        "target",
        "design",
        "recall@2",
        "regret",
        "distance to goal",
        "held-out distance",
        "in target",
    ):
        shown.add_column(column, justify="left" if column in ("target", "design") else "right")
    for target, rows in table.groupby("target"):
        for name in _designs(table):
            values = [rows[f"{name}_recall"].mean(), rows[f"{name}_regret"].max()]
            values += [
                rows[f"{name}_{key}"].mean() for key in ("training_distance", "held_out_distance", "success")
            ]
            shown.add_row(str(target), name, *(f"{value:.3f}" for value in values))
    Console(width=120).print(shown)


def _summary(table: pd.DataFrame, doubles: Sequence[str], seeds: int) -> Row:
    return {
        "recall_at_2": round(float(table["policy_recall"].mean()), 4),
        "recall_at_2_nnls": round(float(table["nnls_recall"].mean()), 4),
        "regret": round(float(table["policy_regret"].max()), 5),
        "n_doubles": len(doubles),
        "seeds": seeds,
        "doubles": doubles,
    }
