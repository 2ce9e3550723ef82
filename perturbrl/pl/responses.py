"""Figures of predicted responses: how large, which genes, and what they rest on."""

from typing import Final

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Patch
from scipy.cluster.hierarchy import leaves_list, linkage

from perturbrl.pl.style import (
    DIVERGING,
    DOWN,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    UP,
    Plot,
    legend_beside,
    new_figure,
    shortened,
)
from perturbrl.responses.discoveries import LEVEL
from perturbrl.schema import EXPRESSION_UNIT

EVIDENCE_COLOURS: Final = {
    "measured": INK,  # neither of the colours of directions
    "combined": GREEN,
    "transferred": PURPLE,
    "prior": ORANGE,
    "none": GREY,
}
MAX_NAMED: Final = 40
MAX_GENES: Final = 40
MAX_ROWS: Final = 1000
MAX_PANELS: Final = 6
GENES_A_PANEL: Final = 10
# Of the width of a figure of many queries.
NAME_WIDTH: Final = 0.3
# Inches from one name to the next.
LINE: Final = 0.2
# Shifts beyond this share of all are drawn in the colour of the bound.
CLIPPED: Final = 0.99
Z_90: Final = 1.645


def plot_effects(table: pd.DataFrame) -> Plot:
    """Size of each expected effect with its 90 % interval, by what it rests on.

    Args:
        table: columns ``query``, ``evidence``, ``effect``, ``low``, ``high``.
    """
    place = {name: i for i, name in enumerate(EVIDENCE_COLOURS)}
    ordered = table.assign(group=table["evidence"].map(place)).sort_values(
        ["group", "effect"], ascending=[True, False], kind="stable"
    )
    crowd = len(ordered) > MAX_NAMED
    figure = _crowded_effects(ordered) if crowd else _named_effects(ordered)
    named = ", and some of these are named" if crowd else ""
    caption = (
        f"Root of the sum over genes of squared expected differences of {EXPRESSION_UNIT} from control, and the 90 % "
        "interval of the shift in that direction. Within each kind of evidence the largest effects come first"
        f"{named}."
    )
    return Plot("effects", "Size of each effect", caption, figure, table)


def _named_effects(rows: pd.DataFrame) -> Figure:
    return effects_by_name(rows.rename(columns={"effect": "expected", "query": "name"}), "size of the effect")


def effects_by_name(rows: pd.DataFrame, label: str) -> Figure:
    """Effects one below the other with their intervals, coloured by evidence.

    Args:
        rows: columns ``name``, ``evidence``, ``expected``, ``low`` and ``high``.
        label: of the axis.
    """
    figure, (axes,) = new_figure(6.8, 1.1 + 0.27 * len(rows))
    place = np.arange(len(rows))[::-1]
    axes.axvline(0, color="black", lw=0.8)
    for evidence, colour in EVIDENCE_COLOURS.items():
        own = (rows["evidence"] == evidence).to_numpy()
        if own.any():
            axes.hlines(place[own], rows["low"][own], rows["high"][own], color=colour, lw=2)
            axes.scatter(rows["expected"][own], place[own], s=34, color=colour, zorder=3, label=evidence)
    axes.set_yticks(place, [shortened(name) for name in rows["name"]])
    axes.set_ylim(-0.7, len(rows) - 0.3)
    axes.set_xlabel(label)
    legend_beside(axes)
    return figure


def _crowded_effects(rows: pd.DataFrame) -> Figure:
    figure, (axes,) = new_figure(8.6, 4.2)
    place = np.arange(len(rows))
    axes.axhline(0, color="black", lw=0.8)
    for evidence, colour in EVIDENCE_COLOURS.items():
        own = (rows["evidence"] == evidence).to_numpy()
        if own.any():
            low, high = rows["low"][own], rows["high"][own]
            axes.fill_between(place[own], low, high, step="mid", color=colour, alpha=0.3, lw=0)
            label = f"{evidence} ({own.sum():,})"
            axes.scatter(place[own], rows["effect"][own], s=7, color=colour, zorder=3, lw=0, label=label)
    # Rows of one kind of evidence follow each other, the largest effect first.
    first = np.flatnonzero(~rows["evidence"].duplicated().to_numpy())
    largest = first[np.argsort(-rows["effect"].to_numpy()[first], kind="stable")]
    for i in spaced(largest, NAME_WIDTH * len(rows)):
        axes.annotate(
            shortened(str(rows["query"].iloc[i])),
            (place[i], rows["effect"].iloc[i]),
            (5, 3),
            textcoords="offset points",
            fontsize=9,
        )
    axes.set_xticks([])
    axes.set_xlim(-1, len(rows))
    axes.set_xlabel(f"{len(rows):,} queries")
    axes.set_ylabel("size of the effect")
    legend_beside(axes)
    return figure


