from inspect import isfunction

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr
from sklearn import metrics as sklearn_metrics
from toy_screen import ToyScreen

from perturbrl.data.labels import Label
from perturbrl.errors import DataError
from perturbrl.evaluation import de_metrics, metrics, trajectories
from perturbrl.evaluation.de_metrics import de_precision_at_k, differential_expression
from perturbrl.evaluation.distances import energy_distance, relative_to_replicate
from perturbrl.evaluation.mean_distance import mean_distance

N_CELLS = 100


@pytest.fixture(scope="module")
def toy():
    return ToyScreen()


@pytest.fixture(scope="module")
def real(toy):
    return {label: toy.cells(label, N_CELLS, draw_seed=0) for label in [*toy.perturbations, "control"]}


@pytest.fixture(scope="module")
def predictions(toy, real):
    """The four predictors of the toy table, cells by perturbation."""
    rows = np.random.default_rng(0).integers(N_CELLS, size=(toy.n_perturbations, N_CELLS))
    perturbed_mean = centroids(real, toy).mean(axis=0)
    return {
        "control resampled": {p: real["control"][r] for p, r in zip(toy.perturbations, rows, strict=True)},
        "perturbed mean": {p: np.tile(perturbed_mean, (N_CELLS, 1)) for p in toy.perturbations},
        "true mean": {p: np.tile(real[p].mean(axis=0), (N_CELLS, 1)) for p in toy.perturbations},
        "replicate": {p: toy.cells(p, N_CELLS, draw_seed=1) for p in toy.perturbations},
    }


def centroids(cells, toy):
    return np.stack([cells[p].mean(axis=0, dtype=np.float64) for p in toy.perturbations])


def as_anndata(cells, toy):
    labels = [label for label, rows in cells.items() for _ in range(len(rows))]
    obs = pd.DataFrame({"target_gene": labels}, index=[str(i) for i in range(len(labels))])
    return AnnData(np.concatenate(list(cells.values())), obs=obs, var=pd.DataFrame(index=toy.genes))


@pytest.fixture(scope="module")
def cell_eval_pair(toy, real, predictions):
    pytest.importorskip("cell_eval", reason="cell-eval is not installed")
    from cell_eval._types import PerturbationAnndataPair

    predicted = predictions["replicate"] | {"control": real["control"]}
    sides = as_anndata(real, toy), as_anndata(predicted, toy)
    return PerturbationAnndataPair(*sides, pert_col="target_gene", control_pert="control")


def test_toy_table_discrimination_ranks_what_pearson_delta_cannot(toy, real, predictions):
    """The lesson: a Pearson-delta of .93 may say nothing about any single perturbation.

    Control resampled, perturbed mean, true mean and fresh replicate rank in this order on the discrimination
    score, and not on Pearson-delta alone. The perturbed mean knows no perturbation, yet with an effect common
    to all its Pearson-delta is within .05 of a fresh replicate of the experiment; the discrimination score
    puts it at chance, level with resampled controls, and the true mean and the replicate at 1. The constant
    true mean in turn beats the replicate on Pearson-delta, though cells that do not vary are wrong: energy
    distance and DE precision say so.
    """
    control, truth = real["control"].mean(axis=0, dtype=np.float64), centroids(real, toy)
    pearson, discrimination, energy, precision = {}, {}, {}, {}
    de = {p: differential_expression(real[p], real["control"]) for p in toy.perturbations}
    for name, cells in predictions.items():
        means = centroids(cells, toy)
        pearson[name] = metrics.pearson_delta(means - control, truth - control).mean()
        discrimination[name] = metrics.discrimination_score(
            means - control, truth - control, toy.perturbations, toy.genes
        ).mean()
        p = toy.perturbations[0]
        energy[name] = relative_to_replicate(cells[p], real[p], energy_distance)
        predicted_de = differential_expression(cells[p], real["control"])
        precision[name] = de_precision_at_k(de[p], predicted_de)

    order = ["control resampled", "perturbed mean", "true mean", "replicate"]
    assert sorted(order, key=discrimination.__getitem__) == order
    assert sorted(order, key=pearson.__getitem__) != order
    chance = 3 / np.sqrt(12 * toy.n_perturbations)
    assert abs(discrimination["control resampled"] - 0.5) < chance
    assert discrimination["perturbed mean"] == pytest.approx(0.5, abs=1e-12)
    assert discrimination["true mean"] == 1.0
    assert discrimination["replicate"] > 0.98
    assert min(discrimination["true mean"], discrimination["replicate"]) > 0.4 + max(
        discrimination["control resampled"], discrimination["perturbed mean"]
    )

    assert abs(pearson["control resampled"]) < 0.1
    assert abs(pearson["perturbed mean"] - pearson["replicate"]) < 0.05
    assert pearson["true mean"] > pearson["replicate"]
    assert energy["replicate"] < 1.5 < 5 < min(energy["true mean"], energy["perturbed mean"])
    assert precision["true mean"] < precision["replicate"] - 0.1


