"""Cells that nobody doses: how a landscape moves them, beside real cells in their order, and where they end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from sklearn.neighbors import NearestNeighbors
from torch import Generator, Tensor

from perturbrl.embeddings.base import EncodedCells
from perturbrl.errors import DataError
from perturbrl.evaluation.distances import energy_distance
from perturbrl.evaluation.statistics import Interval, wilson_interval
from perturbrl.evaluation.trajectories import TRAJECTORY_METRICS, PairedTrajectories, pseudotime_path
from perturbrl.schema import CellState, Population
from perturbrl.twins.base import DigitalTwin

BINS: Final = 6
NEIGHBOURS: Final = 15
LEAST_IN_BIN: Final = 10
PASSED: Final = 0.05  # share of a fate's states above which it passes through a type
SIMULATED: Final = 600
_NO_TYPE: Final = "cells"


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What the training cells around a state say of it.

    Args:
        cells: training cells, in their order.
    """

    cells: EncodedCells

    @property
    def types(self) -> np.ndarray:
        """Types of the training cells; one where they are not known."""
        return np.array(self.cells.contexts or (_NO_TYPE,) * len(self.cells.latent))

    def order(self, states: Population | None) -> Float[np.ndarray, " cells"]:
        """Mean order of the nearest training cells; of ``None``, that of training cells, each without itself."""
        return self.cells.require_order().values.numpy()[self._around(states)].mean(axis=1)

    def kinds(self, states: Population) -> np.ndarray:
        """Most frequent type of the nearest training cells."""
        names, codes = np.unique(self.types, return_inverse=True)
        around = codes[self._around(states)]
        return names[np.stack([(around == code).sum(axis=1) for code in range(len(names))]).argmax(axis=0)]

    def _around(self, states: Population | None) -> np.ndarray:
        return self._near.kneighbors(None if states is None else _array(states), return_distance=False)

    @cached_property
    def _near(self) -> NearestNeighbors:
        near = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(self.cells.latent) - 1))
        return near.fit(_array(self.cells.latent))


@dataclass(frozen=True, eq=False)
class UndosedWays:
    """Simulated beside held-out real cells.

    Attributes:
        by_component: one row per fate, way and latent component: ``dtw`` and ``wasserstein``, in latent units, and
            ``cells``, how many simulated ones have that fate.
        by_time: one row per bin of the order after the first: ``from``, ``until``, ``cells`` and the energy distance
            of each way (``u`` estimator).
        said: what was compared with what.
    """

    by_component: pd.DataFrame
    by_time: pd.DataFrame
    said: str


@torch.no_grad()
def undosed_path(
    twin: DigitalTwin, start: CellState, transitions: int, seed: int
) -> Float[Tensor, "cells steps latent"]:
    """Places from transition to transition without dose, the start first."""
    generator = Generator(device=start.device).manual_seed(seed)
    member = twin.draw_members(len(start), generator)
    nothing = start.new_zeros(len(start), twin.perturbations.n_perturbations)
    path = [twin.untouched(start)]
    for _ in range(transitions):
        path.append(twin.next_state(path[-1], nothing, twin.draw_noise(len(start), generator), member))
    return torch.stack([twin.place(state) for state in path], dim=1)


