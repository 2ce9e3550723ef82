import numpy as np
import pytest
import torch
from cell_populations import populations
from linear_twin import normal
from scipy.stats import kstest

from perturbrl.evaluation.populations import (
    detectability,
    permutation_p,
    replicate_distance,
    some_of,
)


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
