import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import energy_distance as scipy_energy
from scipy.stats import norm
from sklearn.metrics import pairwise_distances

from perturbrl.errors import DataError
from perturbrl.evaluation.distances import energy_distance, relative_to_replicate


def mean_norm(scale, dimension):
    """E‖Z‖ for Z ~ N(0, scale² I), the mean of a chi distribution."""
    return scale * math.sqrt(2) * math.exp(math.lgamma((dimension + 1) / 2) - math.lgamma(dimension / 2))


def mean_abs_normal(mean, sd):
    """E|Z| for Z ~ N(mean, sd²), the mean of a folded normal."""
    return sd * math.sqrt(2 / math.pi) * math.exp(-(mean**2) / (2 * sd**2)) + mean * math.erf(
        mean / (sd * math.sqrt(2))
    )


@pytest.mark.parametrize(("shift", "sd"), [(0.0, 1.0), (1.0, 1.0), (3.0, 0.5), (0.0, 2.0)])
def test_one_dimensional_gaussians_have_a_closed_form(shift, sd):
    quantiles = norm.ppf((np.arange(2000) + 0.5) / 2000)[:, None]
    expected = 2 * mean_abs_normal(shift, math.hypot(1, sd)) - 2 / math.sqrt(math.pi) * (1 + sd)
    assert energy_distance(quantiles, shift + sd * quantiles) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("dimension", [3, 30])
def test_unbiased_estimate_agrees_with_gaussians_of_other_spread(dimension):
    rng = np.random.default_rng(0)
    estimates = [
        energy_distance(rng.normal(size=(60, dimension)), 2 * rng.normal(size=(40, dimension)), "u")
        for _ in range(200)
    ]
    expected = (
        2 * mean_norm(math.sqrt(5), dimension)
        - mean_norm(math.sqrt(2), dimension)
        - mean_norm(2 * math.sqrt(2), dimension)
    )
    standard_error = np.std(estimates) / math.sqrt(len(estimates))
    assert np.mean(estimates) == pytest.approx(expected, abs=4 * standard_error)
    assert 4 * standard_error < 0.1 * expected


def test_unbiased_estimate_averages_zero_on_one_population_and_the_v_statistic_does_not():
    rng = np.random.default_rng(1)
    samples = [(rng.normal(size=(20, 4)), rng.normal(size=(20, 4))) for _ in range(300)]
    u = np.array([energy_distance(x, y, "u") for x, y in samples])
    v = np.array([energy_distance(x, y, "v") for x, y in samples])
    assert abs(u.mean()) < 4 * u.std() / math.sqrt(len(u))
    bias = 2 * mean_norm(math.sqrt(2), 4) / 20
    assert v.mean() == pytest.approx(bias, rel=0.05)


@settings(max_examples=50, deadline=None)
@given(
    arrays(np.float64, st.integers(1, 12), elements=st.floats(-100, 100)),
    arrays(np.float64, st.integers(1, 12), elements=st.floats(-100, 100)),
)
def test_v_statistic_is_scipys_squared_energy_distance_in_one_dimension(x, y):
    ours = energy_distance(x[:, None], y[:, None])
    assert ours == pytest.approx(scipy_energy(x, y) ** 2, abs=1e-9 * (1 + np.abs(x).max() + np.abs(y).max()))
    assert energy_distance(y[:, None], x[:, None]) == pytest.approx(ours, abs=1e-9)


def test_chunks_types_and_offsets_do_not_change_the_value():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(2500, 7)) + 1e4, rng.normal(size=(1300, 7)) + 1e4 + 0.3
    between, xx, yy = (pairwise_distances(*pair).mean() for pair in ((x, y), (x, x), (y, y)))
    expected = 2 * between - xx - yy
    assert energy_distance(x, y) == pytest.approx(expected, abs=1e-6)
    assert energy_distance(torch.tensor(x), torch.tensor(y)) == energy_distance(x, y)
    unbiased = 2 * between - xx * 2500 / 2499 - yy * 1300 / 1299
    assert energy_distance(x, y, "u") == pytest.approx(unbiased, abs=1e-6)


def test_bad_populations_are_named():
    cells = np.zeros((3, 2))
    with pytest.raises(DataError, match="population of 0 cells"):
        energy_distance(cells[:0], cells)
    with pytest.raises(DataError, match="at least 2"):
        energy_distance(cells[:1], cells, "u")
    with pytest.raises(DataError, match="1 of 6 values"):
        energy_distance(np.where(np.arange(6).reshape(3, 2) == 4, np.nan, 0.0), cells)


def test_halves_are_disjoint_equal_and_use_every_cell_but_an_odd_one():
    seen = []

    def record(x, y):
        seen.append((x[:, 0], y[:, 0]))
        return 1.0

    relative_to_replicate(-np.ones((4, 1)), np.arange(9.0)[:, None], record, n_splits=3)
    halves, others = seen[1::2], [y for _, y in seen[::2]]
    assert len(halves) == 3
    for (x, y), other in zip(halves, others, strict=True):
        assert len(x) == len(y) == 4
        assert len({*x.tolist(), *y.tolist()}) == 8
        assert np.array_equal(y, other), "both are compared with the same half"


def test_splits_are_seeded():
    rng = np.random.default_rng(3)
    cells, predicted = rng.normal(size=(60, 5)), rng.normal(size=(60, 5))
    first, again, other = (
        relative_to_replicate(predicted, cells, energy_distance, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again != other


def test_replicate_scores_one_whatever_the_number_of_cells_and_an_effect_more():
    rng = np.random.default_rng(4)
    real = rng.normal(size=(200, 5))
    for n_predicted in (30, 100, 1000):
        replicate = rng.normal(size=(n_predicted, 5))
        assert relative_to_replicate(replicate, real, energy_distance, 30) == pytest.approx(1.0, abs=0.25)
    assert relative_to_replicate(rng.normal(size=(100, 5)) + 1.0, real, energy_distance) > 10
    constant = np.tile(real.mean(axis=0), (100, 1))
    assert relative_to_replicate(constant, real, energy_distance) > 10


def test_floor_errors():
    with pytest.raises(DataError, match="3 cells cannot be split"):
        relative_to_replicate(np.ones((5, 2)), np.zeros((3, 2)), energy_distance)
    with pytest.raises(DataError, match="not all equal"):
        relative_to_replicate(np.ones((5, 2)), np.zeros((8, 2)), energy_distance)
    with pytest.raises(DataError, match="1 predicted cells"):
        relative_to_replicate(np.ones((1, 2)), np.zeros((8, 2)), energy_distance)
