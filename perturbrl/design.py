"""The whole path as one Python call."""

from pathlib import Path
from typing import Any

from anndata import AnnData
from lightning import Trainer
from lightning.pytorch.loggers import CSVLogger

from perturbrl.evaluation.report import Report
from perturbrl.training.callbacks import IterationProgress, ReportCallback, StageWarnings
from perturbrl.training.datamodule import PerturbationDataModule
from perturbrl.training.options import PolicyOptions, PPOOptions, RolloutOptions, TrustRegionOptions
from perturbrl.training.two_stage import TwoStageModule
