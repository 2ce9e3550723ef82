import four_genes
import numpy as np
import pytest
from four_genes import CONTROL, MEANS, TRAINING_MEAN

from perturbrl.errors import ConfigurationError, DataError
from perturbrl.evaluation.metrics import l2
from perturbrl.responses.baselines import TrainingMean
from perturbrl.responses.bilinear_ridge import BilinearRidge
from perturbrl.responses.training_cells import TrainingCells


@pytest.fixture
def cells():
    return four_genes.cells()


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
    np.testing.assert_allclose(CONTROL + model.overall(["A+B"])[0], expected, atol=1e-9)


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
    expected = response.T[35:40] - 5.0
    np.testing.assert_allclose(model.overall(held_out), expected, atol=1e-5)
    assert l2(TrainingMean().fit(cells).overall(held_out), expected).min() > 1.0


def test_indicator_embedding_knows_nothing_of_unseen_perturbations(cells):
    model = BilinearRidge().fit(cells)
    np.testing.assert_allclose(CONTROL + model.overall(["X"]), [TRAINING_MEAN], atol=1e-12)


def test_missing_target_gene_is_an_error_not_zeros(cells):
    with pytest.raises(DataError, match=r"cannot embed \['B'\]"):
        BilinearRidge("target_gene").fit(cells).overall(["A"])
    only_a = TrainingCells(np.array([CONTROL, MEANS["A"]]), ["control", "A"], cells.genes)
    model = BilinearRidge("target_gene").fit(only_a)
    with pytest.raises(DataError, match=r"cannot embed \['X'\]"):
        model.overall(["X"])


def test_impossible_options_are_errors():
    with pytest.raises(ConfigurationError, match="ridge = 0"):
        BilinearRidge(ridge=0.0)
    with pytest.raises(ConfigurationError, match="n_components = 0"):
        BilinearRidge(n_components=0)
