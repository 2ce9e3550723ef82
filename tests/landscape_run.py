"""A small atlas whose types lie along an order, and a design trained on its landscape, made once per process."""

from functools import cache

import numpy as np
from anndata import AnnData
from atlas import atlas
from smoke_run import quiet_trainer

from perturbrl.data.splits import HeldOutCells
from perturbrl.embeddings.pca import PCAEncoder
from perturbrl.envs.tasks import ReachCellState
from perturbrl.training.datamodule import PerturbationDataModule
from perturbrl.training.options import RolloutOptions
from perturbrl.training.two_stage import TwoStageModule
from perturbrl.twins.landscape import LandscapeTwin

SOURCE, TARGET = "cell_type=white", "cell_type=red"


def ordered_atlas() -> AnnData:
    """Stem cells come first; red and white ones are later, at the same time."""
    when = np.random.default_rng(0).uniform(0, 0.4, 180)
    when[60:] += 0.6
    return atlas(60, pseudotime=when)


def landscape_module(**options) -> TwoStageModule:
    options = {"n_cells": 32, "horizon": 2, "settle": True} | options
    return TwoStageModule(
        twin=LandscapeTwin(n_members=3, judging_members=1, cells_per_component=15),
        task=ReachCellState(goal="centroid"),
        rollout=RolloutOptions(**options),
    )


def landscape_data(**options) -> PerturbationDataModule:
    options = {
        "target": TARGET,
        "source": SOURCE,
        "learn_target": True,
        "pseudotime_key": "pseudotime",
        "split": HeldOutCells(0.5),
        "encoder": PCAEncoder(4),
        "max_perturbations": 2,
    } | options
    return PerturbationDataModule.from_adata(ordered_atlas(), **options)


@cache
def trained_on_landscape() -> TwoStageModule:
    module = landscape_module()
    quiet_trainer(1).fit(module, landscape_data())
    return module
