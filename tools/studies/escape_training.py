"""How the escape study trains a method, and the clock that runs meanwhile."""

import time
from typing import Any

from lightning import Callback, LightningModule, Trainer

from perturbrl.envs.tasks import ReachCellState
from perturbrl.training.datamodule import PerturbationDataModule
from perturbrl.training.options import (
    CriticOptions,
    PolicyOptions,
    PPOOptions,
    RolloutOptions,
    TrustRegionOptions,
)
from perturbrl.training.two_stage import TwoStageModule
from perturbrl.twins.network_twin import NetworkTwin
from perturbrl.twins.task_suite import ReprogrammingTask
from studies.escape_methods import BASE, N_CELLS, Method


class TrainingClock(Callback):
    """Processor time spent in iterations, judging left out."""

    def __init__(self) -> None:
        self.seconds, self._started = 0.0, 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        self._started = time.process_time()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        self.seconds += time.process_time() - self._started


def module_of(
    method: Method,
    twin: NetworkTwin,
    task: ReachCellState,
    horizon: int,
    exploring_frames: int,
    step: float | None,
    seed: int,
) -> TwoStageModule:
    """The module of a trained method."""
    changes = {group: dict(values) for group, values in method.options.items()}
    if step is not None and method.step is not None:
        group, name = method.step
        changes.setdefault(group, {})[name] = step
    rollout = {"n_cells": N_CELLS, "horizon": horizon} | changes.get("rollout", {})
    if "entropy_bonus" in rollout:
        rollout["entropy_iterations"] = max(1, exploring_frames // (N_CELLS * horizon))
    return TwoStageModule(
        twin,
        task,
        method.schedule,
        method.trust_region_iterations,
        PolicyOptions(**BASE["policy"]),
        RolloutOptions(**rollout),
        TrustRegionOptions(**(BASE["trust_region"] | changes.get("trust_region", {}))),
        PPOOptions(**(BASE["ppo"] | changes.get("ppo", {}))),
        CriticOptions(**BASE["critic"]),
        seed=seed,
    )


def train(module: TwoStageModule, task: ReprogrammingTask, iterations: int, *callbacks: Callback) -> None:
    """Fit a module, writing nothing."""
    trainer = Trainer(
        max_epochs=iterations,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        callbacks=list(callbacks),
    )
    trainer.fit(module, PerturbationDataModule(source=task.source, target=task.target))
