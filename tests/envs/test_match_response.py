"""Cells are paid what the error of their condition falls by, where the population is now."""

from copy import deepcopy

import pytest
import torch
from residual_screen import aimed, episodes, fitted_twin
from torchrl.envs.utils import check_env_specs

from perturbrl.envs.cell_state_env import CellStateEnv
from perturbrl.envs.match_response import MatchResponse
from perturbrl.errors import ConfigurationError
from perturbrl.evaluation.distances import energy_distance
from perturbrl.twins.residual import SUMMARY_COLUMNS

OWN, EACH = 5, 16


@pytest.fixture(scope="module")
def twin():
    return fitted_twin()


def displace(twin, along, apart):
    def move(state):
        return twin.transition(
            state, torch.tensor([[along, apart]]).expand(len(state), -1), torch.empty(0, 0)
        )

    return move


def paid(task, state, following):
    dose = torch.zeros(len(state), 2)
    return task.reward(state, dose, following, state, dose.bool())


def blocks(state):
    return state.view(-1, EACH, state.shape[1])


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_mean_reward_of_a_step_is_the_decrease_of_the_error(twin, share):
    task, start, move = aimed(twin, population_share=share), episodes(twin).start, displace(twin, 0.6, -0.3)
    task.watch(move)
    rewards = blocks(paid(task, start, move(start))[:, None])[..., 0].mean(1)
    gains = task.gains(start, move(start), episodes(twin).goal)
    assert torch.allclose(rewards, gains.total, atol=1e-3)


def test_gains_are_decreases_of_both_errors_in_units_of_the_first_ones(twin):
    task, cells, move = aimed(twin), episodes(twin), displace(twin, 0.4, 0.2)
    moved = move(cells.start)
    own = [blocks(state)[..., :OWN] for state in (cells.start, moved, cells.goal)]
    pairs = [list(zip(one, own[2], strict=True)) for one in own[:2]]
    means = torch.tensor([[float((a.mean(0) - b.mean(0)).square().sum()) for a, b in one] for one in pairs])
    energies = torch.tensor([[energy_distance(a, b) for a, b in one] for one in pairs])
    parts = task.gains(cells.start, moved, cells.goal).parts
    assert torch.allclose(parts[:, 0], (means[0] - means[1]) / means[0].mean(), atol=1e-4)
    assert torch.allclose(parts[:, 1], (energies[0] - energies[1]) / energies[0].mean(), atol=1e-3)


def test_all_cells_of_a_condition_move_by_their_mean_movement_where_a_policy_is_used(twin):
    task, start = aimed(twin), episodes(twin).start
    noise = torch.randn(start.shape, generator=torch.Generator().manual_seed(0))
    noise[:, OWN:] = 0
    used = task.as_used(start, start + noise)
    step = (used - start).view(-1, 16, start.shape[1])
    assert torch.allclose(step, step[:, :1].expand_as(step), atol=1e-6)
    assert torch.allclose(step.mean(1), noise.view_as(step).mean(1), atol=1e-6)


def test_rewards_add_up_to_the_gradient_of_the_error(twin):
    """The slope of the mean reward in a displacement of all cells is that of the gain, at any place."""
    task, start, goal = aimed(twin), episodes(twin).start.double(), episodes(twin).goal.double()
    task, step = task.double(), 1e-3
    for here in (0.0, 0.7):
        task.watch(displace(twin, here, 0.0))
        slopes = []
        for value in (
            lambda s: paid(task, start, s).mean(),
            lambda s: task.gains(start, s, goal).total.mean(),
        ):
            ahead, behind = (value(displace(twin, here + d, 0.0)(start)) for d in (step, -step))
            slopes.append(float(ahead - behind) / (2 * step))
        assert slopes[0] == pytest.approx(slopes[1], rel=2e-2)


def test_where_cells_are_counts_not_where_they_started(twin):
    task, start = aimed(twin), episodes(twin).start
    before = paid(task, start, displace(twin, 0.1, 0.0)(start))
    task.watch(displace(twin, 0.8, 0.0))
    assert not torch.allclose(before, paid(task, start, displace(twin, 0.1, 0.0)(start)), atol=1e-2)


def test_a_condition_of_no_training_is_paid_nothing(twin):
    task, cells = aimed(twin), episodes(twin)
    moved = displace(twin, 0.5, 0.1)(cells.deciding_start)
    assert (paid(task, cells.deciding_start, moved) == 0).all()
    assert torch.equal(task.goal_state(cells.deciding_start), cells.deciding_start)
    assert not task.is_success(moved, cells.deciding_start).any()


def test_the_goal_is_the_start_moved_by_what_is_left_over(twin):
    task, cells = aimed(twin), episodes(twin)
    goal = task.goal_state(cells.start)
    assert torch.allclose(blocks(goal).mean(1), blocks(cells.goal).mean(1), atol=1e-4)
    assert torch.equal(goal[:, OWN:], cells.start[:, OWN:])
    assert task.is_success(goal, goal).all()
    assert not task.is_success(2 * cells.start - goal, goal).any()


@pytest.mark.parametrize(
    ("sees", "width"), [("summary", SUMMARY_COLUMNS), ("all", 4 * OWN + SUMMARY_COLUMNS)]
)
def test_what_is_seen(twin, sees, width):
    task, start = aimed(twin, sees=sees), episodes(twin).start
    seen = task.observation(start, start)
    assert task.observation_dim == width
    assert seen.shape == (len(start), width)
    assert float(seen.mean(0).abs().max()) < 1e-4
    other = start.clone()
    other[:, -1] = -7
    assert torch.equal(task.observation(other, start), seen)


def test_it_makes_an_environment(twin):
    check_env_specs(CellStateEnv(deepcopy(twin), aimed(twin), n_cells=8, horizon=2))


def test_it_moves_and_is_saved(twin):
    task, start = aimed(twin), episodes(twin).start
    task.watch(displace(twin, 0.3, 0.1))
    other = MatchResponse()
    other.load_state_dict(task.state_dict())
    following = displace(twin, 0.5, 0.0)(start)
    assert torch.equal(paid(other, start, following), paid(task, start, following))
    assert {buffer.device.type for buffer in task.to("meta").buffers()} == {"meta"}


def test_start_and_goal_must_be_of_the_same_conditions(twin):
    cells = episodes(twin)
    with pytest.raises(ConfigurationError, match="cells start under 4 conditions and were measured under 3"):
        MatchResponse().aim(cells.start, cells.goal[EACH:])


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_weight_is_a_share(share):
    with pytest.raises(ConfigurationError, match="give a share in"):
        MatchResponse(population_share=share)