def test_centring_on_the_training_mean_exposes_the_common_effect(toy, real, predictions):
    truth = centroids(real, toy)
    training_mean = truth.mean(axis=0)
    scores = {
        name: metrics.pearson_centred(centroids(cells, toy), truth, training_mean).mean()
        for name, cells in predictions.items()
        if name != "perturbed mean"
    }
    exactly_mean = np.tile(training_mean, (toy.n_perturbations, 1))
    np.testing.assert_array_equal(metrics.pearson_centred(exactly_mean, truth, training_mean), 0.0)
    assert abs(scores["control resampled"]) < 0.2
    assert 0.7 < scores["replicate"] < scores["true mean"] == pytest.approx(1.0)


def test_metrics_of_means_agree_with_cell_eval(toy, real, predictions, cell_eval_pair):
    from cell_eval.metrics import _anndata as oracle

    predicted, truth = centroids(predictions["replicate"], toy), centroids(real, toy)
    control = real["control"].mean(axis=0, dtype=np.float64)
    for ours, theirs in [
        (metrics.pearson_delta(predicted - control, truth - control), oracle.pearson_delta(cell_eval_pair)),
        (metrics.mse(predicted, truth), oracle.mse(cell_eval_pair)),
        (metrics.mae(predicted, truth), oracle.mae(cell_eval_pair)),
    ]:
        np.testing.assert_allclose(ours, [theirs[p] for p in toy.perturbations], atol=1e-6)


def test_energy_distance_agrees_with_cell_eval(toy, real, predictions, cell_eval_pair):
    from cell_eval.metrics._anndata import edistance

    ours = [
        [energy_distance(cells[p], real["control"]) for p in cell_eval_pair.perts]
        for cells in (real, predictions["replicate"])
    ]
    assert edistance(cell_eval_pair) == pytest.approx(pearsonr(*ours).statistic, abs=1e-6)


@pytest.mark.parametrize("predictor", ["control resampled", "replicate", "perturbed mean"])
def test_discrimination_agrees_with_cell_eval2(toy, real, predictions, predictor):
    oracle = pytest.importorskip("cell_eval2.metrics.discrimination", reason="cell-eval2 is not installed")
    predicted, truth = centroids(predictions[predictor], toy), centroids(real, toy)
    control = real["control"].mean(axis=0, dtype=np.float64)
    labels = np.array([*toy.perturbations, "control"])
    theirs = oracle.discrimination_score(
        pred_bulk=(labels, np.vstack((predicted, control))),
        real_bulk=(labels, np.vstack((truth, control))),
        control="control",
        distance="cosine",
        rank_denominator="n-1",
        genes=np.array(toy.genes),
    )
    ours = metrics.discrimination_score(predicted - control, truth - control, toy.perturbations, toy.genes)
    np.testing.assert_allclose(ours, [theirs[p] for p in toy.perturbations], atol=1e-6)


def test_discrimination_differs_from_cell_eval_by_its_denominator_and_the_genes_it_removes(
    toy, real, predictions, cell_eval_pair
):
    """cell-eval 0.8.2 divides by n, not n − 1, and removes only the own target: undo both and it agrees."""
    from cell_eval.metrics._anndata import discrimination_score

    predicted, truth = centroids(predictions["replicate"], toy), centroids(real, toy)
    control = real["control"].mean(axis=0, dtype=np.float64)
    theirs = discrimination_score(cell_eval_pair, metric="cosine", exclude_target_gene=False)
    no_targets = [f"not measured {gene}" for gene in toy.genes]
    ours = metrics.discrimination_score(predicted - control, truth - control, toy.perturbations, no_targets)
    n = toy.n_perturbations
    np.testing.assert_allclose(
        (1 - ours) * (n - 1) / n, [1 - theirs[p] for p in toy.perturbations], atol=1e-6
    )


def test_a_zero_shift_discriminates_exactly_at_chance():
    delta = np.random.default_rng(0).normal(size=(7, 30))
    names, genes = [f"P{i}" for i in range(7)], [f"G{i}" for i in range(30)]
    np.testing.assert_array_equal(metrics.discrimination_score(0 * delta, delta, names, genes), 0.5)
    np.testing.assert_array_equal(metrics.discrimination_score(delta, delta, names, genes), 1.0)
    np.testing.assert_array_equal(
        metrics.discrimination_score(-delta[:2], delta[:2], names[:2], genes)[0], 0.0
    )


