import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.sparse import csr_matrix

from perturbrl.errors import DataError
from perturbrl.evaluation.adata_pairs import pair_from_adata

GENES = ["g1", "g2", "g3"]
LABELS = ["control"] * 2 + ["A"] * 4 + ["A+B"] * 4
N = len(LABELS)


def adata(x=None, labels=LABELS, genes=GENES, key="perturbation", **obs):
    x = np.arange(1, 3 * N + 1).reshape(N, 3) if x is None else x
    frame = pd.DataFrame({key: labels, **obs}, index=[f"c{i}" for i in range(len(labels))])
    return AnnData(np.asarray(x, dtype=np.float32), obs=frame, var=pd.DataFrame(index=genes))


def test_counts_are_normalised_by_the_size_factor_and_log_values_are_left():
    sizes = np.linspace(10.0, 200.0, N)
    counts = adata(n_umis=sizes)
    pair = pair_from_adata(counts, counts, "counts", size_factor_key="n_umis")
    assert pair.measured.perturbations == ("A", "A+B")
    assert pair.measured.genes == tuple(GENES)
    expected = np.log1p(1e4 * counts.X / sizes[:, None])
    np.testing.assert_allclose(pair.measured.control, expected[:2], rtol=1e-6)
    means = [expected[2:6].mean(axis=0), expected[6:].mean(axis=0)]
    np.testing.assert_allclose(pair.means.real, means, rtol=1e-6)
    np.testing.assert_allclose(pair.means.predicted, means, rtol=1e-6)
    by_sum = pair_from_adata(counts, counts, "counts").cells("A+B").real
    np.testing.assert_allclose(by_sum[-1], np.log1p(1e4 * np.array([28, 29, 30]) / 87), rtol=1e-6)
    logs = adata(np.arange(3 * N).reshape(N, 3) / 3)
    np.testing.assert_allclose(pair_from_adata(logs, logs, "log1p").cells("A").predicted, logs.X[2:6])


def test_sparse_and_dense_agree_and_sides_stay_apart():
    real, predicted = adata(), adata(np.ones((N, 3)))
    sparse = adata()
    sparse.X = csr_matrix(sparse.X)
    a, b = (pair_from_adata(side, predicted, "counts").means for side in (real, sparse))
    np.testing.assert_allclose(a.real, b.real)
    assert not np.allclose(a.real, a.predicted)
    np.testing.assert_allclose(a.predicted, np.log1p(1e4 / 3))


def test_the_control_is_the_real_one():
    shifted = adata()
    shifted.X[:2] += 50
    pairs = [pair_from_adata(adata(), side, "counts") for side in (shifted, adata())]
    np.testing.assert_array_equal(pairs[0].means.predicted_shift, pairs[1].means.predicted_shift)
    np.testing.assert_array_equal(pairs[0].cells("A").control, pairs[1].cells("A").control)


def test_what_predictors_learned_from_centres_the_metrics_where_it_is_given():
    pair = pair_from_adata(adata(), adata(), "counts")
    np.testing.assert_allclose(pair.training_mean, pair.means.real.mean(axis=0))
    given = np.array([1.0, 2.0, 3.0])
    assert pair_from_adata(adata(), adata(), "counts", training_mean=given).training_mean is given


def broken(x):
    values = np.arange(1.0, 3 * N + 1.0).reshape(N, 3)
    values[1, 1] = x
    return adata(values)


@pytest.mark.parametrize(
    ("real", "predicted", "scale", "message"),
    [
        (adata(), adata(genes=["g1", "g2", "x"]), "counts", "1 of 3 real genes are not predicted"),
        (adata(), adata(genes=["g2", "g1", "g3"]), "counts", "different orders"),
        (adata(genes=["g1", "g1", "g3"]), adata(), "counts", "1 gene names occur twice"),
        (adata(), adata(key="other"), "counts", "predicted cells have no obs column 'perturbation'"),
        (
            adata(),
            adata(labels=["control", None, *LABELS[2:]]),
            "counts",
            "1 predicted cells have no label",
        ),
        (adata(labels=["B", "B", *LABELS[2:]]), adata(), "counts", "no real cell is labelled 'control'"),
        (
            adata(),
            adata(labels=[*LABELS[:6], *["C"] * 4]),
            "counts",
            r"\['A\+B'\] were measured and not",
        ),
        (adata(labels=["control"] * N), adata(labels=["control"] * N), "counts", "only control cells"),
        (adata(), broken(np.nan), "counts", "1 values of the predicted cells are not finite"),
        (broken(-1.0), adata(), "counts", "hold values such as -1"),
        (broken(0.5), adata(), "counts", "hold values such as 0.5"),
        (broken(2000.0), adata(), "log1p", "reach 2000"),
        (adata(np.zeros((N, 3))), adata(), "counts", r"10 real cells have a size factor \(sum of counts\)"),
    ],
)
def test_what_does_not_fit_is_said_in_one_sentence(real, predicted, scale, message):
    with pytest.raises(DataError, match=message) as caught:
        pair_from_adata(real, predicted, scale)
    assert "\n" not in str(caught.value)


def test_size_factors_must_be_there_on_both_sides_and_positive():
    good, bad = adata(n=[1.0] * N), adata(n=[1.0, 0.0, np.nan, *[1.0] * (N - 3)])
    with pytest.raises(DataError, match="predicted cells have no size factor 'n'"):
        pair_from_adata(good, adata(), "counts", size_factor_key="n")
    with pytest.raises(DataError, match=r"2 predicted cells have a size factor \(n\)"):
        pair_from_adata(good, bad, "counts", size_factor_key="n")
