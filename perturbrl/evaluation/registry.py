"""Every metric that a table shows, by its name: tables, intervals, the report and the documentation read it."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from perturbrl.evaluation.design_metrics import DESIGN_METRICS
from perturbrl.evaluation.registry_entry import Metric
from perturbrl.evaluation.response_metrics import CELL_METRICS, MEAN_METRICS, PANEL_METRICS
from perturbrl.evaluation.trajectories import TRAJECTORY_METRICS

TABLES: Final[Mapping[str, tuple[Metric[Any], ...]]] = MappingProxyType(
    {
        "Designs": DESIGN_METRICS,
        "Predicted responses: means": MEAN_METRICS,
        "Predicted responses: perturbations told apart": PANEL_METRICS,
        "Predicted responses: populations of cells": CELL_METRICS,
        "Trajectories": TRAJECTORY_METRICS,
    }
)
METRICS: Final[Mapping[str, Metric[Any]]] = MappingProxyType(
    {metric.name: metric for table in TABLES.values() for metric in table}
)
