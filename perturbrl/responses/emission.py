"""From a predicted mean to cells: dispersed whole counts that have that mean, and the spread that was found.

A mean repeated for every cell has no spread, and a constant added to every cell moves the zeros; either makes
nearly every gene significant and spoils every metric of distributions. Here the zeros and the correlations of genes
come from measured control cells, and what a perturbation does to the spread from other perturbations (see ``spread``).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from jaxtyping import Bool, Int

from perturbrl.errors import DataError
from perturbrl.responses.counted_cells import CountedCells, join
from perturbrl.responses.moved_controls import MovedControls
from perturbrl.responses.questions import stream_of
from perturbrl.responses.spread import ResponseSpread, split_moves
from perturbrl.responses.training_cells import ONE_CONTEXT
from perturbrl.schema import GeneVector

BLOCK: Final = 1024
CALIBRATED: Final = 512
_GOLDEN: Final = (5.0**0.5 - 1.0) / 2.0
# Random numbers of one purpose each.
_ORDER, _COUNTS, _FIRST = range(3)


@dataclass(frozen=True, eq=False)
class CellEmitter:
    """Makes cells of any predicted mean from measured control cells.

    Attributes:
        control: control cells. Training cells, where the emitted ones are judged by others.
        seed: of the draws.
        context: where the cells were measured.

    Raises:
        DataError: there is no control cell.
    """

    control: CountedCells
    seed: int = 0
    context: str = ONE_CONTEXT

    def __post_init__(self) -> None:
        if len(self.control) == 0:
            raise DataError("cells are emitted from control cells, and there is none; give some")

    def stream_of(self, label: str) -> int:
        """The number of the random numbers of a perturbation in this context, whatever else is emitted."""
        return stream_of((label, self.context))

    def emit(
        self, log_mean: GeneVector, n_cells: int, stream: int = 0, spread: ResponseSpread | None = None
    ) -> CountedCells:
        """Cells whose log-normalised mean is ``log_mean`` up to sampling noise.

        Every control cell is drawn once before any is drawn again. Where a gene is predicted to fall, its counts are
        thinned (binomial); where it is predicted to rise, counts in proportion to the cell's size factor are added. A
        gene predicted at the control mean keeps its measured counts, so predicting the control emits control cells.
        Means outside what counts can have (below 0, above log1p of 1e4) are cut to it.

        Args:
            log_mean: predicted mean of log1p(1e4 · counts / size factor).
            n_cells: how many to emit; as many as were measured, or DE metrics do not compare.
            stream: of the random numbers. Perturbations take one each: noise they share would cancel in their
                differences.
            spread: what the perturbation does to the spread; by default, nothing but what the mean brings with it.
        """
        return join(list(self.blocks(log_mean, n_cells, stream, spread)))

    def blocks(
        self, log_mean: GeneVector, n_cells: int, stream: int = 0, spread: ResponseSpread | None = None
    ) -> Iterator[CountedCells]:
        """The same cells, ``BLOCK`` at a time; fewer cells are the first ones of more."""
        given = ResponseSpread.none(len(log_mean)) if spread is None else spread
        still, moved = split_moves(self._controls, log_mean - self._mean, given)
        for number in range(-(-n_cells // BLOCK)):
            rng = np.random.default_rng([self.seed, stream, _COUNTS, number])
            places = np.arange(number * BLOCK, (number + 1) * BLOCK)
            rows, unmoved = self._rows(places, stream), self._unmoved(places, stream, given.escaped.estimate)
            parts = [
                move.applied(self.control[rows[chosen]], given.depth, rng)
                for move, chosen in ((still, unmoved), (moved, ~unmoved))
            ]
            order = np.argsort(np.concatenate([places[unmoved], places[~unmoved]]))
            yield join(parts)[order[: n_cells - number * BLOCK]]

    @cached_property
    def _controls(self) -> MovedControls:
        """A bounded number of control cells, which the moves are calibrated on."""
        order = np.random.default_rng([self.seed, _FIRST]).permutation(len(self.control))
        return MovedControls.of(self.control[order[:CALIBRATED]])

    @cached_property
    def _mean(self) -> GeneVector:
        return self.control.log_mean

    def _rows(self, places: Int[np.ndarray, " cells"], stream: int) -> Int[np.ndarray, " cells"]:
        """Control cell of each emitted one: all in a random order, then all in another, and so on."""
        n = len(self.control)
        rounds, place = np.divmod(places, n)
        orders = {
            r: np.random.default_rng([self.seed, stream, _ORDER, r]).permutation(n)
            for r in np.unique(rounds).tolist()
        }
        return np.array([orders[r][i] for r, i in zip(rounds.tolist(), place.tolist(), strict=True)])

    def _unmoved(
        self, places: Int[np.ndarray, " cells"], stream: int, share: float
    ) -> Bool[np.ndarray, " cells"]:
        """Which cells stay like control: as evenly among the emitted ones as can be, so that their share is exact."""
        first = np.random.default_rng([self.seed, stream, _FIRST]).random()
        return np.asarray((first + places * _GOLDEN) % 1.0 < share)
