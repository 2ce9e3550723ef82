"""Figures of cell states: where dosed cells go, and how their way compares with that of real cells."""

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes

from perturbrl.evaluation.trajectories import TRAJECTORY_METRICS, PairedTrajectories
from perturbrl.pl.names import plain_name
from perturbrl.pl.style import BLUE, GREY, ORANGE, SEQUENTIAL, Plot, legend_beside, new_figure
from perturbrl.schema import Points

MAX_PATHS: Final = 40
MAX_DOTS: Final = 1500
MAX_DIMENSIONS: Final = 25
N_NUMBERED: Final = 12

Paths = Float[np.ndarray, "cells time latent"]


def plot_latent_map(
    groups: Mapping[str, Points], paths: Paths, target: str = "Target cells that judge the design"
) -> Plot:
    """Start, target and dosed cells, and the dosed cells' paths, in the plane that shows the way.

    The horizontal axis runs from the mean of the start to the mean of the target; the vertical one is the
    direction of the largest remaining variation.

    Args:
        groups: cell states by name, with ``start`` and ``target`` among them.
        paths: states of the dosed cells from step to step, the start first.
        target: what the target cells are, for the caption.
    """
    origin, plane = groups["start"].mean(0), _plane(groups, paths)
    figure, (axes,) = new_figure(6.4, 4.6)
    lines = (paths - origin) @ plane
    for line in lines[:MAX_PATHS]:
        axes.plot(*line.T, color=BLUE, lw=0.5, alpha=0.35, zorder=1)
    tables = []
    for (name, cells), colour, marker in zip(groups.items(), (GREY, ORANGE, BLUE), "osD", strict=False):
        spots = (cells - origin) @ plane
        drawn = spots[:: -(-len(spots) // MAX_DOTS)]
        label = f"{name} ({len(spots)} cells)"
        axes.scatter(*drawn.T, s=16, c=colour, marker=marker, alpha=0.6, lw=0, rasterized=True, label=label)
        tables.append(pd.DataFrame({"group": name, "along": spots[:, 0], "across": spots[:, 1]}))
    _mean_path(axes, lines.mean(0))
    _calm(axes)
    axes.set_xlabel("position along the way from start to target (latent units)")
    axes.set_ylabel("largest remaining variation (latent units)")
    legend_beside(axes)
    caption = (
        f"{target}, start cells, and the start cells after the policy's doses. Thin lines: simulated "
        f" trajectories of {min(len(lines), MAX_PATHS)} cells; black: the mean of all."
    )
    tables.append(_path_table(lines))
    return Plot("latent_map", "Where the cells go", caption, figure, pd.concat(tables, ignore_index=True))


def _plane(groups: Mapping[str, Points], paths: Paths) -> Float[np.ndarray, "latent 2"]:
    origin = groups["start"].mean(0)
    way = groups["target"].mean(0) - origin
    way = way / max(float(np.linalg.norm(way)), 1e-12)
    pooled = np.concatenate([*groups.values(), *paths]) - origin
    rest = pooled - np.outer(pooled @ way, way)
    covariance = np.atleast_2d(np.cov(rest.T))
    return np.stack((way, np.linalg.eigh(covariance)[1][:, -1]), axis=1)


def _calm(axes: Axes) -> None:
    """Do not blow up noise: the vertical range is at least two fifths of the horizontal one."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    missing = 0.4 * (right - left) - (high - low)
    if missing > 0:
        axes.set_ylim(low - missing / 2, high + missing / 2)


def _mean_path(axes: Axes, line: Float[np.ndarray, "time 2"]) -> None:
    axes.plot(*line.T, "-", color="black", lw=1.8, marker="o", ms=3.5, label="mean trajectory")
    axes.annotate("", line[-1], line[-2], arrowprops={"arrowstyle": "-|>", "color": "black", "lw": 1.8})


def _path_table(lines: Float[np.ndarray, "cells time 2"]) -> pd.DataFrame:
    cells, steps, _ = lines.shape
    return pd.DataFrame(
        {
            "group": "trajectory",
            "along": lines[..., 0].ravel(),
            "across": lines[..., 1].ravel(),
            "cell": np.repeat(np.arange(cells), steps),
            "step": np.tile(np.arange(steps), cells),
        }
    )


def trajectory_distances(
    paths: Mapping[str, Paths], reference: Points, real: Points, *, whole_way: bool
) -> pd.DataFrame:
    """How far each design's way is from that of real cells, one row per design and latent dimension.

    The columns are the ``TRAJECTORY_METRICS`` of ``trajectories``, in latent units.

    Args:
        paths: simulated states by design.
        reference: real cells' path, from the start on.
        real: states of real cells.
        whole_way: whether these are from the whole way; else from its end, and only ends are compared with them.
    """
    tables = []
    for name, path in paths.items():
        pair = PairedTrajectories(path, reference, real, whole_way)
        columns = {metric.name: metric.function(pair) for metric in TRAJECTORY_METRICS}
        dimension = np.arange(1, reference.shape[1] + 1)
        tables.append(pd.DataFrame({"design": name, "dimension": dimension, **columns}))
    return pd.concat(tables, ignore_index=True)


def plot_trajectory_distances(table: pd.DataFrame, reference: str) -> Plot:
    """Heat map of dynamic time warping distances: designs against latent dimensions.

    Args:
        table: see ``trajectory_distances``.
        reference: what the simulated paths were compared with, as a sentence.
    """
    wide = table.pivot(index="design", columns="dimension", values="dtw").loc[table["design"].unique()]
    shown = wide.iloc[:, :MAX_DIMENSIONS].assign(total=wide.sum(axis=1))
    ordered = shown.sort_values("total", kind="stable").drop(columns="total")
    figure, (axes,) = new_figure(min(3.6 + 0.34 * ordered.shape[1], 8.6), 1.4 + 0.34 * len(ordered))
    image = axes.imshow(ordered.to_numpy(), aspect="auto", cmap=SEQUENTIAL, vmin=0.0, interpolation="nearest")
    axes.spines[:].set_visible(False)
    every = -(-ordered.shape[1] // N_NUMBERED)
    place = np.arange(0, ordered.shape[1], every)
    axes.set_xticks(place, [str(name) for name in ordered.columns[place.tolist()]])
    axes.set_yticks(np.arange(len(ordered)), [plain_name(name) for name in ordered.index])
    axes.set_xlabel("latent dimension")
    figure.colorbar(image, ax=axes, label="DTW distance\n(latent units)")
    more = (
        f" The first {ordered.shape[1]} of {wide.shape[1]} dimensions are shown."
        if wide.shape[1] > ordered.shape[1]
        else ""
    )
    caption = (
        "Dynamic time warping (DTW) distance of the mean simulated trajectory to that of real cells; light is near, "
        f"and the nearest path is on top, which need not be the design that ends nearest. {reference}{more}"
    )
    return Plot("trajectories", "Simulated against real trajectories", caption, figure, table)
