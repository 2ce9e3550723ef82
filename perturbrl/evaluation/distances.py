"""Distances between populations of cells, and the floor that a replicate of the same cells sets for them."""

from collections.abc import Callable
from typing import Final, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from perturbrl.errors import DataError

Cells = Float[Tensor, "_ features"] | Float[np.ndarray, "_ features"]
CellDistance = Callable[[Cells, Cells], float]
Estimator = Literal["v", "u"]

_CHUNK: Final = 1024


def energy_distance(x: Cells, y: Cells, estimator: Estimator = "v") -> float:
    """Energy distance 2 E‖X−Y‖ − E‖X−X'‖ − E‖Y−Y'‖ between two populations of cells.

    ‖·‖ is the Euclidean norm, not its square, and no root is taken of the result.

    - ``"v"``: every mean runs over all pairs, the zero distance of a cell to itself included (what cell-eval
      uses). Never negative; too large by E‖X−X'‖/n + E‖Y−Y'‖/m, so it depends on the numbers of cells.
    - ``"u"``: the two within-population means leave out the self-pairs. Unbiased, so it averages 0 (and is
      often slightly negative) for two samples of one population.

    Range: [0, inf) for ``"v"``, about 0 upwards for ``"u"``. A predictor that does nothing scores the
    distance between control and target; constant cells at the true mean score well above a replicate,
    because their spread is wrong. Pitfalls: the unit is that of the space it is measured in, noise genes
    dilute it, and values at different numbers of cells compare only under ``"u"``. Implementations elsewhere
    differ: some square the norm, some take the root, some subsample.

    Args:
        x: ``[cells, features]``, latent or log-normalised.
        y: ``[cells, features]`` of the other population.
        estimator: which of the two estimators.

    Source: Székely & Rizzo 2013, "Energy statistics", Journal of Statistical Planning and Inference 143.

    Raises:
        DataError: a population is empty (fewer than two cells under ``"u"``) or holds values that are not
            finite.
    """
    a, b = _checked(x, estimator), _checked(y, estimator)
    # Distances do not see a common shift, but their floating-point error does.
    centre = torch.cat((a, b)).mean(dim=0)
    a, b = a - centre, b - centre
    between = _distance_sum(a, b) / (len(a) * len(b))
    return 2.0 * between - _mean_within(a, estimator) - _mean_within(b, estimator)


def _checked(cells: Cells, estimator: Estimator) -> Float[Tensor, "cells features"]:
    values = torch.as_tensor(cells).detach().double()
    least = 2 if estimator == "u" else 1
    if len(values) < least:
        raise DataError(
            f"the energy distance got a population of {len(values)} cells; give at least {least}, or leave "
            "that perturbation out"
        )
    if not bool(torch.isfinite(values).all()):
        raise DataError(
            f"{int((~torch.isfinite(values)).sum())} of {values.numel()} values given to the energy distance "
            "are not finite; remove or repair those cells"
        )
    return values


def _mean_within(x: Float[Tensor, "cells features"], estimator: Estimator) -> float:
    n = len(x)
    return _distance_sum(x, x) / (n * n if estimator == "v" else n * (n - 1))


def _distance_sum(x: Float[Tensor, "n features"], y: Float[Tensor, "m features"]) -> float:
    return sum(float(torch.cdist(part, y).sum()) for part in x.split(_CHUNK))


def _halves(cells: Cells, rng: np.random.Generator) -> tuple[Cells, Cells]:
    n = len(cells) // 2
    if n < 2:
        raise DataError(
            f"{len(cells)} cells cannot be split into replicate halves; give at least 4 cells of the target"
        )
    order = rng.permutation(len(cells))
    return cells[order[:n]], cells[order[n : 2 * n]]


def relative_to_replicate(
    predicted: Cells, real: Cells, distance: CellDistance, n_splits: int = 10, seed: int = 0
) -> float:
    """Distance of predicted to real cells in units of the distance between two halves of the real cells.

    In each split the real cells are halved into A and B, and as many predicted cells as A has are drawn
    without replacement (both are cut to the smaller number); the result is mean d(predicted, B) /
    mean d(A, B). Equal numbers on both sides keep the bias of an estimator such as the V-statistic out of
    the ratio.

    Range: (0, inf); 1 is as close as a replicate, and a value clearly below 1 means that the predicted cells
    vary less than real ones, not that they are better. A predictor that does nothing scores the effect size
    in units of noise, so weak perturbations give values near 1 to everybody. Use ``distance`` with a positive
    floor (energy distance ``"v"``); the floor of an unbiased distance is 0 on average.

    Source: the split-half replicate as ceiling, as in cell-eval2's ``anchor``; a ratio here, so that no
    baseline enters it.

    Raises:
        DataError: fewer than four real or two predicted cells, or real halves that do not differ.
    """
    if len(predicted) < 2:
        raise DataError(f"{len(predicted)} predicted cells are too few to compare; predict at least 2")
    rng = np.random.default_rng(seed)
    scores = np.array([_one_split(predicted, real, distance, rng) for _ in range(n_splits)])
    model, floor = scores.mean(axis=0)
    if not floor > 0:
        raise DataError(
            f"two halves of the real cells are {floor:g} apart, so nothing can be measured in that unit; use "
            "a distance that is positive between replicates, and cells that are not all equal"
        )
    return float(model / floor)


def _one_split(
    predicted: Cells, real: Cells, distance: CellDistance, rng: np.random.Generator
) -> tuple[float, float]:
    half, other = _halves(real, rng)
    n = min(len(half), len(predicted))
    drawn = predicted[rng.permutation(len(predicted))[:n]]
    return distance(drawn, other), distance(half[:n], other)
