"""The best doses of a linear twin in closed form."""

from collections.abc import Iterator
from itertools import combinations, product
from math import comb
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import Bounds, lsq_linear, minimize
from torch import Tensor

from perturbrl.twins.perturbations import PerturbationSpace

MAX_FACES: Final = 6_000_000
_RIDGE: Final = 1e-12
_DENSE: Final = 500  # perturbations beyond which dense least squares take long

Supports = Int[np.ndarray, "supports size"]
Doses = Float[np.ndarray, "supports size"]


def optimal_dose(
    effects: Float[Tensor, "perturbations latent"],
    shift: Float[Tensor, " latent"],
    space: PerturbationSpace,
    horizon: int,
) -> Float[np.ndarray, " perturbations"] | None:
    """Total doses within ``horizon`` times the dose box that bring ``shift`` closest, by ``lsq_linear``.

    With a limit on the number of perturbations, the best of all sets of that size. ``min_dose`` is not
    minded, so what can be given may fall short of it. ``None`` where there are too many sets to try.
    """
    a, b = effects.double().cpu().numpy().T, shift.double().cpu().numpy()
    low, high = (horizon * bound.double().cpu().numpy() for bound in (space.low, space.high))
    n, limit = space.n_perturbations, space.max_perturbations
    if limit is None or limit >= n:
        return _in_the_box(a, b, low, high)
    if comb(n, limit) * 3**limit > MAX_FACES:
        return None
    return _best_of_all_supports(a.T @ a, a.T @ b, low, high, limit)


def _in_the_box(
    a: Float[np.ndarray, "latent n"],
    b: Float[np.ndarray, " latent"],
    low: Float[np.ndarray, " n"],
    high: Float[np.ndarray, " n"],
) -> Float[np.ndarray, " n"]:
    """Bounded least squares; of thousands first by gradients, whose work does not grow with their cube."""
    if a.shape[1] <= _DENSE:
        return lsq_linear(a, b, (low, high), tol=1e-12).x

    def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
        residual = a @ x - b
        return float(residual @ residual) / 2, a.T @ residual

    options = {"maxiter": 2_000, "ftol": 1e-16, "gtol": 1e-12}
    start = np.zeros(a.shape[1])
    x = minimize(loss, start, jac=True, bounds=Bounds(low, high), method="L-BFGS-B", options=options).x
    free = np.flatnonzero((x > low) & (x < high))
    if 0 < len(free) <= _DENSE:
        rest = b - a @ x + a[:, free] @ x[free]
        x[free] = lsq_linear(a[:, free], rest, (low[free], high[free]), tol=1e-12).x
    return x


def givable_dose(
    effects: Float[Tensor, "perturbations latent"],
    shift: Float[Tensor, " latent"],
    space: PerturbationSpace,
    total: Float[np.ndarray, " perturbations"],
    horizon: int,
) -> Float[np.ndarray, " perturbations"]:
    """``total`` without doses too small to be given: the smaller half of them is left out and the rest fitted anew.

    With more perturbations than latent dimensions many optima exist, and the one found may consist of nothing
    but small doses.
    """
    a, b = effects.double().cpu().numpy().T, shift.double().cpu().numpy()
    low, high, least = (bound.double().cpu().numpy() for bound in (space.low, space.high, space.least))
    kept = np.flatnonzero(total)
    while True:
        small = kept[np.abs(total[kept]) <= least[kept]]
        if not len(small):
            return total
        smallest = small[np.argsort(np.abs(total[small]), kind="stable")][: (len(small) + 1) // 2]
        kept = np.setdiff1d(kept, smallest)
        total = np.zeros(len(low))
        if len(kept):
            total[kept] = _in_the_box(a[:, kept], b, horizon * low[kept], horizon * high[kept])


def _best_of_all_supports(
    gram: Float[np.ndarray, "n n"],
    linear: Float[np.ndarray, " n"],
    low: Float[np.ndarray, " n"],
    high: Float[np.ndarray, " n"],
    size: int,
) -> Float[np.ndarray, " n"]:
    supports = np.array(list(combinations(range(len(low)), size)))
    best, best_cost = np.zeros(len(low)), 0.0
    for doses, inside in _stationary_points(gram, linear, low, high, supports):
        slope = np.einsum("sij,sj->si", gram[supports[:, :, None], supports[:, None]], doses) / 2
        cost = np.where(inside, ((slope - linear[supports]) * doses).sum(1), np.inf)
        i = int(cost.argmin())
        if cost[i] < best_cost:
            best, best_cost = np.zeros(len(low)), float(cost[i])
            best[supports[i]] = doses[i]
    return best


def _stationary_points(
    gram: Float[np.ndarray, "n n"],
    linear: Float[np.ndarray, " n"],
    low: Float[np.ndarray, " n"],
    high: Float[np.ndarray, " n"],
    supports: Supports,
) -> Iterator[tuple[Doses, Bool[np.ndarray, " supports"]]]:
    """The stationary point on every face of every support's box; a convex quadratic's minimum is one of them."""
    ridge = _RIDGE * max(float(np.trace(gram)) / len(gram), np.finfo(float).tiny)
    for face in product((None, low, high), repeat=supports.shape[1]):
        free = [j for j, bound in enumerate(face) if bound is None]
        doses = np.zeros(supports.shape)
        for j, bound in enumerate(face):
            if bound is not None:
                doses[:, j] = bound[supports[:, j]]
        inside = np.ones(len(supports), dtype=bool)
        if free:
            rows = supports[:, free]
            pull = linear[rows] - np.einsum("sij,sj->si", gram[rows[:, :, None], supports[:, None]], doses)
            square = gram[rows[:, :, None], rows[:, None]] + ridge * np.eye(len(free))
            doses[:, free] = np.linalg.solve(square, pull[..., None])[..., 0]
            inside = ((doses[:, free] >= low[rows]) & (doses[:, free] <= high[rows])).all(1)
        yield doses, inside
