"""Cells under perturbations: read, recognised, checked, split and preprocessed without leaks."""

from perturbrl.data.dataset import PerturbationDataset, load_dataset
from perturbrl.data.inspection import Inspection, inspect_dataset
from perturbrl.data.labels import Label, Part
from perturbrl.data.preprocessing import Preprocessor
from perturbrl.data.presets import ColumnOptions, FieldMap, detect_fields
from perturbrl.data.reading import kind_of_values, read_cells
from perturbrl.data.split import Split
from perturbrl.data.splits import (
    HeldOutCells,
    HeldOutCellTypes,
    HeldOutCombinations,
    HeldOutPerturbations,
    SplitStrategy,
)
from perturbrl.data.synthetic import simulate_screen

__all__ = [
    "ColumnOptions",
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
    "kind_of_values",
    "load_dataset",
    "read_cells",
    "simulate_screen",
]
