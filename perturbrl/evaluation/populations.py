"""How far apart two populations of cells are, and how sure that is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import norm
from torch import Tensor

from perturbrl.evaluation.distances import energy_distance, relative_to_replicate
from perturbrl.evaluation.statistics import Interval, holm_correction
from perturbrl.schema import CellState, Population

SIGNIFICANCE: Final = 0.05
N_PERMUTATIONS: Final = 500
MAX_CELLS_IN_TEST: Final = 500
MAX_CELLS_IN_DISTANCE: Final = 2000
_Z: Final = 1.96


def mean_distance(x: Population, y: Population) -> float:
    """Euclidean distance between the means of two samples of cells, ‖x̄ − ȳ‖, in latent units.

    Range [0, inf). Doing nothing scores the distance from start to target. Pitfalls: samples of one population
    are not at 0 (see `mean_distance_interval`), and cells of the wrong spread at the right mean are.

    Source: the distance every published design is judged by; its bias is that of Hotelling's T².
    """
    return float((x.mean(0) - y.mean(0)).norm())


def mean_distance_interval(x: Population, y: Population) -> Interval:
    """Euclidean distance between the means of two POPULATIONS, with a 95 % interval over cells.

    The distance between two samples' means is too large by sampling noise in every dimension, and most so
    where a design is good. Its square exceeds that of the populations by tr S on average, S being the
    covariance of the difference of means; after subtracting that, Var = 4 d'Sd + 2 tr S² gives the interval
    of the square, whose root is returned. An estimate of 0 says: as near as so many cells can tell.
    """
    difference = (x.mean(0) - y.mean(0)).double()
    noise = _covariance_of_mean(x) + _covariance_of_mean(y)
    squared = float(difference @ difference - noise.trace())
    floor = 2.0 * float(noise.square().sum())
    # d'Sd of the observed difference is itself too large, by tr S².
    half = _Z * max(4.0 * float(difference @ noise @ difference) - floor, floor) ** 0.5
    estimate, low, high = (max(value, 0.0) ** 0.5 for value in (squared, squared - half, squared + half))
    return Interval(estimate, low, high)


def _covariance_of_mean(cells: Population) -> Float[Tensor, "latent latent"]:
    if len(cells) < 2:
        return cells.new_zeros(cells.shape[1], cells.shape[1], dtype=torch.float64)
    centred = (cells - cells.mean(0)).double()
    return centred.T @ centred / (len(cells) - 1) / len(cells)


def equally_near(cells: CellState, others: Mapping[str, CellState], target: Population) -> tuple[str, ...]:
    """The designs of which the data cannot tell whether they end nearer to the target than ``cells`` do.

    One comparison with each of the others, with p-values corrected for their number (Holm), so that with a chance
    of 95 % no design is set apart that is as near.
    """
    p_values = np.array([nearness_p_value(cells, other, target) for other in others.values()])
    return tuple(name for name, p in zip(others, holm_correction(p_values), strict=True) if p > SIGNIFICANCE)


def nearness_p_value(a: CellState, b: CellState, target: Population) -> float:
    """P-value of two designs ending equally near to the target, two-sided.

    Row i of ``a`` and of ``b`` started as the same cell, and both are compared with the same target cells, so
    the noise they share cancels: the test is that of the difference of squared distances, linearised in the
    means. Overlapping intervals of the single distances say much less.
    """
    to_a, to_b = a.mean(0) - target.mean(0), b.mean(0) - target.mean(0)
    rounding = 1e-6 * float(to_a @ to_a)
    difference = max(abs(float(to_a @ to_a - to_b @ to_b)) - rounding, 0.0)
    variance = _variance_of_mean(2 * (a @ to_a - b @ to_b)) + _variance_of_mean(2 * (target @ (to_b - to_a)))
    if difference == 0 or variance == 0:
        return float(difference == 0)
    return float(2.0 * norm.sf(difference / variance**0.5))


def _variance_of_mean(values: Float[Tensor, " cells"]) -> float:
    return float(values.double().var()) / len(values) if len(values) > 1 else 0.0


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
