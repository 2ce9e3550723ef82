"""Predicted responses to one held-out perturbation, judged on cells that were really measured under it.

A predictor is its shift δ from control, in log expression. Two rules keep noise from passing for skill: a
correlation of shifts compares δ, which comes from training cells, with a difference of held-out means, so the
two share no control cell; and an error compares training control plus δ with the held-out target cells.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pandas as pd
from jaxtyping import Float

from perturbrl.data.labels import Label
from perturbrl.errors import DataError
from perturbrl.evaluation import de_metrics, metrics
from perturbrl.evaluation.de_metrics import DifferentialExpression, differential_expression
from perturbrl.evaluation.distances import energy_distance, relative_to_replicate
from perturbrl.responses.baselines import SplitHalfReplicate, competitors
from perturbrl.responses.training_cells import TrainingCells
from perturbrl.schema import GeneVector

TOP_GENES: Final = 20
FEWEST_GENES: Final = 8
CEILING: Final = SplitHalfReplicate.name
INFORMED: Final = ("policy", CEILING)  # they saw the half of the target's cells that does not judge
_Z: Final = 1.96

Cells = Float[np.ndarray, "_ genes"]
Emit = Callable[[GeneVector, int], Cells]
"""From a predicted mean to so many dispersed, log-normalised cells."""


@dataclass(frozen=True)
class HeldOutResponse:
    """Cells that nothing was learned from.

    Attributes:
        label: the perturbation.
        target: ``[cells, genes]`` log-normalised cells under it.
        control: the same for control cells.
        genes: name of each column.
        panel: measured shift from control of every other perturbation, for the discrimination score.

    Raises:
        DataError: fewer than four target cells or two control cells.
    """

    label: str
    target: Cells
    control: Cells
    genes: Sequence[str]
    panel: Mapping[str, GeneVector] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.target) < 4 or len(self.control) < 2:
            raise DataError(
                f"{len(self.target)} held-out cells of {self.label} and {len(self.control)} of control cannot judge a "
                "predicted response; hold out at least 4 and 2"
            )

    @property
    def shift(self) -> GeneVector:
        """Measured shift of the mean from control."""
        return self.target.mean(axis=0) - self.control.mean(axis=0)


def baseline_shifts(training: TrainingCells, label: str, seed: int = 0) -> dict[str, GeneVector]:
    """Shift that each baseline predicts for ``label`` from training cells alone."""
    return {baseline.name: baseline.fit(training).delta(label) for baseline in competitors(seed)}


def judge_responses(
    real: HeldOutResponse,
    shifts: Mapping[str, GeneVector],
    training: TrainingCells,
    emit: Emit | None,
) -> pd.DataFrame:
    """Every metric of every predictor: one row per predictor, ends of 95 % intervals in ``*_low``, ``*_high``.

    Intervals are jackknife over held-out cells; the predictions stay as they are.

    Args:
        real: the judge.
        shifts: δ by predictor.
        training: cells that were learned from; their control and the mean of their centroids centre the metrics.
        emit: makes cells for the metrics of whole populations, which are left out without it.
    """
    no_op = competitors()[0].fit(training)
    rows = {}
    test = differential_expression(real.target, real.control)
    top = de_metrics.top_genes(test, min(TOP_GENES, len(real.genes)))
    for name, shift in shifts.items():
        rows[name] = _mean_metrics(real, shift, no_op.control, no_op.training_mean, top)
        if emit is not None:
            rows[name] |= _cell_metrics(real, test, emit(no_op.control + shift, len(real.target)))
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("predictor").reset_index()


def _mean_metrics(
    real: HeldOutResponse, shift: GeneVector, control: GeneVector, centre: GeneVector, top: np.ndarray
) -> dict[str, float]:
    predicted = (control + shift)[None]

    def measure(target: metrics.Means, held_out_control: metrics.Means) -> pd.DataFrame:
        n = len(target)
        repeated = np.repeat(predicted, n, axis=0)
        every = np.repeat(top[None], n, axis=0)
        columns = {
            "pearson_delta": metrics.pearson_delta(
                np.repeat(shift[None], n, axis=0), target - held_out_control, np.zeros_like(shift)
            ),
            "pearson_centred": metrics.pearson_centred(repeated, target, centre),
            "l2": metrics.l2(repeated, target),
            "mse": metrics.mse(repeated, target),
            "mae": metrics.mae(repeated, target),
            "rmse_top": metrics.rmse(metrics.on_genes(repeated, every), metrics.on_genes(target, every)),
        }
        return pd.DataFrame(columns)

    found = _with_jackknife(measure, real)
    return found | {"discrimination": _discrimination(real, shift)}


def _with_jackknife(
    measure: Callable[[metrics.Means, metrics.Means], pd.DataFrame], real: HeldOutResponse
) -> dict[str, float]:
    """Each metric with its interval: delete-one jackknife over target and over control cells, variances added."""
    target, control = (cells.mean(axis=0, keepdims=True) for cells in (real.target, real.control))
    estimate = measure(target, control).iloc[0]
    left_out = (
        measure(_leave_one_out(real.target), np.repeat(control, len(real.target), axis=0)),
        measure(np.repeat(target, len(real.control), axis=0), _leave_one_out(real.control)),
    )
    variance = sum((len(values) - 1) * values.var(ddof=0) for values in left_out)
    half = _Z * np.sqrt(variance)
    result: dict[str, float] = {}
    for name in estimate.index:
        low, high = estimate[name] - half[name], estimate[name] + half[name]
        bounds = (-1.0, 1.0) if name.startswith("pearson") else (0.0, np.inf)
        result[name] = float(estimate[name])
        result |= {f"{name}_low": float(max(low, bounds[0])), f"{name}_high": float(min(high, bounds[1]))}
    return result


def _leave_one_out(cells: Cells) -> metrics.Means:
    return (cells.sum(axis=0) - cells) / (len(cells) - 1)


def _discrimination(real: HeldOutResponse, shift: GeneVector) -> float:
    """Place of the own measured shift among the panel's (see ``metrics``); nan without a panel or untargeted genes."""
    labels = (real.label, *real.panel)
    targets = {name for label in labels for name in Label.parse(label).names}
    if not real.panel or set(real.genes) <= targets:
        return float("nan")
    measured = np.stack([real.shift, *real.panel.values()])
    predicted = np.concatenate([shift[None], measured[1:]])
    return float(metrics.discrimination_score(predicted, measured, labels, real.genes)[0])


