"""The metrics of predicted responses: of means, of a panel of perturbations, and of populations of cells."""

from dataclasses import dataclass
from math import inf
from typing import Final

import numpy as np

from perturbrl.evaluation import de_metrics, metrics
from perturbrl.evaluation.distances import energy_distance, relative_to_replicate
from perturbrl.evaluation.metrics import Means, PerPerturbation
from perturbrl.evaluation.pairs import TOP_GENES, PairedCells, PairedMeans, ResponsePair
from perturbrl.evaluation.registry_entry import Metric


@dataclass(frozen=True)
class MeanMetric(Metric[PairedMeans]):
    """A metric of means, one value per row of its input.

    Attributes:
        sees_control: whether the measured control mean enters, and so its noise.
    """

    sees_control: bool = False


def _top(pair: PairedMeans) -> tuple[Means, Means]:
    return metrics.on_genes(pair.predicted, pair.top), metrics.on_genes(pair.real, pair.top)


_GEARS: Final = "Roohani 2024, GEARS (10.1038/s41587-023-01905-6)"
_SYSTEMA: Final = "Viñas Torné 2025, Systema (10.1038/s41587-025-02777-8)"
_LINEAR: Final = "Ahlmann-Eltze 2025 (10.1038/s41592-025-02772-6)"

MEAN_METRICS: Final = (
    MeanMetric(
        "pearson_delta",
        "Pearson Δ",
        "Correlation over genes of predicted and measured change from control, −1 to 1; rewards what all perturbations "
        "have in common.",
        "corr(δ̂, δ)",
        better="larger",
        no_op=0.0,
        source=_GEARS,
        function=lambda pair: metrics.pearson_delta(pair.predicted_shift, pair.real_shift),
        low=-1.0,
        high=1.0,
        sees_control=True,
    ),
    MeanMetric(
        "pearson_centred",
        "Pearson centred",
        "The same after the mean of the training perturbations is taken off: what is special to this one. The training "
        "mean itself scores 0.",
        "corr(x̂ − m, x − m)",
        better="larger",
        no_op=None,
        source=_SYSTEMA,
        function=lambda pair: metrics.pearson_centred(pair.predicted, pair.real, pair.training_mean),
        low=-1.0,
        high=1.0,
    ),
    MeanMetric(
        "l2",
        "L2",
        "Euclidean distance of predicted and measured mean expression (log1p); 0 is perfect.",
        "‖x̂ − x‖",
        better="smaller",
        no_op=None,
        source=_LINEAR,
        function=lambda pair: metrics.l2(pair.predicted, pair.real),
    ),
    MeanMetric(
        "mse",
        "MSE",
        "Mean squared error of mean expression over genes; 0 is perfect.",
        "mean (x̂ − x)²",
        better="smaller",
        no_op=None,
        source="scikit-learn mean_squared_error; cell-eval mse",
        function=lambda pair: metrics.mse(pair.predicted, pair.real),
    ),
    MeanMetric(
        "rmse",
        "RMSE",
        "Root mean squared error of mean expression over genes; 0 is perfect.",
        "√ mean (x̂ − x)²",
        better="smaller",
        no_op=None,
        source="scikit-learn root_mean_squared_error",
        function=lambda pair: metrics.rmse(pair.predicted, pair.real),
    ),
    MeanMetric(
        "mae",
        "MAE",
        "Mean absolute error of mean expression over genes; 0 is perfect.",
        "mean |x̂ − x|",
        better="smaller",
        no_op=None,
        source="scikit-learn mean_absolute_error; cell-eval mae",
        function=lambda pair: metrics.mae(pair.predicted, pair.real),
    ),
    MeanMetric(
        "r2",
        "R²",
        "Explained variance of mean expression over genes. Genes differ far more in level than by perturbation, so "
        "even no change scores near 1.",
        "1 − Σ(x̂ − x)² / Σ(x − mean x)²",
        better="larger",
        no_op=None,
        source="scikit-learn r2_score",
        function=lambda pair: metrics.r2(pair.predicted, pair.real),
        low=-inf,
        high=1.0,
    ),
    MeanMetric(
        "r2_delta",
        "R² of change",
        "Explained variance of the change from control over genes; 1 is perfect, and no change scores about 0.",
        "1 − Σ(δ̂ − δ)² / Σ(δ − mean δ)²",
        better="larger",
        no_op=None,
        source="scikit-learn r2_score",
        function=lambda pair: metrics.r2(pair.predicted_shift, pair.real_shift),
        low=-inf,
        high=1.0,
        sees_control=True,
    ),
    MeanMetric(
        "l2_top",
        "L2, top genes",
        f"Euclidean distance on the {TOP_GENES} genes that change most surely in real cells.",
        "‖x̂ − x‖ on top genes",
        better="smaller",
        no_op=None,
        source=_LINEAR,
        function=lambda pair: metrics.l2(*_top(pair)),
    ),
    MeanMetric(
        "mse_top",
        "MSE, top genes",
        f"Mean squared error on the {TOP_GENES} genes that change most surely in real cells.",
        "mean (x̂ − x)² on top genes",
        better="smaller",
        no_op=None,
        source=_GEARS,
        function=lambda pair: metrics.mse(*_top(pair)),
    ),
    MeanMetric(
        "rmse_top",
        "RMSE, top genes",
        f"Root mean squared error on the {TOP_GENES} genes that change most surely in real cells.",
        "√ mean (x̂ − x)² on top genes",
        better="smaller",
        no_op=None,
        source=_GEARS,
        function=lambda pair: metrics.rmse(*_top(pair)),
    ),
)


