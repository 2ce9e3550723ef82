"""What a file is good for and what it is not, with the command to run."""

import json
import shlex

import pandas as pd

from perturbrl.data.dataset import PerturbationDataset
from perturbrl.data.labels import CONTROL
from perturbrl.errors import listed


def uses_of(dataset: PerturbationDataset, path: str) -> list[str]:
    """One sentence for each use, of the cells of the file at ``path``."""
    uses = ["encoder: yes, it needs no perturbation", _responses(dataset, path)]
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
