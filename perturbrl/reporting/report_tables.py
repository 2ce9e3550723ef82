"""The report's tables as text, every column explained, and the same numbers as data frames for the CSV files."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final

import pandas as pd

from perturbrl.evaluation.design import MADE_ON, DesignEvaluation, DesignRow
from perturbrl.evaluation.hits import Hit
from perturbrl.evaluation.registry import METRICS
from perturbrl.evaluation.statistics import Interval
from perturbrl.pl.names import plain_name
from perturbrl.reporting.report_text import number, percent
from perturbrl.responses.baselines import SplitHalfReplicate

MAX_HITS_SHOWN: Final = 25
# They saw the half of the target's cells that does not judge.
INFORMED: Final = ("policy", SplitHalfReplicate.name)

DESIGN_COLUMNS: Final = (
    *("distance", "relative_energy_distance", "success", "gap", "recall"),
    *("dose", "n_perturbations", "displacement_from_start"),
)
RESPONSE_COLUMNS: Final = (
    *("pearson_delta", "pearson_centred", "l2", "rmse_top", "discrimination"),
    *("energy_relative", "de_overlap", "de_recall", "de_precision", "call_f1"),
)
KEPT_BACK: Final = "members kept back"
OTHER_HALF: Final = "learned from the other half"
TWINS: Final = {
    MADE_ON: "The members of the ensemble that the policy was trained on and planners searched on.",
    KEPT_BACK: "Members of the same ensemble, from the same half of the cells, that neither saw.",
    OTHER_HALF: "A twin learned anew from the half of the cells that judges: drift and pushes alike.",
}
_PERCENTAGES: Final = ("success", "recall")


@dataclass(frozen=True)
class CellText:
    """What stands in one cell of a table, the interval apart."""

    value: str
    interval: str = ""


@dataclass(frozen=True)
class TableRow:
    """One line of a table; ``marked`` lines stand out, and so do the cells in the columns ``best``."""

    cells: tuple[str | CellText, ...]
    marked: bool = False
    best: frozenset[int] = frozenset()

    def texts(self) -> tuple[CellText, ...]:
        """All cells in the one form."""
        return tuple(CellText(cell) if isinstance(cell, str) else cell for cell in self.cells)


@dataclass(frozen=True)
class Table:
    """A table of the report, as text.

    Attributes:
        key: says where in the report it belongs.
        title: heading.
        columns: heads of the columns.
        rows: lines.
        note: what to know when reading it.
        meaning: what each column is.
    """

    key: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]
    note: str = ""
    meaning: Mapping[str, str] = field(default_factory=dict)


def interval_cell(value: Interval) -> CellText:
    """Estimate and ends of an interval."""
    return CellText(number(value.estimate), f"[{number(value.low)}, {number(value.high)}]")


def design_table(evaluation: DesignEvaluation) -> Table:
    """Every design with its intervals, nearest first, the winner and what equals it marked."""
    ordered = sorted(evaluation.rows, key=lambda row: row.observed_distance)
    nearest = (evaluation.winner.name, *evaluation.ties)
    rows = tuple(TableRow(_design_cells(row), row.name in nearest) for row in ordered)
    note = (
        f"Nearest first, judged by the cells named above. Nearest: {plain_name(evaluation.winner.name)}. The marked "
        "rows cannot be told apart from it in distance (paired tests, 5 % for all rows together). Brackets: 95 % "
        "intervals over cells; they do not cover another training seed."
    )
    heads = _heads(DESIGN_COLUMNS)
    return Table("designs", "Designs compared", ("design", *heads), rows, note, heads)


def design_tables(evaluation: DesignEvaluation | None) -> tuple[Table, ...]:
    """Designs compared, and where there are twins that none has seen, what they do on each."""
    if evaluation is None:
        return ()
    return design_table(evaluation), *([_arrival_table(evaluation)] if evaluation.arrived else [])


def _arrival_table(evaluation: DesignEvaluation) -> Table:
    """Share of cells that arrive, by design and by the twin that it is tried on."""
    twins = list(next(iter(evaluation.arrived.values())))
    rows = tuple(
        TableRow((plain_name(name), *(_percent_cell(shares[twin]) for twin in twins)))
        for name, shares in evaluation.arrived.items()
    )
    note = (
        "Share of held-out start cells that are taken for the target once they have settled. What holds only where it "
        "was made lives off the errors of that landscape. Brackets: 95 % intervals over cells."
    )
    heads = {twin: TWINS.get(twin, "") for twin in twins}
    return Table("arrived", "Cells in the target, by landscape", ("design", *heads), rows, note, heads)


def _design_cells(row: DesignRow) -> tuple[str | CellText, ...]:
    return (plain_name(row.name), *(_design_cell(name, getattr(row, name)) for name in DESIGN_COLUMNS))


def _design_cell(name: str, value: float | Interval) -> str | CellText:
    if isinstance(value, Interval):
        return _percent_cell(value) if name in _PERCENTAGES else interval_cell(value)
    return percent(value) if name in _PERCENTAGES else number(value)


def _percent_cell(value: Interval) -> CellText:
    return CellText(percent(value.estimate), f"[{100 * value.low:.0f}, {100 * value.high:.0f}]")


def _heads(names: Sequence[str]) -> Mapping[str, str]:
    """Heads of the columns of these metrics, each with its meaning."""
    return {METRICS[name].title: METRICS[name].meaning for name in names}


def hit_table(hits: Sequence[Hit]) -> Table:
    """The design's perturbations that any cell receives, strongest first."""
    shown = [hit for hit in hits if hit.share_of_cells > 0][:MAX_HITS_SHOWN]
    told = any(hit.evidence for hit in shown)
    rows = tuple(
        TableRow(
            (
                *(str(rank), hit.perturbation, interval_cell(hit.dose), hit.direction),
                *(percent(hit.share_of_cells), *((hit.evidence,) if told else ())),
            )
        )
        for rank, hit in enumerate(shown, start=1)
    )
    note = (
        "Total dose over all steps, mean over cells with a 95 % bootstrap interval; 1 is the perturbation as measured, "
        "or full expression in a network."
    )
    if len(hits) > len(shown):
        note += f" The other {len(hits) - len(shown)} that may be dosed are in hits.csv."
    columns = (
        "rank",
        "perturbation",
        "dose",
        "direction",
        "share of cells",
        *(("evidence",) if told else ()),
    )
    return Table("hits", "Ranked perturbations", columns, rows, note)


