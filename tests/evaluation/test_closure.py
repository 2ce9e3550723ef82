import math

import pytest
import torch

from perturbrl.errors import DataError
from perturbrl.evaluation.closure import realised_closure


def cells(middle: float, n: int = 400, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 5, generator=torch.Generator().manual_seed(seed)) + middle


TARGET, OTHER_HALF = cells(2.0, seed=1), cells(2.0, seed=2)
CHOICES = [cells(middle, seed=10 + i) for i, middle in enumerate((0.0, -1.0, 2.0))]


def test_a_replicate_closes_everything_and_a_random_choice_nothing():
    assert realised_closure(OTHER_HALF, TARGET, OTHER_HALF, CHOICES) == pytest.approx(1.0)
    chosen = [realised_closure(choice, TARGET, OTHER_HALF, CHOICES) for choice in CHOICES]
    assert sum(chosen) / 3 == pytest.approx(0.0, abs=1e-9)


def test_the_same_effect_is_as_good_as_a_replicate_and_the_opposite_worse_than_chance():
    assert realised_closure(CHOICES[2], TARGET, OTHER_HALF, CHOICES) == pytest.approx(1.0, abs=0.02)
    assert realised_closure(CHOICES[1], TARGET, OTHER_HALF, CHOICES) < -0.5


def test_the_number_of_cells_does_not_matter():
    few = [realised_closure(cells(1.0, 40, seed), TARGET, OTHER_HALF, CHOICES) for seed in range(40)]
    many = realised_closure(cells(1.0, 4000), TARGET, OTHER_HALF, CHOICES)
    assert sum(few) / 40 == pytest.approx(many, abs=0.03)


def test_without_a_gap_there_is_nothing_to_close():
    assert math.isnan(realised_closure(CHOICES[0], TARGET, OTHER_HALF, [OTHER_HALF]))


def test_without_a_choice_it_is_refused():
    with pytest.raises(DataError, match="nothing to choose from"):
        realised_closure(OTHER_HALF, TARGET, OTHER_HALF, [])
