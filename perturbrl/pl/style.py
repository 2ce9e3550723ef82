"""What every figure of the report has in common: colours, type, and the numbers saved beside the drawing."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

# Okabe and Ito 2008: distinguishable with every common form of colour blindness.
BLUE: Final = "#0072B2"
ORANGE: Final = "#E69F00"
GREEN: Final = "#009E73"
VERMILION: Final = "#D55E00"
PURPLE: Final = "#CC79A7"
GREY: Final = "#7F7F7F"
INK: Final = "#1D1D1F"
# What rises and what falls, in every figure.
UP: Final = VERMILION
DOWN: Final = BLUE
DIVERGING: Final = LinearSegmentedColormap.from_list("down_to_up", [DOWN, "white", UP])
RISING: Final = LinearSegmentedColormap.from_list("none_to_up", ["white", UP])
# Of distances, which have no direction.
SEQUENTIAL: Final = "Blues"
LONGEST_LABEL: Final = 26
DPI: Final = 150

# As scanpy's figure parameters: text stays text in vector files, so that a journal can edit it.
STYLE: Final[dict[Any, Any]] = {
    "font.size": 10,
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "svg.hashsalt": "perturbrl",
}


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
        png = folder / f"{self.name}.png"
        with rc_context(STYLE):
            self.figure.savefig(folder / f"{self.name}.svg", bbox_inches="tight", metadata={"Date": None})
            self.figure.savefig(png, dpi=DPI, bbox_inches="tight")
        return png


def new_figure(width: float, height: float, n_rows: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure of its own (no global state, so that a notebook's figures are left alone), axes top to bottom."""
    figure = Figure(figsize=(width, height), layout="constrained")
    all_axes = list(figure.subplots(n_rows, 1, sharex=True, squeeze=False)[:, 0])
    for axes in all_axes:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, all_axes


def legend_beside(axes: Axes) -> None:
    """The legend to the right of the axes, where it cannot cover data."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def shortened(name: str) -> str:
    """A name that fits beside an axis; the table beside the figure has it whole."""
    return name if len(name) <= LONGEST_LABEL else name[: LONGEST_LABEL - 1] + "…"


def whiskers(axes: Axes, table: pd.DataFrame, column: str, place: np.ndarray) -> None:
    """Draw the 95 % interval of each bar: columns ``low`` and ``high`` beside ``column``."""
    errors = np.abs(table[["low", "high"]].to_numpy().T - table[column].to_numpy())
    axes.errorbar(table[column], place, xerr=errors, fmt="none", ecolor="black", capsize=2.5, lw=1)