def hits_frame(hits: Sequence[Hit]) -> pd.DataFrame:
    """Hits as a table, strongest first."""
    rows = [
        (
            rank,
            hit.perturbation,
            hit.dose.estimate,
            hit.dose.low,
            hit.dose.high,
            hit.direction,
            hit.share_of_cells,
            hit.evidence,
        )
        for rank, hit in enumerate(hits, start=1)
    ]
    return pd.DataFrame(
        rows,
        columns=["rank", "perturbation", "dose", "low", "high", "direction", "share_of_cells", "evidence"],
    )


def metrics_frame(evaluation: DesignEvaluation) -> pd.DataFrame:
    """Every metric of every design, intervals as three columns."""
    return pd.json_normalize([asdict(row) for row in evaluation.rows], sep="_").rename(
        columns=lambda name: name.removesuffix("_estimate")
    )


def designs_frame(evaluation: DesignEvaluation) -> pd.DataFrame:
    """Distances of all designs as a table for the figure."""
    rows = [(row.name, row.distance.estimate, row.distance.low, row.distance.high) for row in evaluation.rows]
    return pd.DataFrame(rows, columns=["name", "distance", "low", "high"])


def response_text_table(frame: pd.DataFrame, label: str, informed: Sequence[str]) -> Table:
    """Predicted against measured response, the best of every column marked.

    Args:
        frame: see ``predicted_response.judge_responses``.
        label: the perturbation.
        informed: predictors that saw cells of the target, and so are no competitors.
    """
    shown = [name for name in RESPONSE_COLUMNS if name in frame and frame[name].notna().any()]
    best = {name: _best_rows(frame, name, informed) for name in shown}
    rows = tuple(
        TableRow(
            (_predictor(str(record["predictor"]), informed), *(_metric_cell(record, name) for name in shown)),
            best=frozenset(i for i, name in enumerate(shown, start=1) if row in best[name]),
        )
        for row, (_, record) in enumerate(frame.iterrows())
    )
    note = (
        f"Each row predicts how control cells change under {label}. All are compared with held-out cells really "
        "measured under it, never with their own input. Rows with † saw half of the target's cells (not those that "
        "judge): the policy chose its doses by them, and the split-half replicate is these cells, the ceiling. Marked: "
        "the best of a column among the rows that never saw the target. Brackets: 95 % jackknife intervals over "
        "held-out cells."
    )
    heads = _heads(shown)
    return Table("response", "Predicted response", ("predictor", *heads), rows, note, heads)


def _predictor(name: str, informed: Sequence[str]) -> str:
    words = {"policy": "cells dosed by the policy", "random": "random perturbation"}.get(
        name, plain_name(name)
    )
    return f"{words} †" if name in informed else words


def _best_rows(frame: pd.DataFrame, name: str, informed: Sequence[str]) -> set[int]:
    values = frame[name].where(~frame["predictor"].isin(informed))
    if values.min() == values.max():
        return set()
    values = values.map(METRICS[name].loss)
    return set((values <= values.min() + 1e-12).to_numpy().nonzero()[0].tolist())


def _metric_cell(record: pd.Series, name: str) -> str | CellText:
    if f"{name}_low" not in record:
        return number(float(record[name]))
    return interval_cell(Interval(*(float(record[f"{name}{end}"]) for end in ("", "_low", "_high"))))
