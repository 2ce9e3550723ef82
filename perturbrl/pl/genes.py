"""Figures of genes: predicted against measured change, for all genes and for the strongest ones."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib import patheffects
from matplotlib.axes import Axes

from perturbrl.pl.style import BLUE, GREY, ORANGE, Plot, legend_beside, new_figure, shortened

N_NAMED: Final = 8
NAMED_SHARE: Final = 0.2
SMALLEST_RANGE: Final = 0.01
SIGNIFICANT: Final = 0.05


def plot_delta(
    genes: Sequence[str], real: Float[np.ndarray, " genes"], predicted: Float[np.ndarray, " genes"]
) -> Plot:
    """Change of each gene's mean: as observed in held-out target cells, and as predicted for the design."""
    figure, (axes,) = new_figure(5.0, 4.6)
    bound = 1.08 * float(max(np.abs(real).max(), np.abs(predicted).max(), SMALLEST_RANGE))
    axes.axhline(0, color=GREY, lw=0.5)
    axes.axvline(0, color=GREY, lw=0.5)
    axes.plot([-bound, bound], [-bound, bound], color=GREY, lw=1, ls="--")
    axes.scatter(real, predicted, s=14, c=BLUE, alpha=0.6, lw=0, rasterized=True)
    strongest = np.argsort(-np.abs(real))[:N_NAMED]
    strongest = strongest[np.abs(real[strongest]) >= NAMED_SHARE * np.abs(real).max()]
    for side in (strongest[real[strongest] > 0], strongest[real[strongest] < 0]):
        _name_genes(axes, [genes[i] for i in side], real[side], predicted[side], bound)
    axes.set(xlim=(-bound, bound), ylim=(-bound, bound))
    axes.locator_params(nbins=5)
    axes.set_xlabel("observed change (target − start, mean log1p)")
    axes.set_ylabel("predicted change (mean log1p)")
    axes.set_aspect("equal")
    table = pd.DataFrame({"gene": list(genes), "observed": real, "predicted": predicted})
    caption = (
        "One dot per gene: change of its mean log1p(counts per 10,000), the largest observed ones named. Dashed: "
        "perfect prediction."
    )
    return Plot("delta", "Predicted against observed change", caption, figure, table)


def _name_genes(
    axes: Axes,
    names: Sequence[str],
    x: Float[np.ndarray, " named"],
    y: Float[np.ndarray, " named"],
    bound: float,
) -> None:
    """Write names beside their dots, on the side of the diagonal's empty corner and clear of each other."""
    if not len(names):
        return
    side = np.sign(x[0])
    farthest = side * np.abs(x).max()
    # Outside of all dots where there is room, else in the empty corner beside the diagonal.
    outside = abs(farthest) < 0.6 * bound
    column = farthest + 0.1 * bound * side if outside else x.mean() - 0.35 * bound * side
    to_the_left = (side < 0) == outside
    order = np.argsort(y)
    height = y[order].astype(float)
    for i in range(1, len(height)):
        height[i] = max(height[i], height[i - 1] + 0.1 * bound)
    height += min(0.0, 0.95 * bound - height[-1])
    for i, level in zip(order, height, strict=True):
        axes.annotate(
            shortened(names[i]),
            (x[i], y[i]),
            (column, level),
            fontsize=9,
            va="center",
            path_effects=[patheffects.withStroke(linewidth=2.5, foreground="white")],
            ha="right" if to_the_left else "left",
            arrowprops={"arrowstyle": "-", "color": GREY, "lw": 0.6},
        )


def plot_top_genes(table: pd.DataFrame) -> Plot:
    """Log fold change of the genes that change most surely in real cells, measured and predicted.

    Args:
        table: columns ``gene``, ``observed``, ``low``, ``high``, ``predicted`` (log2 fold changes) and ``fdr`` of
            the real test, surest first (see ``predicted_response.top_gene_table``).
    """
    rows = table.iloc[::-1]
    place, observed = np.arange(len(rows)), rows["observed"]
    figure, (axes,) = new_figure(6.4, 1.0 + 0.27 * len(rows))
    axes.axvline(0, color="black", lw=0.8)
    axes.hlines(place, rows["low"], rows["high"], color=ORANGE, lw=1.6)
    sure = (rows["fdr"] < SIGNIFICANT).to_numpy()
    for chosen, fill, words in ((sure, ORANGE, "FDR < 5 %"), (~sure, "white", "not significant")):
        if chosen.any():
            x, y, label = observed[chosen], place[chosen], f"observed, {words}"
            axes.scatter(
                x, y, s=45, marker="s", c=fill, edgecolors=ORANGE, linewidths=1.3, zorder=2, label=label
            )
    axes.scatter(rows["predicted"], place, s=26, c=BLUE, marker="D", zorder=3, label="predicted")
    axes.set_yticks(place, [shortened(name) for name in rows["gene"]])
    axes.set_ylim(-0.7, len(rows) - 0.3)
    axes.set_xlabel("log2 fold change, target against start")
    legend_beside(axes)
    caption = (
        f"The {len(table)} genes with the strongest rank-sum test between held-out target and held-out start cells, "
        "chosen on real cells only. Fold changes are differences of mean log2(1 + counts per 10,000); lines: 95 % "
        "interval over cells."
    )
    return Plot("top_genes", "Genes that change most", caption, figure, table)
