"""Whether a policy improves on kriging: what is left of kriging's error on held-out perturbations, by schedule.

Norman 2019 and Papalexi 2021 with Reactome, a fifth of the perturbations held out, by the seed; Kang 2018, a cell type
held out. Kriging alone is the start, with a gain of 0. A policy is trained with configs/response.yaml under every
schedule, on training perturbations only; its gain is the share of the start's error on the held-out ones that it takes
away, of means and of whole populations (energy distance), in cell states: after all iterations (equal frames) and after
equal processor seconds. ``used`` is the gain once the perturbations held back from training have decided whether the
policy is used at all. Variants are what was tried: directions of doses, what the policy sees, the reward's weights,
exploration and step size.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter, process_time
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
from perturbrl.errors import DataError
from perturbrl.evaluation.statistics import bootstrap_interval
from perturbrl.responses.inner_split import Foretold
from perturbrl.schema import Population
from perturbrl.training.datamodule import PerturbationDataModule
from perturbrl.training.two_stage import TwoStageModule
from perturbrl.twins.residual import ResidualTwin
from studies.runner import Row, Run, add_common_arguments, run_all

CONFIG: Final = Path(__file__).resolve().parents[2] / "configs" / "response.yaml"
SCHEDULES: Final = ("ppo_only", "trust_region_only", "warm_start", "alternate")
SECONDS: Final = 0.5
KINDS: Final = ("mean", "population")
BUDGETS: Final = ("frames", "seconds")
COLUMNS: Final = tuple(
    f"{budget}:{used}{kind}" for budget in BUDGETS for used in ("", "used_") for kind in KINDS
)
VARIANTS: Final[Mapping[str, tuple[str, ...]]] = {
    "default": (),
    "each_component": ("--model.twin.directions=components",),
    "every_dimension": ("--model.twin.directions=dimensions", "--model.twin.reach=2"),
    "sees_cells": ("--model.task.sees=all",),
    "means_only": ("--model.task.population_share=0",),
    "populations_only": ("--model.task.population_share=1",),
    "wide_exploration": ("--model.policy.init_log_std=-0.5",),
    "narrow_exploration": ("--model.policy.init_log_std=-2.5",),
    "small_steps": ("--model.trust_region.max_kl=0.01", "--model.ppo.target_kl=0.002"),
}


@dataclass(frozen=True)
class Screen:
    """A file and what is held out of it.

    Attributes:
        file: in the data folder.
        gene_sets: prior knowledge, in the data folder.
        cell_types: one of them is held out, by the seed; without any, a fifth of the perturbations.
    """

    file: str
    gene_sets: str | None = None
    cell_types: tuple[str, ...] = ()

    def options(self, folder: Path, seed: int) -> list[str]:
        """Of perturbrl fit.

        Raises:
            DataError: the file is not there.
        """
        if not (folder / self.file).is_file():
            raise DataError(f"'{self.file}' is not in '{folder}'; give its folder with --data")
        given = [f"--data.path={folder / self.file}", f"--data.split.seed={seed}"]
        given += [f"--data.gene_sets={folder / self.gene_sets}"] if self.gene_sets else []
        if not self.cell_types:
            return given
        held_out = self.cell_types[seed % len(self.cell_types)]
        split = [f"--data.split.cell_types=['{held_out}']", f"--data.split.seed={seed}"]
        return [given[0], "--data.split=HeldOutCellTypes", *split]


SCREENS: Final[Mapping[str, Screen]] = {
    "norman": Screen("norman2019_k562_crispra.h5ad"),
    "papalexi": Screen("papalexi2021_thp1_eccite.h5ad", gene_sets="prior/reactome_pathways.gmt"),
    "kang": Screen(
        "kang2018_pbmc_ifnb.h5ad",
        cell_types=("B", "CD14+Mono", "CD4T", "CD8T", "Dendritic", "FCGR3A+Mono"),
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the files")
    parser.add_argument(
        "--screens", nargs="+", choices=SCREENS, default=list(SCREENS), help="files to run on"
    )
    parser.add_argument(
        "--schedules", nargs="+", choices=SCHEDULES, default=list(SCHEDULES), help="to compare"
    )
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=["default"], help="what was tried")
    add_common_arguments(parser, seeds=10)


def run(arguments: argparse.Namespace) -> None:
    started = perf_counter()
    out = arguments.out or Path(tempfile.mkdtemp()) / "response_policy.csv"
    runs: list[Run] = [
        {"screen": screen, "variant": variant, "schedule": schedule, "seed": seed}
        for screen in arguments.screens
        for variant in arguments.variants
        for schedule in arguments.schedules
        for seed in range(arguments.seeds)
    ]
    table = run_all(partial(one_policy, arguments.data.resolve()), runs, out, arguments.jobs)
    print_gains(table)
    print(f"rows: {out}")
    gains = {variant: policy_gain(rows) for variant, rows in table.groupby("variant", sort=False)}
    said = (
        {"policy_gain": gains["default"]} if list(gains) == ["default"] else {"policy_gain_by_variant": gains}
    )
    print(json.dumps(said | {"seconds": round(perf_counter() - started)}))


def gains_by_schedule(
    folder: Path, screens: Sequence[str], seeds: int, jobs: int, out: Path
) -> dict[str, dict[str, Row]]:
    """The study as a part of another: prints its table and returns ``policy_gain``."""
    runs: list[Run] = [
        {"screen": screen, "variant": "default", "schedule": schedule, "seed": seed}
        for screen in screens
        for schedule in SCHEDULES
        for seed in range(seeds)
    ]
    table = run_all(partial(one_policy, folder), runs, out, jobs)
    print_gains(table)
    return policy_gain(table)


def one_policy(folder: Path, setting: Run) -> Row:
    """Gains of one training."""
    seed = int(str(setting["seed"]))
    built = parse_config(
        [
            f"--config={CONFIG}",
            *SCREENS[str(setting["screen"])].options(folder, seed),
            *VARIANTS[str(setting["variant"])],
            f"--model.schedule={setting['schedule']}",
            f"--seed_everything={seed}",
            f"--model.twin.seed={seed}",
        ]
    )
    torch.set_num_threads(1)
    snapshots = Snapshots(SECONDS)
    trainer = quiet_trainer(built.max_epochs, accelerator="cpu", callbacks=[snapshots])
    trainer.fit(built.model, built.data)
    return snapshots.row


@dataclass
class Snapshots(Callback):
    """Gains after some processor seconds of training, and at its end.

    Attributes:
        seconds: after which the first iteration to end counts; the last one where it came before.
        row: what was found.
    """

    seconds: float
    row: Row = field(default_factory=dict)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note where held-out cells start and what they are judged by."""
        assert isinstance(pl_module, TwoStageModule)
        self.judging = held_out_cells(pl_module)
        self.started, self.spent = process_time(), 0.0

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Judge at the first iteration beyond the seconds, and at the last."""
        assert isinstance(pl_module, TwoStageModule)
        now = process_time()
        last = trainer.current_epoch + 1 == trainer.max_epochs
        if "seconds:mean" not in self.row and (last or now - self.started - self.spent >= self.seconds):
            self._note("seconds", pl_module)
        if last:
            self._note("frames", pl_module)
        self.spent += process_time() - now

    def _note(self, budget: str, module: TwoStageModule) -> None:
        start, goal = self.judging
        error = module.task.gains(start, goal, goal)
        moved = module.move(start)
        gained, used = (
            module.task.gains(start, cells, goal) for cells in (moved, module.task.as_used(start, moved))
        )
        assert error is not None
        assert gained is not None
        assert used is not None
        kept = module.decision().kept
        for place, kind in enumerate(KINDS):
            whole = error.parts[:, place].sum()
            self.row[f"{budget}:{kind}"] = round(float(gained.parts[:, place].sum() / whole), 5)
            share = round(float(used.parts[:, place].sum() / whole), 5)
            self.row[f"{budget}:used_{kind}"] = share if kept else 0.0
        self.row[f"{budget}:kept"] = int(kept)


def held_out_cells(module: TwoStageModule) -> tuple[Population, Population]:
    """Where cells of held-out conditions start, and the cells measured under them."""
    twin, data = module.twin, module.data
    assert isinstance(twin, ResidualTwin)
    rows = _held_out_rows(data)
    told = twin.foretell(list(rows))
    start = twin.states(told, twin.cells_per_condition)
    return start, _measured(start, told, [data_states(data, own) for own in rows.values()])


def _held_out_rows(data: PerturbationDataModule) -> dict[tuple, np.ndarray]:
    dataset, test = data.measured.dataset, data.measured.require_split().test
    types = dataset.cell_types if dataset.fields.cell_type_key else np.full(dataset.n_cells, "", dtype=object)
    pairs = [(dataset.labels[row], str(types[row])) for row in test]
    asked = sorted({pair for pair in pairs if not pair[0].is_control})
    return {pair: test[[one == pair for one in pairs]] for pair in asked}


def data_states(data: PerturbationDataModule, rows: np.ndarray) -> Tensor:
    """Cell states of some rows of the file."""
    return data.encoder.encode(data.preprocessor.transform(data.measured.dataset, rows))


def _measured(start: Population, told: Foretold, states: Sequence[Tensor]) -> Population:
    """Measured cells, as many of each condition as start, with the same columns beside."""
    by_condition = start.view(len(told.conditions), -1, start.shape[1]).clone()
    n_cells = by_condition.shape[1]
    for place, own in enumerate(states):
        by_condition[place, :, : own.shape[1]] = own[torch.arange(n_cells) * len(own) // n_cells]
    return by_condition.flatten(0, 1)


def policy_gain(table: pd.DataFrame) -> dict[str, dict[str, Row]]:
    """By schedule and screen: interquartile mean of each gain with its 95 % interval, and how many runs use it."""
    return {
        str(schedule): {str(screen): _gains(own) for screen, own in rows.groupby("screen", sort=False)}
        for schedule, rows in table.groupby("schedule", sort=False)
    }


def _gains(rows: pd.DataFrame) -> Row:
    kept = {f"{budget}:kept": int(rows[f"{budget}:kept"].sum()) for budget in BUDGETS}
    return {**{name: _interval(rows[name].to_numpy()) for name in COLUMNS}, **kept, "seeds": len(rows)}


def _interval(scores: np.ndarray) -> list[float]:
    if len(scores) < 2:
        return [round(float(scores.mean()), 4)]
    found = bootstrap_interval([scores])
    return [round(value, 4) for value in (found.estimate, found.low, found.high)]


def print_gains(table: pd.DataFrame) -> None:
    """Gains at equal frames, and the means of those at equal seconds."""
    shown = Table(
        title="share of kriging's error on held-out perturbations that the policy takes away (95 %)"
    )
    heads = (
        "screen",
        "variant",
        "schedule",
        "means",
        "populations",
        "used: means",
        "used: populations",
        "used in",
    )
    for head in heads:
        shown.add_column(head)
    for setting, rows in table.groupby(["screen", "variant", "schedule"], sort=False):
        names = [f"frames:{name}" for name in ("mean", "population", "used_mean", "used_population")]
        cells = [_text(_interval(rows[name].to_numpy())) for name in names]
        shown.add_row(*map(str, setting), *cells, f"{int(rows['frames:kept'].sum())} of {len(rows)}")
    Console(width=160).print(shown)


def _text(interval: Sequence[float]) -> str:
    estimate, *ends = interval
    return f"{estimate:+.3f}" + (f" [{ends[0]:+.3f}, {ends[1]:+.3f}]" if ends else "")
