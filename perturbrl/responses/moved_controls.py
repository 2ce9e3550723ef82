"""Mean and variance of log expression of control cells whose counts were thinned and added to, in closed form.

Both follow from the Laplace transform of a normalised count, because log(1 + x) = ∫ (1 − e^(−xt)) e^(−t) / t dt, and
that of thinned (binomial) and added (Poisson or negative binomial) counts is known. So nothing is drawn to find how
much must be thinned or added, and the answer has no noise but that of the control cells.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import log
from typing import Final, Self

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize.elementwise import find_root
from scipy.sparse import csr_array

from perturbrl.responses.counted_cells import CountedCells
from perturbrl.schema import TARGET_SUM, GeneVector

_BINS: Final = 12
_STEP: Final = 0.75
_PLACES: Final = np.arange(-16.0, 3.6, _STEP)
_TIMES: Final = np.exp(_PLACES)
_TO_MEAN: Final = _STEP * np.exp(-_TIMES)
# The second derivative of E(1 + x)^(-s) at s = 0, whose first one is the mean.
_TO_SQUARE: Final = -2.0 * _TO_MEAN * (_PLACES + np.euler_gamma)
_LOG_SMALLEST: Final = -16.0
_TINY: Final = np.finfo(float).tiny
_PRECISE: Final = 1e-9
_TOLERANCES: Final = {"xatol": 1e-5, "xrtol": 0.0, "fatol": 1e-6, "frtol": 0.0}

Transforms = Float[np.ndarray, "_ bins times"]


@dataclass(frozen=True, eq=False)
class Move:
    """What is done to the counts of control cells.

    Attributes:
        keep: share of a gene's counts that is kept; the others are thinned out.
        add: normalised level that is added (counts per 10,000), in proportion to the cell's size factor.
        dispersion: squared coefficient of variation over cells of what is added; 0 adds Poisson counts.
    """

    keep: GeneVector
    add: GeneVector
    dispersion: GeneVector

    @classmethod
    def none(cls, n_genes: int) -> Self:
        """Cells as they are."""
        return cls(np.ones(n_genes), np.zeros(n_genes), np.zeros(n_genes))

    def columns(self, genes: slice | Int[np.ndarray, " some"]) -> Self:
        """What is done to some genes."""
        return type(self)(self.keep[genes], self.add[genes], self.dispersion[genes])

    def applied(self, cells: CountedCells, depth: float, rng: np.random.Generator) -> CountedCells:
        """Cells after the move, drawn, with their size factors times ``depth``."""
        counts, sizes = cells.counts, cells.size_factors * depth
        kept = rng.binomial(counts.data.astype(np.int64), self.keep[counts.indices])
        thinned = csr_array((kept, counts.indices, counts.indptr), shape=counts.shape)
        genes = np.flatnonzero(self.add > 0)
        rate = sizes[:, None] * (self.add[genes] / TARGET_SUM)
        uneven = self.dispersion[genes] > 0
        spread = self.dispersion[genes[uneven]]
        rate[:, uneven] *= rng.gamma(1.0 / spread, spread, size=(len(cells), len(spread)))
        drawn = csr_array(rng.poisson(rate))
        added = csr_array((drawn.data, genes[drawn.indices], drawn.indptr), shape=counts.shape)
        moved = csr_array(thinned + added, dtype=np.float32)
        moved.eliminate_zeros()
        return CountedCells(moved, sizes)


@dataclass(frozen=True, eq=False)
class MovedControls:
    """Control cells as their counts by gene and by bin of size factor, of which moments are known after any move.

    Attributes:
        sizes: size factor of each bin.
        shares: share of cells of each bin.
        gene: of each entry, ascending; an entry is a value above 0 that some cells of a bin have.
        bin: of each entry.
        value: of each entry.
        share: share of the cells of its bin that have it.
        n_genes: genes, those without an entry included.
    """

    sizes: Float[np.ndarray, " bins"]
    shares: Float[np.ndarray, " bins"]
    gene: Int[np.ndarray, " entries"]
    bin: Int[np.ndarray, " entries"]
    value: Float[np.ndarray, " entries"]
    share: Float[np.ndarray, " entries"]
    n_genes: int

    @classmethod
    def of(cls, cells: CountedCells) -> Self:
        """Those of measured cells."""
        n_bins = min(_BINS, len(cells))
        bins = np.empty(len(cells), dtype=np.int64)
        bins[np.argsort(cells.size_factors, kind="stable")] = np.arange(len(cells)) * n_bins // len(cells)
        number = np.bincount(bins)
        table = cells.counts.tocoo()
        entries = np.stack([table.coords[1], bins[table.coords[0]], table.data.astype(np.int64)])
        (gene, where, value), times = np.unique(entries[:, table.data > 0], axis=1, return_counts=True)
        return cls(
            sizes=np.exp(np.bincount(bins, np.log(cells.size_factors)) / number),
            shares=number / len(cells),
            gene=gene,
            bin=where,
            value=value.astype(np.float64),
            share=times / number[where],
            n_genes=cells.counts.shape[1],
        )

    def columns(self, genes: Int[np.ndarray, " some"]) -> Self:
        """Some genes, in any order and as often as they are given."""
        first, behind = (np.searchsorted(self.gene, genes, side) for side in ("left", "right"))
        number = behind - first
        entry = np.arange(number.sum()) + np.repeat(behind - np.cumsum(number), number)
        place = np.repeat(np.arange(len(genes)), number)
        parts = self.bin[entry], self.value[entry], self.share[entry]
        return type(self)(self.sizes, self.shares, place, *parts, len(genes))

    @cached_property
    def mean(self) -> GeneVector:
        """Mean log expression of the cells as they are."""
        return self.moments(Move.none(self.n_genes))[0]

    def moments(self, move: Move, depth: float = 1.0) -> tuple[GeneVector, GeneVector]:
        """Mean and variance of log expression after a move.

        Args:
            move: what is done to the counts.
            depth: factor of the size factors, which the counts are normalised by.
        """
        below = self._below(self._thinned(move.keep, depth) * self._added(move.add, move.dispersion, depth))
        mean = below @ _TO_MEAN
        return mean, (below @ _TO_SQUARE - np.square(mean)).clip(min=0.0)

    def calibrate(self, mean: GeneVector, depth: float = 1.0, dispersion: GeneVector | None = None) -> Move:
        """The move after which the cells have a mean.

        A gene that has to fall is thinned, one that has to rise is added to. Means that counts cannot have (not above
        0, or above log1p of 1e4) are cut to what they can.

        Args:
            mean: of log expression.
            depth: see ``moments``.
            dispersion: of what is added; none by default.
        """
        spread = np.zeros(self.n_genes) if dispersion is None else dispersion
        move = Move(np.ones(self.n_genes), np.zeros(self.n_genes), spread)
        whole = self._thinned(move.keep, depth)
        now = self._below(whole) @ _TO_MEAN
        falls, rises = np.flatnonzero(now - mean > _PRECISE), np.flatnonzero(mean - now > _PRECISE)

        def thinned(place: np.ndarray, gene: np.ndarray) -> np.ndarray:
            found = self.columns(gene)._thinned(np.exp(place), depth)
            return self._below(found) @ _TO_MEAN - mean[gene]

        def added(place: np.ndarray, gene: np.ndarray) -> np.ndarray:
            found = whole[gene] * self._added(np.exp(place), spread[gene], depth)
            return self._below(found) @ _TO_MEAN - mean[gene]

        move.keep[falls] = np.exp(_root(thinned, falls, 0.0))
        move.add[rises] = np.exp(_root(added, rises, log(TARGET_SUM)))
        return move

    def _below(self, transforms: Transforms) -> Float[np.ndarray, "_ times"]:
        """What the transforms of all bins together lack to 1."""
        return 1.0 - np.einsum("gbt,b->gt", transforms, self.shares)

    def _thinned(self, keep: GeneVector, depth: float) -> Transforms:
        n_bins, place = len(self.sizes), self._places[0]
        gene, where = np.divmod(place, n_bins)
        # Powers of a gene and bin share their logarithm, and an exponential takes a fraction of a power's time.
        left = (1.0 - keep[gene])[:, None] + keep[gene, None] * np.exp(-self._scaled_times(depth))[where]
        power = np.log(np.maximum(left, _TINY, out=left), out=left)[self._places[1]]
        power *= self.value[:, None]
        np.exp(power, out=power)
        power -= 1.0
        found = np.ones((self.n_genes * n_bins, len(_TIMES)))
        found[place] += self._weights @ power
        return found.reshape(self.n_genes, n_bins, len(_TIMES))

    @cached_property
    def _places(self) -> tuple[Int[np.ndarray, " places"], Int[np.ndarray, " entries"]]:
        """Pairs of a gene and a bin that have entries, and the number of each entry's pair."""
        pair = self.gene * len(self.sizes) + self.bin
        new = np.diff(pair, prepend=-1) > 0
        return pair[new], np.cumsum(new) - 1

    @cached_property
    def _weights(self) -> csr_array:
        """One row each pair of a gene and a bin, with the shares of its entries."""
        starts = np.flatnonzero(np.diff(self._places[1], prepend=-1))
        n = len(self.gene)
        return csr_array((self.share, np.arange(n), np.append(starts, n)), shape=(len(starts), n))

    def _added(self, add: GeneVector, dispersion: GeneVector, depth: float) -> Transforms:
        lost = 1.0 - np.exp(-self._scaled_times(depth))
        exponent = (add / TARGET_SUM)[:, None, None] * (depth * self.sizes[:, None] * lost)
        spread = dispersion[:, None, None]
        shape = np.where(spread > 0, spread, 1.0)
        return np.exp(-np.where(spread > 0, np.log1p(spread * exponent) / shape, exponent))

    def _scaled_times(self, depth: float) -> Float[np.ndarray, "bins times"]:
        return _TIMES * (TARGET_SUM / (depth * self.sizes))[:, None]


def _root(
    excess: Callable[[np.ndarray, np.ndarray], np.ndarray], genes: Int[np.ndarray, " some"], upper: float
) -> Float[np.ndarray, " some"]:
    """Where each gene's excess, which rises with the place, is 0; the nearer end where it is so nowhere."""
    low, high = np.full(len(genes), _LOG_SMALLEST), np.full(len(genes), upper)
    too_low, too_high = excess(high, genes) <= 0, excess(low, genes) >= 0
    place = np.where(too_low, high, low)
    inside = ~(too_low | too_high)
    if inside.any():
        place[inside] = find_root(
            excess, (low[inside], high[inside]), args=(genes[inside],), tolerances=_TOLERANCES
        ).x
    return place
