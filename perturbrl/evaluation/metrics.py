"""How near predicted responses and designs come to the measured ones: metrics of means, calls and rankings.

Means are ``[perturbations, genes]`` arrays of log-normalised expression, one row per perturbation, and every
metric of means returns one value per row. Average over perturbations, with an interval from
`perturbrl.evaluation.statistics`, and put the baselines of `perturbrl.responses.baselines` beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import rankdata
from sklearn.metrics import accuracy_score, precision_recall_fscore_support, r2_score
from sklearn.metrics.pairwise import cosine_distances

from perturbrl.data.labels import Label
from perturbrl.errors import DataError
from perturbrl.schema import GeneVector

Means = Float[np.ndarray, "perturbations genes"]
PerPerturbation = Float[np.ndarray, " perturbations"]


def pearson_delta(predicted_shift: Means, real_shift: Means) -> PerPerturbation:
    """Pearson correlation over genes of predicted and real shift from control: corr(x̂ₚ − c, x̄ₚ − c).

    Range [-1, 1]. Predicting the control is a correlation with nothing and scores 0 here (elsewhere NaN,
    which drops out of averages and so flatters); a real shift of exactly zero gives NaN. Pitfalls: it rewards
    the shift that all perturbations have in common, so the mean of the training perturbations often scores
    .5 to .9 knowing nothing about p, and it ignores the size of the shift. Read it beside `pearson_centred`
    and `discrimination_score`. Where both sides subtract the same few control cells, their noise correlates
    with itself: let the predicted shift count from the control that the predictor learned from.

    Source: Roohani 2024 ("GEARS"); criticised in Viñas Torné 2025 ("Systema").
    """
    return _row_pearson(predicted_shift, real_shift)


def pearson_centred(predicted: Means, real: Means, training_mean: GeneVector) -> PerPerturbation:
    """Pearson correlation of what is special to each perturbation: corr(x̂ₚ − m, x̄ₚ − m).

    ``training_mean`` m is the mean of the centroids of the TRAINING perturbations; centring on it removes the
    shift common to all of them. Range [-1, 1]. The training mean itself scores 0 (see `pearson_delta` for the
    convention), but predicting the control does not: c − m correlates with every weak perturbation. Pitfalls:
    m must not contain held-out perturbations, and with few training perturbations it is noisy.

    Source: Viñas Torné 2025, "Systema", Nature Biotechnology.
    """
    return _row_pearson(predicted - training_mean, real - training_mean)


def _row_pearson(x: Means, y: Means) -> PerPerturbation:
    x_std, x_void = _standardised(x)
    y_std, y_void = _standardised(y)
    r = (x_std * y_std).sum(axis=1)
    return np.where(y_void, np.nan, np.where(x_void, 0.0, r)).clip(-1.0, 1.0)


def _standardised(x: Means) -> tuple[Means, Bool[np.ndarray, " perturbations"]]:
    wide = x.astype(np.float64)
    scale = np.abs(wide).max(axis=1, initial=0.0)
    wide = wide - wide.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(wide, axis=1)
    # A spread below rounding error is no spread.
    void = norm <= 1e-12 * np.sqrt(x.shape[1]) * np.maximum(scale, 1e-300)
    return wide / np.where(void, 1.0, norm)[:, None], void


def mse(predicted: Means, real: Means) -> PerPerturbation:
    """Mean squared error over genes, mean (x̂ − x)², in squared units of log expression; range [0, inf).

    Predicting the control scores the mean squared shift, which is small for most perturbations: an error is
    large or small only beside that of the control and of the training mean. Genes that nobody expresses
    dilute it, hence the errors on `top_genes` too.

    Source: scikit-learn ``mean_squared_error``, cell-eval ``mse``.
    """
    return np.square(predicted - real).mean(axis=1)


def rmse(predicted: Means, real: Means) -> PerPerturbation:
    """Root of the mean squared error over genes, √mean (x̂ − x)², in units of log expression.

    Range [0, inf). Predicting the control scores the root mean squared shift; the pitfalls are those of `mse`.

    Source: scikit-learn ``root_mean_squared_error``.
    """
    return np.sqrt(mse(predicted, real))


def mae(predicted: Means, real: Means) -> PerPerturbation:
    """Mean absolute error over genes, mean |x̂ − x|, in units of log expression; range [0, inf).

    Predicting the control scores the mean absolute shift. Less ruled by the few strongest genes than `mse`;
    otherwise the same pitfalls.

    Source: scikit-learn ``mean_absolute_error``, cell-eval ``mae``.
    """
    return np.abs(predicted - real).mean(axis=1)


def l2(predicted: Means, real: Means) -> PerPerturbation:
    """Euclidean distance of predicted and real mean, ‖x̂ − x‖; range [0, inf).

    Grows with the root of the number of genes, so it compares only at equal gene sets. Predicting the control
    scores the length of the real shift.

    Source: Ahlmann-Eltze 2025, where it runs over the 1,000 most expressed genes.
    """
    return np.linalg.norm(predicted - real, axis=1)


def r2(predicted: Means, real: Means) -> PerPerturbation:
    """Coefficient of determination over genes, 1 − Σ(x̂ − x)² / Σ(x − mean x)²; range (-inf, 1].

    On expression itself predicting the control scores close to 1, because genes differ in level far more
    than by perturbation: give shifts from control (as ``r2_delta`` does), where it scores about 0. Not a squared
    correlation: it can be negative.

    Source: scikit-learn ``r2_score``.
    """
    return np.asarray(r2_score(real.T, predicted.T, multioutput="raw_values"))


def on_genes(means: Means, genes: Int[np.ndarray, "perturbations k"]) -> Float[np.ndarray, "perturbations k"]:
    """The columns ``genes[p]`` of each row p, so that any metric above can be had on the top DE genes.

    Choose the genes on REAL cells (`perturbrl.evaluation.de_metrics.top_genes`): a choice made on predicted
    cells lets the prediction pick its own examination.
    """
    return np.take_along_axis(means, genes, axis=1)


def discrimination_score(
    predicted_shift: Means,
    real_shift: Float[np.ndarray, "panel genes"],
    panel: Sequence[str],
    genes: Sequence[str],
) -> PerPerturbation:
    """Whether each predicted shift lies nearest to the real shift of its own perturbation: 1 − k / (n − 1).

    k counts, from 0, the place of the own real shift among all n real shifts ordered by cosine distance to
    the predicted one; equal distances share their mean place. Every gene that any perturbation of the panel
    targets is left out first, or a model could score by knowing the name of the gene alone. Range [0, 1]: 1
    is always nearest, 0.5 is what no information scores on average (exactly 0.5 for a zero shift, which ties
    with everybody). Pitfalls: it ignores the size of the shift, depends on how different the perturbations
    of the panel are, and perturbations that are true twins cap it below 1.

    Args:
        predicted_shift: ``[perturbations, genes]`` predicted minus control mean.
        real_shift: ``[panel, genes]`` the same for real cells: of the predicted perturbations first, in the same
            order, then of any others that they have to be told from.
        panel: the label of each row of ``real_shift``; the names of a combination count as targets.
        genes: the name of each column.

    Source: Wu 2024 (PerturBench rank metric); cosine, mid-ranks and panel removal as in cell-eval2.

    Raises:
        DataError: fewer than two perturbations, or no gene that is not a target.
    """
    keep = untargeted(panel, genes)
    if len(panel) < 2 or not keep.any():
        raise DataError(
            "a discrimination score needs at least 2 perturbations and 1 gene that none of them targets, not "
            f"{len(panel)} and {int(keep.sum())}; leave the score out or widen the panel"
        )
    distance = cosine_distances(predicted_shift[:, keep], real_shift[:, keep]).astype(np.float64)
    # Ties are meant up to rounding, or the order of the columns would decide between equal shifts.
    places = rankdata(distance.round(12), axis=1, method="average") - 1.0
    return 1.0 - np.diagonal(places) / (len(panel) - 1)


def untargeted(panel: Sequence[str], genes: Sequence[str]) -> Bool[np.ndarray, " genes"]:
    """Genes that no perturbation of the panel targets."""
    targets = {name for label in panel for name in Label.parse(label).names}
    return np.array([gene not in targets for gene in genes])


@dataclass(frozen=True)
class CallScores:
    """Agreement of up/down calls; see `call_scores`."""

    accuracy: float
    precision: float
    recall: float
    f1: float


def call_scores(predicted: Int[np.ndarray, " genes"], real: Int[np.ndarray, " genes"]) -> CallScores:
    """Accuracy over the calls up, unchanged and down; precision, recall and F1 averaged over up and down.

    The class "unchanged" is left out of precision, recall and F1 (macro average of the other two, 0 where a
    class was never called), because it is nearly all genes. Range [0, 1]. Predicting no change scores the
    share of unchanged genes in accuracy (often above .9) and 0 in F1; random calls score about their own
    frequency in each class. Pitfall: the calls depend on the threshold, or on the number of cells where they
    come from a test. A direction that neither side calls is left out of the average.

    Source: scikit-learn ``precision_recall_fscore_support``.
    """
    called = [direction for direction in (-1, 1) if direction in predicted or direction in real]
    accuracy = float(accuracy_score(real, predicted))
    if not called:
        return CallScores(accuracy, *(float("nan"),) * 3)
    precision, recall, f1, _ = precision_recall_fscore_support(
        real, predicted, labels=called, average="macro", zero_division=0
    )
    return CallScores(accuracy, float(precision), float(recall), float(f1))


def displacement_from_start(
    final: Float[np.ndarray, "cells latent"], start: Float[np.ndarray, "cells latent"]
) -> float:
    """R² of the final state against the START state of the same cells, averaged over latent dimensions.

    1 − Σ(z_T − z_0)² / Σ(z_0 − mean z_0)² over cells, the mean over dimensions. Range (-inf, 1]. It is 1 for
    a policy that does nothing and falls with every movement, towards the target or away from it, so it
    measures stillness and not success. Reported because published notebooks for this method give this number
    as the R² of the final state; never rank by it. Every dimension weighs the same, whatever its spread, so one in
    which start cells hardly differ can rule the mean. Those in which they do not differ at all have no R² and are
    left out; NaN where none is left.

    Source: the notebooks that accompany arXiv 2510.13018, which take scikit-learn's ``r2_score`` dimension by
    dimension and then the mean.
    """
    spread = np.ptp(start, axis=0) > 0
    return float(r2_score(start[:, spread], final[:, spread])) if spread.any() else float("nan")


def recall_at_k(
    scores: Float[np.ndarray, " perturbations"], is_true: Bool[np.ndarray, " perturbations"], k: int
) -> float:
    """Share of the true perturbations among the k with the highest scores.

    Perturbations with equal scores at the border of the top k share the places that are left, so the result
    is the mean over every order of the tied ones and no order of names decides. A score of -inf says "not
    proposed", which finds nothing. Range [0, 1], at most k / (number of true ones). Random or all-equal scores get
    k / n. Pitfall: with few candidates k / n is already high; say n.

    Source: information retrieval; ties as in scikit-learn's ``ndcg_score``, averaged.

    Raises:
        DataError: there is no true perturbation, or k is not in 1..n.
    """
    if not is_true.any() or not 1 <= k <= len(scores):
        raise DataError(
            f"recall at k needs a true perturbation and k in 1..{len(scores)}, not {int(is_true.sum())} true "
            f"ones and k = {k}; check the target's name and k"
        )
    border = np.sort(scores)[-k]
    above, tied = scores > border, scores == border
    places_left = k - above.sum()
    credit = above + tied * (places_left / tied.sum())
    return float((credit * np.isfinite(scores))[is_true].sum() / is_true.sum())