def _discrimination(pair: ResponsePair) -> PerPerturbation:
    measured = pair.measured
    panel = (*measured.perturbations, *measured.panel)
    if len(panel) < 2 or not metrics.untargeted(panel, measured.genes).any():
        return np.full(len(measured.perturbations), np.nan)
    real = np.stack([*measured.shifts.values(), *measured.panel.values()])
    return metrics.discrimination_score(pair.means.predicted_shift, real, panel, measured.genes)


PANEL_METRICS: Final[tuple[Metric[ResponsePair], ...]] = (
    Metric(
        "discrimination",
        "discrimination",
        "Share of the other measured perturbations that are less like the prediction than the true one is; 0.5 is "
        "guessing.",
        "1 − k / (n − 1), k the place of the own δ among all n by cosine to δ̂",
        better="larger",
        no_op=0.5,
        source="Wu 2024, PerturBench (arXiv 2408.10609); cell-eval2 pds_cosine",
        function=_discrimination,
        high=1.0,
    ),
)

_SCIKIT_CALLS: Final = "scikit-learn precision_recall_fscore_support"

CELL_METRICS: Final[tuple[Metric[PairedCells], ...]] = (
    Metric(
        "energy_distance",
        "energy distance, absolute",
        "Between predicted and measured populations of cells, over all genes; it depends on the numbers of cells.",
        "2 E‖X − Y‖ − E‖X − X'‖ − E‖Y − Y'‖ (V-statistic)",
        better="smaller",
        no_op=None,
        source="Székely & Rizzo 2013 (10.1016/j.jspi.2013.03.018)",
        function=lambda pair: energy_distance(pair.predicted, pair.real),
    ),
    Metric(
        "energy_relative",
        "energy distance",
        "Between predicted and measured populations of cells in units of two halves of the measured ones; 1 is a "
        "replicate.",
        "energy distance / energy distance of two halves of the measured cells",
        better="smaller",
        no_op=None,
        source="Székely & Rizzo 2013 (10.1016/j.jspi.2013.03.018); split-half replicate as in cell-eval2",
        function=lambda pair: relative_to_replicate(pair.predicted, pair.real, energy_distance),
    ),
    Metric(
        "de_overlap",
        "DE overlap",
        "Share of the really changed genes among as many predicted ones, by fold change.",
        "|top k real ∩ top k predicted| / k, k the real significant genes",
        better="larger",
        no_op=0.0,
        source="Wu 2024, PerturBench (arXiv 2408.10609); cell-eval overlap_at_N",
        function=lambda pair: de_metrics.de_overlap(pair.real_test, pair.predicted_test),
        high=1.0,
    ),
    Metric(
        "de_precision",
        "DE precision",
        "Share of the predicted changed genes that are among as many really changed ones.",
        "|top k real ∩ top k predicted| / k, k the predicted significant genes",
        better="larger",
        no_op=0.0,
        source="cell-eval precision_at_N",
        function=lambda pair: de_metrics.de_precision_at_k(pair.real_test, pair.predicted_test),
        high=1.0,
    ),
    Metric(
        "de_recall",
        "DE recall",
        "Share of the really changed genes (FDR < 5 %) that change in predicted cells, too.",
        "|significant real ∩ significant predicted| / |significant real|",
        better="larger",
        no_op=0.0,
        source="cell-eval de_sig_genes_recall",
        function=lambda pair: de_metrics.de_recall(pair.real_test, pair.predicted_test),
        high=1.0,
    ),
    Metric(
        "de_auprc",
        "DE average precision",
        "How well the predicted test ranks the really changed genes first; a useless ranking scores their share.",
        "average precision of |z predicted| at finding significant real genes",
        better="larger",
        no_op=None,
        source="scikit-learn average_precision_score; cell-eval pr_auc",
        function=lambda pair: de_metrics.de_auprc(pair.real_test, pair.predicted_test),
        high=1.0,
    ),
    Metric(
        "call_accuracy",
        "up/down accuracy",
        "Share of genes called up, down or unchanged alike; calling nothing scores the share of unchanged genes.",
        "mean [call predicted = call real]",
        better="larger",
        no_op=None,
        source="scikit-learn accuracy_score",
        function=lambda pair: pair.calls.accuracy,
        high=1.0,
    ),
    Metric(
        "call_precision",
        "up/down precision",
        "Share of the predicted significant up and down calls that are right, mean over both directions.",
        "mean over up, down of right calls / predicted calls",
        better="larger",
        no_op=0.0,
        source=_SCIKIT_CALLS,
        function=lambda pair: pair.calls.precision,
        high=1.0,
    ),
    Metric(
        "call_recall",
        "up/down recall",
        "Share of the real significant up and down calls that are predicted, mean over both directions.",
        "mean over up, down of right calls / real calls",
        better="larger",
        no_op=0.0,
        source=_SCIKIT_CALLS,
        function=lambda pair: pair.calls.recall,
        high=1.0,
    ),
    Metric(
        "call_f1",
        "up/down F1",
        "Agreement of the significant up and down calls, mean over both directions.",
        "mean over up, down of 2 · precision · recall / (precision + recall)",
        better="larger",
        no_op=0.0,
        source=_SCIKIT_CALLS,
        function=lambda pair: pair.calls.f1,
        high=1.0,
    ),
)
