"""The report's figures: matplotlib, readable in print and without telling red from green."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

# Okabe and Ito 2008: distinguishable with every common form of colour blindness.
BLUE: Final = "#0072B2"
ORANGE: Final = "#E69F00"
GREEN: Final = "#009E73"
VERMILION: Final = "#D55E00"
GREY: Final = "#7F7F7F"
MAX_BARS: Final = 25
N_NAMED: Final = 8
NAMED_SHARE: Final = 0.2


@dataclass(frozen=True)
class Plot:
    """A figure with the numbers behind it.

    Attributes:
        name: file name without ending.
        title: heading in the report.
        caption: what is drawn, in one or two sentences.
        figure: the drawing.
        data: what was drawn, one row per mark.
    """

    name: str
    title: str
    caption: str
    figure: Figure
    data: pd.DataFrame

    def save(self, folder: Path) -> Path:
        """Write PNG, SVG and CSV; the path of the PNG."""
        folder.mkdir(parents=True, exist_ok=True)
        self.data.to_csv(folder / f"{self.name}.csv", index=False)
        self.figure.savefig(folder / f"{self.name}.svg", bbox_inches="tight")
        png = folder / f"{self.name}.png"
        self.figure.savefig(png, dpi=150, bbox_inches="tight")
        plt.close(self.figure)
        return png


def _axes(width: float = 6.0, height: float = 4.0) -> tuple[Figure, plt.Axes]:
    figure, axes = plt.subplots(figsize=(width, height), layout="constrained")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def plot_designs(table: pd.DataFrame, unit: str) -> Plot:
    """Distance to the target of each design with its 95 % interval.

    Args:
        table: columns ``name``, ``distance``, ``low``, ``high``.
        unit: what the distance is measured in.
    """
    ordered = table.sort_values("distance", ascending=False)
    figure, axes = _axes(6.0, 0.8 + 0.4 * len(ordered))
    place = np.arange(len(ordered))
    colours = [{"policy": BLUE, "optimum": GREY}.get(name, ORANGE) for name in ordered["name"]]
    errors = np.abs(ordered[["low", "high"]].to_numpy().T - ordered["distance"].to_numpy())
    axes.barh(place, ordered["distance"], color=colours, height=0.6)
    axes.errorbar(ordered["distance"], place, xerr=errors, fmt="none", ecolor="black", capsize=3, lw=1)
    axes.set_yticks(place, ordered["name"])
    axes.set_xlabel(f"distance to held-out target cells ({unit})")
    axes.set_xlim(left=0)
    caption = (
        "Shorter is better. Bars: distance between the means, sampling noise removed; whiskers: 95 % interval over "
        "cells. Blue: the policy; grey: the closed form, where the twin is linear."
    )
    return Plot("designs", "Distance to the target", caption, figure, ordered)


def plot_hits(hits: pd.DataFrame) -> Plot:
    """Mean dose of the policy's strongest perturbations with bootstrap intervals.

    Args:
        hits: columns ``perturbation``, ``dose``, ``low``, ``high``, ``share_of_cells``, strongest first.
    """
    used = hits[hits["share_of_cells"] > 0]
    shown = (used if len(used) else hits).head(MAX_BARS).iloc[::-1]
    figure, axes = _axes(6.0, 0.9 + 0.26 * len(shown))
    place = np.arange(len(shown))
    errors = np.abs(shown[["low", "high"]].to_numpy().T - shown["dose"].to_numpy())
    axes.barh(
        place, shown["dose"], color=[BLUE if dose >= 0 else VERMILION for dose in shown["dose"]], height=0.7
    )
    axes.errorbar(shown["dose"], place, xerr=errors, fmt="none", ecolor="black", capsize=2, lw=1)
    axes.set_yticks(place, shown["perturbation"])
    axes.axvline(0, color="black", lw=0.8)
    axes.set_xlabel("mean dose over cells (1 = the perturbation as measured)")
    more = f" {len(shown)} of {len(hits)} that may be dosed." if len(hits) > len(shown) else ""
    caption = f"Doses of the policy; whiskers: 95 % bootstrap interval over cells.{more}"
    return Plot("hits", "Doses", caption, figure, hits)


def plot_latent_map(
    groups: Mapping[str, Float[np.ndarray, "_ latent"]], path: Float[np.ndarray, "steps latent"]
) -> Plot:
    """Start, target and dosed cells in the plane that shows the way.

    The horizontal axis runs from the mean of the start to the mean of the target; the vertical one is the
    direction of the largest remaining variation.

    Args:
        groups: cell states by name, with ``start`` and ``target`` among them.
        path: mean state of the dosed cells from step to step.
    """
    way = groups["target"].mean(0) - groups["start"].mean(0)
    way = way / max(float(np.linalg.norm(way)), 1e-12)
    pooled = np.concatenate(list(groups.values())) - groups["start"].mean(0)
    rest = pooled - np.outer(pooled @ way, way)
    across = np.linalg.svd(rest - rest.mean(0), full_matrices=False)[2][0]
    plane = np.stack((way, across), axis=1)
    origin = groups["start"].mean(0)
    figure, axes = _axes(6.0, 4.6)
    tables = []
    for (name, cells), colour, marker in zip(groups.items(), (GREY, ORANGE, BLUE), "osD", strict=False):
        x, y = ((cells - origin) @ plane).T
        axes.scatter(x, y, s=14, c=colour, marker=marker, alpha=0.45, lw=0, label=name)
        tables.append(pd.DataFrame({"group": name, "along": x, "across": y}))
    x, y = ((path - origin) @ plane).T
    axes.plot(x, y, "-", color="black", lw=1.5, label="mean path")
    axes.plot(x[-1:], y[-1:], ">", color="black", ms=7)
    axes.set_xlabel("latent position along start → target")
    axes.set_ylabel("largest remaining variation")
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    caption = "Held-out cells before and after the policy's doses, beside held-out cells of the target."
    return Plot("latent_map", "Where the cells go", caption, figure, pd.concat(tables))


def plot_delta(
    genes: Sequence[str], real: Float[np.ndarray, " genes"], predicted: Float[np.ndarray, " genes"]
) -> Plot:
    """Change of each gene's mean: as observed in held-out target cells, and as predicted for the design."""
    figure, axes = _axes(5.0, 4.6)
    bound = 1.08 * float(max(np.abs(real).max(), np.abs(predicted).max(), 1e-6))
    axes.plot([-bound, bound], [-bound, bound], color=GREY, lw=1, ls="--")
    axes.scatter(real, predicted, s=12, c=BLUE, alpha=0.5, lw=0)
    strongest = np.argsort(-np.abs(real))[:N_NAMED]
    strongest = strongest[np.abs(real[strongest]) >= NAMED_SHARE * np.abs(real).max()]
    for side in (strongest[real[strongest] > 0], strongest[real[strongest] < 0]):
        _name_genes(axes, [genes[i] for i in side], real[side], predicted[side], bound)
    axes.set(xlim=(-bound, bound), ylim=(-bound, bound))
    axes.set_xlabel("observed change (log1p, target − start)")
    axes.set_ylabel("predicted change (log1p)")
    axes.set_aspect("equal")
    table = pd.DataFrame({"gene": list(genes), "observed": real, "predicted": predicted})
    caption = "One dot per gene, the largest observed changes named; dashed: perfect prediction."
    return Plot("delta", "Predicted against observed change", caption, figure, table)


