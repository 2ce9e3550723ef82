"""Kriging of many rows: its equations through inducing conditions and blocks of rows.

Leading components have weights and amplitudes of their own, as in the exact posterior. The others, mostly noise, share
the likeliest point, and those of like energy the likeliest amplitude. Where inducing conditions tell all that different
blocks share, the covariance is the exact one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from jaxtyping import Float, Int
from scipy.interpolate import CubicSpline
from scipy.linalg import solve_triangular
from scipy.sparse import csr_matrix

from perturbrl.responses.covariances import Covariances
from perturbrl.responses.induced_process import Factor, FeatureMap, Placed, Places, Process, processes
from perturbrl.responses.inducing import BLOCK, Inducing
from perturbrl.responses.named_covariances import Matrix, NamedCovariances, Variances
from perturbrl.responses.posterior import AtPoint, PerComponent, Posterior
from perturbrl.responses.sampling_noise import SamplingNoise
from perturbrl.responses.training_cells import Condition
from perturbrl.responses.weight_averaging import (
    AMPLITUDES,
    Components,
    WeightNet,
    beforehand,
    deviations,
    signal_of,
)

# Components with weights and amplitudes of their own.
LEADING: Final = 256
# So many of the others, alike in energy, share an amplitude, which every so-manyth of them tells.
_GROUP: Final = 32
_TAIL_STEP: Final = 8
_LEAST_SIGNAL: Final = 1e-3
_LEAST_SHARE: Final = 1e-4
# What counts less tells a reader nothing of which rows a prediction rests on.
_LEAST_WEIGHT: Final = 1e-3

Tried = Float[np.ndarray, " tried"]
Nodes = Float[np.ndarray, " nodes"]


@dataclass(frozen=True, eq=False)
class Solved:
    """Some components at one point of the net after the data.

    Attributes:
        point: of the net.
        columns: number of each component.
        shares: of the point in them.
        process: the rows' covariance.
        nodes: amplitudes s that are solved for.
        roots: of the factors of C at the nodes.
        gains: ``[nodes, columns]`` weights that sum s C⁻¹ at the nodes to its expectation.
        curvatures: ``[nodes, columns]`` the same for s² C⁻¹, by which variance is explained.
        amplitude: ``[columns]`` E[s].
        weights: ``[places, columns]`` E[s C⁻¹ y], by which covariances with rows are weighed.
        sway: ``[places, columns]`` how far one standard deviation of s moves them.
    """

    point: int
    columns: Int[np.ndarray, " columns"]
    shares: Float[np.ndarray, " columns"]
    process: Process
    nodes: Nodes
    roots: tuple[Matrix, ...]
    gains: Float[np.ndarray, "nodes columns"]
    curvatures: Float[np.ndarray, "nodes columns"]
    amplitude: Float[np.ndarray, " columns"]
    weights: Placed
    sway: Placed

    @classmethod
    def of(
        cls,
        told: "Told",
        columns: Int[np.ndarray, " columns"],
        shares: Float[np.ndarray, " columns"],
        responses: Placed,
        posterior: Float[np.ndarray, "tried columns"],
    ) -> "Solved":
        """Averaged over amplitudes; between nodes s C⁻¹ is taken as linear in the logarithm of s."""
        gains, away = told.at_nodes.T @ posterior, told.at_nodes.T @ deviations(told.signal, posterior)
        matters = np.flatnonzero(gains.max(axis=1) > _LEAST_SHARE)
        nodes, roots = told.nodes[matters], tuple(told.roots[i] for i in matters)
        weights, sway = np.zeros((2, *responses.shape))
        for i, s, root in zip(matters, nodes, roots, strict=True):
            some = np.flatnonzero(gains[i])
            solved = s * told.process.factor(s, root).solve(responses[:, some])
            weights[:, some] += gains[i, some] * solved
            if away[i].any():
                sway[:, some] += away[i, some] * solved
        return cls(
            told.point,
            columns,
            shares,
            told.process,
            nodes,
            roots,
            gains[matters],
            told.at_nodes[:, matters].T @ (told.amplitudes[:, None] * posterior),
            told.amplitudes @ posterior,
            weights,
            sway,
        )

    @property
    def factors(self) -> Iterator[tuple[float, Factor]]:
        """Each node with the factor of C."""
        for s, root in zip(self.nodes, self.roots, strict=True):
            yield float(s), self.process.factor(s, root)


@dataclass(frozen=True, eq=False)
class Told:
    """What some components say of the amplitude at one point of the net.

    Attributes:
        point: of the net.
        process: the rows' covariance.
        nodes: amplitudes that C is factored at.
        roots: of these factors.
        evidence: ``[nodes, columns]`` log of the likelihood of each component.
    """

    point: int
    process: Process
    nodes: Nodes
    roots: tuple[Matrix, ...]
    evidence: Float[np.ndarray, "nodes columns"]

    @classmethod
    def of(cls, point: int, process: Process, nodes: Nodes, responses: Placed) -> "Told":
        """By responses of components."""
        factors = (
            (factor.root, factor.evidence(responses)) for factor in map(process.factor, nodes.tolist())
        )
        roots, evidence = zip(*factors, strict=True)
        return cls(point, process, nodes, roots, np.array(evidence))

    @cached_property
    def amplitudes(self) -> Tried:
        """From the first node to the last."""
        return AMPLITUDES[(self.nodes[0] <= AMPLITUDES) & (self.nodes[-1] >= AMPLITUDES)]

    @cached_property
    def signal(self) -> Tried:
        """Variance of a row's effect in units of its noise, at each amplitude."""
        return signal_of(self.amplitudes, self.process.mean_variance)

    @cached_property
    def at_nodes(self) -> Float[np.ndarray, "tried nodes"]:
        """How much of each node is in each amplitude."""
        tried, nodes = np.log(self.amplitudes), np.log(self.nodes)
        return np.stack([np.interp(tried, nodes, one) for one in np.eye(len(nodes))], axis=1)

    def posterior(self, columns: slice) -> Float[np.ndarray, "tried columns"]:
        """Share of each amplitude in some of the components."""
        evidence = self._interpolated(self.evidence[:, columns])
        found = np.exp(evidence - evidence.max(axis=0)) * beforehand(self.signal)[:, None]
        return found / found.sum(axis=0)

    def likeliest(self, columns: slice, n_groups: int) -> Float[np.ndarray, "tried groups"]:
        """The one amplitude that groups of neighbouring components share."""
        groups = np.array_split(self.evidence[:, columns], n_groups, axis=1)
        evidence = self._interpolated(np.stack([group.sum(axis=1) for group in groups], axis=1))
        return np.eye(len(evidence))[:, np.argmax(evidence, axis=0)]

    def _interpolated(
        self, evidence: Float[np.ndarray, "nodes columns"]
    ) -> Float[np.ndarray, "tried columns"]:
        if len(self.nodes) < 2:
            return evidence
        return CubicSpline(np.log(self.nodes), evidence)(np.log(self.amplitudes))


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
            nodes = _nodes(process, float(energy.max()))
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


def _nodes(process: Process, most: float) -> Nodes:
    """Amplitudes from hardly any signal to more than the strongest component has."""
    signal = signal_of(AMPLITUDES, process.mean_variance)
    first = min(int(np.searchsorted(signal, _LEAST_SIGNAL)), len(signal) - 1)
    last = int(np.searchsorted(signal, 10.0 * max(most, 1.0)))
    return AMPLITUDES[first : max(last, first) + 1 : 2]


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
