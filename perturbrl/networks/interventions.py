"""Smallest sets of genes that are certain to turn one attractor of a Boolean network into another."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, product
from typing import Literal

import numpy as np

from perturbrl.networks.attractors import attractors
from perturbrl.networks.boolean_network import BooleanNetwork, States

Duration = Literal["permanent", "temporary", "instantaneous"]


def minimal_interventions(
    network: BooleanNetwork,
    source: States,
    target: States,
    *,
    controllable: Sequence[str] | None = None,
    duration: Duration = "temporary",
    max_genes: int = 3,
) -> list[dict[str, int]]:
    """The smallest gene sets, held at 0 or 1, after which every order of updates ends in ``target``.

    Args:
        network: the free network.
        source: ``[states, genes]`` of the attractor to leave.
        target: ``[states, genes]`` of the attractor to reach.
        controllable: genes that may be held; all by default.
        duration: ``permanent`` holds them for ever, ``temporary`` until the network has settled, and
            ``instantaneous`` only sets them once.
        max_genes: largest set that is tried.

    Returns:
        All sets of the smallest size that works, or none.
    """
    genes = tuple(network.genes if controllable is None else controllable)
    for size in range(1, max_genes + 1):
        works = [
            clamp for clamp in _clamps(genes, size) if is_certain(network, source, target, clamp, duration)
        ]
        if works:
            return works
    return []


def _clamps(genes: Sequence[str], size: int) -> Iterator[dict[str, int]]:
    for chosen in combinations(genes, size):
        for values in product((1, 0), repeat=size):
            yield dict(zip(chosen, values, strict=True))


def is_certain(
    network: BooleanNetwork, source: States, target: States, clamp: Mapping[str, int], duration: Duration
) -> bool:
    """Whether holding ``clamp`` leads from ``source`` to ``target`` in every order of updates."""
    if duration == "permanent":
        return _are(attractors(network, clamp, source), target)
    changed = source.copy()
    changed[:, [network.genes.index(gene) for gene in clamp]] = list(clamp.values())
    if duration == "temporary":
        changed = np.concatenate(attractors(network, clamp, changed))
    return _are(attractors(network, start=changed), target)


def _are(found: list[States], target: States) -> bool:
    return len(found) == 1 and {s.tobytes() for s in found[0]} == {s.tobytes() for s in target}
