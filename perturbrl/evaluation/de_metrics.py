"""Differentially expressed genes of real and predicted cells, and how far the two lists agree.

The power of every test here depends on how many cells a predictor emits, and constant cells, which have no
spread, make nearly every gene significant: emit dispersed cells, as many as were measured.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import false_discovery_control, mannwhitneyu, norm
from sklearn.metrics import average_precision_score

from perturbrl.errors import DataError
from perturbrl.schema import LogExpression

# What scanpy and pdex add, so that a gene seen on one side only has a finite fold change.
_PSEUDOCOUNT: Final = 1e-9


@dataclass(frozen=True)
class DifferentialExpression:
    """One perturbation against control, gene by gene; made by `differential_expression`.

    Attributes:
        log2_fold_change: log2 of (expm1 of the mean log expression + 1e-9), perturbed over control.
        z_score: of the rank-sum test, positive where the perturbed cells rank higher.
        p_value: two-sided.
        fdr: p-values after Benjamini-Hochberg over genes.
    """

    log2_fold_change: Float[np.ndarray, " genes"]
    z_score: Float[np.ndarray, " genes"]
    p_value: Float[np.ndarray, " genes"]
    fdr: Float[np.ndarray, " genes"]

    def significant(self, fdr: float = 0.05) -> Bool[np.ndarray, " genes"]:
        """Genes whose false discovery rate is below ``fdr``."""
        return self.fdr < fdr

    def calls(self, fdr: float = 0.05) -> Int[np.ndarray, " genes"]:
        """+1 for significantly up, -1 for significantly down, 0 otherwise; see `metrics.call_scores`."""
        return np.where(self.significant(fdr), np.sign(self.z_score), 0.0).astype(np.int64)

    def ranked(self, fdr: float = 0.05) -> Int[np.ndarray, " significant"]:
        """Significant genes, largest absolute fold change first."""
        order = np.argsort(-np.abs(self.log2_fold_change), kind="stable")
        return order[self.significant(fdr)[order]]


def differential_expression(perturbed: LogExpression, control: LogExpression) -> DifferentialExpression:
    """Wilcoxon rank-sum (Mann-Whitney) test of every gene between perturbed and control cells.

    Normal approximation with tie and continuity correction, as in pdex, which cell-eval uses; scanpy's test
    has no continuity correction. A gene with one value in all cells gets p = 1. Beyond |z| of about 38 the
    p-value underflows and z stays there.

    Args:
        perturbed: ``[cells, genes]`` log1p-normalised.
        control: the same for control cells.

    Source: Mann & Whitney 1947; ``scipy.stats.mannwhitneyu``.

    Raises:
        DataError: fewer than two cells on a side, or a negative value, which no log1p of counts is.
    """
    if min(len(perturbed), len(control)) < 2:
        raise DataError(
            f"a rank-sum test needs at least 2 cells on either side, not {len(perturbed)} perturbed and "
            f"{len(control)} control; leave this perturbation out of the DE metrics"
        )
    lowest = min(perturbed.min(), control.min())
    if lowest < 0:
        raise DataError(
            f"differential expression takes log1p of counts and the lowest value is {lowest:.3g}; give values that "
            "were not scaled or centred, and cut predicted ones at 0"
        )
    test = mannwhitneyu(perturbed, control, axis=0, method="asymptotic")
    p_value = np.nan_to_num(test.pvalue, nan=1.0)
    direction = np.sign(test.statistic - len(perturbed) * len(control) / 2.0)
    z_score = direction * norm.isf(np.maximum(p_value, np.finfo(float).tiny) / 2.0)
    mean, reference = (np.expm1(x.mean(axis=0, dtype=np.float64)) for x in (perturbed, control))
    fold = np.log2((mean + _PSEUDOCOUNT) / (reference + _PSEUDOCOUNT))
    return DifferentialExpression(fold, z_score, p_value, false_discovery_control(p_value))


def top_genes(real: DifferentialExpression, k: int) -> Int[np.ndarray, " k"]:
    """The k genes with the largest absolute z-score, significant or not, for errors on top DE genes.

    Give it the test on REAL cells; see `metrics.on_genes`.

    Raises:
        DataError: there are fewer than k genes.
    """
    if not 1 <= k <= len(real.z_score):
        raise DataError(f"there are no top {k} genes among {len(real.z_score)}; choose a smaller k")
    return np.argsort(-np.abs(real.z_score), kind="stable")[:k]


def de_overlap(
    real: DifferentialExpression, predicted: DifferentialExpression, k: int | None = None
) -> float:
    """Share of the real top k that is among the predicted top k, both by absolute fold change at FDR < .05.

    k is cut to the number of real significant genes (all of them for ``None``). Range [0, 1]; 0 where either
    side has none. Predicting the control scores 0. A random list of k among g genes scores about k / g, so a
    high overlap among few genes means little. Pitfalls: fold changes of rarely expressed genes are noisy, and
    a perturbation without real DE genes scores 0 for everybody.

    Source: Wu 2024 and cell-eval ``overlap_at_N``, ``overlap_at_k``.
    """
    return _shared(real.ranked(), predicted.ranked(), _cut(k, real.ranked()))


def de_precision_at_k(
    real: DifferentialExpression, predicted: DifferentialExpression, k: int | None = None
) -> float:
    """Share of the predicted top k that is among the real top k, both by absolute fold change at FDR < .05.

    As `de_overlap`, but k is cut to the number of PREDICTED significant genes, so calling too many genes is
    punished. Range [0, 1]; predicting the control scores 0. Pitfall: a prediction that calls one gene, and the
    right one, scores 1; read it with `de_recall`.

    Source: cell-eval ``precision_at_N``, ``precision_at_k``.
    """
    return _shared(real.ranked(), predicted.ranked(), _cut(k, predicted.ranked()))


def _cut(k: int | None, ranked: Int[np.ndarray, " significant"]) -> int:
    return len(ranked) if k is None else min(k, len(ranked))


def _shared(a: Int[np.ndarray, " n"], b: Int[np.ndarray, " m"], k: int) -> float:
    return len(np.intersect1d(a[:k], b[:k])) / k if k else 0.0


def de_recall(real: DifferentialExpression, predicted: DifferentialExpression) -> float:
    """Share of the real significant genes (FDR < .05) that are significant in the predicted cells.

    Range [0, 1]; NaN without real significant genes. Predicting the control scores 0; constant cells, which
    make nearly every gene significant, score near 1: read it with the precision.

    Source: cell-eval ``de_sig_genes_recall``.
    """
    wanted = real.significant()
    return float(predicted.significant()[wanted].mean()) if wanted.any() else float("nan")


def de_auprc(real: DifferentialExpression, predicted: DifferentialExpression) -> float:
    """Average precision of the predicted |z| at finding the real significant genes (FDR < .05).

    Range [0, 1]; NaN where no gene or every gene is significant. A useless ranking scores the share of
    significant genes, so compare it with that share, not with 0.5. cell-eval ranks by −log10 FDR cut at
    1e-10, which ties all stronger genes; |z| orders them.

    Source: scikit-learn ``average_precision_score``; cell-eval ``pr_auc``.
    """
    wanted = real.significant()
    if wanted.all() or not wanted.any():
        return float("nan")
    return float(average_precision_score(wanted, np.abs(predicted.z_score)))