def spaced(order: Int[np.ndarray, " rows"], gap: float) -> list[int]:
    """Row numbers in the given order without those nearer than ``gap`` to one before."""
    kept: list[int] = []
    for row in order.tolist():
        if all(abs(row - other) >= gap for other in kept):
            kept.append(row)
    return kept


def plot_panel(delta: pd.DataFrame, sure: pd.DataFrame, evidence: pd.Series) -> Plot:
    """Heat map of queries against the genes that change most, both ordered by likeness.

    Args:
        delta: queries x genes, expected shifts.
        sure: the same shape: whether the gene is claimed to shift.
        evidence: of each query.
    """
    genes = delta.columns[np.argsort(-_strength(delta, sure), kind="stable")[:MAX_GENES]]
    values = delta[genes].to_numpy()
    strongest = np.argsort(-np.abs(values).max(axis=1), kind="stable")[:MAX_ROWS]
    rows, columns = strongest[by_likeness(values[strongest])], by_likeness(values.T)
    shown, clear = values[rows][:, columns], sure[genes].to_numpy()[rows][:, columns]
    names = delta.index[rows]
    figure, axes = _panel_axes(len(rows), len(columns))
    bound = float(np.quantile(np.abs(shown), CLIPPED)) or 1.0
    side = np.array([[place] for place in _evidence_place(evidence[names])])
    _evidence_strip(axes[0], side, evidence)
    image = axes[1].imshow(
        shown, aspect="auto", cmap=DIVERGING, vmin=-bound, vmax=bound, interpolation="nearest"
    )
    axes[1].spines[:].set_visible(False)
    axes[1].set_xticks(
        np.arange(len(columns)), [shortened(str(gene)) for gene in genes[columns]], rotation=90, fontsize=9
    )
    axes[1].set_yticks([])
    named = spaced(np.argsort(-np.abs(shown).max(axis=1), kind="stable"), len(rows) / MAX_NAMED)
    axes[0].set_yticks(sorted(named), [shortened(str(names[i])) for i in sorted(named)], fontsize=9)
    marked = (
        ""
        if len(rows) > MAX_NAMED
        else f" Dots: genes that shift at a false discovery rate of {100 * LEVEL:.0f} %."
    )
    if marked:
        axes[1].scatter(*np.nonzero(clear.T), s=5, color=INK, lw=0)
    _colour_bar(figure, axes[1], image, len(rows))
    caption = (
        f"Expected difference of {EXPRESSION_UNIT} from control for the {len(genes)} genes that change most, rows and "
        f"columns beside those like them. Colours are linear; the {100 * (1 - CLIPPED):.0f} % of shifts beyond "
        f"±{bound:.2g} have the colour of that bound.{marked} The strip on the left is the evidence."
    )
    caption += " The most affected rows are named." if len(named) < len(rows) else ""
    caption += (
        f" The {len(rows):,} most affected of {len(delta):,} queries." if len(rows) < len(delta) else ""
    )
    return Plot("panel", "Queries and genes", caption, figure, _long(delta, sure, names, genes[columns]))


def _colour_bar(figure: Figure, axes: Axes, image: AxesImage, n_rows: int) -> None:
    bar = figure.colorbar(
        image,
        ax=axes,
        label="difference from control",
        extend="both",
        shrink=min(1.0, 2.4 / (figure.get_figheight() - 1.2)),
    )
    bar.ax.locator_params(axis="y", nbins=2 if n_rows < 6 else 4)


def _long(delta: pd.DataFrame, sure: pd.DataFrame, queries: pd.Index, genes: pd.Index) -> pd.DataFrame:
    """One row for each square: query, gene, shift and whether it is claimed."""
    parts = [
        table.loc[queries, genes]
        .rename_axis("query")
        .reset_index()
        .melt(id_vars="query", var_name="gene", value_name=name)
        for table, name in ((delta, "shift"), (sure, "sure"))
    ]
    return parts[0].assign(sure=parts[1]["sure"])


