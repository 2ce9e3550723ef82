import anndata as ad
import four_genes
import numpy as np
import pytest
from four_genes import CONTROL, MEANS, NK_SHIFT, TRAINING_MEAN, shifted
from places import DATA

from perturbrl.data.labels import Label
from perturbrl.errors import DataError
from perturbrl.evaluation.metrics import l2, pearson_delta
from perturbrl.responses.baselines import (
    Additive,
    CellTypeMean,
    MatchingMean,
    NearestPerturbationResponse,
    NoOpResponse,
    RandomPerturbation,
    SplitHalfReplicate,
    TrainingMean,
    competitors,
)
from perturbrl.responses.bilinear_ridge import BilinearRidge
from perturbrl.responses.training_cells import TrainingCells


@pytest.fixture
def cells():
    return four_genes.cells()


@pytest.mark.parametrize(
    ("baseline", "perturbation", "expected"),
    [
        (NoOpResponse(), "A+B", CONTROL),
        (TrainingMean(), "anything", TRAINING_MEAN),
        (Additive(), "A", MEANS["A"]),
        (Additive(), "B+A", shifted(1.0, 2.0, 0.0, 0.0)),
        (Additive(), "A+X", MEANS["A"] + TRAINING_MEAN - CONTROL),
        (MatchingMean(), "A+B", shifted(0.5, 1.0, 0.0, 0.0)),
        (MatchingMean(), "A+X", (MEANS["A"] + TRAINING_MEAN) / 2),
        (MatchingMean(), "X", TRAINING_MEAN),
        (NearestPerturbationResponse(), "A", MEANS["A"]),
        (NearestPerturbationResponse(), "A+B", shifted(0.5, 1.0, 0.0, 0.0)),
        (NearestPerturbationResponse(), "D+C", MEANS["C+D"]),
        (NearestPerturbationResponse(), "D", MEANS["C+D"]),
        (NearestPerturbationResponse(), "X+Y", TRAINING_MEAN),
        (SplitHalfReplicate(), "D+C", MEANS["C+D"]),
    ],
)
def test_predictions_by_hand(cells, baseline, perturbation, expected):
    prediction = baseline.fit(cells).predict([perturbation])
    np.testing.assert_allclose(prediction, [expected], atol=1e-12)


@pytest.mark.parametrize("baseline", competitors(four_genes.typed_cells()), ids=lambda b: b.name)
def test_another_control_carries_the_effect_over(baseline):
    other = CONTROL[::-1].copy()
    baseline.fit(four_genes.typed_cells())
    if baseline.name == "random":
        assert baseline.predict(["A"], other).shape == (1, 4)
        return
    moved = baseline.predict(["A", "A+B"], other) - baseline.predict(["A", "A+B"])
    np.testing.assert_allclose(moved, np.tile(other - baseline.control, (2, 1)), atol=1e-12)


def test_random_draws_training_perturbations_and_is_seeded(cells):
    queries = ["A"] * 200
    drawn = RandomPerturbation(seed=1).fit(cells).predict(queries)
    distinct = {tuple(row.round(9)) for row in drawn}
    assert distinct == {tuple(mean) for label, mean in MEANS.items() if label != "control"}
    np.testing.assert_array_equal(drawn, RandomPerturbation(seed=1).fit(cells).predict(queries))


def test_cell_type_mean_is_that_of_the_types_in_question(cells):
    typed = four_genes.typed_cells()
    prediction = CellTypeMean(["NK"]).fit(typed).predict(["anything"])
    np.testing.assert_allclose(prediction, [MEANS["A"] + 2 * NK_SHIFT], atol=1e-12)
    effect_in_nk, effect_in_t = MEANS["A"] + NK_SHIFT - CONTROL, TRAINING_MEAN - CONTROL
    mixed = CellTypeMean(["NK", "T", "T", "B cell"]).fit(typed)
    np.testing.assert_allclose(mixed.delta("anything"), (effect_in_nk + 2 * effect_in_t) / 3, atol=1e-12)
    # As many control cells were measured of either type.
    np.testing.assert_allclose(
        CellTypeMean().fit(typed).delta("A"), (effect_in_nk + effect_in_t) / 2, atol=1e-12
    )
    with pytest.raises(DataError, match=r"none of the cell types \['B cell'\] .* have: \['NK', 'T'\]"):
        CellTypeMean(["B cell"]).fit(typed)
    with pytest.raises(DataError, match="name the column"):
        CellTypeMean().fit(cells)


def test_the_cell_type_mean_competes_where_several_types_were_measured(cells):
    one_type = TrainingCells(cells.expression, cells.labels, cells.genes, ["T"] * len(cells.labels))
    only_controls_of_nk = TrainingCells(
        np.vstack((cells.expression, CONTROL)),
        [*cells.labels, "control"],
        cells.genes,
        ["T"] * len(cells.labels) + ["NK"],
    )
    for without in (cells, one_type, only_controls_of_nk):
        assert "cell_type_mean" not in [baseline.name for baseline in competitors(without)]
    assert "cell_type_mean" in [baseline.name for baseline in competitors(four_genes.typed_cells())]


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
            score = pearson_delta(predicted - baseline.control, truth - baseline.control)[0]
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
    doubles = [d for d in np.unique(labels) if "+" in d and set(Label.parse(d).names) <= set(labels)]
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


def test_a_plus_in_a_name_joins_nothing():
    x = np.array([[0.0], [1.0], [3.0], [7.0]])
    cells = TrainingCells(x, ["control", "(+)-JQ1", "Ca2+", "X"], ["g"])
    assert Additive().fit(cells).delta("Ca2++(+)-JQ1") == [4.0]
    assert MatchingMean().fit(cells).delta("(+)-JQ1+Ca2+") == [2.0]
    assert NearestPerturbationResponse().fit(cells).delta("(+)-JQ1+Y") == [1.0]
