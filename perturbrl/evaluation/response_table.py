"""All response metrics of a pair in one table."""

from dataclasses import asdict
from typing import Final

import numpy as np
import pandas as pd
from jaxtyping import Float

from perturbrl.evaluation import de_metrics, metrics
from perturbrl.evaluation.de_metrics import DifferentialExpression, differential_expression
from perturbrl.evaluation.distances import energy_distance, relative_to_replicate
from perturbrl.evaluation.pairs import ResponsePair
from perturbrl.schema import GeneVector

TOP_GENES: Final = 20


def response_table(
    pair: ResponsePair, training_mean: Float[np.ndarray, " genes"], *, top_k: int = TOP_GENES, seed: int = 0
) -> pd.DataFrame:
    """Every response metric, one row per perturbation of the pair and one column per metric.

    Columns ending in ``_top`` are on the ``top_k`` genes with the strongest real rank-sum test (all genes
    where there are fewer); ``r2_delta`` is on shifts from control. ``energy_distance`` is the V-statistic in
    log expression over all genes, ``energy_relative`` the same in units of a split-half replicate.
    ``call_*`` compare significant up and down calls. ``discrimination`` is NaN for a single perturbation.

    Args:
        pair: measured and predicted cells.
        training_mean: mean of the centroids of the TRAINING perturbations, log expression.
        top_k: number of top DE genes.
        seed: of the replicate splits.

    Raises:
        DataError: a perturbation has fewer than two predicted or four real cells.
    """
    de = [_both_de(pair, label) for label in pair.perturbations]
    top = np.stack([de_metrics.top_genes(real, min(top_k, len(pair.genes))) for real, _ in de])
    columns = _errors(pair.predicted_means, pair.real_means, pair.control.mean(axis=0), training_mean)
    columns |= _top_errors(
        metrics.on_genes(pair.predicted_means, top), metrics.on_genes(pair.real_means, top)
    )
    columns["discrimination"] = _discrimination(pair)
    table = pd.DataFrame(columns, index=pd.Index(pair.perturbations, name="perturbation"))
    table[["energy_distance", "energy_relative"]] = [_energy(pair, p, seed) for p in pair.perturbations]
    return table.join(pd.DataFrame([_de_scores(*both) for both in de], index=table.index))


def _both_de(pair: ResponsePair, label: str) -> tuple[DifferentialExpression, DifferentialExpression]:
    real, predicted = (
        differential_expression(cells, pair.control)
        for cells in (pair.cells("real", label), pair.cells("predicted", label))
    )
    return real, predicted


def _errors(
    predicted: metrics.Means,
    real: metrics.Means,
    control: GeneVector,
    training_mean: GeneVector,
) -> dict[str, metrics.PerPerturbation]:
    return {
        "pearson_delta": metrics.pearson_delta(predicted, real, control),
        "pearson_centred": metrics.pearson_centred(predicted, real, training_mean),
        "l2": metrics.l2(predicted, real),
        "mse": metrics.mse(predicted, real),
        "rmse": metrics.rmse(predicted, real),
        "mae": metrics.mae(predicted, real),
        "r2": metrics.r2(predicted, real),
        "r2_delta": metrics.r2(predicted - control, real - control),
    }


def _top_errors(predicted: metrics.Means, real: metrics.Means) -> dict[str, metrics.PerPerturbation]:
    functions = {"l2": metrics.l2, "mse": metrics.mse, "mae": metrics.mae, "r2": metrics.r2}
    return {f"{name}_top": function(predicted, real) for name, function in functions.items()}


def _discrimination(pair: ResponsePair) -> metrics.PerPerturbation:
    if len(pair.perturbations) < 2:
        return np.full(1, np.nan)
    control = pair.control.mean(axis=0)
    return metrics.discrimination_score(
        pair.predicted_means - control, pair.real_means - control, pair.perturbations, pair.genes
    )


def _energy(pair: ResponsePair, label: str, seed: int) -> tuple[float, float]:
    predicted, real = pair.cells("predicted", label), pair.cells("real", label)
    return energy_distance(predicted, real), relative_to_replicate(
        predicted, real, energy_distance, seed=seed
    )


def _de_scores(real: DifferentialExpression, predicted: DifferentialExpression) -> dict[str, float]:
    calls = asdict(metrics.call_scores(predicted.calls(), real.calls()))
    return {
        "de_overlap": de_metrics.de_overlap(real, predicted),
        "de_precision": de_metrics.de_precision_at_k(real, predicted),
        "de_recall": de_metrics.de_recall(real, predicted),
        "de_auprc": de_metrics.de_auprc(real, predicted),
        **{f"call_{name}": value for name, value in calls.items()},
    }
