"""What rows say of the amplitude of effects, at one point of the net, where their covariance is an induced process."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from jaxtyping import Float, Int
from scipy.interpolate import CubicSpline

from perturbrl.responses.induced_process import Factor, Placed, Process
from perturbrl.responses.named_covariances import Matrix
from perturbrl.responses.weight_averaging import AMPLITUDES, beforehand, deviations, signal_of

_LEAST_SIGNAL: Final = 1e-3
_LEAST_SHARE: Final = 1e-4

Tried = Float[np.ndarray, " tried"]
Nodes = Float[np.ndarray, " nodes"]


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
        told: Told,
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


def nodes_between(process: Process, most: float) -> Nodes:
    """Amplitudes from hardly any signal to more than the strongest component has."""
    signal = signal_of(AMPLITUDES, process.mean_variance)
    first = min(int(np.searchsorted(signal, _LEAST_SIGNAL)), len(signal) - 1)
    last = int(np.searchsorted(signal, 10.0 * max(most, 1.0)))
    return AMPLITUDES[first : max(last, first) + 1 : 2]
