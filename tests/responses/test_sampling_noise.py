"""Noise that rows of a context share, against dense algebra."""

import numpy as np

from perturbrl.responses.sampling_noise import SamplingNoise

NOISE = SamplingNoise(np.array([3, 50, 7, 12, 400]), np.array([20, 20, 9, 20, 9]), np.array([4, 4, 1, 4, 1]))


def test_covariance_is_that_of_differences_from_a_shared_control():
    rng = np.random.default_rng(0)
    controls = {4: rng.normal(size=100_000) / 20**0.5, 1: rng.normal(size=100_000) / 9**0.5}
    own = rng.normal(size=(5, 100_000)) / np.sqrt(NOISE.n_cells)[:, None]
    shifts = own - np.stack([controls[context] for context in NOISE.contexts])
    np.testing.assert_allclose(NOISE.covariance, shifts @ shifts.T / 100_000, atol=0.005)


def test_whitened_rows_have_the_unit_covariance():
    turned = NOISE.whiten(NOISE.whiten(NOISE.covariance).T)
    np.testing.assert_allclose(turned, np.eye(5), atol=1e-12)


def test_coefficients_turned_back_weigh_rows_alike():
    rng = np.random.default_rng(1)
    coefficients, rows = rng.normal(size=(5, 2)), rng.normal(size=(5, 3))
    np.testing.assert_allclose(coefficients.T @ NOISE.whiten(rows), NOISE.back(coefficients).T @ rows)


def test_some_rows_have_their_part_of_the_covariance():
    some = np.array([4, 0, 2])
    np.testing.assert_allclose(NOISE.of_rows(some).covariance, NOISE.covariance[np.ix_(some, some)])


def test_weighted_sums_of_rows_have_their_noise():
    weights = np.random.default_rng(2).normal(size=(3, 5))
    np.testing.assert_allclose(NOISE.of_sums(weights), np.diag(weights @ NOISE.covariance @ weights.T))
