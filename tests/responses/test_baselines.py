import anndata as ad
import four_genes
import numpy as np
import pytest
from four_genes import CONTROL, MEANS, NK_SHIFT, TRAINING_MEAN, shifted
from places import measured_file

from perturbrl.data.labels import Label
from perturbrl.errors import DataError
from perturbrl.evaluation.metrics import l2, pearson_delta
from perturbrl.responses.baselines import (
    Additive,
    CellTypeMean,
    MatchingMean,
    NearestContext,
    NearestPerturbationResponse,
    NoOpResponse,
    RandomPerturbation,
    SplitHalfReplicate,
    TrainingMean,
)
from perturbrl.responses.bilinear_ridge import BilinearRidge
from perturbrl.responses.competitors import competitors
from perturbrl.responses.training_cells import ONE_CONTEXT, TrainingCells


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
    shift = baseline.fit(cells).overall([perturbation])
    np.testing.assert_allclose(CONTROL + shift, [expected], atol=1e-12)


def test_random_draws_training_perturbations_and_is_seeded(cells):
    queries = [f"Q{i}" for i in range(200)]
    drawn = CONTROL + RandomPerturbation(seed=1).fit(cells).overall(queries)
    distinct = {tuple(row.round(9)) for row in drawn}
    assert distinct == {tuple(mean) for label, mean in MEANS.items() if label != "control"}
    other = CONTROL + RandomPerturbation(seed=2).fit(cells).overall(queries)
    assert (drawn != other).any(axis=1).mean() > 0.5


EFFECT_IN_NK, EFFECT_IN_T = MEANS["A"] + NK_SHIFT - CONTROL, TRAINING_MEAN - CONTROL
MEAN_OF_A = MEANS["A"] + NK_SHIFT / 2 - CONTROL
OTHERS = [MEANS[label] - CONTROL for label in ("B", "C", "C+D")]


@pytest.mark.parametrize(
    ("baseline", "query", "expected"),
    [
        (NoOpResponse(), "A@NK", 0 * CONTROL),
        (CellTypeMean(), "anything@NK", EFFECT_IN_NK),
        (CellTypeMean(), "A@T", EFFECT_IN_T),
        (TrainingMean(), "anything@NK", np.mean([MEAN_OF_A, *OTHERS], axis=0)),
        (Additive(), "A+B@NK", EFFECT_IN_NK + MEANS["B"] - CONTROL),
        (Additive(), "A+B@T", shifted(1.0, 2.0, 0.0, 0.0) - CONTROL),
        (Additive(), "X@NK", np.mean([EFFECT_IN_NK, *OTHERS], axis=0)),
        (MatchingMean(), "A+B@NK", (EFFECT_IN_NK + MEANS["B"] - CONTROL) / 2),
        (NearestPerturbationResponse(), "D@NK", MEANS["C+D"] - CONTROL),
        (NearestContext(), "A@NK", EFFECT_IN_NK),
        (NearestContext(), "B@NK", MEANS["B"] - CONTROL),
        (NearestContext(), "A+B@NK", EFFECT_IN_NK + MEANS["B"] - CONTROL),
    ],
)
def test_predictions_in_a_context_by_hand(baseline, query, expected):
    label, context = query.split("@")
    model = baseline.fit(four_genes.typed_cells())
    np.testing.assert_allclose(model.predict([(Label.parse(label), context)]).mean, [expected], atol=1e-12)


def test_the_nearest_context_is_the_one_whose_controls_are_nearest():
    x = np.array([[0.0], [1.0], [10.0], [12.0], [14.0]])
    labels, contexts = ["control", "A", "control", "A", "control"], ["a", "a", "b", "b", "c"]
    model = NearestContext().fit(TrainingCells(x, labels, ["g"], contexts))
    assert model.predict([(Label.parse("A"), "c")]).mean == [[2.0]]
    near_a = NearestContext().fit(TrainingCells(x[[0, 1, 2, 3, 0]] + 0.1, labels, ["g"], contexts))
    assert near_a.predict([(Label.parse("A"), "c")]).mean == [[1.0]]


def test_over_all_contexts_each_counts_by_its_control_cells():
    model = CellTypeMean().fit(four_genes.typed_cells())
    # As many control cells were measured of either type.
    np.testing.assert_allclose(model.overall(["A"]), [(EFFECT_IN_NK + EFFECT_IN_T) / 2], atol=1e-12)


def test_a_type_without_perturbed_cells_gets_the_mean_over_all_types():
    typed = four_genes.typed_cells()
    kept = np.r_[: len(typed.labels) - 2]
    types = list(typed.cell_types)[:-2]
    cells = TrainingCells(typed.expression[kept], typed.labels[:-2], typed.genes, types)
    shift = CellTypeMean().fit(cells).predict([(Label.parse("A"), "NK")]).mean
    np.testing.assert_allclose(shift, [EFFECT_IN_T], atol=1e-12)


def test_baselines_of_contexts_compete_where_there_are_several(cells):
    one_type = TrainingCells(cells.expression, cells.labels, cells.genes, ["T"] * len(cells.labels))
    for without in (cells, one_type):
        assert {"cell_type_mean", "nearest_context"}.isdisjoint(b.name for b in competitors(without))
    assert {"cell_type_mean", "nearest_context"} <= {b.name for b in competitors(four_genes.typed_cells())}


def test_replicate_without_cells_is_an_error(cells):
    with pytest.raises(DataError, match="no cells of 'X'"):
        SplitHalfReplicate().fit(cells).overall(["X"])


@pytest.fixture(scope="module")
def norman():
    path = measured_file("norman2019_k562_crispra.h5ad")
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
            shift = baseline.fit(cells).overall([double])
            measured = truth - baseline.measured.controls[ONE_CONTEXT]
            error.setdefault(baseline.name, []).append(l2(shift, measured)[0])
            score = pearson_delta(shift, measured)[0]
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
    assert Additive().fit(cells).overall(["Ca2++(+)-JQ1"]) == [[4.0]]
    assert MatchingMean().fit(cells).overall(["(+)-JQ1+Ca2+"]) == [[2.0]]
    assert NearestPerturbationResponse().fit(cells).overall(["(+)-JQ1+Y"]) == [[1.0]]
