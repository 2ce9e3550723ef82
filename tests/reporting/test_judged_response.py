"""Predicted responses of a trained module, and the files that other tools score."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from judged_run import PAIR, judge_module, judged, trained, trained_on_logs

from perturbrl.errors import DataError
from perturbrl.evaluation.adata_pairs import pair_from_adata
from perturbrl.reporting.callback import judged_of
from perturbrl.reporting.judged_response import judge_response


@pytest.fixture(scope="module")
def response():
    return judged().response


def test_the_design_the_twin_and_every_baseline_are_compared(response):
    table = response.table.set_index("predictor")
    assert list(table.index) == [
        *("policy", "twin", "no_op", "random", "training_mean", "additive", "matching_mean"),
        *("bilinear_ridge", "nearest_perturbation", "kriging", "split_half_replicate"),
    ]
    assert table.loc["no_op", "pearson_delta"] == 0.0
    assert {"l2", "energy_relative", "de_recall", "discrimination"} <= set(table.columns)
    # A linear twin of measured effects is the additive model inside its latent space.
    assert table.loc["twin", "l2"] == pytest.approx(table.loc["additive", "l2"], rel=0.3)
    assert table.loc["twin", "pearson_delta"] > 0.5


def test_files_for_other_tools_are_counts_of_the_same_genes_labels_and_controls(response):
    real, predicted = response.real, response.predicted
    pair = pair_from_adata(real, predicted, "counts", size_factor_key="size_factor")
    labels = pair.measured.perturbations
    assert PAIR in labels
    assert len(labels) > 5
    for label in labels:
        assert len(pair.cells(label).real) == len(pair.cells(label).predicted)
    controls = [side[side.obs["perturbation"] == "control"].X.toarray() for side in (real, predicted)]
    np.testing.assert_array_equal(*controls)
    assert pair.cells(PAIR).predicted.std(axis=0).max() > 0.1
    assert predicted.obs_names.is_unique


def test_only_held_out_cells_judge(response):
    data = trained().data
    kept = set(data.split.test)
    rows = data.dataset.adata[sorted(kept)]
    counts = pd.Series(rows.obs["perturbation"].astype(str)).value_counts()
    assert (response.real.obs["perturbation"] == PAIR).sum() == counts[PAIR]
    assert (response.real.obs["perturbation"] == "control").sum() == counts["control"]


@pytest.mark.slow
def test_cell_eval_takes_the_files(response, tmp_path):
    cell_eval = pytest.importorskip("cell_eval", reason="needs the extra eval")
    results, _ = cell_eval.MetricsEvaluator(
        adata_pred=response.predicted.copy(),
        adata_real=response.real.copy(),
        control_pert="control",
        pert_col="perturbation",
        num_threads=1,
        outdir=str(tmp_path),
    ).compute(profile="anndata", write_csv=False)
    scores = dict(zip(results["perturbation"], results["pearson_delta"], strict=True))
    assert set(scores) == set(response.real.obs["perturbation"]) - {"control"}
    assert np.isfinite(list(scores.values())).all()


def test_log_values_allow_no_cells_but_all_metrics_of_means():
    finished = judge_module(trained_on_logs().model)
    assert finished.response.real is None
    assert "l2" in finished.report.response
    assert "energy_relative" not in finished.report.response
    predictors = set(finished.report.response["predictor"])
    assert "twin" not in predictors
    assert "cell_type_mean" in predictors, "the types of these cells are known"
    assert any("no raw counts" in reason for reason in finished.report.left_out)


def test_cells_that_do_not_start_as_controls_are_not_judged():
    simulation = judged().report.evaluation.simulations["policy"]
    other = replace(judged_of(trained().model), source="GENE0003")
    with pytest.raises(DataError, match="cells start from GENE0003"):
        judge_response(other, simulation)
