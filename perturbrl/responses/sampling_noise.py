"""How noisy the mean shifts of populations are, and what they share of it."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix

Columns = Float[np.ndarray, "rows _"]


@dataclass(frozen=True, eq=False)
class SamplingNoise:
    """Covariance D of the sampling noise of rows, in units of a cell's variance.

    Each row has its own cells' noise, and rows of a context share that of its control cells: within a context D is
    diagonal but for one direction, so its inverse root takes time and memory in proportion to the rows.

    Attributes:
        n_cells: cells of each row.
        n_controls: control cells of each row's context.
        contexts: number of each row's context.
    """

    n_cells: Int[np.ndarray, " rows"]
    n_controls: Int[np.ndarray, " rows"]
    contexts: Int[np.ndarray, " rows"]

    def of_rows(self, rows: Int[np.ndarray, " some"]) -> "SamplingNoise":
        """Of some rows alone."""
        return SamplingNoise(self.n_cells[rows], self.n_controls[rows], self.contexts[rows])

    @property
    def covariance(self) -> Float[np.ndarray, "rows rows"]:
        """D itself."""
        together = self.contexts[:, None] == self.contexts
        return together / self.n_controls + np.diag(1.0 / self.n_cells)

    def whiten(self, columns: Columns) -> Columns:
        """W times columns of row values, where W D Wᵀ = 1."""
        return self._without_shared(np.sqrt(self.n_cells)[:, None] * columns)

    def back(self, columns: Columns) -> Columns:
        """Wᵀ times columns: coefficients on turned rows as coefficients on the rows themselves."""
        return np.sqrt(self.n_cells)[:, None] * self._without_shared(columns)

    def _without_shared(self, columns: Columns) -> Columns:
        directions, shrunk = self._shared
        return columns + directions @ (shrunk[:, None] * (directions.T @ columns))

    @cached_property
    def _shared(self) -> tuple[csr_matrix, Float[np.ndarray, " contexts"]]:
        """The direction that rows of each context share, of length 1, and by how much it shrinks."""
        cells = np.bincount(self.contexts, self.n_cells)
        found, codes = np.unique(self.contexts, return_inverse=True)
        cells = cells[found]
        n_rows = len(codes)
        directions = csr_matrix(
            (np.sqrt(self.n_cells / cells[codes]), codes, np.arange(n_rows + 1)), shape=(n_rows, len(found))
        )
        controls = np.zeros(len(found))
        controls[codes] = self.n_controls
        return directions, (1.0 + cells / controls) ** -0.5 - 1.0