def test_discrimination_cannot_be_won_by_naming_targets():
    rng = np.random.default_rng(1)
    names = [f"G{i}" for i in range(19)] + ["G19+G20"]
    genes = [f"G{i}" for i in range(100)]
    real = rng.normal(size=(20, 100))
    spikes = np.zeros((20, 100))
    for row, name in enumerate(names):
        targets = [genes.index(part) for part in Label.parse(name).names]
        real[row, targets] = spikes[row, targets] = -20.0
    np.testing.assert_array_equal(metrics.discrimination_score(spikes, real, names, genes), 0.5)


def test_perturbations_that_were_not_predicted_are_in_the_panel_all_the_same():
    rng = np.random.default_rng(2)
    real, genes = rng.normal(size=(6, 30)), [f"G{i}" for i in range(30)]
    names = [f"P{i}" for i in range(6)]
    taken_for_another = real[[0, 4]]
    scores = metrics.discrimination_score(taken_for_another, real, names, genes)
    assert scores[0] == 1.0
    every = metrics.discrimination_score(real[[0, 4, 2, 3, 4, 5]], real, names, genes)
    assert scores[1] == every[1] < 1.0


def test_discrimination_needs_a_panel():
    delta = np.ones((2, 2))
    with pytest.raises(DataError, match="not 2 and 0"):
        metrics.discrimination_score(delta, delta, ["A", "B"], ["A", "B"])
    with pytest.raises(DataError, match="not 1 and 2"):
        metrics.discrimination_score(delta[:1], delta[:1], ["C"], ["A", "B"])


def test_no_shift_scores_zero_and_an_absent_effect_is_not_a_number():
    control = np.array([0.1, 0.2, 0.7])
    real = control + np.array([[0.3, -0.1, 0.5], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    nothing = np.zeros((3, 3))
    np.testing.assert_array_equal(metrics.pearson_delta(nothing, real - control), [0.0, np.nan, np.nan])


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 40))
def test_row_metrics_agree_with_scikit_learn_and_scipy(seed, n_genes):
    rng = np.random.default_rng(seed)
    predicted, real, control = (
        rng.normal(size=(4, n_genes)),
        rng.normal(size=(4, n_genes)),
        rng.normal(size=n_genes),
    )
    for row in range(4):
        p, r = predicted[row], real[row]
        for ours, theirs in [
            (metrics.pearson_delta(predicted, real), lambda p, r: pearsonr(p, r).statistic),
            (
                metrics.pearson_centred(predicted, real, control),
                lambda p, r: pearsonr(p - control, r - control).statistic,
            ),
        ]:
            assert ours[row] == pytest.approx(theirs(p, r), abs=1e-9)
        assert metrics.mse(predicted, real)[row] == pytest.approx(sklearn_metrics.mean_squared_error(r, p))
        assert metrics.rmse(predicted, real)[row] == pytest.approx(
            sklearn_metrics.root_mean_squared_error(r, p)
        )
        assert metrics.mae(predicted, real)[row] == pytest.approx(sklearn_metrics.mean_absolute_error(r, p))
        assert metrics.r2(predicted, real)[row] == pytest.approx(sklearn_metrics.r2_score(r, p))
        assert metrics.l2(predicted, real)[row] == pytest.approx(np.sqrt(((p - r) ** 2).sum()))


def test_on_genes_picks_other_genes_in_every_row():
    means = np.arange(12.0).reshape(3, 4)
    picked = metrics.on_genes(means, np.array([[0, 1], [3, 2], [1, 1]]))
    np.testing.assert_array_equal(picked, [[0, 1], [7, 6], [9, 9]])
    wrong_in_the_last_gene = means + np.array([0.0, 0.0, 0.0, 2.0])
    error = metrics.mse(
        *(
            metrics.on_genes(side, np.array([[0, 1], [0, 3], [3, 3]]))
            for side in (wrong_in_the_last_gene, means)
        )
    )
    np.testing.assert_array_equal(error, [0.0, 2.0, 4.0])


def test_call_scores_by_hand():
    real = np.array([1, 1, 1, -1, 0, 0, 0, 0])
    predicted = np.array([1, 1, -1, -1, 1, 0, 0, 0])
    scores = metrics.call_scores(predicted, real)
    assert scores.accuracy == 6 / 8
    assert scores.precision == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert scores.recall == pytest.approx((2 / 3 + 1 / 1) / 2)
    assert scores.f1 == pytest.approx((2 / 3 + 2 * 0.5 / 1.5) / 2)


