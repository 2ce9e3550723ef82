import numpy as np
import pytest
import torch
from linear_twin import normal
from scipy.stats import kstest

from perturbrl.evaluation.populations import (
    detectability,
    equally_near,
    mean_distance,
    mean_distance_interval,
    nearness_p_value,
    permutation_p,
    replicate_distance,
    some_of,
)

SPREAD = torch.linspace(2.0, 0.3, 20)


def populations(n, m, shift, seed):
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(k, 20, generator=generator) * SPREAD for k in (n, m))
    y[:, 3] += shift
    return x, y


def test_the_distance_of_constant_populations_is_exact():
    x, y = torch.zeros(5, 2), torch.tensor([[3.0, 4.0]]).expand(7, -1)
    assert mean_distance(x, y) == 5.0
    interval = mean_distance_interval(x, y)
    assert (interval.estimate, interval.low, interval.high) == (5.0, 5.0, 5.0)


@pytest.mark.parametrize("shift", [0.0, 0.3, 1.0, 4.0])
@pytest.mark.parametrize("sizes", [(40, 60), (300, 150)])
def test_intervals_cover_the_distance_of_the_populations(shift, sizes):
    found = [mean_distance_interval(*populations(*sizes, shift, seed)) for seed in range(200)]
    covered = np.mean([i.low <= shift <= i.high for i in found])
    assert covered >= 0.87
    squares = [i.estimate**2 for i in found]
    if shift >= 1.0:
        assert np.mean(squares) == pytest.approx(shift**2, rel=0.12)


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


def test_p_values_are_uniform_where_nothing_differs():
    p = [permutation_p(*populations(15, 25, 0.0, seed), seed=seed) for seed in range(150)]
    assert kstest(p, "uniform").pvalue > 0.01
    assert min(p) > 0


def test_a_difference_is_detected():
    found = detectability(*populations(60, 40, 3.0, 0))
    assert found.p_value <= 2 / 501
    assert found.detectable
    assert found.relative_to_replicate > 2
    none = detectability(*populations(60, 40, 0.0, 3))
    assert not none.detectable


def test_too_few_cells_to_say():
    assert detectability(normal(3, 2), normal(50, 2)) is None


def test_a_replicate_is_one_unit_away():
    x, y = populations(200, 200, 0.0, 1)
    assert replicate_distance(x, y) == pytest.approx(1.0, abs=0.15)
    assert replicate_distance(x, y + 2) > 5
    assert np.isnan(replicate_distance(x, torch.ones(10, 20)))
    assert np.isnan(replicate_distance(x, y[:3]))


def test_large_populations_are_sampled_and_small_ones_kept():
    cells = normal(50, 2)
    assert some_of(cells, 50) is cells
    sample = some_of(cells, 10)
    assert len(sample.unique(dim=0)) == 10
    assert torch.equal(sample, some_of(cells, 10))


def test_a_hundred_thousand_cells_take_no_hours():
    assert detectability(normal(100_000, 2), normal(5000, 2) + 1.0).detectable
