import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.sparse import csr_matrix

from perturbrl.errors import DataError
from perturbrl.evaluation.pairs import ResponsePair

GENES = ["g1", "g2", "g3"]
LABELS = ["control", "control", "A", "A", "A+B"]


def adata(x=None, labels=LABELS, genes=GENES, key="perturbation", **obs):
    x = np.arange(1, 16).reshape(5, 3) if x is None else x
    frame = pd.DataFrame({key: labels, **obs}, index=[f"c{i}" for i in range(len(labels))])
    return AnnData(np.asarray(x, dtype=np.float32), obs=frame, var=pd.DataFrame(index=genes))


def test_counts_are_normalised_by_the_size_factor_and_log_values_are_left():
    sizes = np.array([10.0, 20.0, 100.0, 200.0, 50.0])
    counts = adata(n_umis=sizes)
    pair = ResponsePair(counts, counts, "counts", size_factor_key="n_umis")
    assert pair.perturbations == ("A", "A+B")
    assert pair.genes == tuple(GENES)
    expected = np.log1p(1e4 * counts.X / sizes[:, None])
    np.testing.assert_allclose(pair.control, expected[:2], rtol=1e-6)
    np.testing.assert_allclose(pair.real_means, [expected[2:4].mean(axis=0), expected[4]], rtol=1e-6)
    by_sum = ResponsePair(counts, counts, "counts").cells("real", "A+B")
    np.testing.assert_allclose(by_sum, np.log1p(1e4 * np.array([[13, 14, 15]]) / 42), rtol=1e-6)
    logs = adata(np.arange(15).reshape(5, 3) / 3)
    np.testing.assert_allclose(ResponsePair(logs, logs, "log1p").cells("predicted", "A"), logs.X[2:4])


def test_sparse_and_dense_agree_and_sides_stay_apart():
    real, predicted = adata(), adata(np.ones((5, 3)))
    sparse = adata()
    sparse.X = csr_matrix(sparse.X)
    a, b = ResponsePair(real, predicted, "counts"), ResponsePair(sparse, predicted, "counts")
    np.testing.assert_allclose(a.real_means, b.real_means)
    assert not np.allclose(a.real_means, a.predicted_means)
    np.testing.assert_allclose(a.predicted_means, np.log1p(1e4 / 3))


def test_the_control_is_the_real_one():
    shifted = adata()
    shifted.X[:2] += 50
    assert np.array_equal(
        ResponsePair(adata(), shifted, "counts").control, ResponsePair(adata(), adata(), "counts").control
    )


def broken(x):
    values = np.arange(1.0, 16.0).reshape(5, 3)
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
            adata(labels=["control", None, "A", "A", "A+B"]),
            "counts",
            "1 predicted cells have no label",
        ),
        (adata(labels=["B", "B", "A", "A", "A+B"]), adata(), "counts", "no real cell is labelled 'control'"),
        (
            adata(),
            adata(labels=["control", "A", "A", "A", "C"]),
            "counts",
            r"\['A\+B'\] were measured and not",
        ),
        (adata(labels=["control"] * 5), adata(labels=["control"] * 5), "counts", "only control cells"),
        (adata(), broken(np.nan), "counts", "1 values of the predicted cells are not finite"),
        (broken(-1.0), adata(), "counts", "hold values such as -1"),
        (broken(0.5), adata(), "counts", "hold values such as 0.5"),
        (broken(2000.0), adata(), "log1p", "reach 2000"),
        (adata(np.zeros((5, 3))), adata(), "counts", r"5 real cells have a size factor \(sum of counts\)"),
    ],
)
def test_what_does_not_fit_is_said_in_one_sentence(real, predicted, scale, message):
    with pytest.raises(DataError, match=message) as caught:
        ResponsePair(real, predicted, scale)
    assert "\n" not in str(caught.value)


def test_size_factors_must_be_there_on_both_sides_and_positive():
    good, bad = adata(n=[1.0] * 5), adata(n=[1.0, 0.0, np.nan, 1.0, 1.0])
    with pytest.raises(DataError, match="predicted cells have no size factor 'n'"):
        ResponsePair(good, adata(), "counts", size_factor_key="n")
    with pytest.raises(DataError, match=r"2 predicted cells have a size factor \(n\)"):
        ResponsePair(good, bad, "counts", size_factor_key="n")


def test_unknown_label():
    pair = ResponsePair(adata(), adata(), "counts")
    with pytest.raises(DataError, match="no real cells labelled 'Z'"):
        pair.cells("real", "Z")
    with pytest.raises(AttributeError):
        pair.scale = "log1p"
