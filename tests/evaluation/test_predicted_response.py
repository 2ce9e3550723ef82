import numpy as np
import pandas as pd
import pytest
from toy_screen import ToyScreen

from perturbrl.errors import DataError
from perturbrl.evaluation import metrics
from perturbrl.evaluation.predicted_response import (
    CEILING,
    FEWEST_GENES,
    HeldOutResponse,
    baseline_shifts,
    judge_responses,
    top_gene_table,
)
from perturbrl.responses.emission import emit_counts
from perturbrl.responses.training_cells import TrainingCells

TOY = ToyScreen(n_genes=80, n_perturbations=6)
LABEL = "G2"


def cells(label, draw, n=60):
    return TOY.cells(label, n, draw).astype(np.float64)


@pytest.fixture(scope="module")
def real():
    control = cells("control", 1)
    panel = {
        name: cells(name, 1).mean(axis=0) - control.mean(axis=0)
        for name in TOY.perturbations
        if name != LABEL
    }
    return HeldOutResponse(LABEL, cells(LABEL, 1), control, TOY.genes, panel)


@pytest.fixture(scope="module")
def training():
    labels = ["control", *(name for name in TOY.perturbations if name != LABEL)]
    return TrainingCells(
        np.concatenate([cells(label, 0) for label in labels]), np.repeat(labels, 60).tolist(), TOY.genes
    )


@pytest.fixture(scope="module")
def shifts(training):
    control = training.expression[:60].mean(axis=0)
    return baseline_shifts(training, LABEL) | {CEILING: cells(LABEL, 0).mean(axis=0) - control}


@pytest.fixture(scope="module")
def table(real, shifts, training):
    counts = TOY.counts("control", 60, 0).astype(np.float64)

    def emit(mean, n):
        emitted, sizes = emit_counts(mean, counts, counts.sum(axis=1), n)
        return np.log1p(1e4 * emitted / sizes[:, None])

    return judge_responses(real, shifts, training, emit).set_index("predictor")


def test_a_replicate_is_the_ceiling_and_knowing_nothing_the_floor(table):
    others = table.drop(index=CEILING)
    assert table.loc[CEILING, "pearson_delta"] > 0.9 > others["pearson_delta"].max()
    assert table.loc[CEILING, "l2"] < others["l2"].min()
    assert table.loc[CEILING, "discrimination"] == 1.0
    assert table.loc["no_op", ["pearson_delta", "de_recall", "call_f1"]].tolist() == [0.0, 0.0, 0.0]
    assert table.loc["no_op", "discrimination"] == 0.5
    assert table.loc["training_mean", "pearson_centred"] == 0.0
    assert table.loc["training_mean", "pearson_delta"] > 0.5
    assert np.isfinite(table.to_numpy()).all()


def test_doing_nothing_cannot_profit_from_the_noise_of_control_cells(real, training):
    """With the held-out control subtracted on both sides, no change would correlate with everything."""
    few = HeldOutResponse(LABEL, real.target, real.control[:6], TOY.genes)
    control = training.expression[:60].mean(axis=0)
    naive = metrics.pearson_delta(control[None], real.target.mean(axis=0)[None], few.control.mean(axis=0))
    assert naive.item() > 0.2
    honest = judge_responses(few, {"no_op": np.zeros(80)}, training, None)
    assert honest["pearson_delta"].item() == 0.0


def test_errors_are_those_of_control_plus_shift(real, shifts, training, table):
    control = training.expression[:60].mean(axis=0)
    predicted = control + shifts["additive"]
    truth = real.target.mean(axis=0)
    assert table.loc["additive", "l2"] == pytest.approx(np.linalg.norm(predicted - truth))
    assert table.loc["additive", "mae"] == pytest.approx(np.abs(predicted - truth).mean())


def test_jackknife_intervals_are_as_wide_as_new_cells_say(real, shifts, training):
    """Against 200 fresh draws of the judging cells."""
    found = judge_responses(real, {"nearest": shifts["matching_mean"]}, training, None).iloc[0]
    draws = [
        judge_responses(
            HeldOutResponse(LABEL, cells(LABEL, draw), cells("control", draw), TOY.genes),
            {"nearest": shifts["matching_mean"]},
            training,
            None,
        ).iloc[0]
        for draw in range(10, 210)
    ]
    fresh = pd.DataFrame(draws)[["pearson_delta", "l2"]].astype(float)
    for name in fresh:
        half = (found[f"{name}_high"] - found[f"{name}_low"]) / 2
        assert half == pytest.approx(1.96 * fresh[name].std(), rel=0.35)


def test_without_emission_there_are_no_metrics_of_cells(real, shifts, training):
    table = judge_responses(real, shifts, training, None)
    assert "energy_relative" not in table
    assert "l2" in table


def test_genes_are_chosen_on_real_cells_and_fold_changes_are_means_of_logs(real):
    shift = np.linspace(-1, 1, 80)
    table = top_gene_table(real, shift)
    place = [TOY.genes.index(gene) for gene in table["gene"]]
    np.testing.assert_allclose(table["observed"], real.shift[place] / np.log(2))
    np.testing.assert_allclose(table["predicted"], shift[place] / np.log(2))
    assert (table["low"] < table["observed"]).all()
    assert (table["observed"] < table["high"]).all()
    assert table["z_score"].abs().is_monotonic_decreasing
    assert table["gene"].tolist() == top_gene_table(real, -shift)["gene"].tolist()


def test_where_little_is_significant_few_genes_are_shown(real):
    same = HeldOutResponse("nothing", cells("control", 3), real.control, TOY.genes)
    assert len(top_gene_table(same, np.zeros(80))) == FEWEST_GENES


def test_too_few_cells_judge_nothing(real):
    with pytest.raises(DataError, match="3 held-out cells of G2 and 60 of control"):
        HeldOutResponse(LABEL, real.target[:3], real.control, TOY.genes)
