import numpy as np
import pytest
from dtaidistance import dtw as dtai
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from perturbrl.errors import DataError
from perturbrl.evaluation.trajectories import dtw_distance, pseudotime_path, wasserstein_per_dimension


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 12), st.integers(1, 12), st.integers(1, 4))
def test_dtw_agrees_with_dtaidistance_in_every_dimension(seed, n, m, latent):
    rng = np.random.default_rng(seed)
    cells, reference = rng.normal(size=(3, n, latent)), rng.normal(size=(m, latent))
    ours = dtw_distance(cells, reference)
    for cell in range(3):
        for d in range(latent):
            theirs = dtai.distance(cells[cell, :, d].copy(), reference[:, d].copy(), inner_dist="euclidean")
            assert ours[cell, d] == pytest.approx(theirs, abs=1e-9)


def test_dtw_by_hand():
    path = np.array([[0.0], [1.0], [3.0]])
    assert dtw_distance(path, np.array([[0.0], [2.0], [3.0], [3.0]])) == 1.0
    assert dtw_distance(path, path) == 0.0


def test_dtw_forgives_speed_and_not_direction():
    slow = np.repeat(np.linspace(0, 1, 10), 3)[:, None]
    reference = np.linspace(0, 1, 10)[:, None]
    assert dtw_distance(slow, reference) == 0.0
    assert dtw_distance(slow[::-1].copy(), reference) > 5.0


def test_standing_still_costs_the_whole_way():
    reference = np.column_stack((np.linspace(0, 1, 20), np.zeros(20)))
    still = np.zeros((8, 2))
    np.testing.assert_allclose(dtw_distance(still, reference), [reference[:, 0].sum(), 0.0])


def test_wasserstein_of_gaussians_has_a_closed_form():
    quantiles = norm.ppf((np.arange(4000) + 0.5) / 4000)
    simulated = np.column_stack((quantiles, quantiles)).reshape(40, 100, 2)
    real = np.column_stack((quantiles + 0.7, 3 * quantiles))
    spread, _ = quad(lambda u: abs(2 * norm.ppf(u)), 0, 1)
    np.testing.assert_allclose(wasserstein_per_dimension(simulated, real), [0.7, spread], rtol=2e-3)


def test_wasserstein_ignores_the_order_in_time():
    path = np.random.default_rng(0).normal(size=(30, 2))
    np.testing.assert_array_equal(wasserstein_per_dimension(path, path[::-1].copy()), 0.0)


def test_pseudotime_path_averages_equal_bins_in_order():
    cells = np.column_stack((np.arange(10.0), -np.arange(10.0)))
    shuffled = np.random.default_rng(1).permutation(10)
    path = pseudotime_path(cells[shuffled], shuffled * 0.1, 5)
    np.testing.assert_allclose(path, [[2 * i + 0.5, -2 * i - 0.5] for i in range(5)])


def test_pseudotime_must_be_usable():
    with pytest.raises(DataError, match="1 cells have no finite pseudotime"):
        pseudotime_path(np.zeros((2, 1)), np.array([0.0, np.inf]), 1)
    with pytest.raises(DataError, match="2 cells cannot fill 3 steps"):
        pseudotime_path(np.zeros((2, 1)), np.zeros(2), 3)
