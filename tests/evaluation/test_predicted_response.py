import json

import golden_panel
import numpy as np
import pandas as pd
import pytest
import toy_responses
from scipy.stats import pearsonr
from sklearn.metrics import average_precision_score
from toy_responses import TOY, cells

from perturbrl.evaluation import metrics, predicted_response
from perturbrl.evaluation.adata_pairs import pair_from_adata
from perturbrl.evaluation.de_metrics import differential_expression, top_genes
from perturbrl.evaluation.distances import energy_distance
from perturbrl.evaluation.pairs import MeasuredResponses, PairedMeans, PredictedResponses, ResponsePair
from perturbrl.evaluation.predicted_response import (
    FEWEST_GENES,
    judge_responses,
    predicted_shifts,
    response_table,
    top_gene_table,
)
from perturbrl.evaluation.registry import METRICS
from perturbrl.evaluation.response_metrics import CELL_METRICS, MEAN_METRICS
from perturbrl.responses.baselines import SplitHalfReplicate

LABEL = "G2"
OTHERS = [name for name in TOY.perturbations if name != LABEL]
CEILING = SplitHalfReplicate.name


@pytest.fixture(scope="module")
def real():
    return toy_responses.measured(LABEL, panel=OTHERS)


@pytest.fixture(scope="module")
def training():
    return toy_responses.training(without=[LABEL])


@pytest.fixture(scope="module")
def shifts(training):
    control = training.expression[:60].mean(axis=0)
    replicate = {LABEL: cells(LABEL, 0).mean(axis=0) - control}
    return predicted_shifts(training, [LABEL]) | {CEILING: replicate}


@pytest.fixture(scope="module")
def table(real, shifts, training):
    return judge_responses(real, shifts, training, toy_responses.emitter()).set_index("predictor")


def test_a_replicate_is_the_ceiling_and_knowing_nothing_the_floor(table):
    others = table.drop(index=CEILING)
    assert table.loc[CEILING, "pearson_delta"] > 0.9 > others["pearson_delta"].max()
    assert table.loc[CEILING, "l2"] < others["l2"].min()
    assert table.loc[CEILING, "discrimination"] == 1.0
    assert table.loc["no_op", "pearson_delta"] == 0.0
    # Resampled training controls differ from held-out ones by chance, here in one gene.
    assert table.loc["no_op", ["de_recall", "call_f1"]].max() < 0.1
    assert table.loc["no_op", "discrimination"] == 0.5
    assert table.loc["training_mean", "pearson_centred"] == 0.0
    assert table.loc["training_mean", "pearson_delta"] > 0.5
    assert np.isfinite(table.drop(columns="perturbation").to_numpy(dtype=float)).all()


def test_every_metric_of_the_registry_has_its_column_and_means_have_intervals(table):
    names = {
        name for metric in MEAN_METRICS for name in (metric.name, f"{metric.name}_low", f"{metric.name}_high")
    }
    assert set(table.columns) == names | {"perturbation", "discrimination", *(m.name for m in CELL_METRICS)}
    for metric in MEAN_METRICS:
        ends = [table[f"{metric.name}{end}"] for end in ("_low", "", "_high")]
        assert (ends[0] <= ends[1]).all()
        assert (ends[1] <= ends[2]).all()
        assert ends[0].min() >= metric.low
        assert ends[2].max() <= metric.high


def test_doing_nothing_cannot_profit_from_the_noise_of_control_cells(real, training):
    """With the held-out control subtracted on both sides, no change would correlate with everything."""
    few = MeasuredResponses(real.genes, real.control[:6], real.cells)
    control = training.expression[:60].mean(axis=0)
    naive = metrics.pearson_delta(
        (control - few.control_mean)[None], (real.means[LABEL] - few.control_mean)[None]
    )
    assert naive.item() > 0.2
    honest = judge_responses(few, {"no_op": {LABEL: np.zeros(80)}}, training)
    assert honest["pearson_delta"].item() == 0.0


def test_errors_are_those_of_control_plus_shift(real, shifts, training, table):
    control = training.expression[:60].mean(axis=0)
    predicted = control + shifts["additive"][LABEL]
    truth = real.means[LABEL]
    assert table.loc["additive", "l2"] == pytest.approx(np.linalg.norm(predicted - truth))
    assert table.loc["additive", "mae"] == pytest.approx(np.abs(predicted - truth).mean())


def test_jackknife_intervals_are_as_wide_as_new_cells_say(real, shifts, training):
    """Against 200 fresh draws of the judging cells."""
    prediction = {"nearest": shifts["matching_mean"]}
    found = judge_responses(real, prediction, training).iloc[0]
    draws = [
        judge_responses(toy_responses.measured(LABEL, draw=draw), prediction, training).iloc[0]
        for draw in range(10, 210)
    ]
    fresh = pd.DataFrame(draws)[["pearson_delta", "l2", "r2_delta"]].astype(float)
    for name in fresh:
        half = (found[f"{name}_high"] - found[f"{name}_low"]) / 2
        assert half == pytest.approx(1.96 * fresh[name].std(), rel=0.35)


def test_of_many_cells_groups_are_left_out(shifts, training, monkeypatch):
    """A tenth of the work, and intervals of the same width."""
    asked, real = [], toy_responses.measured(LABEL, n=250)
    monkeypatch.setattr(PairedMeans, "against", noted(asked, PairedMeans.against))
    prediction = {"nearest": shifts["matching_mean"]}
    found = []
    for most in (1000, predicted_response.MOST_LEFT_OUT, 40):
        monkeypatch.setattr(predicted_response, "MOST_LEFT_OUT", most)
        asked.clear()
        found.append(judge_responses(real, prediction, training).iloc[0])
        assert max(asked) == min(most, 250)
    for name in ("pearson_delta", "l2", "r2_delta"):
        halves = [float(one[f"{name}_high"] - one[f"{name}_low"]) for one in found]
        assert halves[1:] == pytest.approx([halves[0]] * 2, rel=0.3)


