"""Measured populations as the spread of responses is learned from: shifts, variances and how sure these are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Int

from perturbrl.data.labels import CONTROL
from perturbrl.responses.counted_cells import CountedCells
from perturbrl.responses.moved_controls import MovedControls
from perturbrl.responses.training_cells import Condition
from perturbrl.schema import GeneVector, LogExpression

FEWEST_CELLS: Final = 20
FEWEST_CONTROLS: Final = 10
MOST_POPULATIONS: Final = 48
MOST_CELLS: Final = 400
MOST_CONTROLS: Final = 300
_LEAST_RISE: Final = 0.05
_Z: Final = 2.0


@dataclass(frozen=True, eq=False)
class MeasuredSpread:
    """One measured population beside the control cells of its context.

    Attributes:
        condition: what was done, and in which context.
        cells: perturbed cells, at most ``MOST_CELLS`` of them.
        control: control cells, at most ``MOST_CONTROLS``.
        controls: the same, as moments are computed from.
        depth: ratio of typical size factors, perturbed to control.
        shift: of mean log expression.
        variance: of log expression over perturbed cells.
        noise: sampling variance of the logarithm of that variance; 0 where cells of neither kind vary.
        rises: genes that rise beyond doubt.
    """

    condition: Condition
    cells: CountedCells
    control: CountedCells
    controls: MovedControls
    depth: float
    shift: GeneVector
    variance: GeneVector
    noise: GeneVector
    rises: Bool[np.ndarray, " genes"]

    @classmethod
    def of(
        cls, condition: Condition, cells: CountedCells, control: CountedCells, controls: MovedControls
    ) -> "MeasuredSpread":
        """Of the counts of both."""
        after, before = _GeneMoments.of(cells.log_expression), _GeneMoments.of(control.log_expression)
        shift = after.mean - before.mean
        error = np.sqrt(after.variance / after.n + before.variance / before.n)
        depth = float(np.exp(np.log(cells.size_factors).mean() - np.log(control.size_factors).mean()))
        rises = (shift > _Z * error) & (shift > _LEAST_RISE) & (after.variance > 0)
        noise = after.log_variance_noise + before.log_variance_noise
        return cls(condition, cells, control, controls, depth, shift, after.variance, noise, rises)


@dataclass(frozen=True, eq=False)
class _GeneMoments:
    n: int
    mean: GeneVector
    variance: GeneVector
    log_variance_noise: GeneVector

    @classmethod
    def of(cls, cells: LogExpression) -> "_GeneMoments":
        mean, variance = cells.mean(axis=0), cells.var(axis=0)
        fourth = np.power(cells - mean, 4).mean(axis=0)
        kurtosis = fourth / np.square(np.maximum(variance, np.finfo(float).tiny) + 1e-12)
        # A gene of few values says too little of its own kurtosis; 1.5 is that of a fair coin and a half.
        noise = np.where(variance > 0, np.maximum(kurtosis - 1.0, 0.5) / len(cells), 0.0)
        return cls(len(cells), mean, cells.var(axis=0, ddof=1), noise)


def measured_spreads(
    cells: CountedCells, conditions: Sequence[Condition], codes: Int[np.ndarray, " cells"], seed: int = 0
) -> list[MeasuredSpread]:
    """The populations that moved furthest, at most ``MOST_POPULATIONS`` of those with ``FEWEST_CELLS``.

    Args:
        cells: all training cells.
        conditions: the populations.
        codes: number of each cell's population.
        seed: of which cells stand for a population of many.
    """
    order = np.argsort(codes, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(codes, minlength=len(conditions)))[:-1])
    rows = dict(zip(conditions, parts, strict=True))
    control = {
        context: cells[_some(found, MOST_CONTROLS, seed)]
        for (label, context), found in rows.items()
        if label == CONTROL and len(found) >= FEWEST_CONTROLS
    }
    enough = {
        (label, context): found
        for (label, context), found in rows.items()
        if label != CONTROL and context in control and len(found) >= FEWEST_CELLS
    }
    controls = {context: MovedControls.of(some) for context, some in control.items()}
    return [
        MeasuredSpread.of(
            condition, cells[_some(enough[condition], MOST_CELLS, seed)], control[where], controls[where]
        )
        for condition, where in ((c, c[1]) for c in _furthest(cells, enough, control))
    ]


def _furthest(
    cells: CountedCells,
    rows: Mapping[Condition, Int[np.ndarray, " _"]],
    control: Mapping[str, CountedCells],
) -> list[Condition]:
    if len(rows) <= MOST_POPULATIONS:
        return list(rows)
    start = {context: some.log_mean for context, some in control.items()}
    moved = {c: float(np.linalg.norm(cells[found].log_mean - start[c[1]])) for c, found in rows.items()}
    return sorted(rows, key=lambda c: -moved[c])[:MOST_POPULATIONS]


def _some(rows: Int[np.ndarray, " _"], at_most: int, seed: int) -> Int[np.ndarray, " _"]:
    return np.sort(np.random.default_rng(seed).permutation(rows)[:at_most])
