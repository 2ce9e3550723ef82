"""A simulated screen in which what perturbations do to the spread of cells is known."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from perturbrl.responses.counted_cells import CountedCells, join


@dataclass(frozen=True)
class SpreadScreen:
    """Perturbation ``Pi`` adds to some genes of cells that are Poisson around a level of their own.

    Attributes:
        dispersion: of what is added, one for all genes or one each.
        depth: factor of size factors of perturbed cells.
        escaped: share of perturbed cells that are like control.
        strength: typical normalised level that is added.
    """

    dispersion: float | np.ndarray = 0.0
    depth: float = 1.0
    escaped: float = 0.0
    strength: float = 30.0
    n_genes: int = 60
    n_perturbations: int = 8
    n_cells: int = 200
    n_controls: int = 300

    @property
    def perturbations(self):
        return [f"P{i}" for i in range(self.n_perturbations)]

    def added(self, label):
        """Normalised level added to each gene of cells that respond."""
        rng = np.random.default_rng([7, *label.encode()])
        return (rng.random(self.n_genes) < 0.4) * rng.gamma(4.0, self.strength / 4.0, self.n_genes)

    def cells(self, label, n_cells, seed=0):
        rng = np.random.default_rng([seed, *label.encode()])
        level = np.random.default_rng(8).gamma(1.0, 15.0, self.n_genes)
        control = label == "control"
        sizes = rng.lognormal(8.0, 0.3, n_cells) * (1.0 if control else self.depth)
        own = level * rng.gamma(3.0, 1 / 3.0, (n_cells, self.n_genes))
        if not control:
            spread = np.broadcast_to(self.dispersion, self.n_genes)
            factor = np.ones((n_cells, self.n_genes))
            uneven = spread > 0
            factor[:, uneven] = rng.gamma(1 / spread[uneven], spread[uneven], (n_cells, uneven.sum()))
            responds = rng.random((n_cells, 1)) >= self.escaped
            own = own + responds * self.added(label) * factor
        counts = rng.poisson(own * sizes[:, None] / 1e4)
        return CountedCells(csr_array(counts.astype(np.float32)), sizes)

    def training(self, seed=0):
        """Cells of control and of all perturbations, with their labels."""
        labels = ["control", *self.perturbations]
        numbers = [self.n_controls] + [self.n_cells] * self.n_perturbations
        parts = [self.cells(label, n, seed) for label, n in zip(labels, numbers, strict=True)]
        return join(parts), np.repeat(labels, numbers).tolist()
