"""Simulated trajectories against cells ordered by pseudotime, one latent dimension at a time."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float
from scipy.stats import wasserstein_distance

from perturbrl.errors import DataError
from perturbrl.evaluation.registry_entry import Metric


def dtw_distance(
    simulated: Float[np.ndarray, "*cells time latent"], reference: Float[np.ndarray, "steps latent"]
) -> Float[np.ndarray, "*cells latent"]:
    """Dynamic time warping distance of each simulated path to the reference, per latent dimension.

    The smallest sum of |aᵢ − bⱼ| over alignments of the two series that start and end together and never go
    back; no window, no normalisation, in units of the latent dimension. Range [0, inf); 0 for paths that
    differ only in speed. Pitfalls: it grows with the length of the longer series, so compare paths of equal
    lengths; doing nothing scores at least Σ |start − bⱼ| over the reference, which is little on a flat
    dimension, so put the ``no_op`` row beside it; pseudotime has no unit, which is why warping is allowed.

    All cells and dimensions are aligned at once, one anti-diagonal of the table after the other.

    Source: Sakoe & Chiba 1978 (10.1109/TASSP.1978.1163055), symmetric step pattern without slope weights.
    """
    n, m = simulated.shape[-2], len(reference)
    cost = np.abs(simulated[..., :, None, :] - reference)
    total = np.full((*cost.shape[:-3], n + 1, m + 1, cost.shape[-1]), np.inf)
    total[..., 0, 0, :] = 0.0
    for diagonal in range(2, n + m + 1):
        i = np.arange(max(1, diagonal - m), min(n, diagonal - 1) + 1)
        j = diagonal - i
        before = np.minimum(total[..., i - 1, j, :], total[..., i, j - 1, :])
        before = np.minimum(before, total[..., i - 1, j - 1, :])
        total[..., i, j, :] = cost[..., i - 1, j - 1, :] + before
    return total[..., n, m, :]


def pseudotime_path(
    cells: Float[np.ndarray, "cells latent"], pseudotime: Float[np.ndarray, " cells"], n_steps: int
) -> Float[np.ndarray, "{n_steps} latent"]:
    """Mean state of the cells in ``n_steps`` bins of equal numbers of cells along pseudotime.

    Bins of equal counts make every step equally certain; the path is that of the population, not of a cell.

    Raises:
        DataError: a pseudotime is not finite, or there are fewer cells than steps.
    """
    if not np.isfinite(pseudotime).all():
        bad = int((~np.isfinite(pseudotime)).sum())
        raise DataError(f"{bad} cells have no finite pseudotime; leave them out or root the trajectory anew")
    if not 1 <= n_steps <= len(cells):
        raise DataError(f"{len(cells)} cells cannot fill {n_steps} steps of pseudotime; ask for fewer steps")
    order = np.argsort(pseudotime, kind="stable")
    return np.stack([part.mean(axis=0) for part in np.array_split(cells[order], n_steps)])


def wasserstein_per_dimension(
    simulated: Float[np.ndarray, "*cells latent"], real: Float[np.ndarray, "n latent"]
) -> Float[np.ndarray, " latent"]:
    """1-Wasserstein distance between all simulated and all real states, per latent dimension.

    ∫|F − G| of the two distribution functions, in units of the latent dimension. Range [0, inf). Order in
    time does not enter: a path run backwards scores the same, so read it beside `dtw_distance`. A policy that
    does nothing scores the distance of the start cells to the whole trajectory; two samples of n states of
    one law score about their spread over √n, not 0.

    Source: ``scipy.stats.wasserstein_distance``.
    """
    flat = simulated.reshape(-1, simulated.shape[-1])
    return np.array([wasserstein_distance(flat[:, d], real[:, d]) for d in range(real.shape[1])])


@dataclass(frozen=True, eq=False)
class PairedTrajectories:
    """Simulated ways of cells and what they are compared with.

    Attributes:
        simulated: ``[cells, time, latent]`` simulated states.
        reference: ``[steps, latent]`` real cells' path, from the start on.
        real: ``[n, latent]`` states of real cells.
        whole_way: whether ``real`` are from the whole way; else from its end, and only ends are compared with them.
    """

    simulated: Float[np.ndarray, "cells time latent"]
    reference: Float[np.ndarray, "steps latent"]
    real: Float[np.ndarray, "n latent"]
    whole_way: bool

    @property
    def states(self) -> Float[np.ndarray, "*cells latent"]:
        """The simulated states that are compared with ``real``."""
        return self.simulated if self.whole_way else self.simulated[:, -1]


TRAJECTORY_METRICS: Final[tuple[Metric[PairedTrajectories], ...]] = (
    Metric(
        "dtw",
        "DTW distance",
        "Dynamic time warping distance of the mean simulated path to that of real cells, per latent dimension.",
        "min over alignments of Σ |aᵢ − bⱼ|",
        better="smaller",
        no_op=None,
        source="Sakoe & Chiba 1978 (10.1109/TASSP.1978.1163055)",
        function=lambda pair: dtw_distance(pair.simulated.mean(axis=0), pair.reference),
    ),
    Metric(
        "wasserstein",
        "Wasserstein distance",
        "1-Wasserstein distance of simulated to real states, per latent dimension; order in time does not enter.",
        "∫ |F − G|",
        better="smaller",
        no_op=None,
        source="scipy.stats.wasserstein_distance",
        function=lambda pair: wasserstein_per_dimension(pair.states, pair.real),
    ),
)
