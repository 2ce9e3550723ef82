"""The tables of a landscape: fates with and without the design, and undosed cells beside real ones."""

from itertools import product
from typing import Final

import numpy as np
import pandas as pd

from perturbrl.evaluation.undosed_ways import UndosedWays
from perturbrl.pl.names import plain_name
from perturbrl.pl.undosed_ways import WAYS
from perturbrl.reporting.report_tables import CellText, Table, TableRow
from perturbrl.reporting.report_text import number, percent

MOST_COMPONENTS: Final = 20
_METRICS: Final = {"dtw": "DTW", "wasserstein": "Wasserstein"}
_CEILING: Final = "replicate"
_MEANING: Final = {
    "landscape": "Cells that nobody doses, moved by the learned landscape.",
    "no_op": "The same cells, if they stayed where they start.",
    "interpolated": "Halfway between a training cell of the part before and one of the part after.",
    "replicate": "Training cells of the same part or types: about as near as real cells come to real cells.",
}


def fate_table(frame: pd.DataFrame, said: str) -> Table:
    """Share of cells that end in each type, the most frequent first.

    Args:
        frame: see ``fates``.
        said: which cells they are, as a sentence.
    """
    designs = list(frame["design"].unique())
    by_type = {
        str(name): {str(row["design"]): _share(row) for _, row in own.iterrows()}
        for name, own in frame.groupby("cell_type")
    }
    order = frame.groupby("cell_type")["share"].max().sort_values(ascending=False, kind="stable").index
    rows = tuple(TableRow((str(name), *(by_type[str(name)][design] for design in designs))) for name in order)
    note = (
        f"Share of cells that are in a type once they have settled, told by the nearest training cells. {said} "
        "Brackets: 95 % intervals over cells."
    )
    columns = ("cell type", *map(plain_name, designs))
    return Table("fates", "Fates with and without the design", columns, rows, note)


def _share(row: pd.Series) -> CellText:
    return CellText(percent(row["share"]), f"[{100 * row['low']:.0f}, {100 * row['high']:.0f}]")


def order_table(ways: UndosedWays) -> Table:
    """Energy distance to held-out real cells by part of their order, the nearest way but other real cells marked."""
    frame = ways.by_time
    rows = tuple(
        TableRow(
            (
                f"{row['from']:.3g} to {row['until']:.3g}",
                f"{int(row['cells'])}",
                *(number(float(row[way])) for way in WAYS),
            ),
            best=frozenset({2 + int(np.nanargmin([row[way] for way in WAYS if way != _CEILING]))}),
        )
        for _, row in frame.iterrows()
    )
    note = (
        f"Energy distance (unbiased, so that it may fall below 0) to the held-out real cells of each part. {ways.said} "
        "Marked: the nearest in a part beside other real cells."
    )
    meaning = {label: _MEANING[way] for way, (label, _) in WAYS.items()}
    columns = ("part of the order", "held-out cells", *meaning)
    return Table("undosed_order", "Undosed cells beside real cells, by time", columns, rows, note, meaning)


def component_table(ways: UndosedWays) -> Table:
    """DTW and Wasserstein distance by latent component, means over fates by their numbers of cells."""
    wide = _by_component(ways.by_component)
    total = wide.sum()
    shown = wide.iloc[:MOST_COMPONENTS]
    rows = (
        TableRow(("all, summed", *map(number, total)), marked=True),
        *(TableRow((str(component), *map(number, row))) for component, row in shown.iterrows()),
    )
    left_out = f" The other {len(wide) - len(shown)} components are in undosed_dtw.csv." * (
        len(wide) > len(shown)
    )
    note = (
        "Distance of simulated cells to held-out real cells of the types that they pass through, in latent units, by "
        f"component: of mean paths (DTW) and of all states (Wasserstein). {ways.said} Means over fates, weighted by "
        f"how many simulated cells have each; the figures show every fate. Other real cells are training cells, whose "
        f"noise the encoder has a place for, so that late components may differ more than simulated ones.{left_out}"
    )
    columns = tuple(
        f"{_METRICS[metric]}: {WAYS[way][0]}" for metric, way in product(_METRICS, _ways(ways.by_component))
    )
    title = "Undosed cells beside real cells, by component"
    return Table("undosed_components", title, ("component", *columns), rows, note)


def _ways(table: pd.DataFrame) -> list[str]:
    return [way for way in WAYS if way in set(table["way"])]


def _by_component(table: pd.DataFrame) -> pd.DataFrame:
    """Rows are components, columns ways, one metric after the other."""
    weighted = (
        table[list(_METRICS)]
        .mul(table["cells"], axis=0)
        .assign(cells=table["cells"], component=table["component"], way=table["way"])
    )
    sums = weighted.groupby(["component", "way"]).sum()
    means = [sums[metric].div(sums["cells"]).unstack("way")[_ways(table)] for metric in _METRICS]
    return pd.concat(means, axis=1)
