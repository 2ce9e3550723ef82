"""Fit of a landscape's drift: members of an ensemble, each of other cells and from another seed."""

from typing import Final

import numpy as np
from jaxtyping import Float
from sklearn.covariance import oas

from perturbrl.schema import CellIndex, Points
from perturbrl.twins.couplings import Couplings
from perturbrl.twins.lineages import Lineages, LineageSteps
from perturbrl.twins.mixture_drift import DriftComponents
from perturbrl.twins.state_mixture import StateMixture, fit_mixture

_FASTEST: Final = 8.0  # steps from component to component at least


def as_unseen(latent: Points, groups: CellIndex, spread: Float[np.ndarray, " latent"]) -> Points:
    """Cells around the mean of their group as wide as the encoder spreads cells that it has not seen.

    Simulated cells stand for unseen ones. Means of groups are told by many cells, so they stay.

    Args:
        latent: training cells.
        groups: number of each cell's type, or of its time point where types are not known.
        spread: of unseen cells, see ``Encoder.unseen_spread``.
    """
    size = np.bincount(groups)[:, None]
    middle = (np.eye(len(size))[:, groups] @ latent / size)[groups]
    return middle + (latent - middle) * spread


def caught_up(latent: Points, time_points: CellIndex) -> Points:
    """Cells of the last time point moved on to where they will come to rest.

    Cells measured last differ in how far they have come. By what they vary more than the cells before them, along
    Fisher's discriminant of the two, their lag is told from noise: where it is exponential (of what is positive, the
    distribution of maximal entropy), its mean is its standard deviation. Each is moved along the way between the two
    means by its lag's best linear prediction; nobody moves where the last vary no more.

    Args:
        latent: training cells.
        time_points: number of each cell's time point.
    """
    last = time_points == time_points.max()
    before, after = latent[time_points == time_points.max() - 1], latent[last]
    way = after.mean(0) - before.mean(0)
    within = np.concatenate((before - before.mean(0), after - after.mean(0)))
    discriminant = np.linalg.solve(oas(within, assume_centered=True)[0], way)
    discriminant = discriminant / max(float(way @ discriminant), np.finfo(float).tiny)
    come = (after - after.mean(0)) @ discriminant
    excess = max(come.var() - ((before - before.mean(0)) @ discriminant).var(), 0.0)
    lag = excess**0.5 - excess / max(come.var(), np.finfo(float).tiny) * come
    found = latent.copy()
    found[last] += np.outer(np.maximum(lag, 0.0), way)
    return found


def fit_member(
    latent: Points,
    lineages: Lineages,
    steps: LineageSteps,
    couplings: Couplings,
    *,
    pace: float,
    cells_per_component: int,
    bootstrap: bool,
    seed: int,
) -> DriftComponents:
    """One member.

    Args:
        latent: training cells.
        lineages: their types.
        steps: where each goes next.
        couplings: how long that takes.
        pace: how far the order goes on in one step.
        cells_per_component: see ``fit_mixture``.
        bootstrap: whether cells of each type are drawn with replacement.
        seed: of the draw and of the mixture.
    """
    weights = _drawn(lineages.kinds, seed) if bootstrap else np.ones(len(latent))
    mixture = fit_mixture(latent, lineages.kinds, weights, cells_per_component, seed)
    counted = mixture.memberships * weights[:, None]
    size = np.maximum(counted.sum(0), 1e-12)
    resting = (counted.T @ steps.resting) / size
    velocity = _velocity(mixture, counted, steps, couplings, pace) * (1 - resting[:, None])
    return DriftComponents(mixture, velocity, resting, np.log(size / size.sum()))


def _drawn(kinds: CellIndex, seed: int) -> Float[np.ndarray, " cells"]:
    """How often each cell is drawn when every type's cells are drawn with replacement."""
    rng = np.random.default_rng(seed)
    counts = np.zeros(len(kinds))
    for kind in np.unique(kinds):
        rows = np.flatnonzero(kinds == kind)
        np.add.at(counts, rng.choice(rows, len(rows)), 1.0)
    return counts


def _velocity(
    mixture: StateMixture, counted: np.ndarray, steps: LineageSteps, couplings: Couplings, pace: float
) -> Float[np.ndarray, "components latent"]:
    """Way per step from each component to those where its cells go next."""
    moving = np.asarray(steps.later.sum(axis=1) > 0)
    onward = counted.T @ (steps.later @ mixture.memberships)
    leaving = onward.sum(1)
    onward = np.divide(onward, leaving[:, None], out=np.zeros_like(onward), where=leaving[:, None] > 1e-9)
    np.fill_diagonal(onward, 0.0)
    leaves = onward.sum(1)
    duration = couplings.duration.numpy() * moving
    takes = (counted.T @ duration) / np.maximum(counted.T @ moving, 1e-9) / pace
    way = onward @ mixture.means - leaves[:, None] * mixture.means
    return way / np.maximum(np.maximum(takes, _FASTEST * leaves), 1e-9)[:, None]
