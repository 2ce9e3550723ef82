"""Figures of cells that nobody doses: beside real cells in their order, and the types that they end in."""

from typing import Final, Literal, NamedTuple

import numpy as np
import pandas as pd

from perturbrl.evaluation.undosed_ways import UndosedWays
from perturbrl.pl.names import plain_name
from perturbrl.pl.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    SEQUENTIAL,
    Plot,
    legend_beside,
    new_figure,
    shortened,
)

MOST_FATES: Final = 12
WAYS: Final = {
    "landscape": ("moved by the landscape", BLUE),
    "no_op": ("staying where they start", GREY),
    "interpolated": ("halfway between the parts beside", ORANGE),
    "replicate": ("other real cells", GREEN),
}
_BAR: Final = 0.8


class _Words(NamedTuple):
    title: str
    short: str
    between: str


_METRICS: Final = {
    "dtw": _Words(
        "dynamic time warping",
        "DTW distance",
        "Dynamic time warping (DTW) distance between the mean path of simulated cells that end in a type and that",
    ),
    "wasserstein": _Words(
        "Wasserstein",
        "Wasserstein distance",
        "1-Wasserstein distance between all states of simulated cells that end in a type and those",
    ),
}


def plot_undosed_order(ways: UndosedWays) -> Plot:
    """Energy distance to held-out real cells, by part of their order."""
    table = ways.by_time
    figure, (axes,) = new_figure(6.4, 3.6)
    place = np.arange(len(table))
    for name, (label, colour) in WAYS.items():
        axes.plot(place, table[name], "o-", color=colour, label=label, ms=4)
    axes.set_xticks(
        place, [f"{low:.3g} to\n{high:.3g}" for low, high in zip(table["from"], table["until"], strict=True)]
    )
    # What a replicate differs by is noise around 0; beyond it, distances differ by factors.
    highest = float(table[list(WAYS)].max().max())
    noise = max(float(table["replicate"].abs().max()), 1e-3 * highest)
    axes.set_yscale("symlog", linthresh=noise)
    axes.set_ylim(-1.2 * noise, 1.5 * highest)
    axes.set_xlabel("part of the order")
    axes.set_ylabel("energy distance (latent units),\nlinear below the replicate's")
    legend_beside(axes)
    caption = (
        f"Energy distance of cells to the held-out real cells of each part of the order. {ways.said} The first part, "
        "where they start, is left out."
    )
    return Plot("undosed_order", "Undosed cells beside real cells, by time", caption, figure, table)


def plot_undosed_components(ways: UndosedWays, metric: Literal["dtw", "wasserstein"] = "dtw") -> Plot:
    """Distance to real cells, of paths (``dtw``) or of all states (``wasserstein``), by fate and latent component."""
    words = _METRICS[metric]
    table = ways.by_component
    wide = table.pivot(index=["fate", "way"], columns="component", values=metric)
    rows = [
        row for fate in table["fate"].unique() for row in ((fate, way) for way in WAYS) if row in wide.index
    ]
    shown = wide.loc[rows]
    figure, (axes,) = new_figure(min(4.6 + 0.3 * shown.shape[1], 9.0), 1.4 + 0.3 * len(shown))
    image = axes.imshow(shown.to_numpy(), aspect="auto", cmap=SEQUENTIAL, vmin=0.0, interpolation="nearest")
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(shown.shape[1]), [str(name) for name in shown.columns], fontsize=8)
    axes.set_yticks(np.arange(len(shown)), [f"{shortened(fate)}: {WAYS[way][0]}" for fate, way in rows])
    axes.set_xlabel("latent component")
    figure.colorbar(image, ax=axes, label=f"{words.short}\n(latent units)")
    caption = f"{words.between} of held-out real cells of the types that they pass through; light is near. {ways.said}"
    title = f"Undosed cells beside real cells, by component: {words.title}"
    return Plot(f"undosed_{metric}", title, caption, figure, table)


def plot_fates(table: pd.DataFrame, said: str) -> Plot:
    """Share of cells that end in each cell type, by what was done to them.

    Args:
        table: see ``fates``.
        said: which cells they are, as a sentence.
    """
    wide = table.pivot(index="cell_type", columns="design", values="share")[table["design"].unique()]
    shown = wide.loc[wide.max(axis=1).sort_values(ascending=False, kind="stable").index[:MOST_FATES]]
    figure, (axes,) = new_figure(6.4, 1.4 + 0.42 * len(shown))
    place, thick = np.arange(len(shown)), _BAR / shown.shape[1]
    colours = (BLUE, GREY, ORANGE, GREEN)
    for number, (design, colour) in enumerate(zip(shown.columns, colours, strict=False)):
        where = place + thick * (number - (shown.shape[1] - 1) / 2)
        axes.barh(where, shown[design], thick, color=colour, label=plain_name(str(design)))
    axes.set_yticks(place, [shortened(str(name)) for name in shown.index])
    axes.invert_yaxis()
    axes.set_xlim(0.0, 1.0)
    axes.set_xlabel("share of cells")
    legend_beside(axes)
    left_out = f" Of {len(wide)} types the {len(shown)} with most cells." if len(wide) > len(shown) else ""
    caption = f"Cell types that settled cells are in, told by the nearest training cells. {said}{left_out}"
    return Plot("fates", "Fates with and without the design", caption, figure, table)
