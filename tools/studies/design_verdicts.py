"""What the rows of measured designs say: means with intervals, and who wins against whom on how many targets."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from perturbrl.evaluation.statistics import SIGNIFICANCE, mean_interval
from studies.design_measured import METHODS, METRICS
from studies.design_rankings import BASELINES, OURS
from studies.runner import Row

JUDGED_BY: Final = ("ndcg", "closure")
ENOUGH: Final = 0.8
_ROUNDING: Final = 1e-9


def summary(table: pd.DataFrame) -> Row:
    """By part and method; and the bars: recall at 5 of doubles, and at least as good as every baseline."""
    parts = {str(part): _of_part(rows) for part, rows in table.groupby("part", sort=False)}
    worse = {
        part: [
            [ours, other, metric]
            for ours in OURS
            for other in BASELINES
            for metric in JUDGED_BY
            if found["methods"] and _is_worse(table[table["part"] == part], ours, other, metric)
        ]
        for part, found in parts.items()
    }
    return {"parts": parts, "clearly_worse_than_a_baseline": worse}


def detectable(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of targets that differ from control in at least half of the seeds."""
    seen = rows.groupby("target")["p_value"].transform("median") <= SIGNIFICANCE
    return rows[seen]


def _of_part(rows: pd.DataFrame) -> Row:
    judged = detectable(rows)
    return {
        "targets": int(judged["target"].nunique()),
        "not_detectable": sorted(set(rows["target"]) - set(judged["target"])),
        "seeds": int(rows["seed"].nunique()),
        "candidates": sorted({int(n) for n in rows["n_sets"]}),
        "methods": {name: _of_method(judged, name) for name in METHODS} if len(judged) else {},
    }


def _of_method(rows: pd.DataFrame, name: str) -> Row:
    found: Row = {metric: _interval(by_target(rows, name, metric)) for metric in METRICS}
    against = {ours: _against(rows, ours, name) for ours in OURS if name not in OURS}
    return found | {"against": against} if against else found


def _against(rows: pd.DataFrame, ours: str, other: str) -> Row:
    """Targets on which ours places the right set higher, equally and lower; and paired differences."""
    difference = by_target(rows, ours, "ndcg") - by_target(rows, other, "ndcg")
    return {
        "wins": int((difference > _ROUNDING).sum()),
        "ties": int((abs(difference) <= _ROUNDING).sum()),
        "losses": int((difference < -_ROUNDING).sum()),
        **{f"{metric}_difference": _interval(_paired(rows, ours, other, metric)) for metric in JUDGED_BY},
    }


def _paired(rows: pd.DataFrame, ours: str, other: str, metric: str) -> pd.Series:
    return by_target(rows, ours, metric) - by_target(rows, other, metric)


def _is_worse(rows: pd.DataFrame, ours: str, other: str, metric: str) -> bool:
    high = _interval(_paired(detectable(rows), ours, other, metric))[2]
    return high is not None and high < 0


def by_target(rows: pd.DataFrame, name: str, metric: str) -> pd.Series:
    """Mean over the seeds of each target; a target without a value in any seed is left out."""
    return rows.groupby("target")[f"{name}:{metric}"].mean().dropna()


def _interval(values: pd.Series) -> Sequence[float | None]:
    """Mean over targets and the ends of its interval; none where there are too few."""
    found = values.dropna().to_numpy(dtype=np.float64)
    if not len(found):
        return [None, None, None]
    interval = mean_interval(found)
    ends = (interval.estimate, interval.low, interval.high)
    return [None if np.isnan(end) else round(float(end), 4) for end in ends]


def print_verdicts(table: pd.DataFrame) -> None:
    """One table for each part."""
    for part, rows in table.groupby("part", sort=False):
        judged = detectable(rows)
        left = sorted(set(rows["target"]) - set(judged["target"]))
        title = f"{part}: {judged['target'].nunique()} targets, {rows['seed'].nunique()} seeds"
        shown = Table(title=title, caption=f"not told from control: {', '.join(left)}" if left else None)
        shown.add_column("method")
        for metric in METRICS:
            shown.add_column(metric, justify="right")
        for row in _lines(judged):
            shown.add_row(*row)
        Console(width=140).print(shown)


def _lines(judged: pd.DataFrame) -> Iterator[Sequence[str]]:
    if not len(judged):
        return
    for name in METHODS:
        means = (_interval(by_target(judged, name, metric))[0] for metric in METRICS)
        yield name, *("–" if mean is None else f"{mean:.3f}" for mean in means)
