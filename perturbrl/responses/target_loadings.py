"""What a perturbed gene's own expression goes with, as prior knowledge of what perturbing it does."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import numpy as np
from jaxtyping import Float
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import LinearOperator, eigsh

from perturbrl.data.labels import Label
from perturbrl.data.prior_knowledge import PriorKnowledge
from perturbrl.responses.training_cells import TrainingCells

SOURCE: Final = "own loading"
N_COMPONENTS: Final = 10
FEWEST_TARGETS: Final = 3
MOST_CELLS: Final = 20_000

Block = Float[np.ndarray, "_ genes"]


def target_loadings(cells: TrainingCells) -> PriorKnowledge | None:
    """Loadings of every measured gene on the principal components of the training cells, genes of unit variance.

    Two perturbed genes are alike when they vary together with the same others. Nothing where fewer than three training
    perturbations are measured genes, or there are too few genes or cells for as many components. Of more than
    ``MOST_CELLS`` cells, control cells tell.
    """
    genes = set(cells.genes)
    names = {name for label in set(cells.labels) for name in Label.parse(label).names}
    n_cells, n_genes = cells.expression.shape
    few = n_cells <= MOST_CELLS
    n_told = n_cells if few else sum(Label.parse(label).is_control for label in cells.labels)
    if len(names & genes) < FEWEST_TARGETS or min(n_told, n_genes) <= N_COMPONENTS:
        return None
    blocks = partial(_blocks if few else _controls, cells)
    values, vectors = _components(blocks, n_genes)
    loadings = vectors * np.sqrt(values.clip(min=0.0))
    return PriorKnowledge(SOURCE, tuple(cells.genes), csr_matrix(loadings))


def _blocks(cells: TrainingCells) -> Iterator[Block]:
    yield from (block for _, block in cells.blocks())


def _controls(cells: TrainingCells) -> Iterator[Block]:
    conditions, codes = cells.conditions
    is_control = np.array([label.is_control for label, _ in conditions])[codes]
    yield from (block[is_control[rows]] for rows, block in cells.blocks())


def _components(blocks: Callable[[], Iterator[Block]], n_genes: int) -> tuple[np.ndarray, np.ndarray]:
    """Leading eigenvalues and eigenvectors of the correlations of genes, from cells that are read again and again."""
    n_cells = sum(map(len, blocks()))
    mean = sum(block.sum(axis=0) for block in blocks()) / n_cells
    variance = sum(np.square(block - mean).sum(axis=0) for block in blocks()) / n_cells
    scale = np.where(variance > 0, variance, np.inf) ** -0.5

    def correlate(columns: np.ndarray) -> np.ndarray:
        scaled = scale[:, None] * columns.reshape(n_genes, -1)
        found = sum(block.T @ (block @ scaled - mean @ scaled) for block in blocks())
        # The mean over cells of what is multiplied is 0, so the other mean need not be taken off.
        return scale[:, None] * found / n_cells

    operator = LinearOperator((n_genes, n_genes), matvec=correlate, matmat=correlate, dtype=np.float64)
    # A start vector of its own makes the result repeatable.
    return eigsh(operator, k=N_COMPONENTS, v0=np.ones(n_genes))
