"""The Waddington picture: quasi-potential of the twin's free dynamics with attractors and the policy's paths."""

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from matplotlib import patheffects
from matplotlib.axes import Axes
from scipy.stats import gaussian_kde
from torch import Generator

from perturbrl.errors import ConfigurationError, DataError
from perturbrl.evaluation.undosed_ways import undosed_path
from perturbrl.pl.style import VERMILION, Plot, new_figure
from perturbrl.schema import CellState, Points
from perturbrl.twins.base import DigitalTwin

GRID: Final = 90
DEPTH: Final = 6.0
MAX_DENSITY_CELLS: Final = 6000
MAX_PATHS: Final = 40
BANDWIDTH: Final = 0.4  # of Scott's rule, which is made for one hump and would merge neighbouring wells
LABEL_GAP: Final = 0.07
_THINNEST: Final = 1e-6  # width over length of a cloud that has a density in the plane


@torch.no_grad()
def wandering_states(twin: DigitalTwin, n_cells: int = 2000, transitions: int = 12, seed: int = 0) -> Points:
    """States that undosed cells pass through on their way from anywhere between the attractors to rest.

    Cells start uniformly in the box that the attractors span and all their states are pooled, so the density
    shows valleys as well as wells.

    Args:
        twin: must know its attractors.
        n_cells: cells that wander.
        transitions: transitions without dose that each makes.
        seed: of starts and noise.

    Raises:
        ConfigurationError: the twin has fewer than two attractors.
    """
    if len(twin.attractors()) < 2:
        raise ConfigurationError(
            f"{type(twin).__name__} has {len(twin.attractors())} attractors; a landscape needs at least 2"
        )
    generator = Generator(device=twin.start_cells.device).manual_seed(seed)
    corners = torch.cat(list(twin.attractors().values()))
    low, high = corners.min(dim=0).values, corners.max(dim=0).values
    uniform = torch.rand(n_cells, twin.latent_dim, generator=generator, device=corners.device)
    states = [low + (high - low) * uniform]
    member = twin.draw_members(n_cells, generator)
    nothing = torch.zeros(n_cells, twin.perturbations.n_perturbations, device=corners.device)
    for _ in range(transitions):
        states.append(twin.next_state(states[-1], nothing, twin.draw_noise(n_cells, generator), member))
    return torch.cat(states[1:]).cpu().numpy()


def travelled_states(twin: DigitalTwin, start: CellState, n_cells: int = 2000, seed: int = 0) -> Points:
    """States that undosed cells pass through from where real cells are to where they come to rest.

    All their states are pooled, so the density shows valleys as well as wells, and nothing where no cell would be.

    Args:
        twin: learned from cells.
        start: real cells.
        n_cells: cells that are followed, at most.
        seed: of the choice of cells and of noise.
    """
    rows = torch.randperm(len(start), generator=Generator().manual_seed(seed))[:n_cells]
    first = start[rows].to(twin.start_cells.device)
    return undosed_path(twin, first, twin.relaxation_steps, seed).flatten(0, 1).cpu().numpy()


def plot_landscape(
    states: Points,
    attractors: Mapping[str, Points],
    paths: Float[np.ndarray, "cells time latent"],
    *,
    target: str | None = None,
    said: str = "",
) -> Plot:
    """Quasi-potential -log p over the two leading principal components of the states, with paths on it.

    Args:
        states: of free cells, see ``wandering_states`` and ``travelled_states``; their density p makes the potential.
        attractors: named stable states, each ``[1, latent]``.
        paths: states of dosed cells from step to step, the start first.
        target: attractor to stress.
        said: whose landscape it is, as a sentence.

    Raises:
        DataError: the states lie in a point or on a line.
    """
    centre, plane, share = _plane(np.concatenate([states, *attractors.values()]))
    wells = {name: (state[0] - centre) @ plane for name, state in attractors.items()}
    cloud = (_thinned(states) - centre) @ plane
    _require_area(cloud, states.shape[1])
    lines = (paths[:MAX_PATHS] - centre) @ plane
    x, y = _grid(np.concatenate([cloud, lines.reshape(-1, 2), np.stack(list(wells.values()))]))
    potential = _potential(cloud, x, y)
    figure, (axes,) = new_figure(7.4, 5.2)
    levels = np.linspace(0.0, DEPTH, 13)
    filled = axes.contourf(x, y, potential, levels=levels, cmap="Blues_r", extend="max")
    axes.contour(x, y, potential, levels=levels[::2], colors="black", linewidths=0.3, alpha=0.4)
    figure.colorbar(filled, ax=axes, label="quasi-potential −log(p / max p)")
    for line in lines:
        axes.plot(*line.T, color="black", lw=0.6, alpha=0.35)
    mean = lines.mean(axis=0)
    axes.plot(*mean.T, color=VERMILION, lw=2.2, marker="o", ms=4, mec="white", mew=0.6, label="mean path")
    axes.plot(*mean[0], "s", mfc="none", mec=VERMILION, mew=2.0, ms=13, label="start")
    _name_wells(axes, wells, target)
    axes.set_xlabel(f"principal component 1 ({100 * share[0]:.0f} % of the variance)")
    axes.set_ylabel(f"principal component 2 ({100 * share[1]:.0f} %)")
    axes.legend(loc="upper left", bbox_to_anchor=(0.0, -0.12), ncols=2, frameon=False)
    caption = (
        f"Colour: quasi-potential of undosed cells, 0 in the deepest valley. Thin lines: {len(lines)} dosed cells, "
        f"thick: their mean, from the square on. Diamonds: attractors. {said}"
    ).rstrip()
    table = _table(x, y, potential, wells, lines)
    return Plot("landscape", "The landscape and the policy's way through it", caption, figure, table)


