"""What orders cells in time: time points, a pseudotime of the file, or one from a named root."""

from dataclasses import dataclass
from itertools import takewhile
from typing import Final, Literal

import numpy as np
import pandas as pd
import scanpy as sc
import torch
from anndata import AnnData
from jaxtyping import Float
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree
from torch import Tensor

from perturbrl.errors import ConfigurationError, DataError, listed
from perturbrl.schema import PSEUDOTIME_OBS, TIME_OBS, CellIndex, CellState, Points

OrderKind = Literal["time", "pseudotime"]

ROOT_NEIGHBOURS: Final = 30
JUDGED_NEIGHBOURS: Final = 15
_STATIONARY: Final = 0.9994  # scanpy's bound between the stationary state and the way there
_SHOWN: Final = 6


@dataclass(frozen=True, eq=False)
class CellOrder:
    """When each cell is, on one axis.

    Attributes:
        values: time in the file's unit, or pseudotime, which has none.
        kind: ``time`` where cells were taken at a few points in time, ``pseudotime`` where each has its own.
        source: where it comes from, to say so.
    """

    values: Float[Tensor, " cells"]
    kind: OrderKind
    source: str = "given"

    @property
    def time_points(self) -> Float[Tensor, " points"]:
        """Different values, increasing."""
        return self.values.unique()


@dataclass(frozen=True)
class OrderOptions:
    """How cells are ordered; at most one is given, and none takes a plainly named column.

    Args:
        time_key: obs column with the time at which a cell was taken, as numbers.
        pseudotime_key: obs column with pseudotime.
        root: population from which diffusion pseudotime is computed: a label or an obs query.

    Raises:
        ConfigurationError: more than one is given.
    """

    time_key: str | None = None
    pseudotime_key: str | None = None
    root: str | None = None

    def __post_init__(self) -> None:
        given = [f"data.{name} '{value}'" for name, value in vars(self).items() if value is not None]
        if len(given) > 1:
            raise ConfigurationError(f"{listed(given)} order the same cells twice; give one of them")


WHAT_ORDERS: Final = (
    "give data.time_key (an obs column of numbers with at least two time points), data.pseudotime_key (an obs column), "
    "or data.root (the population that the others come from, such as cell_type=HSC)"
)


@dataclass(frozen=True)
class OrderColumn:
    """A column of ``obs`` that orders cells."""

    key: str
    kind: OrderKind

    def of_numbers(self, obs: pd.DataFrame) -> Float[np.ndarray, " cells"]:
        """The column's values, with its gaps."""
        return obs[self.key].to_numpy(dtype=np.float64)

    def of(self, obs: pd.DataFrame) -> CellOrder:
        """When the cells of ``obs`` are.

        Raises:
            DataError: the column has gaps there.
        """
        values = self.of_numbers(obs)
        gaps = int((~np.isfinite(values)).sum())
        if gaps:
            raise DataError(f"{_gaps(gaps, len(values), self.key)}; {_REMEDIES[self.kind]}")
        return CellOrder(torch.from_numpy(values).float(), self.kind, f"obs['{self.key}']")


def order_column(obs: pd.DataFrame, options: OrderOptions) -> OrderColumn | None:
    """The column that orders cells: the named one, else a plainly named one that can be used.

    Time points come before pseudotime, because they were measured.

    Args:
        obs: of all cells that are learned from or judge: who judges must be ordered by the same column.
        options: what the user says.

    Returns:
        ``None`` where no column orders the cells, or a root does.

    Raises:
        DataError: a named column is missing, is no number, has gaps or one value only.
    """
    if options.root is not None:
        return None
    if options.time_key is not None:
        return _require(obs, OrderColumn(options.time_key, "time"))
    if options.pseudotime_key is not None:
        return _require(obs, OrderColumn(options.pseudotime_key, "pseudotime"))
    return next((column for column in _plain(obs) if _problem(obs, column.key) is None), None)


def _plain(obs: pd.DataFrame) -> list[OrderColumn]:
    times = [OrderColumn(key, "time") for key in TIME_OBS if key in obs]
    return times + [OrderColumn(key, "pseudotime") for key in PSEUDOTIME_OBS if key in obs]


def order_in_words(obs: pd.DataFrame, options: OrderOptions) -> str:
    """What orders these cells and which plainly named columns were passed over; else why nothing does, what to give.

    Raises:
        DataError: see ``order_column``.
    """
    if options.root is not None:
        return f"diffusion pseudotime from {options.root}"
    column = order_column(obs, options)
    if column is None:
        return why_unordered(obs)
    levels = np.unique(obs[column.key].to_numpy(dtype=np.float64))
    points = f"{len(levels)} time points ({listed([f'{level:g}' for level in levels], _SHOWN)})"
    said = f"obs['{column.key}'], {points if column.kind == 'time' else 'pseudotime'}"
    if options != OrderOptions():
        return said
    before = [str(_problem(obs, other.key)) for other in takewhile(lambda one: one != column, _plain(obs))]
    return f"{said} ({'; '.join(before)})" if before else said


def why_unordered(obs: pd.DataFrame) -> str:
    """One sentence: why no plainly named column orders these cells, and what to give."""
    said = "; ".join(str(_problem(obs, column.key)) for column in _plain(obs))
    return f"nothing orders the cells{f': {said}' if said else ''}; {WHAT_ORDERS}"