def _name_genes(
    axes: plt.Axes,
    names: Sequence[str],
    x: Float[np.ndarray, " named"],
    y: Float[np.ndarray, " named"],
    bound: float,
) -> None:
    """Write names beside their dots, on the side of the diagonal's empty corner and clear of each other."""
    if not len(names):
        return
    outward = -np.sign(x[0])
    order = np.argsort(y)
    height = y[order].astype(float)
    for i in range(1, len(height)):
        height[i] = max(height[i], height[i - 1] + 0.1 * bound)
    height += min(0.0, 0.95 * bound - height[-1])
    for i, level in zip(order, height, strict=True):
        axes.annotate(
            names[i],
            (x[i], y[i]),
            (x[order].mean() + outward * 0.35 * bound, level),
            fontsize=9,
            va="center",
            ha="right" if outward < 0 else "left",
            arrowprops={"arrowstyle": "-", "color": GREY, "lw": 0.6},
        )


def plot_learning(metrics: pd.DataFrame) -> Plot:
    """Return, KL of both stages and the natural step's outcome over the iterations.

    Args:
        metrics: one row per iteration, as the CSV logger writes them.
    """
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(6.0, 4.8), sharex=True, layout="constrained")
    for axes in (top, bottom):
        axes.spines[["top", "right"]].set_visible(False)
    iteration = metrics["epoch"]
    top.plot(iteration, metrics["return"], color=BLUE)
    top.set_ylabel("mean return")
    for column, colour, label in (
        ("trust_region/kl", ORANGE, "after natural step"),
        ("ppo/kl", GREEN, "after PPO epochs"),
    ):
        if column in metrics:
            bottom.plot(iteration, metrics[column], color=colour, label=label, lw=1)
    if "trust_region/outcome" in metrics:
        rejected = metrics[metrics["trust_region/outcome"] > 0]
        if len(rejected):
            kl = rejected["trust_region/kl"]
            bottom.plot(rejected["epoch"], kl, "x", color=VERMILION, label="step rejected")
    bottom.set_ylabel("KL to old policy (nats)")
    bottom.set_xlabel("iteration")
    if bottom.get_legend_handles_labels()[0]:
        bottom.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    caption = "Return of the exploring policy, and how far each stage moved the policy in every iteration."
    return Plot("learning", "Learning curves", caption, figure, metrics)
