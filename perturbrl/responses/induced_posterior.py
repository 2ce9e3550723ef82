"""Kriging of many rows: its equations through inducing conditions and blocks of rows.

Leading components have weights and amplitudes of their own, as in the exact posterior. The others, mostly noise, share
the likeliest point, and those of like energy the likeliest amplitude. Where inducing conditions tell all that different
blocks share, the covariance is the exact one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import solve_triangular
from scipy.sparse import csr_matrix

from perturbrl.responses.covariances import Covariances
from perturbrl.responses.induced_amplitudes import Solved, Told, nodes_between
from perturbrl.responses.induced_process import Factor, FeatureMap, Places, processes
from perturbrl.responses.inducing import BLOCK, Inducing
from perturbrl.responses.named_covariances import NamedCovariances, Variances
from perturbrl.responses.posterior import AtPoint, PerComponent, Posterior
from perturbrl.responses.sampling_noise import SamplingNoise
from perturbrl.responses.training_cells import Condition
from perturbrl.responses.weight_averaging import (
    Components,
    WeightNet,
)

# Components with weights and amplitudes of their own.
LEADING: Final = 256
# So many of the others, alike in energy, share an amplitude, which every so-manyth of them tells.
_GROUP: Final = 32
_TAIL_STEP: Final = 8
# What counts less tells a reader nothing of which rows a prediction rests on.
_LEAST_WEIGHT: Final = 1e-3


@dataclass(frozen=True, eq=False)
class Links:
    """Covariances of conditions with rows that the inducing conditions leave over.

    Attributes:
        queries: number of the condition of each link.
        blocks: that it is linked to.
        left: ``[links, width]`` covariances.
        n_asked: conditions.
    """

    queries: Int[np.ndarray, " links"]
    blocks: Int[np.ndarray, " links"]
    left: Float[np.ndarray, "links width"]
    n_asked: int

    def placed(self, values: Float[np.ndarray, "links width"], n_places: int) -> csr_matrix:
        """Values of links by condition and place."""
        columns = self.blocks[:, None] * BLOCK + np.arange(BLOCK)
        rows = np.repeat(self.queries, BLOCK)
        return csr_matrix((values.ravel(), (rows, columns.ravel())), shape=(self.n_asked, n_places))


class InducedPosterior(Posterior):
    """Through inducing conditions and blocks of rows.

    Args:
        net: the points.
        covariances: between conditions.
        rows: what was measured.
        noise: of the rows.
        responses: of the rows, in units of each component's noise.
    """

    def __init__(
        self,
        net: WeightNet,
        covariances: Covariances,
        rows: Sequence[Condition],
        noise: SamplingNoise,
        responses: Components,
    ) -> None:
        self._net, self._covariances, self._rows = net, covariances, rows
        self._inducing = Inducing.of(covariances, net, rows)
        self._places = Places.of(self._inducing, noise)
        self._features = FeatureMap(covariances, self._inducing, net)
        self._solved = list(self._fitted(responses, np.square(noise.whiten(responses)).mean(axis=0)))
        self.amplitude = np.zeros(responses.shape[1])
        for one in self._solved:
            self.amplitude[one.columns] += one.shares * one.amplitude

    def _fitted(self, responses: Components, energy: PerComponent) -> Iterator[Solved]:
        order = np.argsort(-energy, kind="stable")
        leading, tail = order[:LEADING], order[LEADING:]
        placed = self._places.put(responses)
        shares = self._net.shares
        likeliest = int(np.argmax(shares[:, tail].sum(axis=1)))
        found = processes(self._covariances, self._rows, self._places, self._features, self._net)
        for point, process in enumerate(found):
            some = tail[::_TAIL_STEP] if point == likeliest else tail[:0]
            nodes = nodes_between(process, float(energy.max()))
            told = Told.of(point, process, nodes, placed[:, np.concatenate((leading, some))])
            posterior = told.posterior(slice(0, len(leading)))
            yield Solved.of(told, leading, shares[point, leading], placed[:, leading], posterior)
            if len(some):
                n_groups = -(-len(tail) // _GROUP)
                shared = told.likeliest(slice(len(leading), None), n_groups)
                of_each = np.repeat(np.arange(n_groups), [len(x) for x in np.array_split(tail, n_groups)])
                yield Solved.of(told, tail, np.ones(len(tail)), placed[:, tail], shared[:, of_each])

    def at_points(self, asked: Sequence[Condition]) -> Iterator[AtPoint]:
        """What each point says of conditions."""
        within = Variances(self._covariances, asked)
        for point, features, links in self._seen(asked):
            for one in self._solved:
                if one.point == point:
                    variance = within.whole(self._net, point)
                    yield self._at_point(one, features, links, variance)

    def _seen(
        self, asked: Sequence[Condition]
    ) -> Iterator[tuple[int, Float[np.ndarray, "asked features"], Links]]:
        """Features and links of conditions at each point."""
        queries, blocks = self._inducing.links(self._covariances, self._net, asked)
        across = list(self._across(asked, queries, blocks))
        by_point = {one.point: one.process.features for one in self._solved}
        for point, features in enumerate(self._features.of(asked)):
            told = by_point[point].reshape(-1, BLOCK, features.shape[1])
            left = np.zeros((len(queries), BLOCK))
            for block, at, one in across:
                covariance = one.whole(self._net, point)
                left[at, : covariance.shape[1]] = covariance
                left[at] -= features[queries[at]] @ told[block].T
            yield point, features, Links(queries, blocks, left, len(asked))

    def _across(
        self,
        asked: Sequence[Condition],
        queries: Int[np.ndarray, " links"],
        blocks: Int[np.ndarray, " links"],
    ) -> Iterator[tuple[int, Int[np.ndarray, " some"], NamedCovariances]]:
        """Each block, its links, and the covariances of linked conditions with the block's rows."""
        for block in np.unique(blocks).tolist():
            at = np.flatnonzero(blocks == block)
            rows = [self._rows[i] for i in self._inducing.order[block * BLOCK : (block + 1) * BLOCK]]
            yield block, at, NamedCovariances.of(self._covariances, [asked[i] for i in queries[at]], rows)

    def _at_point(
        self,
        one: Solved,
        features: Float[np.ndarray, "asked features"],
        links: Links,
        variance: Float[np.ndarray, " asked"],
    ) -> AtPoint:
        told, left = one.process.features, links.placed(links.left, len(one.weights))
        mean, sway = (features @ (told.T @ found) + left @ found for found in (one.weights, one.sway))
        explained = np.stack([s * _explained(s, factor, features, links) for s, factor in one.factors])
        prior = variance[:, None] * one.amplitude
        after = prior - explained.T @ one.curvatures + np.square(sway)
        return AtPoint(one.columns, one.shares, mean, after.clip(min=0.0), prior)

    def row_weights(
        self, asked: Sequence[Condition], importance: PerComponent
    ) -> Float[np.ndarray, "asked rows"]:
        """Weight with which each row's shift enters the mean of conditions, a mean over components."""
        found = np.zeros((len(self._places.own_noise), len(asked)))
        for point, features, links in self._seen(asked):
            for one in self._solved:
                if one.point != point:
                    continue
                left = links.placed(links.left, len(found)).T.toarray()
                covariance = one.process.features @ features.T + left
                shares = one.gains @ (one.shares * importance[one.columns])
                for share, s, root in zip(shares, one.nodes.tolist(), one.roots, strict=True):
                    if share > _LEAST_WEIGHT:
                        found += share * s * one.process.factor(s, root).solve(covariance)
        return self._places.take(found).T


def _explained(
    s: float, factor: Factor, features: Float[np.ndarray, "asked features"], links: Links
) -> Float[np.ndarray, " asked"]:
    """kᵀ C⁻¹ k of the covariances k = Φ φ + e of conditions with all rows."""
    weighed = (factor.inverse[links.blocks] @ links.left[:, :, None])[:, :, 0]
    inside = -(links.placed(weighed, len(factor.features)) @ factor.features)
    inside[:, : features.shape[1]] += features / s**0.5
    own = np.bincount(links.queries, (weighed * links.left).sum(axis=1), minlength=len(features))
    seen = solve_triangular(factor.root, inside.T, lower=True)
    return np.square(features).sum(axis=1) / s + own - np.square(seen).sum(axis=0)
