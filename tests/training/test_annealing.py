"""A step size falls along a line or half a cosine, from its value to just above 0."""

import math

import pytest

from perturbrl.errors import ConfigurationError
from perturbrl.training.annealing import annealed


def test_values_follow_the_closed_forms() -> None:
    assert [annealed(2.0, "constant", k, None) for k in (0, 99)] == [2.0, 2.0]
    assert [annealed(2.0, "linear", k, 4) for k in range(4)] == [2.0, 1.5, 1.0, 0.5]
    cosine = [annealed(2.0, "cosine", k, 4) for k in range(4)]
    assert cosine == pytest.approx([2.0, 1 + math.sqrt(0.5), 1.0, 1 - math.sqrt(0.5)])


@pytest.mark.parametrize("annealing", ["linear", "cosine"])
def test_no_iteration_has_a_step_size_of_zero(annealing: str) -> None:
    assert min(annealed(1.0, annealing, k, 10) for k in range(12)) > 0


@pytest.mark.parametrize("iterations", [None, -1])
def test_a_run_without_an_end_cannot_be_annealed(iterations: int | None) -> None:
    with pytest.raises(ConfigurationError, match=f"trainer.max_epochs is {iterations}; give it"):
        annealed(1.0, "linear", 0, iterations)
