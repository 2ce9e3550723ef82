"""A policy chooses among the perturbations that do most alone."""

import pytest
import torch
from linear_twin import linear_twin

from perturbrl.envs.tasks import ReachCellState
from perturbrl.errors import ConfigurationError
from perturbrl.training.candidates import best_candidates

EFFECTS = torch.tensor([[0.1, 0.0], [1.0, 0.0], [0.0, 1.0], [-0.9, 0.0], [0.0, -0.2]])


def chosen(n: int, low: float = -1.0, **space: object) -> tuple[str, ...]:
    twin = linear_twin(EFFECTS, low=low, **space)
    task = ReachCellState()
    task.aim(twin.start_cells, twin.start_cells + torch.tensor([1.0, 0.0]))
    return best_candidates(twin, task, twin.perturbations, 1, n, 0)


def test_those_are_kept_that_come_nearest_in_either_direction() -> None:
    assert chosen(2) == ("G1", "G3")
    assert chosen(2, low=0.0) == ("G0", "G1")
    assert chosen(9) == ("G0", "G1", "G2", "G3", "G4")


def test_nonsense_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="n_candidates is 0; give at least 1"):
        chosen(0)
    with pytest.raises(ConfigurationError, match="discrete"):
        chosen(2, discrete=True)
