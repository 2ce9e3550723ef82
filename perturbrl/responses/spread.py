"""What a perturbation does to cells beside moving their mean, and the moves of control cells that do both."""

from dataclasses import dataclass
from math import log
from typing import Final, Self

import numpy as np

from perturbrl.responses.moved_controls import Move, MovedControls
from perturbrl.schema import TARGET_SUM, GeneVector

_LARGEST: Final = log(1.0 + TARGET_SUM)


@dataclass(frozen=True, eq=False)
class ResponseSpread:
    """The spread of a response.

    Attributes:
        depth: factor by which the cells' size factors change; shallow cells have more zeros at the same mean.
        dispersion: how unequally cells respond where a gene rises: squared coefficient of variation of what is added.
        unmoved: share of cells that stay like control (they escaped the guide, or do not respond).
    """

    depth: float
    dispersion: GeneVector
    unmoved: float = 0.0

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
    share, mean = spread.unmoved, controls.mean
    goal = (mean + shift).clip(0.0, _LARGEST)
    level = (mean + (goal - mean) / (1.0 - share)).clip(0.0, _LARGEST)
    moved = controls.calibrate(level, spread.depth, spread.dispersion)
    if share == 0:
        return moved, moved
    return controls.calibrate((goal - (1.0 - share) * level) / share, spread.depth), moved


def mixed_moments(
    controls: MovedControls, shift: GeneVector, spread: ResponseSpread
) -> tuple[GeneVector, GeneVector]:
    """Mean and variance of log expression of cells with a shift and a spread."""
    moves = split_moves(controls, shift, spread)
    (still_mean, still_variance), (mean, variance) = (controls.moments(move, spread.depth) for move in moves)
    share = spread.unmoved
    between = share * (1.0 - share) * np.square(mean - still_mean)
    return share * still_mean + (1.0 - share) * mean, share * still_variance + (
        1.0 - share
    ) * variance + between
