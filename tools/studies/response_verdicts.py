"""Who wins the response study: kriging against the best baseline of each split and metric."""

from collections.abc import Iterator
from typing import Final

import pandas as pd
from rich.console import Console
from rich.table import Table

from perturbrl.evaluation.registry import METRICS
from perturbrl.evaluation.statistics import mean_interval
from perturbrl.responses.kriging import Kriging
from studies.response_cells import SHIFTED_COPY
from studies.runner import Row

OF_MEANS: Final = ("pearson_delta", "pearson_centred", "l2", "rmse_top")
OF_CELLS: Final = "energy_distance"
JUDGED: Final = (*OF_MEANS, OF_CELLS)
COVERAGE: Final = "coverage_90"
KRIGING: Final = Kriging.name
REPLICATE: Final = "split_half_replicate"
PREDICTORS: Final = (
    KRIGING,
    REPLICATE,
    *("no_op", "random", "training_mean", "additive", "matching_mean", "bilinear_ridge"),
    *("nearest_perturbation", "cell_type_mean", "nearest_context", "knn_prior", "ridge_prior"),
    SHIFTED_COPY,
)
WINS, TIES, LOSSES, ALONE = "wins", "ties", "losses", "one_condition"
# One pathway, of which each gene is to be told from the others by prior knowledge.
PATHWAY: Final = ("STAT1", "JAK2", "IFNGR1")
WITH_PATHWAYS: Final = "papalexi_reactome"


def verdicts_of(table: pd.DataFrame) -> Iterator[Row]:
    """Kriging against the best baseline of each split and metric, paired over held-out conditions."""
    for split, rows in table.groupby("split", sort=False):
        by_condition = rows.groupby("held_out").mean(numeric_only=True)
        for metric in JUDGED:
            every = {name: -by_condition[f"{name}:{metric}"].map(METRICS[metric].loss) for name in PREDICTORS}
            scores = {name: score for name, score in every.items() if score.notna().all()}
            if KRIGING not in scores:
                continue
            rivals = {name: score for name, score in scores.items() if name not in (KRIGING, REPLICATE)}
            best = max(rivals, key=lambda name: float(rivals[name].mean()))
            gains = scores[KRIGING] - rivals[best]
            means = {
                name: float(by_condition[f"{name}:{metric}"].mean()) for name in (best, KRIGING, REPLICATE)
            }
            yield {
                "split": split,
                "metric": metric,
                "best_baseline": best,
                "baseline": means[best],
                "kriging": means[KRIGING],
                "replicate": means[REPLICATE],
                "verdict": _verdict(gains),
                "leads": KRIGING if gains.mean() > 0 else best,
            }


def _verdict(gains: pd.Series) -> str:
    if len(gains) < 2:
        return ALONE
    difference = mean_interval(gains.to_numpy())
    return WINS if difference.low > 0 else LOSSES if difference.high < 0 else TIES


def summary(table: pd.DataFrame, verdicts: pd.DataFrame) -> Row:
    """Wins, ties and losses as lists of [split, metric]; of splits of one condition, who leads; and coverage."""
    alone = verdicts[verdicts["verdict"] == ALONE]
    held = table[f"{KRIGING}:{COVERAGE}"].groupby(table["split"], sort=False).mean().round(3)
    return {
        **{
            name: verdicts.loc[verdicts["verdict"] == name, ["split", "metric"]].values.tolist()
            for name in (WINS, TIES, LOSSES)
        },
        ALONE: alone[["split", "metric", "leads"]].values.tolist(),
        COVERAGE: round(float(held.mean()), 3),
        "coverage_90_by_split": held.to_dict(),
        "conditions": int(table.groupby(["split", "held_out"]).ngroups),
        **_of_pathway(table),
    }


def _of_pathway(table: pd.DataFrame) -> Row:
    """Pearson-delta of kriging on the genes of `PATHWAY`, a mean over seeds, where they were held out."""
    asked = table[(table["split"] == WITH_PATHWAYS) & table["held_out"].isin(PATHWAY)]
    found = asked.groupby("held_out")[f"{KRIGING}:pearson_delta"].mean().round(3)
    return {} if found.empty else {"pearson_delta_pathway": found.to_dict()}


def print_verdicts(verdicts: pd.DataFrame) -> None:
    """The table of verdicts."""
    shown = Table(
        title="kriging against the best baseline of each split and metric (means over held-out conditions)"
    )
    for column in verdicts.columns:
        shown.add_column(column, justify="right" if verdicts[column].dtype == float else "left")
    for row in verdicts.itertuples(index=False):
        shown.add_row(*(f"{value:.3f}" if isinstance(value, float) else str(value) for value in row))
    Console(width=160).print(shown)
