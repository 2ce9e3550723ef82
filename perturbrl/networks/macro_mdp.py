"""Reprogramming as an exact Markov decision process over a Boolean network's attractors.

A node is an attractor. An action clamps one gene up or down until the network has settled, then releases it
until it has settled again; the first action clamps nothing. Updates are asynchronous, the next gene drawn
uniformly, so every outcome has an exact probability (absorbing Markov chain) and dynamic programming gives
the best that any policy can do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_matrix, csr_matrix, identity
from scipy.sparse.linalg import spsolve

from perturbrl.errors import ConfigurationError
from perturbrl.networks.attractors import closure, named_attractors, terminal_components
from perturbrl.networks.boolean_network import BooleanNetwork, Codes, States, StateSpace

FloatArray = NDArray[np.float64]

NOTHING: Final = "nothing"
IMPROVEMENT: Final = 1e-9
CLAMP_PRICE: Final = 1e-3
SETTLED_VALUES: Final = 100_000


@dataclass(frozen=True)
class StateDistribution:
    """States ``[states, genes]`` with their probabilities ``[states]``."""

    states: States
    probabilities: FloatArray


def settle(
    network: BooleanNetwork, start: StateDistribution, clamp: dict[str, int] | None = None
) -> StateDistribution:
    """Where uniform random asynchronous updates end up, exactly.

    A fixed point keeps its absorption probability; a cyclic attractor spreads it over its states by its
    stationary distribution.
    """
    clamped = network.clamp(clamp or {})
    states = start.states.copy()
    for gene, value in (clamp or {}).items():
        states[:, network.genes.index(gene)] = value
    space = StateSpace(clamped, states)
    codes = closure(space, space.compress(states))
    chain = _transition_matrix(space, codes)
    mass = np.zeros(len(codes))
    np.add.at(mass, np.searchsorted(codes, space.compress(states)), start.probabilities)
    terminal = [np.searchsorted(codes, part) for part in terminal_components(space, codes)]
    mass = _absorb(chain, mass, np.concatenate(terminal))
    for part in terminal:
        mass[part] = mass[part].sum() * _stationary(chain[part][:, part])
    kept = mass > 0
    rounding = start.probabilities.sum() / mass.sum()
    return StateDistribution(space.expand(codes[kept]), mass[kept] * rounding)


def _transition_matrix(space: StateSpace, codes: Codes) -> csr_matrix:
    following = np.searchsorted(codes, space.successors(codes))
    n, bits = following.shape
    if bits == 0:
        return identity(n, format="csr")
    weight = np.full(following.size, 1.0 / bits)
    return csr_matrix((weight, (np.repeat(np.arange(n), bits), following.ravel())), shape=(n, n))


def _absorb(chain: csr_matrix, mass: FloatArray, absorbing: NDArray[np.int64]) -> FloatArray:
    inside = np.ones(len(mass), dtype=bool)
    inside[absorbing] = False
    if not inside.any():
        return mass
    within = chain[inside][:, inside]
    visits = spsolve(csc_matrix(identity(within.shape[0]) - within.T), mass[inside])
    settled = np.where(inside, 0.0, mass)
    settled[~inside] += np.atleast_1d(visits) @ chain[inside][:, ~inside]
    return settled


def _stationary(chain: csr_matrix) -> FloatArray:
    n = chain.shape[0]
    if n == 1:
        return np.ones(1)
    balance = np.vstack([(chain.toarray() - np.eye(n)).T, np.ones(n)])
    return np.linalg.lstsq(balance, np.append(np.zeros(n), 1.0), rcond=None)[0]


@dataclass(frozen=True)
class MacroMDP:
    """Attractors, one-gene actions and exact outcome probabilities.

    Attributes:
        attractors: names of the nodes.
        actions: ``nothing``, then ``+GENE`` for every controllable gene, then ``-GENE``: the numbering of a
            discrete ``PerturbationSpace``.
        outcome: ``[attractors, actions, attractors]`` probabilities.
        distance: ``[attractors, attractors]`` mean Hamming distance between the attractors' states.
    """

    attractors: tuple[str, ...]
    actions: tuple[str, ...]
    outcome: FloatArray
    distance: FloatArray

    def node(self, attractor: str) -> int:
        """Index of an attractor.

        Raises:
            ConfigurationError: there is no attractor of that name.
        """
        if attractor not in self.attractors:
            raise ConfigurationError(
                f"there is no attractor '{attractor}'; choose one of {', '.join(self.attractors)}"
            )
        return self.attractors.index(attractor)

    def optimal_values(self, target: str, horizon: int) -> FloatArray:
        """``[horizon + 1, attractors]``: best probability of being at ``target`` within h actions."""
        values = [np.eye(len(self.attractors))[self.node(target)]]
        for _ in range(horizon):
            values.append((self.outcome @ values[-1]).max(axis=1))
        return np.array(values)

    def optimal_policy(self, target: str, horizon: int) -> NDArray[np.int64]:
        """``[horizon, attractors]``: row h is the best action with h + 1 actions left, the first on a tie."""
        values = self.optimal_values(target, horizon)
        q = self.outcome @ values[:-1, None, :, None]
        return np.array((q[..., 0] > q[..., 0].max(axis=2, keepdims=True) - IMPROVEMENT).argmax(axis=2))

    def random_values(self, target: str, horizon: int) -> FloatArray:
        """``[horizon + 1, attractors]``: probability to meet ``target`` within h uniformly drawn clamps."""
        goal = self.node(target)
        values = [np.eye(len(self.attractors))[goal]]
        for _ in range(horizon):
            following = (self.outcome[:, 1:] @ values[-1]).mean(axis=1)
            following[goal] = 1.0
            values.append(following)
        return np.array(values)

    def greedy_policy(self, target: str) -> NDArray[np.int64]:
        """``[attractors]``: the action of least expected distance, nothing where none comes closer."""
        distance = self.distance[self.node(target)]
        expected = self.outcome @ distance
        best = expected.argmin(axis=1)
        return np.where(expected.min(axis=1) < distance - IMPROVEMENT, best, 0)

    def lookahead_policy(self, target: str, depth: int) -> NDArray[np.int64]:
        """``[attractors]``: first action of the best plan of ``depth`` actions, made anew after every action.

        A plan may react to what happens on the way. It is judged by the expected distance at its end and a
        thousandth per clamp, and nothing is done where no plan beats staying.
        """
        cost = staying = self.distance[self.node(target)]
        for _ in range(depth):
            expected = self.outcome[:, 1:] @ cost + CLAMP_PRICE
            cost = np.minimum(staying, expected.min(axis=1))
        return np.where(cost < staying - IMPROVEMENT, 1 + expected.argmin(axis=1), 0)

    def policy_values(self, policy: NDArray[np.int64], target: str, horizon: int) -> FloatArray:
        """``[horizon + 1, attractors]``: probability of being at ``target`` after h actions of ``policy``."""
        chain = self.outcome[np.arange(len(self.attractors)), policy]
        values = [np.eye(len(self.attractors))[self.node(target)]]
        for _ in range(horizon):
            values.append(chain @ values[-1])
        return np.array(values)

    def expected_interventions(self, target: str) -> FloatArray:
        """``[attractors]``: least expected number of clamps until ``target``, infinite if it is uncertain.

        Value iteration of the stochastic shortest path from below, on the attractors from which some policy
        arrives with probability 1.
        """
        goal = self.node(target)
        sure = self._almost_sure(goal)
        cost = np.where(sure, 0.0, np.inf)
        allowed = (self.outcome[:, 1:] * ~sure).sum(axis=2) < IMPROVEMENT
        for _ in range(SETTLED_VALUES):
            following = 1.0 + np.where(allowed, self.outcome[:, 1:] @ np.where(sure, cost, 0.0), np.inf).min(
                axis=1
            )
            following[goal], following[~sure] = 0.0, np.inf
            if np.allclose(following, cost, rtol=0, atol=1e-12):
                break
            cost = following
        return following

    def _almost_sure(self, goal: int) -> NDArray[np.bool_]:
        sure = np.ones(len(self.attractors), dtype=bool)
        while True:
            staying = (self.outcome * ~sure).sum(axis=2) < IMPROVEMENT
            reached = np.zeros_like(sure)
            reached[goal] = True
            for _ in sure:
                reached |= (staying & ((self.outcome * reached).sum(axis=2) > 0)).any(axis=1) & sure
            if (reached == sure).all():
                return sure
            sure = reached


def one_gene_clamps(genes: Sequence[str]) -> list[dict[str, int]]:
    """What every action of a discrete ``PerturbationSpace`` clamps: nothing, a gene on, a gene off."""
    return [{}, *({gene: 1} for gene in genes), *({gene: 0} for gene in genes)]


def clamp_and_release(
    network: BooleanNetwork, start: StateDistribution, clamp: dict[str, int]
) -> StateDistribution:
    """Where cells are after a clamp has settled and its release has settled, exactly."""
    return settle(network, settle(network, start, clamp))


def macro_mdp(network: BooleanNetwork, controllable: Sequence[str] | None = None) -> MacroMDP:
    """The attractors of ``network`` joined by one-gene temporary clamps.

    Args:
        network: the free network; its attractors must be few enough to enumerate.
        controllable: genes that may be clamped; all by default.
    """
    genes = tuple(network.genes if controllable is None else controllable)
    named = named_attractors(network)
    actions = (NOTHING, *(f"+{g}" for g in genes), *(f"-{g}" for g in genes))
    outcome = np.array(
        [[_outcome(network, named, s, clamp) for clamp in one_gene_clamps(genes)] for s in named.values()]
    )
    distance = np.array([[_hamming(a, b) for b in named.values()] for a in named.values()])
    return MacroMDP(tuple(named), actions, outcome, distance)


def _outcome(
    network: BooleanNetwork, named: dict[str, States], source: States, clamp: dict[str, int]
) -> FloatArray:
    start = StateDistribution(source, np.full(len(source), 1.0 / len(source)))
    released = clamp_and_release(network, start, clamp)
    rows = {state.tobytes(): i for i, states in enumerate(named.values()) for state in states}
    node = [rows[state.tobytes()] for state in released.states]
    return np.bincount(node, released.probabilities, minlength=len(named)).astype(np.float64)


def _hamming(a: States, b: States) -> float:
    return float((a[:, None] != b[None]).sum(axis=2).mean())
