import numpy as np
import pytest
import scanpy as sc
from anndata import AnnData
from scipy.stats import mannwhitneyu
from toy_screen import ToyScreen

from perturbrl.errors import DataError
from perturbrl.evaluation.de_metrics import (
    DifferentialExpression,
    de_auprc,
    de_overlap,
    de_precision_at_k,
    de_recall,
    differential_expression,
    top_genes,
)

LABELS = ("G0", "G1", "G2", "G3")


@pytest.fixture(scope="module")
def toy():
    # Few, noisy cells: no FDR falls below 1e-10, where cell-eval cuts.
    return ToyScreen(n_genes=120)


@pytest.fixture(scope="module")
def control(toy):
    return toy.cells("control", 25, draw_seed=0)


@pytest.fixture(scope="module")
def real(toy, control):
    return {p: differential_expression(toy.cells(p, 20, draw_seed=0), control) for p in LABELS}


@pytest.fixture(scope="module")
def predicted(toy, control):
    return {p: differential_expression(toy.cells(p, 20, draw_seed=1), control) for p in LABELS}


@pytest.fixture(scope="module")
def comparison(real, predicted, toy):
    """cell-eval's own comparison of our two tables."""
    pl = pytest.importorskip("polars", reason="cell-eval's polars is not installed")
    types = pytest.importorskip("cell_eval._types", reason="cell-eval is not installed")

    def frame(tables):
        rows = [
            pl.DataFrame(
                {
                    "target": [p] * toy.n_genes,
                    "feature": toy.genes,
                    "log2_fold_change": table.log2_fold_change,
                    "p_value": table.p_value,
                    "fdr": table.fdr,
                }
            )
            for p, table in tables.items()
        ]
        return pl.concat(rows)

    return types.initialize_de_comparison(real=frame(real), pred=frame(predicted))


def table(fold, z, fdr):
    return DifferentialExpression(np.array(fold), np.array(z), np.array(fdr), np.array(fdr))


@pytest.fixture(scope="module")
def two_groups(toy):
    adata = AnnData(np.concatenate([toy.cells("G0", 20), toy.cells("control", 25)]))
    adata.obs["label"] = ["G0"] * 20 + ["control"] * 25
    adata.obs["label"] = adata.obs["label"].astype("category")
    adata.var_names = toy.genes
    adata.uns["log1p"] = {"base": None}
    return adata


@pytest.mark.slow  # compiles for half a minute
def test_statistics_agree_with_pdex(real, two_groups):
    pdex = pytest.importorskip("pdex", reason="cell-eval's pdex is not installed").pdex
    theirs = pdex(two_groups, "label", reference="control", is_log1p=True, threads=1)
    np.testing.assert_allclose(real["G0"].p_value, theirs["p_value"].to_numpy(), atol=1e-6)
    np.testing.assert_allclose(real["G0"].fdr, theirs["fdr"].to_numpy(), atol=1e-6)
    np.testing.assert_allclose(real["G0"].log2_fold_change, theirs["log2_fold_change"].to_numpy(), atol=1e-4)


def test_statistics_agree_with_scanpy(real, two_groups):
    sc.tl.rank_genes_groups(
        two_groups, "label", groups=["G0"], reference="control", method="wilcoxon", tie_correct=True
    )
    scanpy = sc.get.rank_genes_groups_df(two_groups, "G0").set_index("names").loc[two_groups.var_names]
    # scanpy leaves out the continuity correction, half a rank of a standard deviation of about 60 ranks.
    np.testing.assert_allclose(real["G0"].z_score, scanpy["scores"], atol=0.02)
    np.testing.assert_allclose(real["G0"].log2_fold_change, scanpy["logfoldchanges"], atol=1e-3)


def test_z_score_carries_the_direction_and_p_value():
    rng = np.random.default_rng(0)
    control, up, down = rng.normal(5, 1, 40), rng.normal(7, 1, 40), rng.normal(4, 1, 40)
    result = differential_expression(
        np.column_stack((up, down, control)), np.column_stack((control, control, control))
    )
    assert result.z_score[0] > 5 > 0 > result.z_score[1]
    assert result.z_score[2] == pytest.approx(0.0, abs=1e-6)
    np.testing.assert_array_equal(result.calls(), [1, -1, 0])
    assert result.p_value[0] == pytest.approx(mannwhitneyu(up, control, method="asymptotic").pvalue)


def test_constant_genes_and_underflow_stay_finite():
    cells = np.zeros((3000, 3))
    perturbed = cells.copy()
    perturbed[:, 1] = 1.0
    perturbed[:, 2] = np.arange(3000) < 2
    result = differential_expression(perturbed, cells)
    assert result.p_value[0] == 1.0
    assert result.z_score[0] == result.log2_fold_change[0] == 0.0
    assert np.isfinite(result.z_score).all()
    assert np.isfinite(result.log2_fold_change).all()
    assert result.z_score[1] > 30


