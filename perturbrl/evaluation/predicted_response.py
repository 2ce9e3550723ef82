"""Predicted responses judged on cells that were really measured: every metric, every predictor, one table.

One held-out perturbation or many, means alone or emitted cells as well: the table is the same.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np
import pandas as pd
from jaxtyping import Float

from perturbrl.data.labels import CONTROL
from perturbrl.data.prior_knowledge import PriorKnowledge
from perturbrl.evaluation.de_metrics import top_genes
from perturbrl.evaluation.pairs import (
    TOP_GENES,
    CellsOnDemand,
    MeasuredResponses,
    PredictedResponses,
    ResponsePair,
)
from perturbrl.evaluation.response_metrics import CELL_METRICS, MEAN_METRICS, PANEL_METRICS, MeanMetric
from perturbrl.responses.baselines import TrainingMean
from perturbrl.responses.competitors import competitors
from perturbrl.responses.emission import CellEmitter
from perturbrl.responses.kriging import Kriging
from perturbrl.responses.spread import ResponseSpread
from perturbrl.responses.training_cells import TrainingCells
from perturbrl.schema import GeneVector, LogExpression

FEWEST_GENES: Final = 8
# A table of predictors need not wait minutes for the last percent of thousands of perturbations.
EXACT_ROWS: Final = 1000
# Each group that is left out takes as long as judging once, and a hundred tell a variance to 7 %.
MOST_LEFT_OUT: Final = 100
_Z: Final = 1.96

Shifts = Mapping[str, GeneVector]
"""Predicted shift of the mean from control, by perturbation."""


def predicted_shifts(
    training: TrainingCells,
    perturbations: Sequence[str],
    seed: int = 0,
    priors: Sequence[PriorKnowledge] = (),
) -> dict[str, Shifts]:
    """What kriging and each baseline predict from training cells and prior knowledge alone, by their names."""
    kriging = Kriging(priors, exact_rows=EXACT_ROWS)
    fitted = [model.fit(training) for model in (*competitors(training, seed, priors), kriging)]
    return {
        model.name: dict(zip(perturbations, model.overall(perturbations), strict=True)) for model in fitted
    }


def judge_responses(
    measured: MeasuredResponses,
    predictors: Mapping[str, Shifts],
    training: TrainingCells,
    emitter: CellEmitter | None = None,
    spreads: Mapping[str, ResponseSpread] | None = None,
) -> pd.DataFrame:
    """Every metric of every predictor: one row per predictor and perturbation, see `response_table`.

    Args:
        measured: the judges.
        predictors: predicted shifts by the predictor's name.
        training: cells that were learned from; shifts count from their control, and the training mean centres
            the metrics.
        emitter: makes cells for the metrics of whole populations, which are left out without it.
        spreads: what perturbations do to the spread, the same for all predictors; by default nothing.
    """
    control = training.centroids()[CONTROL]
    training_mean = control + TrainingMean().fit(training).overall(measured.perturbations[:1])[0]
    tables = []
    for name, shifts in predictors.items():
        cells = None if emitter is None else _emitted(measured, shifts, control, emitter, spreads or {})
        predicted = PredictedResponses(shifts, control, cells)
        table = response_table(ResponsePair(measured, predicted, training_mean)).reset_index()
        table.insert(0, "predictor", name)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _emitted(
    measured: MeasuredResponses,
    shifts: Shifts,
    control: GeneVector,
    emitter: CellEmitter,
    spreads: Mapping[str, ResponseSpread],
) -> CellsOnDemand:
    def emit(label: str) -> LogExpression:
        mean, n_cells = control + shifts[label], len(measured.cells[label])
        return emitter.emit(mean, n_cells, emitter.stream_of(label), spreads.get(label)).log_expression

    return CellsOnDemand(measured.perturbations, emit)


def response_table(pair: ResponsePair) -> pd.DataFrame:
    """Every response metric of one predictor: one row per perturbation, one column per metric of the registry.

    Metrics of means have the ends of their 95 % intervals in ``*_low`` and ``*_high``: jackknife over held-out target
    and control cells (delete-one; of more than ``MOST_LEFT_OUT``, so many groups of cells are left out in turn), the
    prediction as it is. Metrics of cells are there only where the pair has
    predicted cells; ``discrimination`` is NaN where there is nothing to be told from.

    Raises:
        DataError: a perturbation has fewer than two predicted cells.
    """
    index = pd.Index(pair.measured.perturbations, name="perturbation")
    table = pd.DataFrame([dict(_mean_scores(pair, label)) for label in index], index=index)
    for metric in PANEL_METRICS:
        table[metric.name] = metric.function(pair)
    return table.join(pd.DataFrame([_cell_scores(pair, label) for label in index], index=index))


def _mean_scores(pair: ResponsePair, label: str) -> Iterator[tuple[str, float]]:
    """Each metric of means, with the ends of its interval."""
    observed = pair.means_of(label)
    without_target = observed.against(_without_some(pair.measured.cells[label]), observed.real_control)
    without_control = observed.against(observed.real, _without_some(pair.measured.control))
    for metric in MEAN_METRICS:
        estimate = float(metric.function(observed)[0])
        left_out = [without_target, without_control] if metric.sees_control else [without_target]
        half = _Z * sum(_jackknife_variance(metric.function(means)) for means in left_out) ** 0.5
        yield metric.name, estimate
        yield from _ends(metric, estimate, half)


def _ends(metric: MeanMetric, estimate: float, half: float) -> Iterator[tuple[str, float]]:
    yield f"{metric.name}_low", metric.within(estimate - half)
    yield f"{metric.name}_high", metric.within(estimate + half)


def _jackknife_variance(values: Float[np.ndarray, " left_out"]) -> float:
    """Of the statistic whose values with some cells left out are given; variances of independent samples add up."""
    return (len(values) - 1) * float(values.var())


def _without_some(cells: LogExpression) -> LogExpression:
    """Mean of all cells but one, for each; of many cells but a group, for groups of as many cells but for one."""
    n_groups = min(len(cells), MOST_LEFT_OUT)
    size = np.bincount(np.arange(len(cells)) % n_groups)[:, None]
    groups = np.stack([cells[i::n_groups].sum(axis=0) for i in range(n_groups)])
    return (cells.sum(axis=0) - groups) / (len(cells) - size)


def _cell_scores(pair: ResponsePair, label: str) -> dict[str, float]:
    cells = pair.cells(label)
    return {} if cells is None else {metric.name: metric.function(cells) for metric in CELL_METRICS}


def top_gene_table(measured: MeasuredResponses, label: str, shift: GeneVector) -> pd.DataFrame:
    """The genes that change most surely in real cells, with measured and predicted log2 fold change.

    Genes are chosen by the rank-sum test of held-out target against held-out control cells: all significant
    ones (FDR < 5 %) up to ``TOP_GENES``, and at least ``FEWEST_GENES``. A fold change here is the difference of
    mean log2(1 + counts per 10,000); the 1 keeps genes that are hardly seen from fold changes of thousands.

    Args:
        measured: held-out cells.
        label: the perturbation, one of theirs.
        shift: predicted change of mean log expression (natural logarithm).
    """
    test = measured.tests[label]
    wanted = int(np.clip(test.significant().sum(), FEWEST_GENES, TOP_GENES))
    top = top_genes(test, min(wanted, len(measured.genes)))
    noise = sum(cells.var(axis=0, ddof=1) / len(cells) for cells in (measured.cells[label], measured.control))
    observed, half = measured.shifts[label] / np.log(2), _Z * np.sqrt(noise) / np.log(2)
    return pd.DataFrame(
        {
            "gene": [measured.genes[i] for i in top],
            "observed": observed[top],
            "low": (observed - half)[top],
            "high": (observed + half)[top],
            "predicted": shift[top] / np.log(2),
            "z_score": test.z_score[top],
            "p_value": test.p_value[top],
            "fdr": test.fdr[top],
        }
    )
