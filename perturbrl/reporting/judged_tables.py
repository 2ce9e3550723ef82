"""A judged model beside every baseline: as a table, and in a sentence."""

from collections.abc import Sequence
from dataclasses import astuple
from typing import Final

import numpy as np
import pandas as pd

from perturbrl.errors import listed
from perturbrl.evaluation.judged_model import JudgedModel
from perturbrl.evaluation.registry import METRICS
from perturbrl.evaluation.statistics import Interval, mean_interval
from perturbrl.pl.names import plain_name
from perturbrl.reporting.report_tables import CellText, Table, TableRow, interval_cell
from perturbrl.reporting.report_text import number, percent
from perturbrl.responses.baselines import SplitHalfReplicate

SHOWN_METRICS: Final = (
    *("pearson_delta", "pearson_centred", "l2", "rmse_top"),
    *("discrimination", "energy_relative", "de_overlap", "call_f1"),
)
TOLD: Final = {
    "l2": "error of mean expression (L2)",
    "pearson_centred": "correlation of what is special to each (Pearson centred)",
    "energy_relative": "distance between populations of cells (energy distance)",
}


def judged_frame(judged: JudgedModel) -> pd.DataFrame:
    """Mean of each metric over held-out conditions with its 95 % interval, one row per predictor."""
    metrics = [name for name in METRICS if name in judged.table]
    rows = []
    for predictor, own in judged.table.groupby("predictor", sort=False):
        row: dict[str, object] = {"predictor": predictor, "conditions": len(own)}
        for metric in metrics:
            row |= dict(
                zip(
                    (metric, f"{metric}_low", f"{metric}_high"),
                    astuple(_mean(own[metric], metric)),
                    strict=True,
                )
            )
        rows.append(row)
    return pd.DataFrame(rows)


def _mean(values: pd.Series, metric: str) -> Interval:
    found = values.dropna().to_numpy(dtype=np.float64)
    if not len(found):
        return Interval(np.nan, np.nan, np.nan)
    interval, within = mean_interval(found), METRICS[metric].within
    ends = (end if np.isnan(end) else within(end) for end in (interval.low, interval.high))
    return Interval(interval.estimate, *ends)


def judged_table(judged: JudgedModel, model: str) -> Table:
    """Every predictor's mean over held-out conditions, the best of every column marked whoever it is."""
    frame = judged_frame(judged)
    shown = [name for name in SHOWN_METRICS if name in frame and frame[name].notna().any()]
    rival = frame["predictor"] != SplitHalfReplicate.name
    best = {name: _best(frame[name].where(rival), name) for name in shown}
    rows = tuple(
        TableRow(
            (_predictor(str(record["predictor"]), model), *(_cell(record, name) for name in shown)),
            best=frozenset(i for i, name in enumerate(shown, start=1) if row in best[name]),
        )
        for row, (_, record) in enumerate(frame.iterrows())
    )
    n = len(judged.conditions)
    note = (
        f"Means over {n} held-out condition{'s' * (n > 1)}, compared with cells that nothing was learned from. Marked: "
        "the best of a column. † is other cells of the same conditions, the ceiling, and no competitor."
        + (" Brackets: 95 % intervals over conditions." if n > 1 else "")
        + _fewer(judged, shown)
    )
    heads = {METRICS[name].title: METRICS[name].meaning for name in shown}
    return Table("judged", "Beside every baseline", ("predictor", *heads), rows, note, heads)


def _fewer(judged: JudgedModel, metrics: Sequence[str]) -> str:
    """Which columns are means over fewer conditions than there are, in sentences."""
    n, titles = len(judged.conditions), dict[int, list[str]]()
    for metric in metrics:
        titles.setdefault(_conditions_with(judged, metric), []).append(METRICS[metric].title)
    return "".join(
        f" Of {listed(names)} the means are over the {few} of {n} conditions that have one."
        for few, names in titles.items()
        if few < n
    )


def _conditions_with(judged: JudgedModel, metric: str) -> int:
    table = judged.table
    return int(table.loc[table[metric].notna(), "condition"].nunique())


def _predictor(name: str, model: str) -> str:
    if name == model:
        return f"{plain_name(name)} (this model)"
    return {SplitHalfReplicate.name: f"{plain_name(name)} †", "random": "random perturbation"}.get(
        name, plain_name(name)
    )


def _best(values: pd.Series, metric: str) -> set[int]:
    if values.min() == values.max():
        return set()
    losses = values.map(METRICS[metric].loss)
    return set((losses <= losses.min() + 1e-12).to_numpy().nonzero()[0].tolist())


def _cell(record: pd.Series, name: str) -> str | CellText:
    estimate, low, high = (float(str(record[f"{name}{end}"])) for end in ("", "_low", "_high"))
    return number(estimate) if np.isnan(low) else interval_cell(Interval(estimate, low, high))


def compared(judged: JudgedModel, model: str, metric: str) -> str | None:
    """The model against the best baseline in one metric, paired over conditions, in words."""
    scores = judged.table.pivot(index="condition", columns="predictor", values=metric).dropna()
    rivals = [str(name) for name in scores if name not in (model, SplitHalfReplicate.name)]
    if not len(scores) or not rivals:
        return None
    losses = scores.map(METRICS[metric].loss)
    average = losses.mean()
    best = min(rivals, key=lambda name: float(average[name]))
    found = mean_interval((losses[best] - losses[model]).to_numpy())
    verdict = "better" if found.low > 0 else "worse" if found.high < 0 else "no sure difference"
    ours, theirs = (number(float(scores[name].mean())) for name in (model, best))
    few = "" if len(scores) == len(judged.conditions) else f"of {len(scores)} of them, "
    return f"{TOLD.get(metric, METRICS[metric].title)} {ours} against {theirs} by {plain_name(best)} ({few}{verdict})"


def judged_sentence(judged: JudgedModel, model: str) -> str:
    """How far to believe predictions, in one sentence."""
    said = [compared(judged, model, name) for name in TOLD if name in judged.table]
    covered = judged.calibration.set_index("level")["covered"]
    holds = f"; 90 % intervals hold {percent(float(covered[0.9]))} of measured shifts" if len(covered) else ""
    n = len(judged.conditions)
    against = "; ".join(one for one in said if one)
    return (
        f"On {n} held-out condition{'s' * (n > 1)} {plain_name(model)} against the baseline that is best in each: "
        f"{against}{holds}."
    )
