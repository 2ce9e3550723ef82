"""Figures of predicted responses beside measured ones: how near, and whether intervals hold."""

import numpy as np
import pandas as pd

from perturbrl.pl.responses import MAX_PANELS, grid
from perturbrl.pl.style import BLUE, GREY, Plot, legend_beside, new_figure, shortened
from perturbrl.schema import EXPRESSION_UNIT


def plot_predicted_against_measured(table: pd.DataFrame) -> Plot:
    """Change of each gene under held-out perturbations, predicted and measured.

    Args:
        table: columns ``condition``, ``gene``, ``predicted``, ``measured``; the conditions in order of interest.
    """
    shown = list(dict.fromkeys(table["condition"]))[:MAX_PANELS]
    figure, panels = grid(len(shown), 3.0, 3.0)
    for axes, condition in zip(panels, shown, strict=False):
        own = table[table["condition"] == condition]
        x, y = own["measured"].to_numpy(), own["predicted"].to_numpy()
        bound = 1.08 * max(float(np.abs(np.r_[x, y]).max()), 0.01)
        axes.axhline(0, color=GREY, lw=0.5)
        axes.axvline(0, color=GREY, lw=0.5)
        axes.plot([-bound, bound], [-bound, bound], color=GREY, lw=1, ls="--")
        axes.scatter(x, y, s=9, c=BLUE, alpha=0.55, lw=0, rasterized=True)
        axes.set(xlim=(-bound, bound), ylim=(-bound, bound), aspect="equal")
        axes.locator_params(nbins=4)
        r = np.corrcoef(x, y)[0, 1] if x.std() > 0 and y.std() > 0 else np.nan
        axes.set_title(f"{shortened(condition)}\nr = {r:.2f}".replace("-", "−"), fontsize=10, loc="left")
    figure.supxlabel(f"measured difference of {EXPRESSION_UNIT} from control", fontsize=10)
    figure.supylabel("predicted difference", fontsize=10)
    n = table["condition"].nunique()
    more = (
        f" {len(shown)} of {n} held-out conditions: those with the largest measured effects."
        if n > len(shown)
        else ""
    )
    caption = f"One dot per gene. Dashed: perfect prediction; r: correlation over genes.{more}"
    return Plot("predicted_against_measured", "Predicted against measured change", caption, figure, table)


def plot_calibration(table: pd.DataFrame) -> Plot:
    """How many of the measured shifts lie inside intervals that promise a share.

    Args:
        table: columns ``level`` (promised share), ``covered`` (found), ``low``, ``high`` (95 % over perturbations).
    """
    figure, (axes,) = new_figure(4.6, 4.2)
    promised, covered = 100 * table["level"], 100 * table["covered"]
    axes.plot([0, 100], [0, 100], color=GREY, lw=1, ls="--", label="as promised")
    if table[["low", "high"]].notna().all(axis=None):
        axes.fill_between(promised, 100 * table["low"], 100 * table["high"], color=BLUE, alpha=0.18, lw=0)
    axes.plot(promised, covered, color=BLUE, marker="o", ms=5, label="measured")
    for x, y in zip(promised, covered, strict=True):
        axes.annotate(f"{y:.0f}", (x, y), (5, -12), textcoords="offset points", fontsize=9)
    axes.set(xlim=(40, 100), ylim=(min(40.0, covered.min() - 8), 101), aspect="auto")
    axes.set_xlabel("promised: central interval (%)")
    axes.set_ylabel("measured shifts inside (%)")
    legend_beside(axes)
    caption = (
        "Share of genes and held-out perturbations whose measured shift lies inside the predicted interval, the "
        "sampling noise of the cells that judge included. Below the line intervals are too narrow, above it too wide. "
        "Band: 95 % interval over perturbations."
    )
    return Plot("calibration", "Do the intervals hold?", caption, figure, table)
