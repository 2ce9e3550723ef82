"""Who wins the response study: kriging against the best baseline of each split and metric."""

from collections.abc import Iterator
from typing import Final

import pandas as pd
from rich.console import Console
from rich.table import Table

from perturbrl.evaluation.registry import METRICS
from perturbrl.evaluation.statistics import mean_interval
from perturbrl.responses.kriging import Kriging
from studies.response_cells import OF_CELLS, REPLICATE, SHIFTED_COPY
from studies.runner import Row

OF_MEANS: Final = ("pearson_delta", "pearson_centred", "l2", "rmse_top")
JUDGED: Final = (*OF_MEANS, *OF_CELLS)
COVERAGE: Final = "coverage_90"
KRIGING: Final = Kriging.name
PREDICTORS: Final = (
    KRIGING,
    REPLICATE,
    *("no_op", "random", "training_mean", "additive", "matching_mean", "bilinear_ridge"),
    *("nearest_perturbation", "cell_type_mean", "nearest_context", "knn_prior", "ridge_prior"),
    SHIFTED_COPY,
)
WINS, TIES, LOSSES, UNDECIDED = "wins", "ties", "losses", "undecided"
# Of fewer conditions a tie would say no more than that they are few.
FEWEST_CONDITIONS: Final = 5
# One pathway, of which each gene is to be told from the others by prior knowledge.
PATHWAY: Final = ("STAT1", "JAK2", "IFNGR1")
WITH_PATHWAYS: Final = "papalexi_reactome"


def verdicts_of(table: pd.DataFrame) -> Iterator[Row]:
    """Kriging against the best baseline of each split and metric, paired over held-out conditions."""
    for split, metric, values in _values(table):
        if values[KRIGING].isna().any():
            continue
        rivals = values.drop(columns=[KRIGING, REPLICATE]).dropna(axis=1)
        best = (_sign(metric) * rivals.mean()).idxmax()
        gains = _sign(metric) * (values[KRIGING] - values[best])
        yield {
            "split": split,
            "metric": metric,
            "best_baseline": best,
            "baseline": float(values[best].mean()),
            "kriging": float(values[KRIGING].mean()),
            "replicate": float(values[REPLICATE].mean()),
            "verdict": _verdict(gains),
            "leads": KRIGING if gains.mean() > 0 else best,
            "gains": gains.round(4).to_dict(),
        }


def _values(table: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Each split and metric with the means over seeds: held-out conditions x predictors."""
    for split, rows in table.groupby("split", sort=False):
        by_condition = rows.groupby("held_out").mean(numeric_only=True)
        for metric in JUDGED:
            columns = [f"{name}:{metric}" for name in PREDICTORS]
            yield str(split), metric, by_condition[columns].set_axis(list(PREDICTORS), axis=1)


def _sign(metric: str) -> float:
    """1 where larger is better; what is judged of populations are distances."""
    return -METRICS[metric].loss(1.0) if metric in METRICS else -1.0


def _verdict(gains: pd.Series) -> str:
    if len(gains) > 1:
        difference = mean_interval(gains.to_numpy())
        if difference.low > 0 or difference.high < 0:
            return WINS if difference.low > 0 else LOSSES
    return TIES if len(gains) >= FEWEST_CONDITIONS else UNDECIDED


def summary(table: pd.DataFrame, verdicts: pd.DataFrame) -> Row:
    """Wins, ties and losses as lists of [split, metric], what was not compared, and coverage.

    ``undecided`` are few conditions whose interval holds 0: who leads, and what kriging gains on each condition.
    ``shifted_copy`` says by split whether emitted cells beat control cells with the same shift added.
    """
    undecided = verdicts[verdicts["verdict"] == UNDECIDED]
    held = table[f"{KRIGING}:{COVERAGE}"].groupby(table["split"], sort=False).mean().round(3)
    return {
        **{
            name: verdicts.loc[verdicts["verdict"] == name, ["split", "metric"]].values.tolist()
            for name in (WINS, TIES, LOSSES)
        },
        UNDECIDED: undecided[["split", "metric", "leads", "gains"]].values.tolist(),
        "not_compared": list(_not_compared(table)),
        SHIFTED_COPY: dict(_against_copy(table)),
        COVERAGE: round(float(held.mean()), 3),
        "coverage_90_by_split": held.to_dict(),
        "conditions": int(table.groupby(["split", "held_out"]).ngroups),
        **_of_pathway(table),
    }


def _not_compared(table: pd.DataFrame) -> Iterator[list[str]]:
    """Split, metric and predictor where some condition has no value; a predictor without any is not one there."""
    for split, metric, values in _values(table):
        for name in PREDICTORS:
            lacking = values[name].isna()
            if lacking.any() and (name == KRIGING or not lacking.all()):
                yield [split, metric, name]


def _against_copy(table: pd.DataFrame) -> Iterator[tuple[str, str]]:
    for split, metric, values in _values(table):
        gains = values[SHIFTED_COPY] - values[KRIGING]
        if metric == OF_CELLS[0] and gains.notna().all():
            yield split, _verdict(gains)


def _of_pathway(table: pd.DataFrame) -> Row:
    """Pearson-delta of kriging on the genes of `PATHWAY`, a mean over seeds, where they were held out."""
    asked = table[(table["split"] == WITH_PATHWAYS) & table["held_out"].isin(PATHWAY)]
    found = asked.groupby("held_out")[f"{KRIGING}:pearson_delta"].mean().round(3)
    return {} if found.empty else {"pearson_delta_pathway": found.to_dict()}


def print_verdicts(verdicts: pd.DataFrame) -> None:
    """The table of verdicts, and what kriging gains on each condition of splits that have few."""
    _print(
        "kriging against the best baseline of each split and metric (means over held-out conditions)",
        verdicts.drop(columns="gains"),
    )
    few = verdicts[verdicts["gains"].map(len) < FEWEST_CONDITIONS]
    each = [
        {name: row[name] for name in ("split", "metric", "best_baseline")} | {"condition": one, "gain": gain}
        for row in few.to_dict("records")
        for one, gain in row["gains"].items()
    ]
    if each:
        _print(
            f"splits of fewer than {FEWEST_CONDITIONS} conditions: what kriging gains on each (below 0: it is behind)",
            pd.DataFrame(each),
        )


def _print(title: str, table: pd.DataFrame) -> None:
    shown = Table(title=title)
    for column in table.columns:
        shown.add_column(str(column), justify="right" if table[column].dtype == float else "left")
    for row in table.itertuples(index=False):
        shown.add_row(*(f"{value:.3f}" if isinstance(value, float) else str(value) for value in row))
    Console(width=160).print(shown)
