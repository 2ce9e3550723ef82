"""How noisy the mean shifts of populations are, and what they share of it."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix, diags

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

    def of_sums(self, weights: Float[np.ndarray, "sums rows"]) -> Float[np.ndarray, " sums"]:
        """Variance of the noise of weighted sums of rows."""
        shared = weights @ self._members
        return np.square(weights) @ (1.0 / self.n_cells) + np.square(shared) @ (1.0 / self._controls)

    def whiten(self, columns: Columns) -> Columns:
        """W times columns of row values, where W D Wᵀ = 1."""
        return self._without_shared(np.sqrt(self.n_cells)[:, None] * columns)

    def back(self, columns: Columns) -> Columns:
        """Wᵀ times columns: coefficients on turned rows as coefficients on the rows themselves."""
        return np.sqrt(self.n_cells)[:, None] * self._without_shared(columns)

    def _without_shared(self, columns: Columns) -> Columns:
        directions, back = self._directions
        return columns + directions @ (back @ columns)

    @cached_property
    def _directions(self) -> tuple[csr_matrix, csr_matrix]:
        """The direction that each context's rows share, and how much of it is taken off: one column, one row each."""
        cells = self._members.T @ self.n_cells.astype(float)
        directions = diags(np.sqrt(self.n_cells)) @ self._members @ diags(cells**-0.5)
        shrunk = (1.0 + cells / self._controls) ** -0.5 - 1.0
        return csr_matrix(directions), csr_matrix(diags(shrunk) @ directions.T)

    @cached_property
    def _members(self) -> csr_matrix:
        """One row each, with a one in the column of its context."""
        found, codes = np.unique(self.contexts, return_inverse=True)
        ends = np.arange(len(codes) + 1)
        return csr_matrix((np.ones(len(codes)), codes, ends), shape=(len(codes), len(found)))

    @cached_property
    def _controls(self) -> Float[np.ndarray, " contexts"]:
        found = np.unique(self.contexts, return_index=True)[1]
        return self.n_controls[found].astype(float)
