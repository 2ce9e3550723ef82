"""Figures of designs: how near each ends to the target."""

import numpy as np
import pandas as pd

from perturbrl.pl.names import plain_name
from perturbrl.pl.style import (
    BLUE,
    GREY,
    ORANGE,
    Plot,
    new_figure,
    whiskers,
)


def plot_designs(table: pd.DataFrame, unit: str) -> Plot:
    """Distance to the target of each design with its 95 % interval.

    Args:
        table: columns ``name``, ``distance``, ``low``, ``high``.
        unit: what the distance is measured in.
    """
    ordered = table.sort_values("distance", ascending=False)
    figure, (axes,) = new_figure(6.4, 0.8 + 0.4 * len(ordered))
    place = np.arange(len(ordered))
    colours = [{"policy": BLUE, "optimum": GREY}.get(name, ORANGE) for name in ordered["name"]]
    axes.barh(place, ordered["distance"], color=colours, height=0.6)
    whiskers(axes, ordered, "distance", place)
    axes.set_yticks(place, [plain_name(name) for name in ordered["name"]])
    axes.set_ylim(-0.6, len(ordered) - 0.4)
    axes.set_xlabel(f"distance to the target cells that judge ({unit})")
    axes.set_xlim(0, 1.12 * max(float(ordered["high"].max()), 1e-9))
    for level, (distance, high) in enumerate(zip(ordered["distance"], ordered["high"], strict=True)):
        axes.annotate(
            f"{distance:.2g}", (high, level), (5, 0), textcoords="offset points", va="center", fontsize=9
        )
    known = " Grey: the closed-form optimum of the linear twin." if "optimum" in set(table["name"]) else ""
    caption = (
        "Shorter is better. Bars: distance between the means of dosed and of target cells, sampling noise removed; "
        f"whiskers: 95 % interval over cells. Blue: the trained policy; orange: baselines.{known}"
    )
    return Plot("designs", "Distance to the target", caption, figure, ordered)
