"""Simulated screens of every size: does the shipped design hold on held-out cells, how near is it to the best known?

Genes act in modules (``perturbrl.data.module_screen``). The target is a measured pair, whose cells are held out. Twin
and policy are those of configs/gene_screen.yaml; the twin is fitted once for all schedules.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from time import perf_counter
from typing import Final

import numpy as np
import pandas as pd
import torch
from lightning import Callback, LightningModule, Trainer
from quiet import quiet_trainer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from perturbrl.cli import parse_config
from perturbrl.data.module_screen import ModuleScreenOptions, simulate_module_screen
from perturbrl.embeddings.base import EncodedCells, Encoder
from perturbrl.evaluation.simulation import simulate
from perturbrl.evaluation.statistics import mean_interval
from perturbrl.planning.beam import BeamSearch
from perturbrl.planning.cross_entropy import CrossEntropySearch
from perturbrl.planning.design_problem import DesignProblem, Planner
from perturbrl.planning.exhaustive import ExhaustiveSearch
from perturbrl.planning.greedy import GreedyDesign
from perturbrl.planning.planners import NearestPerturbationDesign, NoOpDesign, RandomDesign
from perturbrl.reporting.callback import design_problem, policy_design, unseen_cells
from perturbrl.training.options import StageSchedule
from perturbrl.training.two_stage import TwoStageModule
from perturbrl.twins.response import ResponseTwin
from studies.runner import Row, Run, run_all

CONFIG: Final = Path(__file__).resolve().parents[2] / "configs" / "gene_screen.yaml"
SCHEDULES: Final[tuple[StageSchedule, ...]] = ("alternate", "trust_region_only", "ppo_only")
PLANNERS: Final = (
    NoOpDesign,
    RandomDesign,
    NearestPerturbationDesign,
    GreedyDesign,
    CrossEntropySearch,
    ExhaustiveSearch,
    BeamSearch,
)
SIZES: Final = (20, 200, 2_000, 10_000)
EFFECTS: Final = {"weak": 0.1, "strong": 0.4}
CELLS: Final = (20, 200)
# Two hundred cells of each of ten thousand perturbations do not fit the memory of a laptop.
MOST_CELLS: Final = 500_000
ENOUGH: Final = 0.05
SEEN: Final = 64
N_GENES: Final = 500


class KeptTwin(ResponseTwin):
    """A twin that is learned once, for all schedules."""

    def fit(self, cells: EncodedCells, encoder: Encoder) -> "KeptTwin":
        """Learn, unless it has."""
        return self if hasattr(self, "perturbations") else super().fit(cells, encoder)


@dataclass(frozen=True)
class Look:
    """What the policy's best choices left of the way, and when."""

    frames: int
    seconds: float
    left: float


class Looks(Callback):
    """Looks at the policy's best choices on training cells before training and after every iteration."""

    def __init__(self) -> None:
        self.looks: list[Look] = []
        self._trained = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Before the first step."""
        self._look(pl_module, 0)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Time that looking takes is not counted."""
        self._since = perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """After an iteration."""
        assert isinstance(pl_module, TwoStageModule)
        self._trained += perf_counter() - self._since
        frames = pl_module.rollout.n_cells * pl_module.rollout.horizon
        self._look(pl_module, frames * (trainer.current_epoch + 1))

    def _look(self, module: LightningModule, frames: int) -> None:
        assert isinstance(module, TwoStageModule)
        problem = design_problem(module)
        self.looks.append(Look(frames, self._trained, left_of(problem, policy_design(module))))


def left_of(problem: DesignProblem, planner: Planner) -> float:
    """Mean share of the way that a design leaves to training cells; nan where it cannot treat the problem."""
    if not planner.plan(problem):
        return nan
    start = problem.twin.start_cells[:SEEN]
    done = simulate(problem, planner, start)
    goal = problem.task.goal_state(done.start)
    return float((goal - done.final).norm(dim=1).mean() / (goal - done.start).norm(dim=1).mean())


def rows(seeds: int, jobs: int, out: Path, sizes: Sequence[int] = SIZES) -> pd.DataFrame:
    """One row for each screen."""
    runs: list[Run] = [
        {"size": size, "effect": effect, "cells": cells, "seed": seed}
        for size in sizes
        for cells in CELLS
        if size * cells <= MOST_CELLS
        for effect in EFFECTS
        for seed in range(seeds)
    ]
    return run_all(one_screen, runs, out, jobs)


def one_screen(setting: Run) -> Row:
    """Every schedule and planner on one screen."""
    size, cells, seed = (int(str(setting[name])) for name in ("size", "cells", "seed"))
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "screen.h5ad"
        target = _write_screen(path, size, cells, EFFECTS[str(setting["effect"])], seed)
        row: Row = {}
        twin = KeptTwin()
        judged: dict[str, tuple[float, Tensor]] = {}
        for schedule in SCHEDULES:
            started = perf_counter()
            module, looks = _trained(path, target, schedule, seed, twin)
            row |= _training_of(schedule, looks, perf_counter() - started)
            judged[schedule] = _judged(module, policy_design(module))
        for planner in (kind() for kind in PLANNERS):
            started = perf_counter()
            judged[planner.name] = _judged(module, planner)
            row[f"{planner.name}:seconds"] = round(perf_counter() - started, 2)
    return row | _compared(judged)


