"""How many cells escape: the share of a perturbed population that stays like control.

Cells are projected on the direction in which their population moved, which is found from other cells of it. Scores of
cells that escaped are those of control cells; the others' are those of control cells moved so far that both together
have the measured mean. How much they vary is left open, so that a response which is merely uneven is not taken for two
kinds of cells.

Source: mixtures of perturbation scores as in Papalexi 2021 (10.1038/s41588-021-00778-2, Mixscape), but with shares
on a grid instead of calls of single cells.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from jaxtyping import Float, Int

from perturbrl.responses.counted_cells import CountedCells, join
from perturbrl.responses.grid_shrinkage import GridShrinkage
from perturbrl.responses.measured_spread import MeasuredSpread
from perturbrl.responses.spread import Share, split_levels
from perturbrl.schema import GeneVector, LogExpression

_STEP: Final = 0.05
SHARES: Final = _STEP * np.arange(13)
MOST_GENES: Final = 30
_SCALES: Final = np.array([0.8, 1.0, 1.25, 1.6, 2.0])
_DRAWN: Final = 600
_OUTLIERS: Final = 0.01
_APART: Final = 1.0
_Z: Final = 1.96

Scores = Float[np.ndarray, "_"]


def escape_log_likelihood(
    population: MeasuredSpread, dispersion: GeneVector, seed: int = 0
) -> Float[np.ndarray, " points"]:
    """Log-likelihood of each of ``SHARES``, the scores of either half of the cells by the direction of the other.

    It is even where the population did not move as far as control cells are spread: two kinds of cells that overlap so
    much cannot be told apart by the shape of their scores.

    Args:
        population: perturbed cells and control cells.
        dispersion: of what is added to cells that respond.
        seed: of the halves and of the cells drawn.
    """
    rng = np.random.default_rng(seed)
    logs, order = population.cells.log_expression, rng.permutation(len(population.cells))
    control = population.control.log_expression
    halves = np.array_split(order, 2)
    told = np.zeros(len(SHARES))
    for learned, judged in (halves, halves[::-1]):
        genes, weights = _direction(logs[learned], control)
        scores, before = logs[judged][:, genes] @ weights, control[:, genes] @ weights
        if scores.mean() - before.mean() < _APART * before.std():
            return np.zeros(len(SHARES))
        drawn = _drawn(population, genes, dispersion[genes], rng)
        for i, (still, moved) in enumerate(drawn):
            told[i] += _mixture(scores, still @ weights, moved @ weights, SHARES[i])
    return told


def escaped_shares(populations: Sequence[MeasuredSpread], n_genes: int) -> tuple[list[Share], Share]:
    """The share of each population, shrunk to those of the others; and what is expected of one not measured."""
    told = [escape_log_likelihood(one, np.zeros(n_genes)) for one in populations]
    shrunk = GridShrinkage.of(np.reshape(told, (-1, len(SHARES))))
    sizes = [len(one.cells) for one in populations]
    own = [_share(one, n) for one, n in zip(shrunk.afterwards, sizes, strict=True)]
    return own, _share(shrunk.beforehand, min(sizes, default=1))


def _share(posterior: Float[np.ndarray, " points"], n_cells: int) -> Share:
    """Of the posterior of ``SHARES``; that of so many cells is by chance not that of all."""
    mean = float(posterior @ SHARES)
    variance = float(posterior @ np.square(SHARES - mean)) + _STEP**2 / 12.0 + mean * (1.0 - mean) / n_cells
    half = _Z * variance**0.5
    return Share(mean, max(mean - half, 0.0), min(mean + half, 1.0))


def _direction(cells: LogExpression, control: LogExpression) -> tuple[Int[np.ndarray, " some"], Scores]:
    """The genes that move most surely, and weights that set cells apart along them, gene by gene."""
    shift = cells.mean(axis=0) - control.mean(axis=0)
    variance = cells.var(axis=0, ddof=1), control.var(axis=0, ddof=1)
    error = np.sqrt(variance[0] / len(cells) + variance[1] / len(control))
    surely = np.abs(shift) / np.maximum(error, np.finfo(float).tiny) * (error > 0)
    genes = np.sort(np.argsort(-surely, kind="stable")[:MOST_GENES])
    # A gene that hardly varies in so few cells would outweigh all others.
    spread = (variance[0] + variance[1])[genes] / 2.0
    weights = shift[genes] / np.maximum(spread, 0.1 * spread.mean())
    return genes, weights / np.linalg.norm(weights)


def _drawn(
    population: MeasuredSpread,
    genes: Int[np.ndarray, " some"],
    dispersion: Float[np.ndarray, " some"],
    rng: np.random.Generator,
) -> Iterator[tuple[LogExpression, LogExpression]]:
    """Cells that escaped and cells that did not, if any of ``SHARES`` have escaped."""
    some = CountedCells(population.control.counts[:, genes], population.control.size_factors)
    again = join([some] * -(-_DRAWN // len(some)))
    n, times = len(genes), len(SHARES)
    # All shares at once: a calibration of few genes takes hardly less time than one of many.
    controls = population.controls.columns(np.tile(genes, times))
    near, further = split_levels(controls.mean, np.tile(population.shift[genes], times), np.repeat(SHARES, n))
    # Cells that stay are where the control is, whatever their share, unless a gene cannot go as far as it should.
    once, back = np.unique([np.tile(genes, times), near], axis=1, return_inverse=True)
    different = population.controls.columns(once[0].astype(np.int64))
    moves = (
        different.calibrate(once[1], population.depth).columns(back),
        controls.calibrate(further, population.depth, np.tile(dispersion, times)),
    )
    for part in (slice(i * n, (i + 1) * n) for i in range(times)):
        still, moved = (move.columns(part).applied(again, population.depth, rng) for move in moves)
        yield still.log_expression, moved.log_expression


def _mixture(scores: Scores, still: Scores, moved: Scores, share: float) -> float:
    """Log-likelihood of scores, averaged over how much those of moved cells vary."""
    width = 1.06 * still.std() * len(still) ** -0.2 + np.finfo(float).tiny
    every = np.concatenate([scores, still, moved])
    rare = _OUTLIERS / (np.ptp(every) + width)
    control = _density(scores, still, width)
    told = []
    for scale in _SCALES:
        responding = _density(scores, moved.mean() + scale * (moved - moved.mean()), width)
        density = share * control + (1.0 - share) * responding
        told.append(float(np.log((1.0 - _OUTLIERS) * density + rare).sum()))
    return float(np.logaddexp.reduce(told)) - float(np.log(len(told)))


def _density(places: Scores, sample: Scores, width: float) -> Scores:
    away = (places[:, None] - sample) / width
    return np.asarray(np.exp(-0.5 * np.square(away)).mean(axis=1) / (width * np.sqrt(2.0 * np.pi)))
