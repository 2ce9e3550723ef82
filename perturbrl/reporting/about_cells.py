"""What a page says of the cells of a file, as name and value."""

from collections.abc import Mapping

from perturbrl.data.dataset import PerturbationDataset
from perturbrl.embeddings.measured import MeasuredCells
from perturbrl.twins.base import DigitalTwin


def cells_and_genes(cells: MeasuredCells, kind: str = "") -> Mapping[str, str]:
    """How many there are, and how many genes are used; ``kind`` says what the values are."""
    dataset = cells.dataset
    there = f"{dataset.n_cells} cells × {len(dataset.genes)} genes{kind}"
    return {"cells and genes": f"{there}; {len(cells.genes)} genes used"}


def what_was_measured(dataset: PerturbationDataset) -> Mapping[str, str]:
    """Control cells and perturbations."""
    perturbations = f"{len(dataset.singles)} single perturbations, {len(dataset.combinations)} combinations"
    return {"measured": f"{len(dataset.control_cells)} control cells, {perturbations}"}


def what_orders(cells: MeasuredCells, twin: DigitalTwin) -> Mapping[str, str]:
    """What the twin took the time of cells from, where it has a landscape of theirs."""
    if cells.split is None or not twin.attractors():
        return {}
    return {"order of cells": cells.order_source}
