"""Baselines on features, against hand-made shifts and scikit-learn's own cross-validation."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.linear_model import Ridge
from sklearn.model_selection import LeaveOneOut, cross_val_predict

from perturbrl.data.labels import Label
from perturbrl.data.prior_knowledge import PriorKnowledge
from perturbrl.errors import ConfigurationError
from perturbrl.responses.baselines import TrainingMean
from perturbrl.responses.prior_baselines import RIDGES, NearestByPrior, RidgeOnPrior
from perturbrl.responses.training_cells import TrainingCells

NAMES = [f"p{i:02}" for i in range(24)]


def cells(shifts):
    expression = np.stack([np.zeros(6), *shifts.values()])
    return TrainingCells(expression, ["control", *shifts], [f"g{i}" for i in range(6)])


def prior(rows):
    return PriorKnowledge("told", tuple(rows), csr_matrix(np.array(list(rows.values()), dtype=float)))


@pytest.fixture
def modules():
    """Four modules of six perturbations: the effect of a module, and a little of one's own."""
    rng = np.random.default_rng(0)
    effects = 3 * rng.normal(size=(4, 6))
    shifts = {name: effects[i % 4] + 0.3 * rng.normal(size=6) for i, name in enumerate(NAMES)}
    return effects, shifts, {name: np.eye(4)[i % 4] for i, name in enumerate(NAMES)}


def test_neighbours_of_a_module_are_averaged(modules):
    effects, shifts, told = modules
    training = {name: shifts[name] for name in NAMES[:-1]}
    found = NearestByPrior((prior(told),)).fit(cells(training)).overall([NAMES[-1]])[0]
    off = np.linalg.norm(effects - found, axis=1)
    assert off[3] < 0.9 < 5.0 < np.delete(off, 3).min()


def test_features_that_tell_nothing_make_the_training_mean(modules):
    """Cross-validation takes many neighbours and a strong ridge where features are noise."""
    _, shifts, _ = modules
    rng = np.random.default_rng(1)
    noise = prior({name: rng.normal(size=30) for name in [*NAMES, "new"]})
    mean = TrainingMean().fit(cells(shifts)).overall(["new"])[0]
    for model in (NearestByPrior((noise,)), RidgeOnPrior((noise,))):
        off = np.linalg.norm(model.fit(cells(shifts)).overall(["new"])[0] - mean)
        assert off < 0.35 * np.mean([np.linalg.norm(shift - mean) for shift in shifts.values()])


def test_the_ridge_is_the_one_that_leaving_one_out_finds(modules):
    _, shifts, told = modules
    rng = np.random.default_rng(2)
    rows = {name: np.array([*told[name], *(0.5 * rng.normal(size=8))]) for name in NAMES}
    features = np.array(list(rows.values()))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    y = np.array(list(shifts.values()))
    errors = [
        np.square(cross_val_predict(Ridge(alpha), features, y, cv=LeaveOneOut()) - y).sum()
        for alpha in RIDGES
    ]
    best = Ridge(RIDGES[int(np.argmin(errors))]).fit(features, y)
    found = RidgeOnPrior((prior(rows),)).fit(cells(shifts)).overall(NAMES)
    np.testing.assert_allclose(found, best.predict(features), atol=1e-8)


def test_features_of_a_combination_add_up():
    told = prior({"A": [1.0, 0.0], "B": [0.0, 2.0], "C": [1.0, 1.0]})
    shifts = {"A": np.eye(6)[0], "B+A": np.ones(6)}
    found = NearestByPrior((told,)).fit(cells(shifts)).overall(["C", "A+B"])
    np.testing.assert_allclose(found, np.ones((2, 6)))


def test_the_mean_where_a_prior_knows_neither_side(modules):
    _, shifts, told = modules
    expected = TrainingMean().fit(cells(shifts)).overall(["new"])
    stranger = prior({"elsewhere": [1.0]})
    for source, query in ((prior(told), "new"), (stranger, "elsewhere")):
        for model in (NearestByPrior((source,)), RidgeOnPrior((source,))):
            np.testing.assert_allclose(model.fit(cells(shifts)).overall([query]), expected)


def test_without_a_prior_there_is_nothing_to_go_by():
    with pytest.raises(ConfigurationError, match="knn_prior goes by prior knowledge"):
        NearestByPrior(())


def test_features_of_many_perturbations_are_summed_without_a_table_of_all_names():
    names = [f"p{i}" for i in range(3000)]
    sets = csr_matrix((np.ones(3000), (range(3000), np.arange(3000) % 20)))
    model = RidgeOnPrior((PriorKnowledge("sets", tuple(names), sets),))
    labels = [Label.parse(f"{a}+{b}") for a, b in pairwise(names)]
    tracemalloc.start()
    features = model._features(labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3000 * 3000  # bytes: an eighth of such a table
    expected = np.zeros((2999, 20))
    for row in range(2999):
        expected[row, [row % 20, (row + 1) % 20]] = 1.0
    np.testing.assert_array_equal(features, expected)