def _cell_metrics(real: HeldOutResponse, test: DifferentialExpression, emitted: Cells) -> dict[str, float]:
    predicted = differential_expression(emitted, real.control)
    return {
        "energy_relative": relative_to_replicate(emitted, real.target, energy_distance),
        "de_overlap": de_metrics.de_overlap(test, predicted),
        "de_precision": de_metrics.de_precision_at_k(test, predicted),
        "de_recall": de_metrics.de_recall(test, predicted),
        "de_auprc": de_metrics.de_auprc(test, predicted),
        "call_f1": metrics.call_scores(predicted.calls(), test.calls()).f1,
    }


def top_gene_table(real: HeldOutResponse, shift: GeneVector) -> pd.DataFrame:
    """The genes that change most surely in real cells, with measured and predicted log2 fold change.

    Genes are chosen by the rank-sum test of held-out target against held-out control cells: all significant
    ones (FDR < 5 %) up to ``TOP_GENES``, and at least ``FEWEST_GENES``. A fold change here is the difference of
    mean log2(1 + counts per 10,000); the 1 keeps genes that are hardly seen from fold changes of thousands.

    Args:
        real: held-out cells.
        shift: predicted change of mean log expression (natural logarithm).
    """
    test = differential_expression(real.target, real.control)
    wanted = int(np.clip(test.significant().sum(), FEWEST_GENES, TOP_GENES))
    top = de_metrics.top_genes(test, min(wanted, len(real.genes)))
    noise = real.target.var(axis=0, ddof=1) / len(real.target) + real.control.var(axis=0, ddof=1) / len(
        real.control
    )
    observed, half = real.shift / np.log(2), _Z * np.sqrt(noise) / np.log(2)
    return pd.DataFrame(
        {
            "gene": [real.genes[i] for i in top],
            "observed": observed[top],
            "low": (observed - half)[top],
            "high": (observed + half)[top],
            "predicted": shift[top] / np.log(2),
            "z_score": test.z_score[top],
            "p_value": test.p_value[top],
            "fdr": test.fdr[top],
        }
    )
