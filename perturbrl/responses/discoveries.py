"""Which effects, and which genes of them, may be claimed where many are asked for.

The length of an expected shift tells no effect from none: it is never negative, and of cells without any effect it
grows with the number of genes. So an effect is claimed by its genes. Within a query their p-values are adjusted
(Benjamini and Hochberg 1995), the smallest of which is the query's own (Simes 1986), and these are adjusted over all
queries. Genes are claimed at the level that selected their query (Benjamini and Bogomolov 2014, 10.1111/rssb.12028).
"""

from typing import Final

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import false_discovery_control, norm

LEVEL: Final = 0.05
_AT_ONCE: Final = 512  # queries whose genes are held at a time

OfGenes = Float[np.ndarray, "queries genes"]


def of_queries(shift: OfGenes, sd: OfGenes) -> Float[np.ndarray, " queries"]:
    """False discovery rate of each query's effect, over all queries.

    Where all queries with a rate of at most ``LEVEL`` are claimed, this share of them is expected to have no effect.

    Args:
        shift: expected shifts.
        sd: their standard deviations; a gene without one tells nothing.
    """
    starts = range(0, len(shift), _AT_ONCE)
    smallest = [_within(shift[i : i + _AT_ONCE], sd[i : i + _AT_ONCE]).min(axis=1) for i in starts]
    return false_discovery_control(np.concatenate(smallest))


def of_genes(
    shift: OfGenes, sd: OfGenes, rates: Float[np.ndarray, " queries"]
) -> Bool[np.ndarray, "queries genes"]:
    """Which genes are claimed: some of every query that is, and none of the others.

    Over the queries that are claimed, on average at most ``LEVEL`` of their genes are expected not to shift.

    Args:
        shift: expected shifts.
        sd: their standard deviations.
        rates: see ``of_queries``.
    """
    claimed = np.flatnonzero(rates <= LEVEL)
    found = np.zeros(shift.shape, dtype=bool)
    for some in (claimed[i : i + _AT_ONCE] for i in range(0, len(claimed), _AT_ONCE)):
        found[some] = _within(shift[some], sd[some]) <= LEVEL * len(claimed) / len(rates)
    return found


def _within(shift: OfGenes, sd: OfGenes) -> OfGenes:
    """p-values of the genes of each query, adjusted for their number."""
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2.0 * norm.sf(np.abs(shift) / sd)
    return false_discovery_control(np.nan_to_num(p, nan=1.0), axis=1)
