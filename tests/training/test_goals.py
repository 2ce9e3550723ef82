"""Episodes start in the source and aim at the target; without cells both are attractors."""

import pytest
import torch
from places import CONFIGS

from perturbrl.cli import parse_config
from perturbrl.errors import ConfigurationError
from perturbrl.training.goals import ATTRACTOR_CELLS, start_and_goal


def test_cells_rest_around_their_attractors() -> None:
    built = parse_config([f"--config={CONFIGS / 'hematopoiesis.yaml'}"])
    twin = built.model.twin
    start, goal, reference = start_and_goal(twin, built.data, torch.Generator().manual_seed(0))
    assert len(start) == len(goal) == ATTRACTOR_CELLS
    assert reference is start  # nothing was fitted on either
    for cells, name in ((start, "monocyte"), (goal, "erythrocyte")):
        nearest = {key: float((cells.mean(0) - state[0]).norm()) for key, state in twin.attractors().items()}
        assert min(nearest, key=nearest.__getitem__) == name
        assert float(cells.std(0).max()) > 0.01


def test_a_target_is_needed() -> None:
    built = parse_config([f"--config={CONFIGS / 'hematopoiesis.yaml'}", "--data.target=null"])
    with pytest.raises(ConfigurationError, match=r"data\.target is null"):
        start_and_goal(built.model.twin, built.data, torch.Generator())


def test_start_and_goal_differ_in_nothing_but_their_attractor() -> None:
    built = parse_config([f"--config={CONFIGS / 'hematopoiesis.yaml'}", "--data.target=monocyte"])
    start, goal, _ = start_and_goal(built.model.twin, built.data, torch.Generator().manual_seed(0))
    assert torch.equal(start, goal)
