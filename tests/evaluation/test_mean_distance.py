import numpy as np
import pytest
import torch
from cell_populations import populations
from scipy.stats import binom, ttest_ind

from perturbrl.evaluation.mean_distance import (
    equally_near,
    mean_distance,
    mean_distance_interval,
    nearness_p_value,
)


def test_the_distance_of_constant_populations_is_exact():
    x, y = torch.zeros(5, 2), torch.tensor([[3.0, 4.0]]).expand(7, -1)
    assert mean_distance(x, y) == 5.0
    interval = mean_distance_interval(x, y)
    assert (interval.estimate, interval.low, interval.high) == (5.0, 5.0, 5.0)


SIZES = [(5, 8), (40, 60), (300, 150), (400, 20)]
NOISES = [0.0, 0.5, 1.0, 2.0, 5.0, 20.0]


def intervals(sizes, dimensions, unequal, noises, repetitions, axis=0):
    """Intervals of populations whose means are so many times the sampling noise apart, and that distance."""
    spread = torch.linspace(2.0, 0.1, dimensions) if unequal else torch.ones(dimensions)
    spreads = spread, 1.5 * spread if unequal else spread
    noise = sum(float(s.square().sum()) / n for s, n in zip(spreads, sizes, strict=True)) ** 0.5
    generator = torch.Generator().manual_seed(sum(sizes) + dimensions)
    found = []
    for _ in range(repetitions):
        x, y = (
            torch.randn(n, dimensions, generator=generator) * s for n, s in zip(sizes, spreads, strict=True)
        )
        y[:, axis] += noises * noise
        found.append(mean_distance_interval(x, y))
    return found, noises * noise


def coverage(*setting, **options):
    found, distance = intervals(*setting, **options)
    return float(np.mean([i.low - 1e-9 <= distance <= i.high + 1e-9 for i in found]))


@pytest.mark.parametrize("noises", NOISES)
def test_a_95_percent_interval_holds_the_distance_so_often(noises):
    settings = [((5, 8), 2, False), ((40, 60), 20, True), ((300, 150), 5, False), ((400, 20), 5, True)]
    n = 150
    found = [coverage(*setting, noises, n) for setting in settings]
    assert min(found) >= binom.ppf(1e-4, n, 0.95) / n
    assert np.mean(found) >= binom.ppf(1e-3, n * len(found), 0.95) / (n * len(found))
    if noises:
        assert np.mean(found) <= 0.985  # and is no wider than it needs to be


@pytest.mark.slow
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("dimensions", [2, 5, 20])
@pytest.mark.parametrize("unequal", [False, True], ids=["equal", "unequal"])
def test_it_does_so_at_every_size_dimension_and_distance(sizes, dimensions, unequal):
    found = [coverage(sizes, dimensions, unequal, noises, 1000) for noises in NOISES]
    assert min(found) >= 0.93
    assert np.mean(found[1:]) <= 0.985


@pytest.mark.slow
def test_it_does_so_along_a_direction_in_which_cells_hardly_vary():
    found = [coverage((40, 60), 20, True, noises, 600, axis=19) for noises in NOISES]
    assert min(found) >= 0.93


def test_the_estimate_is_that_of_the_populations():
    found, distance = intervals((40, 60), 20, True, 3.0, 300)
    assert np.mean([i.estimate**2 for i in found]) == pytest.approx(distance**2, rel=0.05)


def test_no_interval_says_that_means_are_equal():
    found, _ = intervals((40, 60), 20, False, 0.0, 200)
    assert min(i.high for i in found) > 0.1
    assert all(i.low <= i.estimate <= i.high for i in found)


def test_an_interval_is_as_wide_as_its_noise():
    """In one dimension and far away it is Welch's interval of the difference."""
    x, y = populations(30, 50, 0.0, 0)
    x, y = x[:, :1], y[:, :1] + 50.0
    interval = mean_distance_interval(x, y)
    welch = ttest_ind(y[:, 0].numpy(), x[:, 0].numpy(), equal_var=False).confidence_interval()
    assert interval.high - interval.low == pytest.approx(welch.high - welch.low, rel=0.02)
    assert interval.low == pytest.approx(welch.low, rel=1e-3)


def test_the_distance_of_samples_is_too_large_where_a_design_is_good():
    """Why the estimate is corrected: two samples of one population are a distance apart."""
    pairs = [populations(40, 60, 0.0, seed) for seed in range(50)]
    assert np.mean([mean_distance(x, y) for x, y in pairs]) > 0.9
    assert np.median([mean_distance_interval(x, y).estimate for x, y in pairs]) < 0.3


def test_one_cell_has_a_distance_but_no_spread():
    interval = mean_distance_interval(torch.zeros(1, 2), torch.tensor([[3.0, 4.0]]))
    assert interval.estimate == pytest.approx(5.0)


def test_equal_designs_are_equally_near():
    x, y = populations(40, 60, 2.0, 0)
    assert equally_near(x, {"same": x.clone()}, y) == ("same",)
    assert equally_near(x, {}, y) == ()


def test_shared_noise_does_not_hide_a_difference():
    """The single intervals overlap widely, yet the same cells a little further on are surely nearer."""
    x, y = populations(100, 100, 3.0, 1)
    nearer = x.clone()
    nearer[:, 3] += 0.6
    assert mean_distance_interval(nearer, y).high > mean_distance_interval(x, y).low
    assert not equally_near(x, {"nearer": nearer}, y)
    assert not equally_near(nearer, {"farther": x}, y)


def test_designs_that_differ_within_noise_are_called_equal_at_the_nominal_rate():
    equal = []
    for seed in range(300):
        x, y = populations(60, 60, 1.0, seed)
        left, right = x.clone(), x.clone()
        left[:, 5] += 0.7
        right[:, 5] -= 0.7  # both are as far from the target's population
        equal.append(nearness_p_value(left, right, y) > 0.05)
    assert 0.90 <= np.mean(equal) <= 0.99


def test_the_more_designs_are_compared_the_surer_one_must_be_to_set_one_apart():
    """Ten designs that are equally near in truth: rarely any of them is set apart, but often without correction."""
    set_apart, uncorrected = [], []
    for seed in range(150):
        x, y = populations(60, 60, 1.0, seed)
        designs = {str(i): x.clone() for i in range(10)}
        for i, design in enumerate(designs.values()):
            design[:, 5] += 0.7 * (-1) ** i
            design[:, 6 + i // 2] += 0.7 * (-1) ** i
        first = designs.pop("0")
        set_apart.append(len(equally_near(first, designs, y)) < 9)
        uncorrected.append(min(nearness_p_value(first, other, y) for other in designs.values()) <= 0.05)
    assert np.mean(set_apart) <= 0.08
    assert np.mean(uncorrected) > 0.12
