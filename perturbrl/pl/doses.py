"""Figures of doses: which perturbations, how much, and when."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from perturbrl.pl.style import (
    DIVERGING,
    DOWN,
    RISING,
    UP,
    Plot,
    new_figure,
    shortened,
    whiskers,
)

MAX_BARS: Final = 25


MAX_NUMBERED: Final = 8  # steps up to which every dose is written into its square


LEAST_NUMBERED: Final = 0.05


def plot_hits(hits: pd.DataFrame) -> Plot:
    """Mean dose of the policy's strongest perturbations with bootstrap intervals.

    Args:
        hits: columns ``perturbation``, ``dose``, ``low``, ``high``, ``share_of_cells``, strongest first.
    """
    used = hits[hits["share_of_cells"] > 0]
    shown = (used if len(used) else hits).head(MAX_BARS).iloc[::-1]
    figure, (axes,) = new_figure(6.0, 0.9 + 0.26 * len(shown))
    place = np.arange(len(shown))
    colours = [UP if dose >= 0 else DOWN for dose in shown["dose"]]
    axes.barh(place, shown["dose"], color=colours, height=0.7)
    whiskers(axes, shown, "dose", place)
    axes.set_yticks(place, [shortened(name) for name in shown["perturbation"]])
    axes.set_ylim(-0.7, len(shown) - 0.3)
    axes.axvline(0, color="black", lw=0.8)
    axes.set_xlabel("total dose, mean over cells (1 = as measured, or full expression)")
    more = f" {len(shown)} of {len(hits)} that may be dosed." if len(hits) > len(shown) else ""
    caption = f"Total doses of the policy over all steps; whiskers: 95 % bootstrap interval over cells.{more}"
    return Plot("hits", "Doses", caption, figure, hits)


def plot_dose_schedule(names: Sequence[str], doses: Float[np.ndarray, "time perturbations"]) -> Plot:
    """Mean dose of every perturbation at every step as a heat map, the most dosed on top.

    Args:
        names: perturbations that may be dosed.
        doses: mean over cells.
    """
    given = np.abs(doses).sum(0)
    order = np.argsort(-given, kind="stable")
    shown = order[given[order] > 0][:MAX_BARS]
    shown = shown if len(shown) else order[:1]
    values = doses[:, shown].T
    steps = len(doses)
    figure, (axes,) = new_figure(2.9 + min(0.55 * steps, 5.0), 1.2 + 0.27 * len(shown))
    _heat_map(figure, axes, values)
    axes.set_yticks(np.arange(len(shown)), [shortened(names[i]) for i in shown])
    every = max(1, -(-steps // 10))
    axes.set_xticks(np.arange(0, steps, every), np.arange(1, steps + 1, every))
    axes.set_xlabel("step")
    more = f" The {len(shown)} most dosed of {len(names)} are shown." if len(names) > len(shown) else ""
    table = pd.DataFrame(doses, columns=list(names)).rename_axis("step").reset_index()
    table["step"] += 1
    long = table.melt(id_vars="step", var_name="perturbation", value_name="mean_dose")
    caption = f"Mean dose over cells at every step of the policy's design.{more}"
    return Plot("schedule", "When each perturbation is dosed", caption, figure, long)


def _heat_map(figure: Figure, axes: Axes, values: Float[np.ndarray, "rows steps"]) -> None:
    largest = float(np.abs(values).max()) or 1.0
    both = bool((values < 0).any())
    colours, low = (DIVERGING, -largest) if both else (RISING, 0.0)
    image = axes.imshow(values, aspect="auto", cmap=colours, vmin=low, vmax=largest, interpolation="nearest")
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, label="mean dose", shrink=min(1.0, 4.0 / len(values) + 0.4))
    if values.shape[1] > MAX_NUMBERED or largest < LEAST_NUMBERED:
        return
    for (row, step), value in np.ndenumerate(values):
        light = abs(value) < 0.55 * largest  # no dose is the light end of either map
        axes.text(
            step,
            row,
            f"{value:.2f}".replace("-", "−"),
            ha="center",
            va="center",
            fontsize=9,
            color="black" if light else "white",
        )