def _strength(delta: pd.DataFrame, sure: pd.DataFrame) -> Float[np.ndarray, " genes"]:
    """By gene the largest sure shift; shifts that are not sure come after all that are."""
    size = delta.abs()
    return (size.where(sure, 0.0).max() + 1e-6 * size.max()).to_numpy()


def by_likeness(values: Float[np.ndarray, "rows columns"]) -> Int[np.ndarray, " rows"]:
    """Order of rows in which neighbours are alike (average linkage of Euclidean distances)."""
    if len(values) < 3:
        return np.arange(len(values))
    return leaves_list(linkage(values, "average", optimal_ordering=True)).astype(np.int64)


def _panel_axes(n_rows: int, n_columns: int) -> tuple[Figure, list[Axes]]:
    height = 1.7 + LINE * 1.2 * n_rows if n_rows <= MAX_NAMED else 9.0
    figure = Figure(figsize=(2.6 + LINE * n_columns, height), layout="constrained")
    strip, panel = figure.subplots(1, 2, width_ratios=[0.3, n_columns])
    return figure, [strip, panel]


def _evidence_place(evidence: pd.Series) -> list[int]:
    names = list(EVIDENCE_COLOURS)
    return [names.index(one) for one in evidence]


def _evidence_strip(axes: Axes, places: Int[np.ndarray, "rows 1"], evidence: pd.Series) -> None:
    axes.imshow(
        places,
        aspect="auto",
        cmap=ListedColormap(list(EVIDENCE_COLOURS.values())),
        vmin=-0.5,
        vmax=len(EVIDENCE_COLOURS) - 0.5,
        interpolation="nearest",
    )
    axes.spines[:].set_visible(False)
    axes.set_xticks([])
    present = [name for name in EVIDENCE_COLOURS if (evidence == name).any()]
    axes.figure.legend(
        handles=[Patch(color=EVIDENCE_COLOURS[name], label=name) for name in present],
        frameon=False,
        loc="outside upper left",
        ncols=len(present),
        fontsize=9,
    )


def plot_response_genes(delta: pd.DataFrame, sd: pd.DataFrame) -> Plot:
    """The genes that each of a few queries shifts most, with 90 % intervals.

    Args:
        delta: queries x genes, the queries to draw first (``MAX_PANELS`` are).
        sd: the same shape, standard deviations; NaN draws no interval.
    """
    shown = delta.index[:MAX_PANELS]
    figure, panels = grid(len(shown), 3.6, 0.9 + 0.2 * GENES_A_PANEL)
    tables = []
    for axes, query in zip(panels, shown, strict=False):
        order = np.argsort(-delta.loc[query].abs().to_numpy(), kind="stable")[:GENES_A_PANEL]
        shift, half = delta.loc[query].iloc[order], Z_90 * sd.loc[query].iloc[order]
        place = np.arange(len(order))[::-1]
        colours = [UP if value > 0 else DOWN for value in shift]
        axes.axvline(0, color="black", lw=0.8)
        axes.hlines(place, shift - half, shift + half, color=colours, lw=1.6)
        axes.scatter(shift, place, s=26, c=colours, zorder=3)
        axes.set_yticks(place, [shortened(str(gene)) for gene in shift.index], fontsize=9)
        axes.set_title(shortened(str(query)), fontsize=10, loc="left")
        axes.locator_params(axis="x", nbins=5)
        tables.append(
            pd.DataFrame(
                {
                    "query": query,
                    "gene": shift.index,
                    "shift": shift.to_numpy(),
                    "low": (shift - half).to_numpy(),
                    "high": (shift + half).to_numpy(),
                }
            )
        )
    figure.supxlabel(f"expected difference of {EXPRESSION_UNIT} from control", fontsize=10)
    more = (
        f" {len(shown)} of {len(delta):,} queries, the surest of each kind."
        if len(delta) > len(shown)
        else ""
    )
    caption = (
        "The genes with the largest expected shift under each query; lines: 90 % intervals, each of its gene alone."
        f"{more}"
    )
    return Plot(
        "response_genes", "Genes that change most", caption, figure, pd.concat(tables, ignore_index=True)
    )


def grid(n: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """Panels side by side, up to three in a row."""
    columns = 2 if n == 4 else min(n, 3)
    rows = -(-n // columns)
    figure = Figure(figsize=(width * columns if n > 1 else 1.3 * width, height * rows), layout="constrained")
    every = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for axes in every[n:]:
        axes.set_axis_off()
    for axes in every:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, every[:n]