def _write_screen(path: Path, size: int, cells: int, effect: float, seed: int) -> str:
    options = ModuleScreenOptions(
        n_perturbations=size,
        n_genes=N_GENES,
        n_modules=max(5, size // 20),
        cells_per_population=cells,
        n_combinations=min(20, size // 4),
        effect_size=effect,
        seed=seed,
    )
    screen = simulate_module_screen(options)
    screen.adata.write_h5ad(path)
    return str(next(label for label, _ in screen.conditions if label.is_combination))


def _trained(
    path: Path, target: str, schedule: StageSchedule, seed: int, twin: KeptTwin
) -> tuple[TwoStageModule, list[Look]]:
    built = parse_config(
        [
            f"--config={CONFIG}",
            f"--seed_everything={seed}",
            f"--data.path={path}",
            f"--data.target={target}",
            f"--data.split.init_args.seed={seed}",
            f"--model.schedule={schedule}",
        ]
    )
    built.model.twin, looks = twin, Looks()
    trainer = quiet_trainer(built.max_epochs, callbacks=[looks])
    trainer.fit(built.model, built.data)
    return built.model, looks.looks


def _training_of(schedule: str, looks: Sequence[Look], seconds: float) -> Row:
    return {
        f"{schedule}:looks": " ".join(f"{look.left:.4f}" for look in looks),
        f"{schedule}:frames": looks[-1].frames,
        f"{schedule}:seconds_trained": round(looks[-1].seconds, 2),
        f"{schedule}:seconds": round(seconds, 2),
    }


def _judged(module: TwoStageModule, planner: Planner) -> tuple[float, Tensor]:
    """What is left of the way of training cells, and where held-out cells end on average."""
    problem = design_problem(module)
    left = left_of(problem, planner)
    if np.isnan(left):
        return nan, torch.full_like(problem.goal_cells[0], nan)
    cells = unseen_cells(module)
    done = simulate(problem, planner, cells.start)
    return left, done.final.mean(0) - cells.target.mean(0)


def _compared(judged: dict[str, tuple[float, Tensor]]) -> Row:
    best = min(left for left, _ in judged.values() if not np.isnan(left))
    way = judged["no_op"][1].norm()
    row: Row = {"best_known": round(best, 5)}
    for name, (left, missed) in judged.items():
        row[f"{name}:left"], row[f"{name}:gap"] = round(left, 5), round(left - best, 5)
        row[f"{name}:held_out"] = round(float(missed.norm() / way), 5)
    return row


def summary(table: pd.DataFrame) -> Row:
    """The keys of this part."""
    by_size = {int(str(size)): own for size, own in table.groupby("size")}
    return {
        "gap": {size: _means(own, "gap") for size, own in by_size.items()},
        "held_out": {
            f"{size} {effect} {cells}": _means(own, "held_out")
            for (size, effect, cells), own in table.groupby(["size", "effect", "cells"], sort=False)
        },
        "alternate_less": {size: _against(own) for size, own in by_size.items()},
        "seconds": {size: _until(own, "seconds_trained", "alternate") for size, own in by_size.items()},
        "seconds_with_twin": {
            size: round(float(own["alternate:seconds"].median()), 1) for size, own in by_size.items()
        },
        "frames_to_90": {
            size: {schedule: _until(own, "frames", schedule) for schedule in SCHEDULES}
            for size, own in by_size.items()
        },
    }


def _means(own: pd.DataFrame, what: str) -> dict[str, float]:
    names = [str(column).removesuffix(f":{what}") for column in own if str(column).endswith(f":{what}")]
    return {name: round(float(own[f"{name}:{what}"].mean()), 4) for name in names}


def _against(own: pd.DataFrame) -> dict[str, list[float]]:
    """What `alternate` leaves less of the way on held-out cells, with 95 % intervals over screens."""
    ahead = {
        name: own[f"{name}:held_out"] - own["alternate:held_out"]
        for name in ("no_op", "nearest_perturbation")
    }
    found = {name: mean_interval(values.to_numpy()) for name, values in ahead.items()}
    return {name: [round(x, 4) for x in (one.estimate, one.low, one.high)] for name, one in found.items()}


def _until(own: pd.DataFrame, what: str, schedule: str) -> float | None:
    """Median over screens until the policy is, and stays, within `ENOUGH` of the best known; none where it never is."""
    found = []
    for _, row in own.iterrows():
        left = np.array([float(x) for x in str(row[f"{schedule}:looks"]).split()])
        beyond = np.flatnonzero(left - row["best_known"] > ENOUGH)
        first = 0 if not len(beyond) else int(beyond[-1]) + 1
        share = first / (len(left) - 1)
        found.append(share * float(row[f"{schedule}:{what}"]) if first < len(left) else np.inf)
    median = float(np.median(found))
    return round(median, 2) if np.isfinite(median) else None


def print_table(table: pd.DataFrame) -> None:
    """Held-out cells, by kind of screen."""
    methods = [str(column).removesuffix(":held_out") for column in table if str(column).endswith(":held_out")]
    shown = Table(
        "perturbations", "effect", "cells", *methods, title="way left to held-out cells, mean over screens"
    )
    for (size, effect, cells), own in table.groupby(["size", "effect", "cells"], sort=False):
        left = [f"{own[f'{method}:held_out'].mean():.3f}" for method in methods]
        shown.add_row(str(size), str(effect), str(cells), *left)
    Console(width=160).print(shown)
