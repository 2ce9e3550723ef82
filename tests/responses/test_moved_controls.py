import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from perturbrl.responses.counted_cells import CountedCells, join
from perturbrl.responses.moved_controls import Move, MovedControls


def some_cells(n_cells, n_genes, seed=0):
    rng = np.random.default_rng(seed)
    sizes = rng.lognormal(7.0, 0.4, n_cells)
    rates = rng.gamma(0.5, 8.0, n_genes) * sizes[:, None] / 1000.0
    return CountedCells(csr_array(rng.poisson(rates).astype(np.float32)), sizes)


@pytest.fixture(scope="module")
def cells():
    return some_cells(200, 30)


@pytest.fixture(scope="module")
def controls(cells):
    return MovedControls.of(cells)


def test_moments_of_cells_as_they_are(cells, controls):
    mean, variance = controls.moments(Move.none(30))
    np.testing.assert_allclose(mean, cells.log_expression.mean(axis=0), atol=0.01)
    np.testing.assert_allclose(variance, cells.log_expression.var(axis=0), atol=0.03)


@pytest.mark.parametrize("dispersion", [0.0, 1.5])
@pytest.mark.parametrize("depth", [0.5, 2.0])
def test_moments_are_those_of_cells_drawn(cells, controls, dispersion, depth):
    rng = np.random.default_rng(1)
    move = Move(rng.random(30), rng.gamma(1.0, 20.0, 30), np.full(30, dispersion))
    drawn = join([move.applied(cells, depth, rng) for _ in range(100)])
    mean, variance = controls.moments(move, depth)
    logs = drawn.log_expression
    np.testing.assert_allclose(drawn.size_factors[:200], depth * cells.size_factors)
    # Beside the noise of 20,000 cells, cells of a bin count as equally deep.
    np.testing.assert_allclose(mean, logs.mean(axis=0), atol=0.03)
    np.testing.assert_allclose(variance, logs.var(axis=0), rtol=0.04, atol=0.03)


@settings(max_examples=40, deadline=None)
@given(
    n_cells=st.integers(1, 30),
    n_genes=st.integers(1, 8),
    depth=st.floats(0.1, 10.0),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_calibrated_move_has_the_mean_that_was_asked_for(n_cells, n_genes, depth, seed):
    controls, rng = MovedControls.of(some_cells(n_cells, n_genes, seed)), np.random.default_rng(seed)
    target, dispersion = rng.uniform(0.0, 6.0, n_genes), rng.gamma(0.5, size=n_genes)
    move = controls.calibrate(target, depth, dispersion)
    np.testing.assert_allclose(controls.moments(move, depth)[0], target, atol=1e-4)
    assert ((move.keep == 1.0) | (move.add == 0.0)).all()


def test_some_genes_alone_move_as_among_all(controls):
    genes, target = np.array([2, 3, 17]), controls.mean + 0.3
    alone = controls.columns(genes).calibrate(target[genes], 0.8)
    np.testing.assert_allclose(alone.add, controls.calibrate(target, 0.8).add[genes], rtol=1e-3)


def test_means_that_counts_cannot_have_are_cut(controls):
    target = controls.mean
    target[0], target[1] = -1.0, 20.0
    mean = controls.moments(controls.calibrate(target))[0]
    assert mean[0] == pytest.approx(0.0, abs=1e-4)
    assert 8.0 < mean[1] < 9.5
