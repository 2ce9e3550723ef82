"""Every metric that a table shows, by its name: tables, intervals, the report and the documentation read it."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from perturbrl.evaluation.design_metrics import DESIGN_METRICS
from perturbrl.evaluation.registry_entry import Metric
from perturbrl.evaluation.response_metrics import CELL_METRICS, MEAN_METRICS, PANEL_METRICS

_EVERY: Final[tuple[Metric[Any], ...]] = (*MEAN_METRICS, *PANEL_METRICS, *CELL_METRICS, *DESIGN_METRICS)
METRICS: Final[Mapping[str, Metric[Any]]] = MappingProxyType({metric.name: metric for metric in _EVERY})
