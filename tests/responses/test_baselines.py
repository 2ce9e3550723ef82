import anndata as ad
import numpy as np
import pytest
from places import DATA

from perturbrl.errors import ConfigurationError, DataError
from perturbrl.evaluation.metrics import l2, pearson_delta
from perturbrl.responses.baselines import (
    Additive,
    BilinearRidge,
    CellTypeMean,
    MatchingMean,
    NearestPerturbation,
    NoOp,
    RandomPerturbation,
    SplitHalfReplicate,
    TrainingMean,
    competitors,
    replicate_mask,
)
from perturbrl.responses.training_cells import TrainingCells

CONTROL = np.array([1.0, 2.0, 3.0, 4.0])


def shifted(*by):
    return CONTROL + np.array(by)


MEANS = {
    "control": CONTROL,
    "A": shifted(1.0, 0.0, 0.0, 0.0),
    "B": shifted(0.0, 2.0, 0.0, 0.0),
    "C": shifted(0.0, 0.0, -3.0, 0.0),
    "C+D": shifted(0.0, 0.0, 0.0, 6.0),
}
TRAINING_MEAN = CONTROL + np.array([1.0, 2.0, -3.0, 6.0]) / 4


@pytest.fixture
def cells():
    """Two cells per label, one unit above and below the mean; different numbers must not matter."""
    rows = [mean + sign for mean in MEANS.values() for sign in (1.0, -1.0)]
    labels = [label for label in MEANS for _ in range(2)]
    rows, labels = [*rows, MEANS["A"], MEANS["A"]], [*labels, "A", "A"]
    return TrainingCells(np.array(rows), labels, ["A", "g2", "g3", "g4"])


@pytest.mark.parametrize(
    ("baseline", "perturbation", "expected"),
    [
        (NoOp(), "A+B", CONTROL),
        (TrainingMean(), "anything", TRAINING_MEAN),
        (Additive(), "A", MEANS["A"]),
        (Additive(), "B+A", shifted(1.0, 2.0, 0.0, 0.0)),
        (Additive(), "A+X", MEANS["A"] + TRAINING_MEAN - CONTROL),
        (MatchingMean(), "A+B", shifted(0.5, 1.0, 0.0, 0.0)),
        (MatchingMean(), "A+X", (MEANS["A"] + TRAINING_MEAN) / 2),
        (MatchingMean(), "X", TRAINING_MEAN),
        (NearestPerturbation(), "A", MEANS["A"]),
        (NearestPerturbation(), "A+B", shifted(0.5, 1.0, 0.0, 0.0)),
        (NearestPerturbation(), "D+C", MEANS["C+D"]),
        (NearestPerturbation(), "D", MEANS["C+D"]),
        (NearestPerturbation(), "X+Y", TRAINING_MEAN),
        (SplitHalfReplicate(), "D+C", MEANS["C+D"]),
    ],
)
def test_predictions_by_hand(cells, baseline, perturbation, expected):
    prediction = baseline.fit(cells).predict([perturbation])
    np.testing.assert_allclose(prediction, [expected], atol=1e-12)


@pytest.mark.parametrize("baseline", competitors(), ids=lambda b: b.name)
def test_another_control_carries_the_effect_over(cells, baseline):
    other = CONTROL[::-1].copy()
    baseline.fit(cells)
    if baseline.name == "random":
        assert baseline.predict(["A"], other).shape == (1, 4)
        return
    moved = baseline.predict(["A", "A+B"], other) - baseline.predict(["A", "A+B"])
    np.testing.assert_allclose(moved, np.tile(other - CONTROL, (2, 1)), atol=1e-12)


def test_random_draws_training_perturbations_and_is_seeded(cells):
    queries = ["A"] * 200
    drawn = RandomPerturbation(seed=1).fit(cells).predict(queries)
    distinct = {tuple(row.round(9)) for row in drawn}
    assert distinct == {tuple(mean) for label, mean in MEANS.items() if label != "control"}
    np.testing.assert_array_equal(drawn, RandomPerturbation(seed=1).fit(cells).predict(queries))


def test_bilinear_ridge_solves_its_own_ridge_problem(cells):
    """W minimises ‖Y − b − G W P‖² + λ(‖G W‖² + ‖W P‖²) + λ²‖W‖²: Kronecker least squares says the same."""
    model = BilinearRidge(n_components=2, ridge=0.3).fit(cells)
    y = np.stack([MEANS[label] for label in ("A", "B", "C", "C+D")], axis=1)
    b = y.mean(axis=1, keepdims=True)
    centred = y - y.mean(axis=0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    g = (u * s)[:, :2]
    p = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1.0]])
    gram = np.kron(p @ p.T + 0.3 * np.eye(4), g.T @ g + 0.3 * np.eye(2))
    w = np.linalg.solve(gram, (g.T @ (y - b) @ p.T).ravel(order="F")).reshape((2, 4), order="F")
    expected = (g @ w @ np.array([[1, 1, 0, 0.0]]).T + b).ravel()
    np.testing.assert_allclose(model.predict(["A+B"])[0], expected, atol=1e-9)


