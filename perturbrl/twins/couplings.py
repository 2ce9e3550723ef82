"""Where each cell is likely to be later: transport between time points, or later neighbours in pseudotime."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import ot
import scipy.sparse as sp
import torch
from jaxtyping import Float
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from perturbrl.data.cell_order import CellOrder
from perturbrl.errors import DataError
from perturbrl.schema import CellIndex, CellState, Points

# Of the median squared distance; as Waddington-OT's. Exact plans match the noise of single cells.
BLUR: Final = 0.05
# Where it is free, cells that are near later ones multiply instead of cells moving; see docs/decisions.md.
GROWTH_FREEDOM: Final = 3.0
ARRIVAL_FREEDOM: Final = 50.0
# In medians; beyond it no mass goes, and exp(-cost / blur) stays a number.
FARTHEST: Final = 30.0
MOST_PER_TIME_POINT: Final = 4000
NEGLIGIBLE: Final = 1e-3
NEIGHBOURS: Final = 30
FEWEST_LATER: Final = 0.1
_ITERATIONS: Final = 2000


@dataclass(frozen=True, eq=False)
class Couplings:
    """For every cell a distribution over later cells.

    Attributes:
        later: ``[cells, cells]``, each row sums to 1, or to 0 where nothing later is known.
        duration: time until then, in the order's unit; 0 where nothing later is known.

    In pseudotime, cells without a row have come to an end; between time points they were measured last, or were left
    out of a large plan.
    """

    later: sp.csr_array
    duration: Float[Tensor, " cells"]


def couple(latent: CellState, order: CellOrder, cell_types: Sequence[str] | None) -> Couplings:
    """Couple training cells to later ones.

    Time points: unbalanced optimal transport between consecutive ones, so that cells may divide or die. Pseudotime:
    nearest neighbours that are later. Where types are known, exchange between two types that goes both ways alike is
    no development but their mixing at a border, and only its excess is kept.

    Args:
        latent: cell states.
        order: when each cell is.
        cell_types: type of each cell; ``None`` where unknown.

    Raises:
        DataError: there are fewer than two time points.
    """
    states = latent.double().numpy()
    values = order.values.double().numpy()
    types = (
        None if cell_types is None else np.unique(np.asarray(cell_types, dtype=str), return_inverse=True)[1]
    )
    if order.kind == "time":
        return _between_times(states, values, types)
    return _along_pseudotime(states, values, types)


def _between_times(states: Points, times: np.ndarray, types: np.ndarray | None) -> Couplings:
    points = np.unique(times)
    if len(points) < 2:
        raise DataError(
            f"all cells are at time {points[0]:g}, and what moves is seen between two time points at least; give cells "
            "of another time, or order them by pseudotime"
        )
    duration = np.zeros(len(states))
    plans = []
    for now, then in pairwise(points):
        early, late = (_spread_out(np.flatnonzero(times == point)) for point in (now, then))
        plan = transport(states[early], states[late])
        plans.append(_placed(_heaviest(plan), early, late, len(states)))
        duration[early] = then - now
    later = sp.csr_array(sum(plans[1:], start=plans[0]))
    if types is not None:
        later = _without_exchange(later, types)
    later = as_distributions(later)
    duration[later.sum(axis=1) == 0] = 0.0
    return Couplings(later, _tensor(duration))


def _heaviest(plan: np.ndarray) -> np.ndarray:
    """The plan without entries that are negligible beside their row's largest."""
    return np.where(plan < NEGLIGIBLE * plan.max(axis=1, keepdims=True), 0.0, plan)


def _placed(plan: np.ndarray, early: CellIndex, late: CellIndex, n: int) -> sp.csr_array:
    """A plan between some cells as one between all."""
    entries = sp.coo_array(plan)
    return sp.csr_array((entries.data, (early[entries.row], late[entries.col])), shape=(n, n))


def _spread_out(rows: CellIndex) -> CellIndex:
    """At most so many that a plan fits into memory, evenly over the file."""
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), MOST_PER_TIME_POINT)).astype(int)]


def transport(
    early: Float[np.ndarray, "n latent"], late: Float[np.ndarray, "m latent"]
) -> Float[np.ndarray, "n m"]:
    """Plan from the cells of one time point to those of the next, of total mass about 1.

    Entropic, by squared distance over its median. The early cells' weights are free at a price (Kullback-Leibler),
    those of the late cells nearly fixed: a row's sum over the mean of all says how the cell multiplies. Of POT's
    solvers the stabilized one does not converge here (a total mass of 1e30 between two normal distributions); the
    translation-invariant one does.

    Source: Schiebinger 2019 (10.1016/j.cell.2019.01.006), Séjourné 2022 (translation-invariant); ``ot.unbalanced``.
    """
    cost = cdist(early, late, "sqeuclidean")
    cost /= max(float(np.median(cost)), np.finfo(float).tiny)
    return ot.unbalanced.sinkhorn_unbalanced(
        np.full(len(early), 1 / len(early)),
        np.full(len(late), 1 / len(late)),
        np.minimum(cost, FARTHEST),
        BLUR,
        [GROWTH_FREEDOM, ARRIVAL_FREEDOM],
        method="sinkhorn_translation_invariant",
        numItermax=_ITERATIONS,
    )


def _along_pseudotime(states: Points, times: np.ndarray, types: np.ndarray | None) -> Couplings:
    n = len(states)
    k = min(NEIGHBOURS, n - 1)
    near = sp.coo_array(NearestNeighbors(n_neighbors=k).fit(states).kneighbors_graph())
    forward = times[near.col] > times[near.row]
    pairs = (near.data[forward], (near.row[forward], near.col[forward]))
    later = sp.csr_array(pairs, shape=(n, n))
    if types is not None:
        later = _without_exchange(later, types)
    few = later.sum(axis=1) < FEWEST_LATER * k
    later = sp.csr_array(later.multiply(~few[:, None]))
    later = as_distributions(later)
    duration = np.where(few, 0.0, later @ times - times)
    return Couplings(later, _tensor(duration))


def _flow(later: sp.csr_array, types: np.ndarray) -> Float[np.ndarray, "types types"]:
    """Mass that goes from type to type."""
    member = sp.csr_array(np.eye(types.max() + 1)[types])
    return (member.T @ later @ member).toarray()


def _without_exchange(later: sp.csr_array, types: np.ndarray) -> sp.csr_array:
    """Scale what goes from type to type by the share that nothing comes back for."""
    flow = _flow(later, types)
    with np.errstate(divide="ignore", invalid="ignore"):
        kept = np.nan_to_num(np.clip(1 - flow.T / flow, 0.0, 1.0))
    np.fill_diagonal(kept, 1.0)
    entries = sp.coo_array(later)
    scaled = entries.data * kept[types[entries.row], types[entries.col]]
    return sp.csr_array((scaled, (entries.row, entries.col)), shape=later.shape)


def as_distributions(later: sp.csr_array) -> sp.csr_array:
    """Rows that sum to 1 where they hold anything, without entries that are 0."""
    sums = later.sum(axis=1)
    scale = sp.diags_array(np.divide(1.0, sums, out=np.zeros_like(sums), where=sums > 0))
    found = sp.csr_array(scale @ later)
    found.eliminate_zeros()
    return found


def _tensor(values: np.ndarray) -> Float[Tensor, " cells"]:
    return torch.from_numpy(values).float()
