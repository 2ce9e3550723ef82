"""Where cells of a landscape come to rest: its attractors, named by the cell type around them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Bool, Float, Int
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree
from torch import Generator, Tensor

from perturbrl.schema import CellState, Population
from perturbrl.twins.mixture_drift import MixtureDrift

MOST_SETTLED: Final = 2000
_QUIET_STEPS: Final = 300
_SAME: Final = 0.5  # standard deviations of the components within which cells have settled in one place
_EXCHANGE: Final = 0.05
_STABLE: Final = 0.5
_NEIGHBOURS: Final = 15


@dataclass(frozen=True, eq=False)
class Attractor:
    """A place that cells stay at.

    Attributes:
        name: the cell type most frequent around it, or its number.
        state: ``[latent]`` the fixed point that most cells settle in.
        basin: share of the training cells that settle there.
        kept: share of the cells at rest there that are there still after the noise of ``steps`` steps.
    """

    name: str
    state: Float[Tensor, " latent"]
    basin: float
    kept: float


@torch.no_grad()
def find_attractors(
    drift: MixtureDrift, latent: CellState, types: Sequence[str] | None, steps: int, seed: int
) -> list[Attractor]:
    """Let training cells settle, and tell which of their resting places keep them; the largest basin first.

    Cells flow without noise until they stand. Places with the same type around are one basin; where types are not
    known, those between which noise carries more than a twentieth of the cells both ways. A basin that loses most of
    its cells to noise is none.

    Args:
        drift: the landscape; its first member is looked at.
        latent: training cells.
        types: of each; ``None`` where not known, and places have numbers then.
        steps: for which noise then acts.
        seed: of the cells looked at and of the noise.
    """
    generator = Generator().manual_seed(seed)
    looked_at = torch.randperm(len(latent), generator=generator)[:MOST_SETTLED]
    settled = _settled(drift, latent[looked_at])
    place, points = _places(drift, settled)
    shaken = drift.advance(
        settled, torch.zeros_like(settled), _noise(settled, steps, generator), _first(settled)
    )
    after = _nearest(drift, _settled(drift, shaken), points)
    names = [f"state {i + 1}" for i in range(len(points))] if types is None else _names(points, latent, types)
    joined = (
        _exchanging(place, after, len(points))
        if types is None
        else np.array(names)[:, None] == np.array(names)
    )
    basin = connected_components(sp.csr_array(joined), directed=False)[1]
    found = [_attractor(own, basin, place, after, points, names) for own in range(basin.max() + 1)]
    return sorted((a for a in found if a.kept >= _STABLE), key=lambda attractor: -attractor.basin)


def _noise(state: CellState, steps: int, generator: Generator) -> Float[Tensor, "cells steps latent"]:
    return torch.randn(len(state), steps, state.shape[1], generator=generator)


def _first(state: CellState) -> Int[Tensor, " cells"]:
    return torch.zeros(len(state), dtype=torch.long)


def _settled(drift: MixtureDrift, state: CellState) -> CellState:
    for _ in range(_QUIET_STEPS):
        state = state + drift.drift(state)
    return state


def _places(drift: MixtureDrift, settled: CellState) -> tuple[np.ndarray, Population]:
    """The place of each cell, and one state of every place."""
    white = (settled @ drift.whitening[0]).numpy()
    tree = KDTree(white)
    near = tree.sparse_distance_matrix(tree, _SAME)
    _, place = connected_components(sp.csr_array(near) + sp.eye_array(len(white)), directed=False)
    size = np.bincount(place)
    middle = (
        np.stack([np.bincount(place, column) for column in settled.double().numpy().T], 1) / size[:, None]
    )
    return place, torch.from_numpy(middle).float()


def _names(points: Population, latent: Population, types: Sequence[str]) -> list[str]:
    _, near = KDTree(latent.numpy()).query(points.numpy(), k=min(_NEIGHBOURS, len(latent)))
    around = np.asarray(types)[np.reshape(near, (len(points), -1))]
    return [max(sorted(set(row)), key=list(row).count) for row in around.tolist()]


def _nearest(drift: MixtureDrift, state: CellState, points: Population) -> np.ndarray:
    whitening = drift.whitening[0]
    return torch.cdist(state @ whitening, points @ whitening).argmin(1).numpy()


def _exchanging(place: np.ndarray, after: np.ndarray, n: int) -> Bool[np.ndarray, "places places"]:
    """Which places noise carries cells between, both ways."""
    moved = np.zeros((n, n))
    np.add.at(moved, (place, after), 1.0)
    share = moved / np.maximum(moved.sum(1, keepdims=True), 1.0)
    return (share > _EXCHANGE) & (share.T > _EXCHANGE)


def _attractor(
    own: int, basin: np.ndarray, place: np.ndarray, after: np.ndarray, points: Population, names: list[str]
) -> Attractor:
    here = basin[place] == own
    largest = int(np.bincount(place[here]).argmax())
    return Attractor(
        names[largest], points[largest], float(here.mean()), float((basin[after[here]] == own).mean())
    )