def _require(obs: pd.DataFrame, column: OrderColumn) -> OrderColumn:
    if column.key not in obs:
        numeric = [str(name) for name in obs if _holds_numbers(obs[name])]
        seen = (
            f"its columns of numbers are {listed(numeric, _SHOWN)}" if numeric else "it has none of numbers"
        )
        raise DataError(f"the file has no obs column '{column.key}' to order cells by; {seen}")
    problem = _problem(obs, column.key)
    if problem is not None:
        raise DataError(f"{problem}; {_REMEDIES[column.kind]}")
    return column


_REMEDIES: Final[dict[OrderKind, str]] = {
    "time": "give every cell a time as a number and at least two time points, or data.pseudotime_key or data.root",
    "pseudotime": "give every cell a number, another data.pseudotime_key, or data.root to compute one",
}


def _problem(obs: pd.DataFrame, key: str) -> str | None:
    """What keeps a column from ordering the cells."""
    column = obs[key]
    levels = column.unique()
    if not _holds_numbers(column):
        return f"obs['{key}'] holds text such as {listed([repr(str(level)) for level in levels[:3]])}, no numbers"
    gaps = int((~np.isfinite(column.to_numpy(dtype=np.float64))).sum())
    if gaps:
        return _gaps(gaps, len(column), key)
    if len(levels) < 2:
        return f"all {len(column)} cells to learn from have obs['{key}'] {levels[0]}"
    return None


def _holds_numbers(column: pd.Series) -> bool:
    levels = column.cat.categories if isinstance(column.dtype, pd.CategoricalDtype) else column
    return pd.api.types.is_numeric_dtype(levels) and not pd.api.types.is_bool_dtype(levels)


def _gaps(gaps: int, cells: int, key: str) -> str:
    return f"{gaps:,} of {cells:,} cells have no finite value in obs['{key}']"


def diffusion_order(latent: CellState, root: CellIndex, name: str, groups: np.ndarray | None) -> CellOrder:
    """Diffusion pseudotime from the cell of a root population that is farthest from all others.

    Farthest in the mean square of the same diffusion distance, so that the root is an end of the population and not
    its middle.

    Args:
        latent: training cells.
        root: rows of the root population among them.
        name: of the root population, to say so.
        groups: type of each cell, to say which ones the root does not reach; ``None`` where unknown.

    Raises:
        DataError: no training cell is of the root, or some cells cannot be reached from it.

    Source: Haghverdi 2016 (10.1038/nmeth.3971), ``scanpy.tl.dpt``.
    """
    if not len(root):
        raise DataError(f"no training cell is of the root '{name}'; name another data.root")
    cells = AnnData(obsm={"X_states": latent.numpy()})
    sc.pp.neighbors(cells, n_neighbors=min(ROOT_NEIGHBOURS, len(latent) - 1), use_rep="X_states")
    _require_reach(cells, root, name, groups)
    sc.tl.diffmap(cells, n_comps=min(ROOT_NEIGHBOURS // 2, len(latent) - 2))
    places = _diffusion_places(cells)
    offset = places[root] - places.mean(axis=0)
    cells.uns["iroot"] = int(root[np.square(offset).sum(axis=1).argmax()])
    sc.tl.dpt(cells, n_dcs=places.shape[1])
    values = cells.obs["dpt_pseudotime"].to_numpy(dtype=np.float32)
    return CellOrder(torch.from_numpy(values), "pseudotime", f"diffusion pseudotime from {name}")


def _diffusion_places(cells: AnnData) -> Points:
    """Coordinates whose Euclidean distance is that of diffusion pseudotime."""
    size = cells.uns["diffmap_evals"]
    weight = np.where(size < _STATIONARY, size / (1 - np.minimum(size, _STATIONARY)), 1.0)
    return cells.obsm["X_diffmap"] * weight


def _require_reach(cells: AnnData, root: CellIndex, name: str, groups: np.ndarray | None) -> None:
    n_parts, part = connected_components(cells.obsp["connectivities"], directed=False)
    missed = ~np.isin(part, part[root]) if n_parts > 1 else np.zeros(len(part), dtype=bool)
    if n_parts > 1 and not missed.any():
        raise DataError(
            f"the root '{name}' lies in {len(set(part[root]))} groups of cells that are not linked by neighbours; "
            "name a data.root within one of them, or give data.pseudotime_key"
        )
    if missed.any():
        types = "" if groups is None else f" ({listed(sorted({str(g) for g in groups[missed]}), _SHOWN)})"
        raise DataError(
            f"the root '{name}' does not reach {missed.sum():,} of {len(part):,} training cells{types}: no neighbours "
            "link them to it; drop these cells, or name another data.root"
        )


def judged_order(states: Points, training: Points, order: CellOrder) -> CellOrder:
    """Order of cells that were not learned from: the mean of their nearest training cells'.

    Only to judge by; nothing is fitted on it.
    """
    _, near = KDTree(training).query(states, k=min(JUDGED_NEIGHBOURS, len(training)))
    values = order.values.numpy()[np.reshape(near, (len(states), -1))].mean(axis=1)
    return CellOrder(torch.from_numpy(values), order.kind, order.source)
