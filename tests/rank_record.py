"""What each process of a run ends with and decided, written down by a callback."""

from pathlib import Path

import torch
from lightning import Callback, LightningModule, Trainer


class RankRecord(Callback):
    """Saves ``rank_N.pt``: parameters, decisions of every iteration, and the cells of iteration 0."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.decisions: list[dict[str, object]] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        done = pl_module.last_iteration
        metrics = done.metrics()
        metrics.pop("frames_per_second")
        self.decisions.append(metrics)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        cells = pl_module.rollouts.collect(0)["observation"][:, 0].clone()
        record = {
            "parameters": {name: p.detach().clone() for name, p in pl_module.named_parameters()},
            "decisions": self.decisions,
            "cells": cells,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        torch.save(record, self.folder / f"rank_{trainer.global_rank}.pt")
