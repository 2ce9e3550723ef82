"""What a file is good for and what it is not, with the command to run."""

import json
import shlex
from typing import Final

import numpy as np
import pandas as pd

from perturbrl.data.cell_order import OrderOptions, order_column
from perturbrl.data.dataset import PerturbationDataset
from perturbrl.data.labels import CONTROL
from perturbrl.errors import listed
from perturbrl.schema import CELL_TYPE_OBS, CONTROL_LABEL, PERTURBATION_OBS, CellIndex

FEWEST_CELLS: Final = 8


def uses_of(dataset: PerturbationDataset, path: str) -> list[str]:
    """One sentence for each use, of the cells of the file at ``path``."""
    uses = [
        "encoder: yes, it needs no perturbation",
        _responses(dataset, path),
        _landscape(dataset, path),
        _joint(dataset, path),
        "network: yes, it needs no cells, for example perturbrl fit --config configs/hematopoiesis.yaml",
    ]
    n = len(dataset.perturbations)
    if n < 2:
        return [*uses, f"design: no, it needs two measured perturbations and there are {n}"]
    return [
        *uses,
        "design: yes, for example perturbrl fit --config configs/gene_screen.yaml "
        f'--data.path {shlex.quote(path)} --data.target "{_example_target(dataset)}"{_doses_combinations(dataset)}',
    ]


def _responses(dataset: PerturbationDataset, path: str) -> str:
    n = len(dataset.perturbations)
    contexts = len(set(dataset.cell_types)) if dataset.fields.cell_type_key else 1
    if n * contexts < 2:
        return f"responses: no, others are foretold from at least two measured ones and there are {n}"
    asked = [
        "perturbations and genes that prior knowledge likens to measured ones (--data.gene_sets reactome.gmt)"
    ]
    asked += ["combinations"] if n > 1 else []
    asked += (
        ["doses"]
        if any(part.dose is not None for label in dataset.perturbations for part in label.parts)
        else []
    )
    asked += [f"any of {contexts} cell types"] if contexts > 1 else []
    held_out = shlex.quote(json.dumps([_most_perturbed_type(dataset)])) if n == 1 else ""
    types = f" --data.split HeldOutCellTypes --data.split.cell_types {held_out}" if held_out else ""
    return (
        f"responses nobody measured: yes, {listed(asked)}, for example perturbrl fit --config configs/response.yaml "
        f"--data.path {shlex.quote(path)}{types}"
    )


def _landscape(dataset: PerturbationDataset, path: str) -> str:
    """Cells whose order is known and whose types are tell how they move by themselves."""
    return _between_types("landscape", dataset, path, np.arange(dataset.n_cells), "")


def _joint(dataset: PerturbationDataset, path: str) -> str:
    """Perturbed cells beside such control cells."""
    n = len(dataset.perturbations)
    if n < 2:
        return f"joint (landscape and measured effects): no, it needs two measured perturbations and there are {n}"
    controls = np.flatnonzero(dataset.labels == CONTROL)
    return _between_types("joint", dataset, path, controls, f",{PERTURBATION_OBS}={CONTROL_LABEL}")


def _between_types(use: str, dataset: PerturbationDataset, path: str, rows: CellIndex, also: str) -> str:
    """From one type of cells to another, by a landscape of these rows."""
    named = {"landscape": "landscape", "joint": "joint (landscape and measured effects)"}[use]
    if dataset.fields.cell_type_key is None:
        return f"{named}: no, the file does not say the type of each cell; give columns.cell_type_key"
    types = pd.Series(dataset.cell_types[rows]).value_counts()
    large = [str(name) for name in types.index[types >= FEWEST_CELLS]]
    if len(large) < 2:
        of = "cell types" if not also else "types of control cells"
        return f"{named}: no, it needs two {of} of at least {FEWEST_CELLS} cells and there are {len(large)}"
    column = order_column(dataset.adata.obs, OrderOptions())
    if column is not None:
        large = _late_first(large, dataset.cell_types[rows], column.of_numbers(dataset.adata.obs)[rows])
    ordered = (
        f"ordered by obs['{column.key}'], for example"
        if column
        else f"if you say what orders the cells; for example, were {large[-1]} the type that others come from,"
    )
    order = "" if column else f" --data.root {shlex.quote(f'{CELL_TYPE_OBS}={large[-1]}')}"
    source, target = (shlex.quote(f"{CELL_TYPE_OBS}={name}{also}") for name in (large[1], large[0]))
    return (
        f"{named}: yes, {ordered} perturbrl fit --config configs/{use}.yaml --data.path "
        f"{shlex.quote(path)} --data.source {source} --data.target {target} --data.max_perturbations 2{order}"
    )


def _late_first(types: list[str], of_cells: np.ndarray, when: np.ndarray) -> list[str]:
    """Types whose cells are late before those whose cells are early, so that the example leads to a mature one."""
    middle = np.nanmedian(when)
    return sorted(types, key=lambda name: bool(np.nanmedian(when[of_cells == name]) < middle))


def _most_perturbed_type(dataset: PerturbationDataset) -> str:
    return str(pd.Series(dataset.cell_types[dataset.labels != CONTROL]).mode()[0])


def _doses_combinations(dataset: PerturbationDataset) -> str:
    """The option without which a file of combinations alone has nothing to dose."""
    return "" if dataset.singles else " --model.twin GeneEffectTwin --model.twin.combinations true"


def _example_target(dataset: PerturbationDataset) -> str:
    """Prefer a combination whose components are measured alone, so that the answer can be judged."""
    singles = set(dataset.singles)
    explained = tuple(label for label in dataset.combinations if set(label.singles) <= singles)
    candidates = explained or dataset.combinations or dataset.perturbations
    return max(candidates, key=lambda label: len(dataset.population_rows(label)))