def test_bilinear_ridge_predicts_unseen_targets_from_their_gene_scores():
    """Data from the model itself, Y = 5 + S M Sᵀ with S centred over genes and over the training targets."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(60, 3))
    scores[:35] -= scores[:35].mean(axis=0)
    scores[35:] -= scores[35:].mean(axis=0)
    genes = [f"G{i}" for i in range(60)]
    response = 5.0 + scores @ rng.normal(size=(3, 3)) @ scores.T
    train, held_out = genes[:35], genes[35:40]
    cells = TrainingCells(np.vstack((np.full(60, 5.0), response.T[:35])), ["control", *train], genes)
    model = BilinearRidge("target_gene", n_components=3, ridge=1e-9).fit(cells)
    np.testing.assert_allclose(model.predict(held_out), response.T[35:40], atol=1e-5)
    assert l2(TrainingMean().fit(cells).predict(held_out), response.T[35:40]).min() > 1.0


def test_indicator_embedding_knows_nothing_of_unseen_perturbations(cells):
    model = BilinearRidge().fit(cells)
    np.testing.assert_allclose(model.predict(["X"]), [TRAINING_MEAN], atol=1e-12)


def test_missing_target_gene_is_an_error_not_zeros(cells):
    with pytest.raises(DataError, match=r"cannot embed \['B'\]"):
        BilinearRidge("target_gene").fit(cells)
    only_a = TrainingCells(np.array([CONTROL, MEANS["A"]]), ["control", "A"], cells.genes)
    model = BilinearRidge("target_gene").fit(only_a)
    with pytest.raises(DataError, match=r"cannot embed \['X'\]"):
        model.predict(["X"])


def test_cell_type_mean_uses_its_own_cells_only(cells):
    shift = np.array([0.0, 0.0, 10.0, 0.0])
    expression = np.vstack((cells.expression, cells.expression[:4] + shift))
    labels = [*cells.labels, *cells.labels[:4]]
    types = ["T"] * len(cells.labels) + ["NK"] * 4
    both = TrainingCells(expression, labels, cells.genes, types)
    prediction = CellTypeMean("NK").fit(both).predict(["anything"])
    np.testing.assert_allclose(prediction, [MEANS["A"] + shift], atol=1e-12)
    with pytest.raises(DataError, match="'B cell' has training cells of 0 labels"):
        CellTypeMean("B cell").fit(both)
    with pytest.raises(DataError, match="name the column"):
        CellTypeMean("NK").fit(cells)


def test_replicate_mask_halves_every_label():
    labels = ["A"] * 7 + ["control"] * 10
    mask = replicate_mask(labels, seed=3)
    assert mask[:7].sum() == 3
    assert mask[7:].sum() == 5
    np.testing.assert_array_equal(mask, replicate_mask(labels, seed=3))
    assert not np.array_equal(mask, replicate_mask(labels, seed=4))


def test_impossible_options_are_errors():
    with pytest.raises(ConfigurationError, match="ridge = 0"):
        BilinearRidge(ridge=0.0)
    with pytest.raises(ConfigurationError, match="n_components = 0"):
        BilinearRidge(n_components=0)


def test_replicate_without_cells_is_an_error(cells):
    with pytest.raises(DataError, match="no cells of 'X'"):
        SplitHalfReplicate().fit(cells).predict(["X"])


@pytest.fixture(scope="module")
def norman():
    path = DATA / "norman2019_k562_crispra.h5ad"
    if not path.exists():
        pytest.skip(f"{path.name} is absent; set PERTURBRL_DATA to the folder that holds it")
    adata = ad.read_h5ad(path)
    size = adata.obs["n_umis_full"].to_numpy(dtype=np.float64)
    expression = np.log1p(1e4 * adata.X.toarray().astype(np.float64) / size[:, None])
    return expression, adata.obs["perturbation"].astype(str).to_numpy(), list(adata.var_names)


def held_out_in_turn(norman, doubles):
    """L2 and Pearson-delta of additive, linear and mean on each double, its cells held out."""
    expression, labels, genes = norman
    error, correlation = {}, {}
    for double in doubles:
        train = labels != double
        cells = TrainingCells(expression[train], labels[train].tolist(), genes)
        truth = expression[~train].mean(axis=0, keepdims=True)
        for baseline in (Additive(), BilinearRidge(), TrainingMean()):
            predicted = baseline.fit(cells).predict([double])
            error.setdefault(baseline.name, []).append(l2(predicted, truth)[0])
            score = pearson_delta(predicted, truth, baseline.control)[0]
            correlation.setdefault(baseline.name, []).append(score)
    return error, correlation


@pytest.mark.realdata
def test_norman_doubles_are_ordered_as_in_ahlmann_eltze_2025(norman):
    """Additive, then linear, then mean in L2, averaged over the doubles whose singles were both measured.

    There are only 3 of them, each held out in turn, so this is an agreement of direction, not a test of
    significance: additive beats linear on 2 of 3, linear beats the mean on 3 of 3. In Pearson-delta additive
    and linear are level (.879 and .880).
    """
    labels = norman[1]
    doubles = [d for d in np.unique(labels) if "+" in d and set(d.split("+")) <= set(labels)]
    assert len(doubles) == 3
    error, correlation = held_out_in_turn(norman, doubles)
    mean_error = {name: np.mean(values) for name, values in error.items()}
    assert mean_error["additive"] < mean_error["bilinear_ridge"] < mean_error["training_mean"]
    assert np.less(error["bilinear_ridge"], error["training_mean"]).all()
    assert np.mean(correlation["bilinear_ridge"]) > np.mean(correlation["training_mean"]) + 0.5
    assert np.mean(correlation["additive"]) == pytest.approx(np.mean(correlation["bilinear_ridge"]), abs=0.02)


@pytest.mark.realdata
def test_where_a_single_was_not_measured_alone_adding_up_loses_to_the_linear_model(norman):
    """The limit of the ordering: over all 11 doubles of the file linear comes first (1.22 against 1.43 and 1.85).

    In 8 of them a part was never measured alone; the additive model then puts the mean in its place.
    """
    error, _ = held_out_in_turn(norman, [d for d in np.unique(norman[1]) if "+" in d])
    mean_error = {name: np.mean(values) for name, values in error.items()}
    assert len(error["additive"]) == 11
    assert mean_error["bilinear_ridge"] < mean_error["additive"] < mean_error["training_mean"]