def test_calling_nothing_is_accurate_and_worthless():
    real = np.array([1, -1] + [0] * 98)
    scores = metrics.call_scores(np.zeros(100, dtype=np.int64), real)
    assert scores.accuracy == 0.98
    assert (scores.precision, scores.recall, scores.f1) == (0.0, 0.0, 0.0)


def test_without_any_call_there_is_nothing_to_average():
    scores = metrics.call_scores(np.zeros(5, dtype=np.int64), np.zeros(5, dtype=np.int64))
    assert scores.accuracy == 1.0
    assert np.isnan([scores.precision, scores.recall, scores.f1]).all()


def test_doing_nothing_has_a_perfect_displacement_from_start():
    start = np.random.default_rng(0).normal(size=(50, 4))
    assert metrics.displacement_from_start(start, start) == 1.0
    moved = [metrics.displacement_from_start(start + step, start) for step in (0.1, 0.5, 2.0)]
    assert 1.0 > moved[0] > moved[1] > moved[2]
    # One standard deviation of shift in every dimension is R² = 1 − shift² / variance = 0.
    assert metrics.displacement_from_start(start + start.std(axis=0), start) == pytest.approx(0.0)


def test_every_dimension_weighs_the_same_in_the_displacement_and_constant_ones_have_none():
    rng = np.random.default_rng(1)
    start = rng.normal(size=(80, 3)) * [0.1, 1.0, 10.0] + [-5.0, 0.0, 5.0]
    final = start + 0.1
    by_dimension = 1 - np.square(final - start).sum(axis=0) / (80 * start.var(axis=0))
    assert metrics.displacement_from_start(final, start) == pytest.approx(by_dimension.mean())
    constant = np.column_stack((start, np.ones(80)))
    moved = np.column_stack((final, np.zeros(80)))
    assert metrics.displacement_from_start(moved, constant) == pytest.approx(by_dimension.mean())
    assert np.isnan(metrics.displacement_from_start(moved[:, 3:], constant[:, 3:]))


def test_recall_at_k_counts_and_shares_ties():
    true = np.array([False, True, False, True])
    assert metrics.recall_at_k(np.array([4.0, 3.0, 2.0, 1.0]), true, 1) == 0.0
    assert metrics.recall_at_k(np.array([4.0, 3.0, 2.0, 1.0]), true, 2) == 0.5
    assert metrics.recall_at_k(np.array([1.0, 4.0, 2.0, 3.0]), true, 2) == 1.0
    assert metrics.recall_at_k(np.array([1.0, 5.0, 1.0, 1.0]), true, 2) == pytest.approx((1 + 1 / 3) / 2)


def test_what_is_not_proposed_is_not_found():
    true = np.array([False, True, False, True])
    assert metrics.recall_at_k(np.full(4, -np.inf), true, 2) == 0.0
    assert metrics.recall_at_k(np.array([-np.inf, 1.0, -np.inf, -np.inf]), true, 2) == 0.5


@given(st.integers(1, 30).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))))
def test_equal_scores_get_the_recall_of_chance(n_and_k):
    n, k = n_and_k
    assert metrics.recall_at_k(np.zeros(n), np.arange(n) == 0, k) == pytest.approx(k / n)


def test_recall_at_k_refuses_nonsense():
    with pytest.raises(DataError, match="0 true ones and k = 1"):
        metrics.recall_at_k(np.ones(3), np.zeros(3, dtype=bool), 1)
    with pytest.raises(DataError, match=r"k in 1..3, not 1 true ones and k = 4"):
        metrics.recall_at_k(np.ones(3), np.arange(3) == 0, 4)


def public_functions(module):
    found = [f for name, f in vars(module).items() if isfunction(f) and not name.startswith("_")]
    return [f for f in found if f.__module__ == module.__name__]


HELPERS = {
    "on_genes",
    "untargeted",
    "differential_expression",
    "top_genes",
    "pseudotime_path",
}
METRICS = [
    f
    for module in (metrics, de_metrics, trajectories)
    for f in public_functions(module)
    if f.__name__ not in HELPERS
]
METRICS += [energy_distance, relative_to_replicate, mean_distance]


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.__name__)
def test_every_metric_says_its_range_its_source_and_what_knowing_nothing_scores(metric):
    words = " ".join(metric.__doc__.split()).lower()
    assert "range" in words
    assert "source: " in words
    assert any(
        w in words for w in ("predicting the control", "nothing", "no information", "random", "useless")
    )
