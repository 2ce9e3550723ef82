"""Steady states and attractors of networks too large to enumerate, by binary decision diagrams."""

from typing import Any, Final

import biodivine_aeon as aeon
import numpy as np
from biodivine_aeon import AsynchronousGraph, VertexSet

from perturbrl.errors import NetworkError
from perturbrl.networks.boolean_network import BooleanNetwork, States

MAX_LISTED_STATES: Final = 2**18


def symbolic_steady_states(network: BooleanNetwork) -> States:
    """``[states, genes]``: every steady state.

    Raises:
        NetworkError: there are more than ``MAX_LISTED_STATES``.
    """
    return _list(aeon.FixedPoints.symbolic(_graph(network)).vertices(), network)


def symbolic_attractors(network: BooleanNetwork, start: States | None = None) -> list[States]:
    """The asynchronous attractors, of all states or of those reachable from ``start``.

    Raises:
        NetworkError: as ``symbolic_steady_states``, per attractor.
    """
    graph = _graph(network)
    restriction = graph.mk_unit_colored_vertices()
    if start is not None:
        restriction = aeon.Reachability.reach_fwd(graph, _vertices(graph, start))
    found = aeon.Attractors.attractors(graph, restriction)
    states = [_list(attractor.vertices(), network) for attractor in found]
    return sorted(states, key=lambda s: tuple(s[0][::-1]))


def _graph(network: BooleanNetwork) -> AsynchronousGraph:
    # Names that AEON would not accept never reach it, and inputs keep their own value as rule.
    number = {gene: f"x{i}" for i, gene in enumerate(network.genes)}
    lines = [f"{number[gene]}, {rule.text(number.__getitem__)}" for gene, rule in network.rules.items()]
    text = "\n".join(["targets, factors", *lines]) + "\n"
    return aeon.AsynchronousGraph(aeon.BooleanNetwork.from_bnet(text, repair_graph=True))


def _vertices(graph: AsynchronousGraph, states: States) -> Any:
    union = graph.mk_empty_colored_vertices()
    for state in states:
        union = union.union(graph.mk_subspace({f"x{i}": bool(value) for i, value in enumerate(state)}))
    return union


def _list(vertices: VertexSet, network: BooleanNetwork) -> States:
    if vertices.cardinality() > MAX_LISTED_STATES:
        raise NetworkError(
            f"an attractor or the steady states of network '{network.name}' count "
            f"{vertices.cardinality()} states, more than the {MAX_LISTED_STATES} listed; clamp inputs"
        )
    order = [f"x{i}" for i in range(len(network.genes))]
    rows = [[values[name] for name in order] for values in (v.to_named_dict() for v in vertices.items())]
    listed = np.array(rows, dtype=np.uint8).reshape(len(rows), len(order))
    return listed[np.lexsort(listed.T)]
