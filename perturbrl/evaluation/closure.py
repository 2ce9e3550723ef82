"""What a proposed perturbation did where it was really measured."""

from collections.abc import Sequence

import numpy as np

from perturbrl.errors import DataError
from perturbrl.evaluation.distances import energy_distance
from perturbrl.schema import Population


def realised_closure(
    proposed: Population, judging: Population, replicate: Population, choices: Sequence[Population]
) -> float:
    """How far cells really measured under a proposal close the gap between random choice and a replicate.

    (E[choices] - E[proposed]) / (E[choices] - E[replicate]) with E the energy distance to the cells that judge, and
    E[choices] its mean over all perturbations that might have been chosen. Range (-inf, about 1]: 0 is a random
    choice, 1 a replicate of the target, and below 0 is worse than chance. Doing nothing is no choice and has a value
    of its own: give control cells as the proposal. Unbiased estimates, so that populations of other sizes compare.
    Nan where random choices end no farther than the replicate: there is no gap to close.

    Args:
        proposed: cells under the proposal.
        judging: cells of the target that nothing was learned from and no goal was made of.
        replicate: other cells of the target.
        choices: cells of each perturbation that might have been chosen.

    Source: the anchors of cell-eval2's scale (random choice and split-half replicate); Székely & Rizzo 2013
    (10.1016/j.jspi.2013.03.018).

    Raises:
        DataError: there is no choice, or a population of fewer than two cells.
    """
    if not choices:
        raise DataError(
            "there was nothing to choose from, so no choice is random; give the cells of at least one"
        )
    chance = float(np.mean([energy_distance(cells, judging, "u") for cells in choices]))
    ceiling, reached = (energy_distance(cells, judging, "u") for cells in (replicate, proposed))
    return (chance - reached) / (chance - ceiling) if chance > ceiling else float("nan")
