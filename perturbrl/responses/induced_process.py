"""Covariances that are block-diagonal but for few directions, and what is solved with them.

At a point of a net of weights and an amplitude s the rows have covariance C = s (Φ Φᵀ + R) + D. Φ holds the features by
which inducing conditions tell a row, R what they leave over within blocks of rows, D the sampling noise: diagonal, but
for what rows of a context share. C is inverted by Woodbury's identity.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float
from scipy.linalg import cho_solve, cholesky, solve_triangular

from perturbrl.responses.covariances import Covariances
from perturbrl.responses.inducing import BLOCK, Inducing
from perturbrl.responses.named_covariances import Matrix, NamedCovariances
from perturbrl.responses.sampling_noise import SamplingNoise
from perturbrl.responses.training_cells import Condition
from perturbrl.responses.weight_averaging import WeightNet

# What is added to a covariance's diagonal, as a share of it, so that rounding leaves it positive definite.
_JITTER: Final = 1e-9

Placed = Float[np.ndarray, "places _"]
Blocks = Float[np.ndarray, "blocks width width"]


@dataclass(frozen=True, eq=False)
class Places:
    """Rows in the order of their blocks, the last block filled up with rows that nothing was measured of.

    Attributes:
        inducing: conditions and blocks.
        own_noise: one over the cells of the row at each place.
        shared_noise: ``[places, contexts]`` root of the noise that rows of a context share.
    """

    inducing: Inducing
    own_noise: Float[np.ndarray, " places"]
    shared_noise: Placed

    @classmethod
    def of(cls, inducing: Inducing, noise: SamplingNoise) -> "Places":
        """Those of rows with a noise."""
        found, codes = np.unique(noise.contexts, return_inverse=True)
        shared = (codes[:, None] == np.arange(len(found))) / np.sqrt(noise.n_controls)[:, None]
        n_places = -(-len(codes) // BLOCK) * BLOCK
        own = np.ones(n_places)
        own[: len(codes)] = 1.0 / noise.n_cells[inducing.order]
        return cls(inducing, own, _filled(shared[inducing.order], n_places))

    def put(self, rows: Float[np.ndarray, "rows _"]) -> Placed:
        """Row values at their places."""
        return _filled(rows[self.inducing.order], len(self.own_noise))

    def take(self, placed: Placed) -> Float[np.ndarray, "rows _"]:
        """Back in the order of the rows."""
        found = np.empty((len(self.inducing.order), placed.shape[1]))
        found[self.inducing.order] = placed[: len(found)]
        return found


def _filled(values: Float[np.ndarray, "some _"], n_places: int) -> Placed:
    found = np.zeros((n_places, values.shape[1]))
    found[: len(values)] = values
    return found


def _times(blocks: Blocks, placed: Placed) -> Placed:
    return (blocks @ placed.reshape(len(blocks), BLOCK, -1)).reshape(placed.shape)


@dataclass(frozen=True, eq=False)
class Process:
    """The covariance between rows at one point of the net, without noise.

    Attributes:
        places: of the rows.
        features: Φ.
        left: R.
    """

    places: Places
    features: Placed
    left: Blocks

    @property
    def mean_variance(self) -> float:
        """Of turned rows: the trace of the covariance in units of the noise, by row."""
        cells, places = 1.0 / self.places.own_noise, self.places
        measured = np.arange(len(cells)) < len(places.inducing.order)
        cells = np.where(measured, cells, 0.0)
        own = np.square(self.features).sum(axis=1) + np.einsum("kii->ki", self.left).ravel()
        sums = cells[:, None] * places.shared_noise
        together = np.square(self.features.T @ sums).sum(axis=0) + (sums * _times(self.left, sums)).sum(
            axis=0
        )
        kept = together / (1.0 + (places.shared_noise * sums).sum(axis=0))
        return float((cells @ own - kept.sum()) / measured.sum())

    def factor(self, amplitude: float, root: Matrix | None = None) -> "Factor":
        """The covariance with noise at an amplitude, to be solved with; its root, where it is known already."""
        noise = self.places.own_noise.reshape(-1, BLOCK)[:, :, None] * np.eye(BLOCK)
        scaled = np.hstack((amplitude**0.5 * self.features, self.places.shared_noise))
        return Factor.of(amplitude * self.left + noise, scaled, root)


@dataclass(frozen=True, eq=False)
class Factor:
    """Inverse of a covariance C = B + F Fᵀ with B block-diagonal.

    Attributes:
        inverse: of B.
        features: F.
        weighed: B⁻¹ F.
        root: lower Cholesky factor of 1 + Fᵀ B⁻¹ F.
        log_determinant: of C.
    """

    inverse: Blocks
    features: Placed
    weighed: Placed
    root: Matrix
    log_determinant: float

    @classmethod
    def of(cls, blocks: Blocks, features: Placed, root: Matrix | None = None) -> "Factor":
        """Of B and F; the root where it is known."""
        inverse = np.linalg.inv(blocks)
        weighed = _times(inverse, features)
        if root is None:
            root = cholesky(np.eye(features.shape[1]) + features.T @ weighed, lower=True)
        log_determinant = np.linalg.slogdet(blocks)[1].sum() + 2.0 * np.log(np.diag(root)).sum()
        return cls(inverse, features, weighed, root, float(log_determinant))

    def solve(self, columns: Placed) -> Placed:
        """C⁻¹ times columns."""
        return _times(self.inverse, columns) - self.weighed @ cho_solve(
            (self.root, True), self.weighed.T @ columns
        )

    def evidence(self, columns: Placed) -> Float[np.ndarray, " _"]:
        """Log of the likelihood of each column, without constants."""
        inside = solve_triangular(self.root, self.weighed.T @ columns, lower=True)
        square = (columns * _times(self.inverse, columns)).sum(axis=0) - np.square(inside).sum(axis=0)
        return -0.5 * (square + self.log_determinant)


class FeatureMap:
    """By which features inducing conditions tell others, at every point of a net.

    Args:
        covariances: between conditions.
        inducing: conditions that tell.
        net: the points.
    """

    def __init__(self, covariances: Covariances, inducing: Inducing, net: WeightNet) -> None:
        self._covariances, self._inducing, self._net = covariances, inducing, net
        told = NamedCovariances.of(covariances, inducing.conditions, inducing.conditions)
        points = range(len(net.shares))
        self._smooth = [_root(told.smooth(net, i)) for i in points]
        if inducing.shared:
            told = NamedCovariances.of(covariances, inducing.shared, inducing.shared)
            self._own = [_root(told.own(net, i)) for i in points]

    def of(self, asked: Sequence[Condition]) -> Iterator[Float[np.ndarray, "asked features"]]:
        """Features of conditions at each point."""
        smooth = NamedCovariances.of(self._covariances, self._inducing.conditions, asked)
        shared = self._inducing.shared
        own = NamedCovariances.of(self._covariances, shared, asked) if shared else None
        for i, root in enumerate(self._smooth):
            found = [solve_triangular(root, smooth.smooth(self._net, i), lower=True)]
            if own is not None:
                found.append(solve_triangular(self._own[i], own.own(self._net, i), lower=True))
            yield np.concatenate(found).T


def _root(covariance: Matrix) -> Matrix:
    height = max(float(np.trace(covariance)) / len(covariance), np.finfo(float).tiny)
    return cholesky(covariance + _JITTER * height * np.eye(len(covariance)), lower=True)


def processes(
    covariances: Covariances, rows: Sequence[Condition], places: Places, features: FeatureMap, net: WeightNet
) -> Iterator[Process]:
    """The rows' covariance at each point."""
    ordered = [rows[i] for i in places.inducing.order]
    blocks = [ordered[i : i + BLOCK] for i in range(0, len(ordered), BLOCK)]
    within = [NamedCovariances.of(covariances, block, block) for block in blocks]
    for i, found in enumerate(features.of(ordered)):
        placed = np.zeros((len(places.own_noise), found.shape[1]))
        placed[: len(found)] = found
        left = np.zeros((len(blocks), BLOCK, BLOCK))
        for block, one in enumerate(within):
            whole = one.whole(net, i)
            left[block, : len(whole), : len(whole)] = whole
        told = placed.reshape(len(blocks), BLOCK, -1)
        yield Process(places, placed, left - told @ told.transpose(0, 2, 1))
