"""Whether two populations of cells differ at all, and by how many replicates."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from perturbrl.evaluation.distances import energy_distance, relative_to_replicate
from perturbrl.evaluation.statistics import SIGNIFICANCE
from perturbrl.schema import Population

N_PERMUTATIONS: Final = 500
MAX_CELLS_IN_TEST: Final = 500
MAX_CELLS_IN_DISTANCE: Final = 2000


@dataclass(frozen=True)
class Detectability:
    """Whether the target population differs from the start at all.

    Attributes:
        energy_distance: between start and target cells (V-statistic).
        relative_to_replicate: the same in units of two halves of the target cells; nan where these are equal.
        p_value: permutation test of the labels start and target.
    """

    energy_distance: float
    relative_to_replicate: float
    p_value: float

    @property
    def detectable(self) -> bool:
        """Whether the difference is significant at 5 %."""
        return self.p_value <= SIGNIFICANCE


def detectability(start: Population, target: Population) -> Detectability | None:
    """Whether target cells differ from start cells; ``None`` where there are fewer than 4 of either."""
    if min(len(start), len(target)) < 4:
        return None
    start, target = some_of(start), some_of(target)
    return Detectability(
        energy_distance(start, target), replicate_distance(start, target), permutation_p(start, target)
    )


def replicate_distance(cells: Population, target: Population) -> float:
    """Energy distance to the target in units of two halves of it; nan where there is no such unit."""
    if len(target) < 4 or len(cells) < 2 or float(target.std(0).max()) == 0:
        return float("nan")
    return relative_to_replicate(some_of(cells), some_of(target), energy_distance)


def some_of(cells: Population, at_most: int = MAX_CELLS_IN_DISTANCE, seed: int = 0) -> Population:
    """All cells, or a random sample of them where pairs of all would take too long."""
    if len(cells) <= at_most:
        return cells
    return cells[np.random.default_rng(seed).permutation(len(cells))[:at_most]]


def permutation_p(x: Population, y: Population, seed: int = 0) -> float:
    """P-value of the energy distance between two populations under permuted labels (V-statistic).

    At most ``MAX_CELLS_IN_TEST`` cells of each are used. The distance is a quadratic form in the labels'
    weights, so all permutations are one matrix product.
    """
    x, y = some_of(x, MAX_CELLS_IN_TEST, seed), some_of(y, MAX_CELLS_IN_TEST, seed + 1)
    pooled = torch.cat((x, y)).double().cpu()
    pairwise = torch.cdist(pooled, pooled).numpy()
    weight = np.concatenate((np.full(len(x), 1 / len(x)), np.full(len(y), -1 / len(y))))
    rng = np.random.default_rng(seed)
    shuffled = np.stack([weight, *(rng.permutation(weight) for _ in range(N_PERMUTATIONS))])
    distances = -np.einsum("pi,pi->p", shuffled @ pairwise, shuffled)
    return float((distances >= distances[0] - 1e-12).mean())
