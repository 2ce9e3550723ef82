"""What a perturbation does to cells beside moving their mean, and the moves of control cells that do both."""

from dataclasses import dataclass
from math import log
from typing import Final, Self

import numpy as np

from perturbrl.responses.moved_controls import Move, MovedControls
from perturbrl.schema import TARGET_SUM, GeneVector

_LARGEST: Final = log(1.0 + TARGET_SUM)
_ROUNDING: Final = 1e-12


@dataclass(frozen=True)
class Share:
    """A share of cells, with the ends of its 95 % interval."""

    estimate: float = 0.0
    low: float = 0.0
    high: float = 0.0


@dataclass(frozen=True, eq=False)
class ResponseSpread:
    """The spread of a response.

    Attributes:
        depth: factor by which the cells' size factors change; shallow cells have more zeros at the same mean.
        dispersion: how unequally cells respond where a gene rises: squared coefficient of variation of what is added.
        escaped: cells that stay like control (they escaped the guide, or do not respond).
    """

    depth: float
    dispersion: GeneVector
    escaped: Share = Share()

    @classmethod
    def none(cls, n_genes: int) -> Self:
        """Nothing but what a move of the mean brings with it."""
        return cls(1.0, np.zeros(n_genes))


def split_moves(controls: MovedControls, shift: GeneVector, spread: ResponseSpread) -> tuple[Move, Move]:
    """The moves of cells that stay like control and of the others; their mixture has the whole shift.

    The others move the further the more cells stay. Where counts cannot go as far (a gene cannot fall below 0), the
    cells that stay make up for it.

    Args:
        controls: what is moved.
        shift: of the mean log expression of the mixture.
        spread: of the response.
    """
    still, level = split_levels(controls.mean, shift, spread.escaped.estimate)
    moved = controls.calibrate(level, spread.depth, spread.dispersion)
    return (controls.calibrate(still, spread.depth) if spread.escaped.estimate > 0 else moved), moved


def split_levels(
    mean: GeneVector, shift: GeneVector, share: float | GeneVector
) -> tuple[GeneVector, GeneVector]:
    """Mean log expression of cells that stay and of the others, whose mixture has the whole shift.

    Args:
        mean: of control cells.
        shift: of the mixture.
        share: of cells that stay, below 1; where it is 0, theirs is the control's.
    """
    goal = (mean + shift).clip(0.0, _LARGEST)
    moved = (mean + (goal - mean) / (1.0 - share)).clip(0.0, _LARGEST)
    short = goal - mean - (1.0 - share) * (moved - mean)
    return mean + short / np.maximum(share, np.finfo(float).tiny) * (np.abs(short) > _ROUNDING), moved


def mixed_moments(
    controls: MovedControls, shift: GeneVector, spread: ResponseSpread
) -> tuple[GeneVector, GeneVector]:
    """Mean and variance of log expression of cells with a shift and a spread."""
    moves = split_moves(controls, shift, spread)
    (still_mean, still_variance), (mean, variance) = (controls.moments(move, spread.depth) for move in moves)
    share = spread.escaped.estimate
    between = share * (1.0 - share) * np.square(mean - still_mean)
    return share * still_mean + (1.0 - share) * mean, share * still_variance + (
        1.0 - share
    ) * variance + between