def _plane(points: Points) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centre, the two leading directions, and the share of variance along each."""
    centre = points.mean(axis=0)
    _, size, directions = np.linalg.svd(_thinned(points) - centre, full_matrices=False)
    return centre, directions[:2].T, (size**2 / (size**2).sum())[:2]


def _require_area(cloud: Float[np.ndarray, "cells plane"], n_dimensions: int) -> None:
    size = np.linalg.svd(cloud - cloud.mean(axis=0), compute_uv=False)
    if len(size) < 2 or size[1] <= _THINNEST * size[0]:
        raise DataError(
            f"a landscape needs states that spread over a plane, and {len(cloud)} states in {n_dimensions} dimensions "
            "lie in a point or on a line; draw one dimension as a histogram"
        )


def _thinned(points: Points) -> Points:
    return points[:: max(1, len(points) // MAX_DENSITY_CELLS)]


def _grid(points: Float[np.ndarray, "points 2"]) -> tuple[np.ndarray, np.ndarray]:
    low, high = points.min(axis=0), points.max(axis=0)
    margin = 0.12 * (high - low)
    axes = [np.linspace(a, b, GRID) for a, b in zip(low - margin, high + margin, strict=True)]
    x, y = np.meshgrid(*axes)
    return x, y


def _potential(cloud: Float[np.ndarray, "cells 2"], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    density = gaussian_kde(cloud.T, bw_method=BANDWIDTH * len(cloud) ** (-1 / 6))
    p = density(np.stack([x.ravel(), y.ravel()])).reshape(x.shape)
    return -np.log(np.maximum(p / p.max(), np.exp(-2 * DEPTH)))


def _name_wells(axes: Axes, wells: Mapping[str, np.ndarray], target: str | None) -> None:
    halo = [patheffects.withStroke(linewidth=2.5, foreground="white")]
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    gap = LABEL_GAP * (high - low)
    taken: list[tuple[float, float]] = []
    for name, (x, y) in sorted(wells.items(), key=lambda item: item[1][1]):
        axes.plot(x, y, "D", color=VERMILION if name == target else "white", ms=7, mec="black", mew=0.8)
        height = y + gap / 2
        while any(
            abs(height - other) < 0.8 * gap and abs(x - where) < (right - left) / 4 for where, other in taken
        ):
            height += 0.8 * gap
        taken.append((x, height))
        side = "right" if x > left + 0.6 * (right - left) else "left"
        if height > y + gap:
            axes.plot([x, x], [y, height], color="black", lw=0.6)
        text = f"{name} (target)" if name == target else name
        axes.text(x, height, text, ha=side, fontsize=9, path_effects=halo)


def _table(
    x: np.ndarray, y: np.ndarray, potential: np.ndarray, wells: Mapping[str, np.ndarray], lines: np.ndarray
) -> pd.DataFrame:
    grid = pd.DataFrame({"kind": "potential", "x": x.ravel(), "y": y.ravel(), "value": potential.ravel()})
    named = pd.DataFrame([{"kind": "attractor", "name": n, "x": p[0], "y": p[1]} for n, p in wells.items()])
    cells, times, _ = lines.shape
    flat = lines.reshape(-1, 2)
    walked = pd.DataFrame({"kind": "path", "x": flat[:, 0], "y": flat[:, 1]})
    walked["cell"], walked["step"] = np.repeat(np.arange(cells), times), np.tile(np.arange(times), cells)
    return pd.concat([named, walked, grid], ignore_index=True)
