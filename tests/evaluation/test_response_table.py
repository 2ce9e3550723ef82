import json

import golden_panel
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.stats import pearsonr
from sklearn.metrics import average_precision_score
from toy_screen import ToyScreen

from perturbrl.evaluation import metrics
from perturbrl.evaluation.de_metrics import differential_expression, top_genes
from perturbrl.evaluation.distances import energy_distance
from perturbrl.evaluation.pairs import ResponsePair
from perturbrl.evaluation.response_table import response_table

TOY = ToyScreen(n_genes=80, n_perturbations=4)
LABELS = ("control", *TOY.perturbations)


def counts(draw_seed, n_cells=40, labels=LABELS):
    obs = pd.DataFrame({"perturbation": np.repeat(labels, n_cells)}).set_index(
        pd.Index([f"c{i}" for i in range(n_cells * len(labels))])
    )
    x = np.concatenate([TOY.counts(label, n_cells, draw_seed) for label in labels])
    return AnnData(x, obs=obs, var=pd.DataFrame(index=TOY.genes))


@pytest.fixture(scope="module")
def pair():
    return ResponsePair(counts(0), counts(1, n_cells=30), "counts")


@pytest.fixture(scope="module")
def table(pair):
    return response_table(pair, pair.real_means.mean(axis=0), top_k=10)


def test_every_column_is_the_metric_of_its_name(pair, table):
    control = pair.control.mean(axis=0)
    predicted, real = pair.predicted_means, pair.real_means
    expected = {
        "pearson_delta": metrics.pearson_delta(predicted, real, control),
        "pearson_centred": metrics.pearson_centred(predicted, real, real.mean(axis=0)),
        "rmse": metrics.rmse(predicted, real),
        "r2": metrics.r2(predicted, real),
        "r2_delta": metrics.r2(predicted - control, real - control),
        "discrimination": metrics.discrimination_score(
            predicted - control, real - control, pair.perturbations, pair.genes
        ),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(table[name], values)
    assert table.index.tolist() == list(TOY.perturbations)
    cells = pair.cells("predicted", "G2"), pair.cells("real", "G2")
    assert table.loc["G2", "energy_distance"] == pytest.approx(energy_distance(*cells))
    top = top_genes(differential_expression(cells[1], pair.control), 10)
    assert table.loc["G2", "mse_top"] == pytest.approx(np.square(predicted[2, top] - real[2, top]).mean())


def test_a_replicate_scores_like_one(table):
    assert table["energy_relative"].between(0.7, 1.4).all()
    assert (table["pearson_delta"] > 0.8).all()
    assert (table["discrimination"] == 1.0).all()
    assert (table[["de_recall", "de_auprc", "call_f1"]] > 0.5).all(axis=None)
    assert table.notna().all(axis=None)


def test_a_single_perturbation_cannot_be_discriminated():
    one = ResponsePair(counts(0, labels=LABELS[:2]), counts(1, labels=LABELS[:2]), "counts")
    table = response_table(one, one.real_means.mean(axis=0), top_k=500)
    assert len(table) == 1
    assert np.isnan(table["discrimination"].item())
    assert table["mse_top"].item() == pytest.approx(table["mse"].item())


SHARED = {
    "cell-eval": {
        "pearson_delta": "pearson_delta",
        "mse": "mse",
        "mae": "mae",
        "overlap_at_N": "de_overlap",
        "precision_at_N": "de_precision",
        "de_sig_genes_recall": "de_recall",
        "pr_auc": "auprc_by_fdr",
        "pearson_edistance": "pearson_edistance",
    },
    "cell-eval2": {
        "delta_pearson": "pearson_delta",
        "expr_mse": "mse",
        "expr_mae": "mae",
        "pds_cosine": "discrimination",
        "de_wilcoxon_overlap": "de_overlap",
        "de_wilcoxon_precision": "de_precision",
        "de_wilcoxon_sig_recall": "de_recall",
        "de_wilcoxon_pr_auc": "auprc_by_fdr",
    },
}


@pytest.fixture(scope="module")
def golden():
    """Numbers that cell-eval and cell-eval2 gave, and our table of the same cells."""
    stored = json.loads(golden_panel.STORED.read_text())
    assert stored["cells"] == golden_panel.fingerprint(), (
        "the toy cells are no longer those that the stored numbers belong to; run python tests/golden_panel.py"
    )
    real, predicted = golden_panel.pair()
    pair = ResponsePair(real, predicted, "log1p")
    ours = response_table(pair, pair.real_means.mean(axis=0))
    de = [
        [differential_expression(pair.cells(side, p), pair.control) for side in ("real", "predicted")]
        for p in pair.perturbations
    ]
    # Both rank genes by FDR, which ties neighbours, where `de_auprc` goes by |z|.
    ours["auprc_by_fdr"] = [average_precision_score(a.significant(), -b.fdr) for a, b in de]
    energies = [
        [energy_distance(pair.cells(side, p), pair.control) for p in pair.perturbations]
        for side in ("real", "predicted")
    ]
    ours["pearson_edistance"] = pearsonr(*energies).statistic
    return stored["values"], ours


@pytest.mark.parametrize(
    ("program", "theirs"), [(program, name) for program, names in SHARED.items() for name in names]
)
def test_shared_metrics_are_the_stored_numbers_of_cell_eval_and_cell_eval2(golden, program, theirs):
    stored, ours = golden
    np.testing.assert_allclose(ours[SHARED[program][theirs]], stored[program][theirs], rtol=0, atol=1e-6)


def test_stored_numbers_tell_perturbations_apart(golden):
    stored, _ = golden
    discrimination = np.array(stored["cell-eval2"]["pds_cosine"])
    assert discrimination[[1, 2]].max() < discrimination[[0, 3, 4, 5]].min()
    assert set(golden_panel.METRICS["cell-eval"]) == set(SHARED["cell-eval"])
    assert set(golden_panel.METRICS["cell-eval2"]) == set(SHARED["cell-eval2"])
