"""Where cells are: a mixture of Gaussians over cell states, with components of its own for every cell type."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float, Int
from scipy.special import softmax
from sklearn.cluster import KMeans
from sklearn.covariance import oas

from perturbrl.errors import DataError
from perturbrl.schema import CellIndex, Points

_ROUNDS: Final = 2  # components are sought twice, the second time in the metric of their own spread
_STEPS: Final = 15
_PRIOR_CELLS: Final = 30.0  # of its type's spread in that of a component
_PRIOR_CELLS_OF_KIND: Final = 3.0  # of the common spread in that of a type

Memberships = Float[np.ndarray, "cells components"]


@dataclass(frozen=True, eq=False)
class StateMixture:
    """A density of cell states.

    All components have the covariance ``factor @ factor.T`` but for a scale of their own: most of the spread around
    a component is the noise of counting, which is alike everywhere.

    Attributes:
        means: ``[components, latent]``.
        kinds: ``[components]`` number of the cell type that each describes.
        shares: ``[components]`` share of the cells of its type; of each type they sum to 1.
        scales: ``[components]`` variance, in units of the common covariance.
        factor: ``[latent, latent]`` Cholesky factor of the common covariance.
        memberships: ``[cells, components]`` probability of each among the components of the cell's type.
    """

    means: Float[np.ndarray, "components latent"]
    kinds: Int[np.ndarray, " components"]
    shares: Float[np.ndarray, " components"]
    scales: Float[np.ndarray, " components"]
    factor: Float[np.ndarray, "latent latent"]
    memberships: Memberships

    @property
    def whitening(self) -> Float[np.ndarray, "latent latent"]:
        """``states @ whitening`` has the common covariance 1."""
        return np.linalg.inv(self.factor).T


def fit_mixture(
    latent: Points, kinds: CellIndex, weights: np.ndarray, cells_per_component: int, seed: int
) -> StateMixture:
    """Fit a mixture by expectation maximisation, in which a cell belongs to components of its own type only.

    Args:
        latent: cell states.
        kinds: number of each cell's type, from 0 and without gaps.
        weights: how often each cell counts; 0 leaves it out.
        cells_per_component: a type of n cells gets n / cells_per_component components, at least one.
        seed: of the starting points.

    Raises:
        DataError: cells do not differ.
    """
    kind_of = _component_kinds(kinds, cells_per_component)
    own = kinds[:, None] == kind_of
    whitening = np.eye(latent.shape[1])
    for _ in range(_ROUNDS):
        memberships = _clustered(latent @ whitening, kinds, weights, kind_of, seed)
        for _ in range(_STEPS):
            means, factor = _maximised(latent, memberships * weights[:, None])
            whitening = np.linalg.inv(factor).T
            memberships = _expected(latent @ whitening, means @ whitening, memberships, weights, own)
    counted = memberships * weights[:, None]
    means, factor = _maximised(latent, counted)
    size = counted.sum(0)
    of_kind = np.bincount(kind_of, size)[kind_of]
    scales = _scales(latent, means, factor, counted, kind_of)
    return StateMixture(means, kind_of, size / of_kind, scales, factor, memberships)


def _component_kinds(kinds: CellIndex, each: int) -> Int[np.ndarray, " components"]:
    size = np.bincount(kinds)
    return np.repeat(np.arange(len(size)), np.maximum(1, size // each))


def _clustered(
    states: Points, kinds: CellIndex, weights: np.ndarray, kind_of: np.ndarray, seed: int
) -> Memberships:
    found = np.zeros((len(states), len(kind_of)))
    for kind in np.unique(kinds):
        rows, columns = np.flatnonzero(kinds == kind), np.flatnonzero(kind_of == kind)
        clusters = KMeans(len(columns), n_init=1, random_state=seed)
        found[rows, columns[clusters.fit_predict(states[rows], sample_weight=weights[rows])]] = 1.0
    return found


def _maximised(latent: Points, counted: Memberships) -> tuple[np.ndarray, np.ndarray]:
    """Means, and the factor of the common covariance."""
    size = counted.sum(0)
    means = counted.T @ latent / np.maximum(size, 1e-12)[:, None]
    # Every cell counts once in each component that it may belong to, by the root of its share in it.
    rows, columns = np.nonzero(counted > 1e-3)
    left = (latent[rows] - means[columns]) * np.sqrt(counted[rows, columns])[:, None]
    n, k = size.sum(), len(means)
    covariance = oas(left, assume_centered=True)[0] * len(left) / max(n - k, 1.0)
    if not np.trace(covariance) > 0:
        raise DataError(
            f"the {len(latent)} cells to learn a landscape from do not differ within their types; give others"
        )
    return means, np.linalg.cholesky(covariance)


def _expected(
    white: Points, white_means: Points, memberships: Memberships, weights: np.ndarray, own: np.ndarray
) -> Memberships:
    size = (memberships * weights[:, None]).sum(0)
    log = np.log(np.maximum(size, 1e-12)) - 0.5 * _square_distances(white, white_means)
    return softmax(np.where(own, log, -np.inf), axis=1)


def _square_distances(a: Points, b: Points) -> np.ndarray:
    return np.square(a).sum(1)[:, None] + np.square(b).sum(1) - 2 * a @ b.T


def _scales(
    latent: Points, means: np.ndarray, factor: np.ndarray, counted: Memberships, kind_of: np.ndarray
) -> np.ndarray:
    """Variance of each component in units of the common one, drawn towards that of its type."""
    white = np.linalg.inv(factor).T
    square = (counted * _square_distances(latent @ white, means @ white)).sum(0) / latent.shape[1]
    size = counted.sum(0)
    # A type of one cell, or of one that was drawn twice, has no spread of its own.
    spread, cells = np.bincount(kind_of, square), np.bincount(kind_of, size)
    of_kind = (spread + _PRIOR_CELLS_OF_KIND) / (cells + _PRIOR_CELLS_OF_KIND)
    return (square + _PRIOR_CELLS * of_kind[kind_of]) / (size + _PRIOR_CELLS)
