"""Cells under perturbations: read, recognised, checked, split and preprocessed without leaks."""

from perturbrl.data.dataset import PerturbationDataset, load_dataset
from perturbrl.data.inspection import Inspection, inspect_dataset
from perturbrl.data.labels import Label, Part
from perturbrl.data.preprocessing import Preprocessor
from perturbrl.data.presets import FieldMap, detect_fields
from perturbrl.data.reading import read_cells, value_kind
from perturbrl.data.splits import (
    HeldOutCells,
    HeldOutCellTypes,
    HeldOutCombinations,
    HeldOutPerturbations,
    Split,
    SplitStrategy,
)
from perturbrl.data.synthetic import simulate_screen

__all__ = [
    "FieldMap",
    "HeldOutCellTypes",
    "HeldOutCells",
    "HeldOutCombinations",
    "HeldOutPerturbations",
    "Inspection",
    "Label",
    "Part",
    "PerturbationDataset",
    "Preprocessor",
    "Split",
    "SplitStrategy",
    "detect_fields",
    "inspect_dataset",
    "load_dataset",
    "read_cells",
    "simulate_screen",
    "value_kind",
]
