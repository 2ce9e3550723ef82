"""What a page says of the cells of a file, as name and value."""

from collections.abc import Mapping

from perturbrl.data.dataset import PerturbationDataset
from perturbrl.embeddings.measured import MeasuredCells


def cells_and_genes(cells: MeasuredCells, kind: str = "") -> Mapping[str, str]:
    """How many there are, and how many genes are used; ``kind`` says what the values are."""
    dataset = cells.dataset
    there = f"{dataset.n_cells} cells × {len(dataset.genes)} genes{kind}"
    return {"cells and genes": f"{there}; {len(cells.genes)} genes used"}


def what_was_measured(dataset: PerturbationDataset) -> Mapping[str, str]:
    """Control cells and perturbations."""
    perturbations = f"{len(dataset.singles)} single perturbations, {len(dataset.combinations)} combinations"
    return {"measured": f"{len(dataset.control_cells)} control cells, {perturbations}"}