def noted(asked, against):
    def wrapped(pair, real, control):
        asked.append(max(len(real), len(control)))
        return against(pair, real, control)

    return wrapped


def test_many_perturbations_are_judged_as_each_would_be_alone(training):
    held_out = ["G1", LABEL]
    predictors = predicted_shifts(training, held_out)
    emitter = toy_responses.emitter()
    together = judge_responses(toy_responses.measured(*held_out, panel=["G3"]), predictors, training, emitter)
    assert len(together) == 2 * len(predictors)
    assert set(together["perturbation"]) == set(held_out)
    for label, other in (held_out, held_out[::-1]):
        alone = judge_responses(
            toy_responses.measured(label, panel=[other, "G3"]),
            {name: {label: shifts[label]} for name, shifts in predictors.items()},
            training,
            emitter,
        )
        own = together[together["perturbation"] == label].reset_index(drop=True)
        pd.testing.assert_frame_equal(own, alone)


def test_without_emission_there_are_no_metrics_of_cells(real, shifts, training):
    table = judge_responses(real, shifts, training)
    assert not {metric.name for metric in CELL_METRICS} & set(table)
    assert "l2" in table


def test_genes_are_chosen_on_real_cells_and_fold_changes_are_means_of_logs(real):
    shift = np.linspace(-1, 1, 80)
    table = top_gene_table(real, LABEL, shift)
    place = [TOY.genes.index(gene) for gene in table["gene"]]
    np.testing.assert_allclose(table["observed"], real.shifts[LABEL][place] / np.log(2))
    np.testing.assert_allclose(table["predicted"], shift[place] / np.log(2))
    assert (table["low"] < table["observed"]).all()
    assert (table["observed"] < table["high"]).all()
    assert table["z_score"].abs().is_monotonic_decreasing
    assert table["gene"].tolist() == top_gene_table(real, LABEL, -shift)["gene"].tolist()


def test_where_little_is_significant_few_genes_are_shown(real):
    same = MeasuredResponses(real.genes, real.control, {"nothing": cells("control", 3)})
    assert len(top_gene_table(same, "nothing", np.zeros(80))) == FEWEST_GENES


@pytest.fixture(scope="module")
def replicate():
    """Another experiment taken for a prediction, of all perturbations at once."""
    judges = toy_responses.measured(*TOY.perturbations, n=40)
    again = {label: cells(label, 2, 30) for label in TOY.perturbations}
    shifts = {label: cells.mean(axis=0) - judges.control_mean for label, cells in again.items()}
    centre = np.mean(list(judges.means.values()), axis=0)
    return ResponsePair(judges, PredictedResponses(shifts, judges.control_mean, again), centre)


def test_every_column_is_the_metric_of_its_name(replicate):
    table, control = response_table(replicate), replicate.measured.control_mean
    predicted, real = replicate.means.predicted, replicate.means.real
    expected = {
        "pearson_delta": metrics.pearson_delta(predicted - control, real - control),
        "pearson_centred": metrics.pearson_centred(predicted, real, real.mean(axis=0)),
        "rmse": metrics.rmse(predicted, real),
        "r2": metrics.r2(predicted, real),
        "r2_delta": metrics.r2(predicted - control, real - control),
        "discrimination": metrics.discrimination_score(
            predicted - control, real - control, TOY.perturbations, TOY.genes
        ),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(table[name], values)
    assert table.index.tolist() == TOY.perturbations
    pair = replicate.cells(LABEL)
    assert table.loc[LABEL, "energy_distance"] == pytest.approx(energy_distance(pair.predicted, pair.real))
    top = top_genes(differential_expression(pair.real, pair.control), 20)
    error = np.square(predicted[2, top] - real[2, top]).mean()
    assert table.loc[LABEL, "mse_top"] == pytest.approx(error)


def test_a_replicate_scores_like_one(replicate):
    table = response_table(replicate)
    assert table["energy_relative"].between(0.7, 1.4).all()
    assert (table["pearson_delta"] > 0.8).all()
    assert (table["discrimination"] == 1.0).all()
    assert (table[["de_recall", "de_auprc", "call_f1"]] > 0.5).all(axis=None)
    assert table.notna().all(axis=None)


def test_a_single_perturbation_cannot_be_discriminated(training):
    table = judge_responses(toy_responses.measured(LABEL), predicted_shifts(training, [LABEL]), training)
    assert table["discrimination"].isna().all()
    targets_only = MeasuredResponses(
        ("G2", "G3"), np.ones((2, 2)), {"G2": np.eye(4)[:, :2]}, {"G3": np.ones(2)}
    )
    pair = ResponsePair(targets_only, PredictedResponses({"G2": np.ones(2)}, np.ones(2)), np.ones(2))
    assert np.isnan(METRICS["discrimination"].function(pair)).all()


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
    pair = pair_from_adata(*golden_panel.pair(), "log1p")
    ours = response_table(pair)
    every = [pair.cells(label) for label in pair.measured.perturbations]
    # Both rank genes by FDR, which ties neighbours, where `de_auprc` goes by |z|.
    ours["auprc_by_fdr"] = [
        average_precision_score(one.real_test.significant(), -one.predicted_test.fdr) for one in every
    ]
    energies = [
        [energy_distance(getattr(one, side), one.control) for one in every] for side in ("real", "predicted")
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
