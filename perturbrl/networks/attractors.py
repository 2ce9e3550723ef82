"""Steady states, attractors and basins of Boolean networks under asynchronous update.

Up to ``MAX_EXPLICIT_GENES`` changing genes every state is enumerated; beyond, binary decision diagrams of
biodivine_aeon (Beneš et al. 2022, Bioinformatics 38:4978) are used. Both are exact.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from perturbrl.errors import NetworkError
from perturbrl.networks.bnet import BoolArray
from perturbrl.networks.boolean_network import MAX_EXPLICIT_GENES, BooleanNetwork, Codes, States, StateSpace
from perturbrl.networks.symbolic import symbolic_attractors, symbolic_steady_states

MAX_CLOSURE: Final = 2**20


def steady_states(network: BooleanNetwork, clamp: Mapping[str, int] | None = None) -> States:
    """``[states, genes]``: every state in which each gene agrees with its rule."""
    clamped = network.clamp(clamp or {})
    if _n_changing(clamped) > MAX_EXPLICIT_GENES:
        return symbolic_steady_states(clamped)
    space = StateSpace(clamped)
    return space.expand(space.codes[space.images == space.codes])


def attractors(
    network: BooleanNetwork, clamp: Mapping[str, int] | None = None, start: States | None = None
) -> list[States]:
    """The sets of states that asynchronous updates never leave, each ``[states, genes]``.

    Args:
        network: the free network.
        clamp: genes held at 0 or 1 all the time.
        start: ``[states, genes]``; only attractors reachable from these states once the clamp is applied.
    """
    clamped = network.clamp(clamp or {})
    if start is not None:
        start = _hold(network, start, clamp or {})
    if _n_changing(clamped) > MAX_EXPLICIT_GENES:
        return symbolic_attractors(clamped, start)
    space = StateSpace(clamped, start)
    if start is None:
        return [space.expand(codes) for codes in _all_attractors(space)]
    reachable = closure(space, space.compress(start))
    return [space.expand(codes) for codes in terminal_components(space, reachable)]


def _n_changing(network: BooleanNetwork) -> int:
    return sum(bool(rule.regulators) for rule in network.rules.values())


def _hold(network: BooleanNetwork, states: States, clamp: Mapping[str, int]) -> States:
    held = states.copy()
    for gene, value in clamp.items():
        held[:, network.genes.index(gene)] = value
    return held


def _all_attractors(space: StateSpace) -> list[Codes]:
    fixed = space.images == space.codes
    cyclic = terminal_components(space, space.codes[~can_reach(space, fixed)])
    return [space.codes[i : i + 1] for i in np.flatnonzero(fixed)] + cyclic


def can_reach(space: StateSpace, goal: BoolArray) -> BoolArray:
    """``[2 ** bits]``: from which states some order of updates leads into ``goal``."""
    reached, before = goal.copy(), -1
    moves = [space.codes ^ ((space.codes ^ space.images) & (1 << bit)) for bit in range(space.n_bits)]
    while before != (before := int(reached.sum())):
        for move in moves:
            reached |= reached[move]
    return reached


def closure(space: StateSpace, codes: Codes) -> Codes:
    """The states reachable from ``codes``, sorted.

    Raises:
        NetworkError: there are more than ``MAX_CLOSURE``.
    """
    known = frontier = np.unique(codes)
    while len(frontier):
        frontier = np.setdiff1d(space.successors(frontier), known)
        known = np.union1d(known, frontier)
        if len(known) > MAX_CLOSURE:
            raise NetworkError(
                f"more than {MAX_CLOSURE:,} states of network '{space.network.name}' are reachable, too many "
                "to enumerate; clamp more genes"
            )
    return known


def terminal_components(space: StateSpace, codes: Codes) -> list[Codes]:
    """The attractors inside ``codes``, a sorted set of states that no update leaves."""
    if not len(codes):
        return []
    following = np.searchsorted(codes, space.successors(codes))
    n, origin = len(codes), np.repeat(np.arange(len(codes)), space.n_bits)
    graph = csr_matrix((np.ones(following.size, dtype=bool), (origin, following.ravel())), shape=(n, n))
    n_components, label = connected_components(graph, directed=True, connection="strong")
    leaves = np.zeros(n_components, dtype=bool)
    leaves[label[(label[following] != label[:, None]).any(axis=1)]] = True
    return [codes[label == component] for component in np.flatnonzero(~leaves)]


def name_attractors(network: BooleanNetwork, found: Sequence[States]) -> dict[str, States]:
    """Attractors by name: the first marker true in all their states, else ``state_<i>`` or ``cycle_<i>``.

    Names that would repeat get the numbers 2, 3, ... appended.
    """
    named: dict[str, States] = {}
    for i, states in enumerate(found, start=1):
        kind = "state" if len(states) == 1 else "cycle"
        markers = [name for name, marker in network.markers.items() if network.matches(marker, states).all()]
        name = markers[0] if markers else f"{kind}_{i}"
        copies = sum(known == name or known.startswith(f"{name}__") for known in named)
        named[f"{name}__{copies + 1}" if copies else name] = states
    return named


def named_attractors(network: BooleanNetwork, clamp: Mapping[str, int] | None = None) -> dict[str, States]:
    """Every attractor of the network, in the order of its markers, by name."""
    named = name_attractors(network, attractors(network, clamp))
    order = {name: i for i, name in enumerate(network.markers)}
    return dict(sorted(named.items(), key=lambda item: order.get(item[0], len(order))))


@dataclass(frozen=True)
class Basin:
    """From where an attractor is reached under asynchronous update, as shares of all states.

    Attributes:
        weak: share of states from which some order of updates leads to the attractor.
        strong: share of states from which every order of updates ends there.
    """

    weak: float
    strong: float


def basins(network: BooleanNetwork, clamp: Mapping[str, int] | None = None) -> dict[str, Basin]:
    """Basin sizes of every attractor, over the states of the genes that can change.

    Raises:
        NetworkError: more than ``MAX_EXPLICIT_GENES`` genes can change.
    """
    clamped = network.clamp(clamp or {})
    space = StateSpace(clamped)
    if space.n_bits > MAX_EXPLICIT_GENES:
        raise NetworkError(
            f"network '{network.name}' has {space.n_bits} changing genes and basins are counted over at most "
            f"{MAX_EXPLICIT_GENES}; clamp some of them"
        )
    found = named_attractors(network, clamp)
    reach = np.array([can_reach(space, np.isin(space.codes, space.compress(s))) for s in found.values()])
    alone = reach.sum(axis=0) == 1
    return {
        name: Basin(float(r.mean()), float((r & alone).mean())) for name, r in zip(found, reach, strict=True)
    }