def undosed_ways(twin: DigitalTwin, cells: EncodedCells, held_out: CellState, seed: int = 0) -> UndosedWays:
    """Let the earliest held-out cells go, and compare them with held-out cells all along the order.

    The order of any state is that of the training cells around it. A simulated cell is compared with the real cells
    of the bin that it passes through, and drawn such that cell types have the same shares, since real cells may have
    been sorted. Beside the landscape stand ``no_op`` (cells stay where they start), ``interpolated`` (means of a
    training cell of the bin before and one of the bin after, where there is one) and ``replicate`` (training cells of
    the bin).

    Args:
        twin: a landscape, fitted on ``cells``.
        cells: training cells.
        held_out: cells that nothing was learned from.
        seed: of noise and draws.

    Raises:
        DataError: nothing orders the cells, or too few are held out.
    """
    around, states = Surroundings(cells), held_out.cpu()
    training = around.order(None)
    # Where many cells are at one time, bins would be empty between equal edges.
    edges = np.unique(np.quantile(training, np.linspace(0, 1, BINS + 1)))
    judged = around.order(states)
    of_training, of_held = (_bins(order, edges) for order in (training, judged))
    if len(states) < BINS * LEAST_IN_BIN:
        raise DataError(
            f"{len(states)} held-out cells are too few to follow the earliest of {BINS} parts of them, of which each "
            f"needs {LEAST_IN_BIN}; hold out more cells (data.split)"
        )
    first = states[torch.from_numpy(judged.argsort(kind="stable")[: len(states) // BINS])]
    start = first.repeat(-(-SIMULATED // len(first)), 1)
    # The encoder follows the twin's device; cells are compared on the processor.
    path = undosed_path(twin, start.to(held_out.device), twin.relaxation_steps, seed).cpu()
    rng = np.random.default_rng(seed)
    by_time = pd.DataFrame(
        _in_bin(own, edges, around, path, states, (of_training, of_held), rng)
        for own in range(1, len(edges) - 1)
        if (of_held == own).sum() >= LEAST_IN_BIN
    )
    if by_time.empty:
        raise DataError(
            f"no part of the order after the first has {LEAST_IN_BIN} held-out cells to compare with; hold out more "
            "cells (data.split)"
        )
    said = (
        f"{len(first)} held-out cells, the earliest by {cells.require_order().source}, are followed without dose for "
        f"{twin.relaxation_steps} transitions, and compared with all {len(states)} held-out cells."
    )
    return UndosedWays(_by_component(path, states, around), by_time, said)


def _bins(order: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.digitize(order, edges[1:-1])


def _by_component(
    path: Float[Tensor, "cells steps latent"], held_out: Population, around: Surroundings
) -> pd.DataFrame:
    """DTW to the path of real cells and Wasserstein distance to all of them, per fate, way and component.

    Paths of cells with different fates have no mean that any cell would take. Hence each fate by itself: simulated
    cells that end in a type, and real cells of the types that these pass through.
    """
    kinds = around.kinds(path.flatten(0, 1)).reshape(path.shape[:2])
    real_kinds = around.kinds(held_out)
    tables = []
    for fate, count in zip(*np.unique(kinds[:, -1], return_counts=True), strict=True):
        own = kinds[:, -1] == fate
        passed, times = np.unique(kinds[own], return_counts=True)
        passed = passed[times >= PASSED * times.sum()]
        real = held_out[torch.from_numpy(np.isin(real_kinds, passed))]
        if count < LEAST_IN_BIN or len(real) < LEAST_IN_BIN:
            continue
        replicate = around.cells.latent[torch.from_numpy(np.isin(around.types, passed))]
        found = _of_one_fate(path[torch.from_numpy(own)], real, replicate, around)
        tables.append(found.assign(fate=fate, cells=count))
    if not tables:
        raise DataError(
            f"no cell type has {LEAST_IN_BIN} held-out cells and {LEAST_IN_BIN} simulated ones to be compared; "
            "hold out more cells (data.split)"
        )
    return pd.concat(tables, ignore_index=True)


def _of_one_fate(
    path: Float[Tensor, "cells steps latent"], real: Population, replicate: Population, around: Surroundings
) -> pd.DataFrame:
    steps = min(path.shape[1], len(real), len(replicate))
    reference, other = (
        pseudotime_path(_array(cells), around.order(cells), steps) for cells in (real, replicate)
    )
    simulated = _array(path)
    still = np.broadcast_to(simulated[:, :1], simulated.shape)
    ways = {
        "landscape": (simulated, simulated),
        "no_op": (still, still[:, :1]),
        "replicate": (other[None], _array(replicate)[:, None]),
    }
    tables = []
    for name, (walked, states) in ways.items():
        along = PairedTrajectories(walked, reference, _array(real), whole_way=True)
        among = PairedTrajectories(states, reference, _array(real), whole_way=True)
        pairs = {"dtw": along, "wasserstein": among}
        found = {metric.name: metric.function(pairs[metric.name]) for metric in TRAJECTORY_METRICS}
        tables.append(pd.DataFrame({"way": name, "component": np.arange(1, reference.shape[1] + 1), **found}))
    return pd.concat(tables, ignore_index=True)


def _in_bin(
    own: int,
    edges: np.ndarray,
    around: Surroundings,
    path: Float[Tensor, "cells steps latent"],
    held_out: Population,
    bins: tuple[np.ndarray, np.ndarray],
    rng: np.random.Generator,
) -> dict[str, float]:
    """Energy distance of each way to the held-out cells of one bin."""
    of_training, of_held = bins
    training = around.cells.latent
    real = held_out[torch.from_numpy(of_held == own)]
    passing = path[:, 1:].flatten(0, 1)
    passing = passing[torch.from_numpy(_bins(around.order(passing), edges) == own)]
    beside = [training[torch.from_numpy(of_training == own + side)] for side in (-1, 1)]
    before, after = (_drawn(states, rng) for states in beside)
    ways = {
        "landscape": passing,
        "no_op": path[:, 0],
        "interpolated": 0.5 * (before + after) if len(before) == len(after) else after[:0],
        "replicate": training[torch.from_numpy(of_training == own)],
    }
    found = {name: _distance(around, states, real, rng) for name, states in ways.items()}
    return {"from": float(edges[own]), "until": float(edges[own + 1]), "cells": len(real), **found}


def _drawn(states: Population, rng: np.random.Generator) -> Population:
    """Cells drawn with replacement; none of none."""
    return states[torch.from_numpy(rng.integers(max(len(states), 1), size=SIMULATED if len(states) else 0))]


def _distance(around: Surroundings, states: Population, real: Population, rng: np.random.Generator) -> float:
    """Between real cells and states of the same types; not a number where fewer than two states are there."""
    alike = _alike(around.kinds(states), around.kinds(real), rng) if len(states) else np.array([], dtype=int)
    return energy_distance(states[torch.from_numpy(alike)], real, "u") if len(alike) > 1 else float("nan")


def _alike(kinds: np.ndarray, wanted: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows drawn such that types have the shares that they have in ``wanted``, as far as they are there."""
    names, counts = np.unique(wanted, return_counts=True)
    each = [
        rng.choice(np.flatnonzero(kinds == name), count * max(1, SIMULATED // len(wanted)))
        for name, count in zip(names, counts, strict=True)
        if (kinds == name).any()
    ]
    return np.concatenate(each) if each else np.array([], dtype=int)


def fates(ends: Mapping[str, CellState], cells: EncodedCells) -> pd.DataFrame:
    """Share of cells that end in each cell type, by simulation, with its 95 % interval: one row per design and type.

    Args:
        ends: states of settled cells, by what was done to them.
        cells: training cells; the nearest of them tell the type of a state.

    Raises:
        DataError: types are not known.
    """
    if cells.contexts is None:
        raise DataError("fates are shares of cell types, and the data have none; give columns.cell_type_key")
    around = Surroundings(cells)
    return pd.DataFrame(
        {"design": design, "cell_type": name, "share": share.estimate, "low": share.low, "high": share.high}
        for design, states in ends.items()
        for name, share in _shares(around.kinds(states.cpu()), sorted(set(cells.contexts)))
    )


def _shares(kinds: np.ndarray, names: Sequence[str]) -> list[tuple[str, Interval]]:
    return [(name, wilson_interval(int((kinds == name).sum()), len(kinds))) for name in names]


def _array(states: Tensor) -> np.ndarray:
    return states.detach().cpu().numpy()