def test_overlap_precision_and_recall_agree_with_cell_eval(real, predicted, comparison):
    from cell_eval.metrics import _de as oracle

    for k in (None, 5, 20):
        overlap = oracle.de_overlap_metric(comparison, k=k, metric="overlap")
        precision = oracle.de_overlap_metric(comparison, k=k, metric="precision")
        for p in LABELS:
            assert de_overlap(real[p], predicted[p], k) == pytest.approx(overlap[p], abs=1e-6)
            assert de_precision_at_k(real[p], predicted[p], k) == pytest.approx(precision[p], abs=1e-6)
    recall = oracle.DESigGenesRecall()(comparison)
    for p in LABELS:
        assert 0 < de_recall(real[p], predicted[p]) < 1
        assert de_recall(real[p], predicted[p]) == pytest.approx(recall[p], abs=1e-6)


def test_auprc_agrees_with_cell_eval_where_its_scores_do_not_tie(real, predicted, toy):
    """cell-eval ranks by FDR, and Benjamini-Hochberg ties neighbours; given p-values it must agree."""
    pl = pytest.importorskip("polars", reason="cell-eval's polars is not installed")
    types = pytest.importorskip("cell_eval._types", reason="cell-eval is not installed")
    from cell_eval.metrics._de import compute_pr_auc

    def frame(column):
        return pl.concat(
            pl.DataFrame({"target": [p] * toy.n_genes, "feature": toy.genes, **column(p)}) for p in LABELS
        )

    def columns(p_or_fdr):
        return {"log2_fold_change": np.zeros(toy.n_genes), "p_value": p_or_fdr, "fdr": p_or_fdr}

    oracle = types.initialize_de_comparison(
        real=frame(lambda p: columns(real[p].fdr)), pred=frame(lambda p: columns(predicted[p].p_value))
    )
    theirs = compute_pr_auc(oracle)
    for p in LABELS:
        assert predicted[p].p_value.min() > 1e-10
        assert de_auprc(real[p], predicted[p]) == pytest.approx(theirs[p], abs=1e-6)


def test_overlap_by_hand():
    real = table([5, -4, 3, 2, 1.0], [5, -4, 3, 2, 1.0], [0.01, 0.01, 0.01, 0.2, 0.9])
    predicted = table([0.5, -4, 3, 9, 8.0], [1, -4, 3, 9, 8.0], [0.9, 0.01, 0.02, 0.01, 0.01])
    np.testing.assert_array_equal(real.ranked(), [0, 1, 2])
    np.testing.assert_array_equal(predicted.ranked(), [3, 4, 1, 2])
    assert de_overlap(real, predicted) == pytest.approx(1 / 3)
    assert de_precision_at_k(real, predicted) == pytest.approx(2 / 4)
    assert de_overlap(real, predicted, 2) == 0.0
    assert de_recall(real, predicted) == pytest.approx(2 / 3)
    # |z| order 3, 4, 1, 2, 0: hits at places 3, 4, 5.
    assert de_auprc(real, predicted) == pytest.approx((1 / 3 + 2 / 4 + 3 / 5) / 3)


def test_useless_predictions_score_what_the_docstrings_say(toy, control, real):
    nothing = differential_expression(control, control)
    constant = differential_expression(np.tile(control.mean(axis=0), (500, 1)), control)
    assert de_overlap(real["G0"], nothing) == de_precision_at_k(real["G0"], nothing) == 0.0
    assert de_recall(real["G0"], nothing) == 0.0
    assert de_auprc(real["G0"], nothing) == pytest.approx(real["G0"].significant().mean())
    # Constant cells at the control mean have no effect at all, yet the test calls many genes.
    assert constant.significant().mean() > 0.2
    assert de_precision_at_k(real["G0"], constant) < 0.8


def test_without_real_signal_recall_and_auprc_are_undefined():
    flat = table([0.0, 0.0], [0.0, 0.0], [1.0, 1.0])
    hit = table([1.0, 0.0], [5.0, 0.0], [0.01, 1.0])
    assert np.isnan(de_recall(flat, hit))
    assert np.isnan(de_auprc(flat, hit))
    assert de_overlap(flat, hit) == 0.0


def test_top_genes_are_the_strongest_of_the_real_test():
    real = table([0, 0, 0, 0.0], [1, -7, 3, 0.0], [1, 1, 1, 1.0])
    np.testing.assert_array_equal(top_genes(real, 2), [1, 2])
    with pytest.raises(DataError, match="no top 5 genes among 4"):
        top_genes(real, 5)


def test_one_cell_is_too_few():
    with pytest.raises(DataError, match="not 1 perturbed and 5 control"):
        differential_expression(np.zeros((1, 3)), np.zeros((5, 3)))


def test_what_is_no_log_of_counts_is_refused():
    cells = np.ones((5, 3))
    with pytest.raises(DataError, match=r"the lowest value is -2; give values that were not scaled"):
        differential_expression(cells - [0, 3, 0], cells)
