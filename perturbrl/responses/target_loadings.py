"""What a perturbed gene's own expression goes with, as prior knowledge of what perturbing it does."""

from typing import Final

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import LinearOperator, eigsh

from perturbrl.data.labels import Label
from perturbrl.data.prior_knowledge import PriorKnowledge
from perturbrl.responses.training_cells import TrainingCells

SOURCE: Final = "own loading"
N_COMPONENTS: Final = 10
FEWEST_TARGETS: Final = 3


def target_loadings(cells: TrainingCells) -> PriorKnowledge | None:
    """Loadings of every measured gene on the principal components of the training cells, genes of unit variance.

    Two perturbed genes are alike when they vary together with the same others. Nothing where fewer than three training
    perturbations are measured genes, or there are too few genes or cells for as many components.
    """
    genes = set(cells.genes)
    names = {name for label in set(cells.labels) for name in Label.parse(label).names}
    n_cells, n_genes = cells.expression.shape
    if len(names & genes) < FEWEST_TARGETS or min(n_cells, n_genes) <= N_COMPONENTS:
        return None
    values, vectors = _components(cells)
    loadings = vectors * np.sqrt(values.clip(min=0.0))
    return PriorKnowledge(SOURCE, tuple(cells.genes), csr_matrix(loadings))


def _components(cells: TrainingCells) -> tuple[np.ndarray, np.ndarray]:
    """Leading eigenvalues and eigenvectors of the correlations of genes, which are never held themselves."""
    n_cells, n_genes = cells.expression.shape
    mean = sum(block.sum(axis=0) for _, block in cells.blocks()) / n_cells
    square = sum(np.square(block - mean).sum(axis=0) for _, block in cells.blocks()) / n_cells
    scale = np.where(square > 0, 1.0 / np.sqrt(np.where(square > 0, square, 1.0)), 0.0)

    def correlate(columns: np.ndarray) -> np.ndarray:
        scaled = scale[:, None] * columns.reshape(n_genes, -1)
        found = sum((block - mean).T @ ((block - mean) @ scaled) for _, block in cells.blocks())
        return scale[:, None] * found / n_cells

    operator = LinearOperator((n_genes, n_genes), matvec=correlate, matmat=correlate, dtype=np.float64)
    # A start vector of its own makes the result repeatable.
    return eigsh(operator, k=N_COMPONENTS, v0=np.ones(n_genes))
